"""An int8 copy of an encoder, for embedding on a CPU.

The large products of the blocks run on 8-bit integers: weights rounded once, one scale an output
channel, activations as they come, one scale a batch (dynamic quantisation). Embeddings, attention,
norms, pool and the projection to the vector stay in float32.
"""

from __future__ import annotations

import copy
import warnings

import torch
from torch import nn

from vidvec.errors import UsageError
from vidvec.model.encoder import VideoEncoder


def quantized(encoder: VideoEncoder) -> VideoEncoder:
    """A copy whose blocks multiply in int8; on the CPU, for inference only.

    Raises:
        UsageError: This PyTorch has no int8 products for this machine.
    """
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

    small = copy.deepcopy(encoder).cpu().eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its place in PyTorch will change
            kinds = {nn.Linear: per_channel_dynamic_qconfig}
            quantize_dynamic(small.blocks, kinds, inplace=True)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        engines = ", ".join(torch.backends.quantized.supported_engines)
        raise UsageError(
            f"no int8 products on this machine (engines: {engines}): {error}; use --backend float32"
        ) from None
    return small
