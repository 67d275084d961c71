"""Families of models that people use as frame encoders, small and random, against transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.unit.data.test_frames import pictures
from vidvec.data.frames import SHORT_NAMES, open_frame_encoder
from vidvec.data.torch_frames import TorchRunner
from vidvec.errors import UsageError

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = SMALL | {"intermediate_size": 32, "image_size": 32, "patch_size": 8}
TEXT = SMALL | {
    "intermediate_size": 32,
    "vocab_size": 50,
    "bos_token_id": 48,
    "eos_token_id": 49,
    "pad_token_id": 1,
}
SQUARE = {"height": 32, "width": 32}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers as hf

    folder = tmp_path_factory.mktemp("families")
    torch.manual_seed(6)
    siglip = hf.SiglipConfig(text_config=TEXT, vision_config=VISION)
    hf.SiglipModel(siglip).save_pretrained(folder / "siglip")
    hf.SiglipImageProcessorPil(size=SQUARE).save_pretrained(folder / "siglip")
    any_size = SMALL | {"intermediate_size": 32, "num_patches": 16, "patch_size": 8}
    siglip2 = hf.Siglip2Config(text_config=TEXT, vision_config=any_size)
    hf.Siglip2Model(siglip2).save_pretrained(folder / "siglip2")
    processor = hf.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)
    processor.save_pretrained(folder / "siglip2")
    hf.Dinov2Model(hf.Dinov2Config(**VISION)).save_pretrained(folder / "dinov2")
    crop = {"size": {"shortest_edge": 40}, "crop_size": SQUARE}
    hf.BitImageProcessorPil(**crop).save_pretrained(folder / "dinov2")
    dinov3 = hf.DINOv3ViTConfig(**VISION, num_register_tokens=2)
    hf.DINOv3ViTModel(dinov3).save_pretrained(folder / "dinov3")
    # As in the published folders; the class itself needs torchvision.
    settings = {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": SQUARE}
    (folder / "dinov3" / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def normalised(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """DINOv3's pixels by Pillow, which resizes each channel of numbers with antialiasing."""
    channels = [
        Image.fromarray(image[:, :, channel].astype(np.float32) / 255).resize(
            (32, 32), Image.Resampling.BILINEAR
        )
        for channel in range(3)
    ]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = (np.stack([np.asarray(each) for each in channels], axis=-1) - mean) / std
    return pixels.transpose(2, 0, 1).astype(np.float32)


