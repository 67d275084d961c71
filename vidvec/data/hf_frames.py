"""Any transformers vision model as a frame encoder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import MissingExtraError, OfflineError, UsageError

BATCH = 32
DEFAULT_SHORT_SIDE = 256
# Never pickled weights: loading those runs code.
_FILES = (
    "config.json",
    "*processor_config.json",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
)
# What decides, in an image processor's settings, which numbers the model sees.
_SETTINGS = (
    "image_processor_type",
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "crop_pct",
    "do_rescale",
    "rescale_factor",
    "rescale_offset",
    "do_normalize",
    "image_mean",
    "image_std",
    "include_top",
)


class HuggingFaceEncoder:
    """Runs a transformers vision model with its own image processor (the one on Pillow).

    The feature is, in this order: the projected image feature of a model that also reads text
    (CLIP, SigLIP); the pooled output; the mean of the last layer's tokens or feature map. A pooler
    whose weights the checkpoint lacks is not used, for it would be random.

    Attributes:
        identity: Name, SHA-256 of the weights, preprocessing and width, JSON-able.
        frame_size: D.
        short_side: The largest size in the image processor's settings.
        note: Empty.
    """

    note = ""

    def __init__(self, source: str) -> None:
        """Loads the model and runs it once, on a grey picture.

        Args:
            source: A local folder, or a name on the hub with ``@revision`` where wanted.

        Raises:
            UsageError: The folder or name holds no vision model in safetensors.
            MissingExtraError: transformers is not installed.
            OfflineError: The model is not on this disk and the hub cannot be reached.
        """
        self._model, self._processor, self._missing = _load(source)
        settings = self._processor.to_dict()
        self.short_side = _short_side(settings)
        grey = np.full((self.short_side, self.short_side, 3), 128, np.uint8)
        try:
            self.frame_size = int(self._run(self._prepare(grey)[None]).shape[1])
        except Exception as error:
            raise UsageError(
                f"hf:{source} ({type(self._model).__name__}) cannot be used as a frame encoder: it "
                f"does not give a feature for a picture ({error})"
            ) from None
        name = Path(source).resolve().name if Path(source).is_dir() else source
        used = {key: settings[key] for key in _SETTINGS if key in settings}
        self.identity: dict[str, Any] = {
            "name": f"hf:{name}",
            "revision": _digest(self._model),
            "preprocessing": json.loads(json.dumps(used)),
            "frame_size": self.frame_size,
        }

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Encodes pictures.

        Args:
            images: F pictures, each (height, width, 3) uint8 RGB, of any sizes.

        Returns:
            (F, D) float32.
        """
        features = [np.zeros((0, self.frame_size), np.float32)]
        for start in range(0, len(images), BATCH):
            prepared = [self._prepare(image) for image in images[start : start + BATCH]]
            # Some processors keep proportions: only pictures of one size run together.
            for _, group in groupby(prepared, key=lambda pixels: pixels.shape):
                features.append(self._run(np.stack(list(group))))
        return np.concatenate(features)

    def _prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(3, height, width), as the image processor makes it."""
        pixels = self._processor(
            images=image, return_tensors="np", input_data_format="channels_last"
        )
        return np.asarray(pixels["pixel_values"][0], np.float32)

    def _run(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            inputs = torch.from_numpy(pixels).to(self._model.device)
            if hasattr(self._model, "get_image_features"):
                feature = self._model.get_image_features(pixel_values=inputs).pooler_output
            else:
                feature = self._pooled(self._model(pixel_values=inputs))
            return np.asarray(feature.float().cpu().numpy(), np.float32)

    def _pooled(self, output: Any) -> Any:
        pooled = output.get("pooler_output")
        if pooled is not None and not any("pooler" in name for name in self._missing):
            return pooled.flatten(1)
        last = output.last_hidden_state
        return last.mean(dim=(2, 3)) if last.ndim == 4 else last.mean(dim=1)


def _load(source: str) -> tuple[Any, Any, list[str]]:
    """Model, image processor, and names of weights that the checkpoint lacks."""
    try:
        import torch
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "hf") from None
    folder = _folder(source)
    transformers.utils.logging.disable_progress_bar()
    common = {"local_files_only": True, "trust_remote_code": False}
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil", **common)
        model, report = transformers.AutoModel.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **common
        )
    except Exception as error:  # whatever a foreign folder makes the library raise
        reason = str(error).strip().split("\n", 1)[0].split(". ", 1)[0]
        raise UsageError(
            f"hf:{source} cannot be opened as a transformers vision model ({reason}); expected "
            f"config.json, preprocessor_config.json and model.safetensors in {folder}"
        ) from None
    missing = sorted(report["missing_keys"])
    if lost := [key for key in missing if "pooler" not in key]:
        raise UsageError(
            f"hf:{source} lacks {len(lost)} of its model's weights, such as {lost[0]}; they would "
            "be random"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.eval().to(device), processor, missing


def _folder(source: str) -> str:
    """The local folder, or the hub's files in the local cache, fetched where they are not there."""
    if Path(source).is_dir():
        return source
    import huggingface_hub
    from huggingface_hub import errors

    name, _, revision = source.partition("@")
    try:
        return str(
            huggingface_hub.snapshot_download(
                name, revision=revision or None, allow_patterns=list(_FILES)
            )
        )
    except (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.HFValidationError,
    ) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise UsageError(
            f"frame encoder hf:{source}: it is no folder on this disk and no model on the hub "
            f"({reason})"
        ) from None
    except Exception as error:  # connections fail in many ways
        hub = os.environ.get("HF_ENDPOINT", "not set")
        raise OfflineError(
            f"no frame encoder hf:{source}: it is no folder on this disk, not in the local cache, "
            f"and the hub (HF_ENDPOINT: {hub}) did not give it ({type(error).__name__}). Set "
            "HF_ENDPOINT to a hub that can be reached, or give a folder with config.json, "
            "preprocessor_config.json and model.safetensors: hf:FOLDER"
        ) from None


def _short_side(settings: dict[str, Any]) -> int:
    """The largest number in the sizes that the processor resizes and crops to."""
    sizes = [settings.get("size")] if settings.get("do_resize") else []
    if settings.get("do_center_crop"):
        sizes.append(settings.get("crop_size"))
    numbers = [
        value
        for size in sizes
        for value in (dict(size).values() if size else ())
        if isinstance(value, int)
    ]
    return max(numbers, default=DEFAULT_SHORT_SIDE)


def _digest(model: Any) -> str:
    """First 16 hex digits of the SHA-256 of the weights, by name."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
