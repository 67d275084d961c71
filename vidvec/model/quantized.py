"""An int8 copy of an encoder, for embedding on a CPU.

The large products of the blocks run on 8-bit integers: weights rounded once, one scale an output
channel, activations as they come, one scale a batch (dynamic quantisation). Embeddings, attention,
norms, pool and the projection to the vector stay in float32.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vidvec.errors import UsageError
from vidvec.model.adapter import merge_low_rank
from vidvec.model.encoder import VideoEncoder


def has_wide_sums() -> bool:
    """Whether this processor adds products of 8-bit numbers in 32 bits at once (AVX-512 VNNI).

    Others add two of them in 16 bits first, which overflows unless activations keep to 7 bits.
    """
    return bool(getattr(torch.cpu, "_is_vnni_supported", lambda: False)())


class Int8Linear(nn.Module):
    """A linear layer that rounds its input to integers, multiplies, and scales back.

    Args:
        linear: The layer in float32.
        wide: Give activations all 8 bits, and not 7 of them; see ``has_wide_sums``.
    """

    def __init__(self, linear: nn.Linear, *, wide: bool) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scales = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that PyTorch means to drop tensors of this kind
            small = torch.quantize_per_channel(weight, scales.double(), zeros, 0, torch.qint8)
        bias = None if linear.bias is None else linear.bias.detach().float()
        self._packed = torch.ops.quantized.linear_prepack(small, bias)
        self._wide = wide

    def forward(self, values: Tensor) -> Tensor:
        """(N, in) float32 to (N, out)."""
        result: Tensor = torch.ops.quantized.linear_dynamic(
            values, self._packed, reduce_range=not self._wide
        )
        return result


def quantized(encoder: VideoEncoder, *, wide: bool | None = None) -> VideoEncoder:
    """A copy whose blocks multiply in int8; on the CPU, for inference only.

    Args:
        encoder: In float32.
        wide: Whether activations have all 8 bits; ``None``: where the processor can.

    Raises:
        UsageError: This PyTorch has no int8 products for this machine.
    """
    small = copy.deepcopy(encoder).cpu().eval()
    merge_low_rank(small)
    wide = has_wide_sums() if wide is None else wide
    try:
        with _engine(wide):
            for block in small.blocks.modules():
                for name, layer in list(block.named_children()):
                    if isinstance(layer, nn.Linear):
                        setattr(block, name, Int8Linear(layer, wide=wide))
    except RuntimeError as error:
        engines = ", ".join(torch.backends.quantized.supported_engines)
        raise UsageError(
            f"no int8 products on this machine (engines: {engines}): {error}; use --backend float32"
        ) from None
    return small


@contextmanager
def _engine(wide: bool) -> Iterator[None]:
    """Packs weights for the library that multiplies fastest: oneDNN where it need not hold back."""
    backend = torch.backends.quantized
    before = backend.engine
    if wide and "onednn" in backend.supported_engines:
        backend.engine = "onednn"
    try:
        yield
    finally:
        backend.engine = before