def by_transformers(folder: Path, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Each family's published feature by its own calls, picture by picture."""
    import transformers as hf

    model = hf.AutoModel.from_pretrained(folder).eval()
    features = []
    with torch.inference_mode():
        for image in images:
            if folder.name == "dinov3":
                pixels = torch.from_numpy(normalised(image)[None])
                tokens = model(pixel_values=pixels).last_hidden_state
                features.append(tokens[:, 0])  # the class token, behind the last norm
                continue
            processor = hf.AutoImageProcessor.from_pretrained(folder, backend="pil")
            inputs = processor(images=Image.fromarray(image), return_tensors="pt")
            if folder.name.startswith("siglip"):
                features.append(model.vision_model(**inputs).pooler_output)
            else:
                features.append(model(**inputs).last_hidden_state[:, 0])
    return torch.cat(features).numpy()


@pytest.mark.parametrize("name", ["siglip", "siglip2", "dinov2", "dinov3"])
def test_a_family_gives_the_feature_that_it_is_used_by(models: Path, name: str) -> None:
    images = pictures((48, 64), (64, 48), (64, 48), (100, 40), seed=2)
    encoder = open_frame_encoder(f"hf:{models / name}")
    expected = by_transformers(models / name, images)
    np.testing.assert_allclose(encoder.encode(images), expected, rtol=1e-3, atol=2e-4)
    assert encoder.frame_size == 16
    assert encoder.identity["precision"] == "float32"
    assert json.loads(json.dumps(encoder.identity)) == encoder.identity


def test_a_dinov3_that_needs_torchvision_says_so(models: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(models / "dinov3", tmp_path / "model")
    settings = {"image_processor_type": "DINOv3ViTImageProcessor", "size": {"shortest_edge": 32}}
    (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(UsageError, match="needs torchvision"):
        open_frame_encoder(f"hf:{tmp_path / 'model'}")


@pytest.mark.parametrize(("precision", "digits"), [("bf16", 0.03), ("fp16", 0.004)])
def test_lower_precision_is_near_and_part_of_the_identity(
    models: Path, precision: Any, digits: float
) -> None:
    images = pictures((48, 64), (64, 48), seed=3)
    exact = open_frame_encoder(f"hf:{models / 'dinov2'}")
    lower = open_frame_encoder(f"hf:{models / 'dinov2'}", precision=precision)
    first, second = exact.encode(images), lower.encode(images)
    assert second.dtype == np.float32
    assert 0 < np.abs(first - second).max() < digits * np.abs(first).max()
    assert lower.identity == exact.identity | {"precision": precision}


# --- batches ---------------------------------------------------------------------------------


class Mean(torch.nn.Module):
    """Mean colour, on a device that holds ``room`` pictures."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.seen: list[int] = []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(pixels))
        if len(pixels) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return pixels.mean((1, 2))


def runner(model: Mean) -> TorchRunner:
    return TorchRunner(
        model,
        lambda image: {"pixels": image.astype(np.float32)},
        lambda network, inputs: network(**inputs),
        "float32",
    )


def test_pictures_of_several_shapes_keep_their_places() -> None:
    images = pictures(*[(8, 8), (6, 9), (8, 8), (9, 6), (6, 9)] * 9, seed=1)
    model = Mean(room=1000)
    runs = runner(model)
    runs.batch_size = 40
    found = np.concatenate(runs.run(images))
    np.testing.assert_allclose(found, [image.mean((0, 1)) for image in images], rtol=1e-5)
    assert model.seen == [16, 16, 8, 2, 2, 1]  # 40 pictures, then 5, each shape on its own


def test_a_batch_that_the_memory_does_not_hold_is_halved_for_good() -> None:
    images = pictures(*[(8, 8)] * 40, seed=1)
    model = Mean(room=9)
    runs = runner(model)
    runs.batch_size = 32
    found = np.concatenate(runs.run(images))
    np.testing.assert_allclose(found, [image.mean((0, 1)) for image in images], rtol=1e-5)
    assert runs.batch_size == 8
    model.seen.clear()
    runs.run(images)
    assert model.seen == [8] * 5


def test_a_memory_that_does_not_hold_one_picture_is_named() -> None:
    with pytest.raises(UsageError, match="GPU's memory does not do for a single picture"):
        runner(Mean(room=0)).run(pictures((8, 8)))


# --- names and precisions ----------------------------------------------------------------------


def test_short_names_open_what_they_stand_for(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, str]] = []

    class Recorder:
        def __init__(self, source: str, precision: str) -> None:
            opened.append((source, precision))

    monkeypatch.setattr("vidvec.data.hf_frames.HuggingFaceEncoder", Recorder)
    for name in SHORT_NAMES:
        open_frame_encoder(name, precision="bf16")
    assert opened == [(spec.removeprefix("hf:"), "bf16") for spec in SHORT_NAMES.values()]
    assert ("google/efficientnet-b3", "bf16") in opened


def test_auto_follows_what_is_held_already(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(
        "vidvec.data.hf_frames.HuggingFaceEncoder",
        lambda source, precision: opened.append(precision),
    )
    open_frame_encoder("hf:model")
    open_frame_encoder("hf:model", like={"name": "hf:model", "precision": "fp16"})
    open_frame_encoder("hf:model", like={"name": "hf:model"})  # from before the field
    open_frame_encoder("hf:model", like={"name": "onnx:m.onnx", "precision": "int8"})
    assert opened == ["float32", "fp16", "float32", "float32"]


@pytest.mark.parametrize(
    ("spec", "precision", "able"),
    [
        ("classic", "bf16", "hf, timm"),
        ("classic", "int8", "onnx"),
        ("hf:model", "int8", "onnx"),
        ("onnx:model.onnx", "fp16", "hf, timm"),
        ("classic", "fp8", "none"),
    ],
)
def test_a_precision_that_an_encoder_lacks_is_refused(spec: str, precision: Any, able: str) -> None:
    with pytest.raises(UsageError, match=rf"{precision} is for {able}"):
        open_frame_encoder(spec, precision=precision)


def test_a_misspelt_short_name_is_guessed() -> None:
    with pytest.raises(UsageError, match="did you mean siglip2"):
        open_frame_encoder("siglip-2")
