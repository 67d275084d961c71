"""Image models in PyTorch as frame encoders: pictures prepared by threads, run in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.data.prepare import Preparer
from vidvec.errors import UsageError

# Pictures run at once. On a CPU more is slower, as they leave its cache (docs/experiments.md); a
# GPU wants more to be busy.
CPU_BATCH, GPU_BATCH = 8, 128
_DTYPES = {"float32": "float32", "bf16": "bfloat16", "fp16": "float16"}

Prepared = dict[str, NDArray[Any]]  # what the model takes for one picture, by name


def torch_device() -> str:
    """The GPU where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def digest(model: Any) -> str:
    """First 16 hex digits of the SHA-256 of a model's weights, by name."""
    sha = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        sha.update(name.encode())
        sha.update(value.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


class TorchRunner:
    """Runs pictures through a PyTorch model.

    Args:
        model: In float32; it is moved to the GPU where there is one, and cast.
        prepare: Makes one picture, (height, width, 3) uint8 RGB, into what the model takes, by
            name and without a batch dimension; is called from several threads at once.
        features: Gives (n, D) from the model and its inputs, which are tensors by name.
        precision: ``float32``, ``bf16`` or ``fp16``: the type of weights and activations.

    Attributes:
        batch_size: Pictures run at once; halved for good when the GPU's memory does not do.
    """

    def __init__(
        self,
        model: Any,
        prepare: Callable[[NDArray[np.uint8]], Prepared],
        features: Callable[[Any, dict[str, Any]], Any],
        precision: str,
    ) -> None:
        import torch

        device = torch_device()
        self._dtype = getattr(torch, _DTYPES[precision])
        self._model = model.eval().to(device, self._dtype)
        self._device = device
        self._prepare = prepare
        self._features = features
        self.batch_size = CPU_BATCH if device == "cpu" else GPU_BATCH
        self._preparer = Preparer()

    def run(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """The features of pictures in parts that follow one another, each (n, D) float32."""
        batches = self._preparer.batches(images, self.batch_size, self._prepare)
        return [self._run(prepared) for prepared in batches]

    def _run(self, prepared: list[Prepared]) -> NDArray[np.float32]:
        """(n, D) of one batch; pictures of one shape run together, as some models keep shapes."""
        import torch

        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, inputs in enumerate(prepared):
            groups.setdefault(tuple(value.shape for value in inputs.values()), []).append(place)
        parts = []
        for places in groups.values():
            try:
                parts.append(self._run_group([prepared[place] for place in places]))
            except torch.OutOfMemoryError:
                if len(places) == 1:
                    raise UsageError(
                        "the GPU's memory does not do for a single picture: take "
                        "--encoder-precision fp16, a smaller model, or end what else runs on it"
                    ) from None
                half = (len(places) + 1) // 2
                self.batch_size = max(1, min(self.batch_size, half))
                torch.cuda.empty_cache()
                halves = (places[:half], places[half:])
                parts.append(np.concatenate([self._run([prepared[p] for p in h]) for h in halves]))
        order = np.argsort([place for places in groups.values() for place in places])
        return np.concatenate(parts)[order]

    def _run_group(self, prepared: list[Prepared]) -> NDArray[np.float32]:
        import torch

        inputs = {}
        for name in prepared[0]:
            tensor = torch.from_numpy(np.stack([each[name] for each in prepared]))
            dtype = self._dtype if tensor.is_floating_point() else tensor.dtype
            inputs[name] = tensor.to(self._device, dtype)
        with torch.inference_mode():
            features = self._features(self._model, inputs).float().cpu().numpy()
        return np.asarray(features, np.float32)
