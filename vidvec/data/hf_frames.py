"""Any transformers vision model as a frame encoder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec import storage
from vidvec.data import dinov3
from vidvec.data.hub_folder import model_folder
from vidvec.data.torch_frames import Prepared, TorchRunner, digest
from vidvec.errors import MissingExtraError, UsageError

DEFAULT_SHORT_SIDE = 256
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
    "max_num_patches",
    "patch_size",
)
# What image processors give that models take; the masks and shapes are SigLIP 2's of any size.
_INPUTS = ("pixel_values", "pixel_attention_mask", "spatial_shapes")


class HuggingFaceEncoder:
    """Runs a transformers vision model with its own image processor (the one on Pillow).

    The feature is, in this order: the projected image feature of a model that also reads text
    (CLIP, SigLIP); the pooled output (of a DINOv2 or DINOv3: the normalised class token); the mean
    of the last layer's tokens or feature map. A pooler whose weights the checkpoint lacks is not
    used, for it would be random.

    Attributes:
        identity: Name, SHA-256 of the weights, preprocessing, precision and width, JSON-able.
        frame_size: D.
        short_side: The largest size in the image processor's settings.
        note: Empty.
    """

    note = ""

    def __init__(self, source: str, precision: str = "float32") -> None:
        """Loads the model and runs it once, on a grey picture.

        Args:
            source: A local folder, or a name on the hub with ``@revision`` where wanted.
            precision: ``float32``, ``bf16`` or ``fp16``.

        Raises:
            UsageError: The folder or name holds no vision model in safetensors.
            MissingExtraError: transformers is not installed.
            OfflineError: The model is not on this disk and the hub cannot be reached.
        """
        model, self._processor, self._missing = _load(source)
        settings = self._processor.to_dict()
        revision = digest(model)
        self._runner = TorchRunner(model, self._prepare, self._features, precision)
        self.short_side = _short_side(settings)
        grey = np.full((self.short_side, self.short_side, 3), 128, np.uint8)
        try:
            [feature] = self._runner.run([grey])
        except Exception as error:
            raise UsageError(
                f"hf:{source} ({type(model).__name__}) cannot be used as a frame encoder: it "
                f"does not give a feature for a picture ({error})"
            ) from None
        self.frame_size = int(feature.shape[1])
        name = Path(source).resolve().name if Path(source).is_dir() else source
        used = {key: settings[key] for key in _SETTINGS if key in settings}
        self.identity: dict[str, Any] = {
            "name": f"hf:{name}",
            "revision": revision,
            "preprocessing": json.loads(json.dumps(used)),
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
        """The model's inputs for a picture, as the image processor makes them."""
        if isinstance(self._processor, dinov3.DinoV3Processor):
            return dict(self._processor(image))
        inputs = self._processor(
            images=image, return_tensors="np", input_data_format="channels_last"
        )
        return {name: np.asarray(inputs[name][0]) for name in _INPUTS if name in inputs}

    def _features(self, model: Any, inputs: dict[str, Any]) -> Any:
        if hasattr(model, "get_image_features"):
            return model.get_image_features(**inputs).pooler_output
        output = model(**inputs)
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
    folder = model_folder(source, "frame encoder")
    transformers.utils.logging.disable_progress_bar()
    common = {"local_files_only": True, "trust_remote_code": False}
    try:
        processor = _processor(Path(folder), common)
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
    return model, processor, missing


def _processor(folder: Path, common: dict[str, Any]) -> Any:
    """The image processor that the folder's settings name, without torchvision."""
    import transformers

    settings = folder / "preprocessor_config.json"
    if (
        settings.is_file()
        and storage.read_json(settings).get("image_processor_type") in dinov3.NAMES
    ):
        return dinov3.DinoV3Processor(settings)
    return transformers.AutoImageProcessor.from_pretrained(folder, backend="pil", **common)


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
