"""timm as a frame encoder, with a made timm: the real one needs torchvision."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.data.test_frames import pictures
from vidvec.data.frames import open_frame_encoder
from vidvec.errors import OfflineError, UsageError

CONFIG = {
    "input_size": (3, 24, 24),
    "interpolation": "bicubic",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "crop_pct": 0.75,
}


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.convolution = torch.nn.Conv2d(3, 5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolution(x).mean((2, 3))


def transform(picture: Image.Image) -> torch.Tensor:
    pixels = np.asarray(picture.resize((24, 24)), np.float32) / 127.5 - 1
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A module with the calls of timm that are documented for feature extraction."""
    calls = SimpleNamespace(created=[], offline=False)

    def create_model(name: str, *, pretrained: bool, num_classes: int) -> Network:
        if calls.offline:
            raise ConnectionError("no route to the hub")
        calls.created.append((name, pretrained, num_classes))
        return Network()

    module: Any = ModuleType("timm")
    module.data = ModuleType("timm.data")
    module.is_model = lambda name: name.startswith("resnet50")
    module.list_models = lambda pattern: ["resnet50"] if "resnet" in pattern else []
    module.create_model = create_model
    module.data.resolve_model_data_config = lambda model: dict(CONFIG)
    module.data.create_transform = lambda is_training, **config: transform
    monkeypatch.setitem(sys.modules, "timm", module)
    monkeypatch.setitem(sys.modules, "timm.data", module.data)
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    return calls


def test_timm_gives_the_feature_before_the_head(timm: SimpleNamespace) -> None:
    images = pictures((48, 64), (30, 30), seed=4)
    encoder = open_frame_encoder("timm:resnet50.a1_in1k")
    with torch.inference_mode():
        expected = Network()(torch.stack([transform(Image.fromarray(each)) for each in images]))
    np.testing.assert_allclose(encoder.encode(images), expected.numpy(), rtol=1e-5, atol=1e-6)
    assert timm.created == [("resnet50.a1_in1k", True, 0)]
    assert (encoder.frame_size, encoder.short_side) == (5, 32)  # 24 of 32 are left by the crop
    assert encoder.identity["name"] == "timm:resnet50.a1_in1k"
    assert encoder.identity["preprocessing"] == json.loads(json.dumps(CONFIG))
    assert encoder.encode([]).shape == (0, 5)


def test_timm_says_which_models_are_like_the_one_it_lacks(timm: SimpleNamespace) -> None:
    with pytest.raises(UsageError, match="no such model; did you mean resnet50"):
        open_frame_encoder("timm:resnet.x")


def test_timm_without_weights_is_offline(timm: SimpleNamespace) -> None:
    timm.offline = True
    with pytest.raises(OfflineError, match=r"not on this disk.*no route to the hub"):
        open_frame_encoder("timm:resnet50")


@pytest.mark.parametrize("missing", ["timm", "torchvision"])
def test_timm_that_does_not_load_says_what_to_do(
    timm: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=r"torchvision.*hf:NAME, or as a file, onnx:FILE"):
        open_frame_encoder("timm:resnet50")
