"""DINOv3's preparation of pictures, for which transformers needs torchvision.

After ``DINOv3ViTImageProcessor`` of transformers: to 0…1, then resized with antialiasing, then
normalised. torchvision resizes tensors with ``torch.nn.functional.interpolate``, as is done here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import UsageError

# Names that the settings' ``image_processor_type`` has had.
NAMES = ("DINOv3ViTImageProcessor", "DINOv3ViTImageProcessorFast")
_DEFAULTS: dict[str, Any] = {
    "do_resize": True,
    "size": {"height": 224, "width": 224},
    "resample": 2,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
_MODES = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


class DinoV3Processor:
    """Prepares pictures as transformers' processor does.

    Args:
        file: The model's ``preprocessor_config.json``.

    Raises:
        UsageError: It asks for what this processor does not do.
    """

    def __init__(self, file: Path) -> None:
        given = json.loads(file.read_text("utf-8"))
        self._settings = _DEFAULTS | {key: given[key] for key in _DEFAULTS if key in given}
        size = self._settings["size"]
        whole = isinstance(size, dict) and {"height", "width"} <= size.keys()
        if (
            not whole
            or self._settings["do_center_crop"]
            or self._settings["resample"] not in _MODES
        ):
            raise UsageError(
                f"{file} asks for a size {size}, a crop or a resampling that needs torchvision; "
                "expected height and width, no crop, and resample 2 or 3"
            )

    def to_dict(self) -> dict[str, Any]:
        """The settings, as those of transformers' processors."""
        return {"image_processor_type": NAMES[0], **self._settings}

    def __call__(self, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """``pixel_values`` (3, height, width) float32 of a picture (height, width, 3) uint8 RGB."""
        import torch

        settings = self._settings
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
        if settings["do_rescale"]:
            pixels = pixels * settings["rescale_factor"]
        if settings["do_resize"]:
            pixels = torch.nn.functional.interpolate(
                pixels,
                (settings["size"]["height"], settings["size"]["width"]),
                mode=_MODES[settings["resample"]],
                align_corners=False,
                antialias=True,
            )
        values = pixels[0].numpy()
        if settings["do_normalize"]:
            mean, std = (
                np.asarray(settings[key], np.float32).reshape(-1, 1, 1)
                for key in ("image_mean", "image_std")
            )
            values = (values - mean) / std
        return {"pixel_values": values}
