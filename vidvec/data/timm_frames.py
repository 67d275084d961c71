"""Any timm model as a frame encoder, where torchvision loads: timm does not run without it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.data.torch_frames import Prepared, TorchRunner, digest
from vidvec.errors import OfflineError, UsageError


class TimmEncoder:
    """Runs a pretrained timm model with its own transform; the feature is the one before its head.

    Attributes:
        identity: Name, SHA-256 of the weights, preprocessing, precision and width, JSON-able.
        frame_size: D, timm's ``num_features``.
        short_side: The larger side of the model's input, before its crop.
        note: Empty.
    """

    note = ""

    def __init__(self, name: str, precision: str = "float32") -> None:
        """Loads the model and runs it once, on a grey picture.

        Args:
            name: As ``timm.create_model`` takes it.
            precision: ``float32``, ``bf16`` or ``fp16``.

        Raises:
            UsageError: timm or torchvision does not load here, or timm has no such model.
            OfflineError: The weights are not on this disk and cannot be fetched.
        """
        timm = _timm(name)
        model = _model(timm, name)
        config = timm.data.resolve_model_data_config(model)
        self._transform = timm.data.create_transform(**config, is_training=False)
        revision = digest(model)
        self._runner = TorchRunner(model, self._prepare, _features, precision)
        self.short_side = round(max(config["input_size"][1:]) / config.get("crop_pct", 1.0))
        [feature] = self._runner.run([np.full((self.short_side,) * 2 + (3,), 128, np.uint8)])
        self.frame_size = int(feature.shape[1])
        self.identity: dict[str, Any] = {
            "name": f"timm:{name}",
            "revision": revision,
            "preprocessing": json.loads(json.dumps(config)),
            "precision": precision,
            "frame_size": self.frame_size,
        }

    @property
    def batch_size(self) -> int:
        """Pictures run at once."""
        return self._runner.batch_size

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Encodes pictures.

        Args:
            images: F pictures, each (height, width, 3) uint8 RGB, of any sizes.

        Returns:
            (F, D) float32.
        """
        empty = np.zeros((0, self.frame_size), np.float32)
        return np.concatenate([empty, *self._runner.run(images)])

    def _prepare(self, image: NDArray[np.uint8]) -> Prepared:
        from PIL import Image

        return {"x": np.asarray(self._transform(Image.fromarray(image)), np.float32)}


def _features(model: Any, inputs: dict[str, Any]) -> Any:
    return model(inputs["x"])


def _timm(name: str) -> Any:
    try:
        import timm
        import timm.data
        import torchvision  # noqa: F401 - timm's transforms need it
    except Exception as error:  # beside another PyTorch's build, torchvision fails in many ways
        reason = str(error).strip().split("\n", 1)[0]
        raise UsageError(
            f"frame encoder timm:{name}: timm needs torchvision, and the two do not load here "
            f"({type(error).__name__}: {reason}). Install timm and the torchvision that belongs to "
            "the installed torch (its version and build, see pytorch.org), or take the model from "
            "transformers, hf:NAME, or as a file, onnx:FILE; both do without torchvision"
        ) from None
    return timm


def _model(timm: Any, name: str) -> Any:
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('.', 1)[0]}*")[:5])
        hint = f"did you mean {near}?" if near else "timm.list_models() lists them"
        raise UsageError(f"frame encoder timm:{name}: timm has no such model; {hint}")
    try:
        return timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # connections fail in many ways
        reason = str(error).strip().split("\n", 1)[0]
        raise OfflineError(
            f"frame encoder timm:{name}: its weights are not on this disk and could not be "
            f"fetched ({type(error).__name__}: {reason})"
        ) from None
