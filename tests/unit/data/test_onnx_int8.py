"""ONNX models in int8: quantised here, near float32, refused where they are not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.unit.data.test_frames import averaging_model, cosine, pictures, save
from vidvec.data import onnx_int8
from vidvec.data.frames import open_frame_encoder, same_encoder
from vidvec.errors import MissingExtraError, UsageError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vidvec" / "int8"


def convolutions(file: Path, scale: float = 0.3) -> Path:
    """Two convolutions and a mean, with random weights."""
    random = np.random.default_rng(7)
    weights = {
        "w1": random.normal(0, scale, (8, 3, 3, 3)),
        "b1": random.normal(0, 0.1, 8),
        "w2": random.normal(0, scale, (12, 8, 3, 3)),
        "b2": random.normal(0, 0.1, 12),
    }
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Conv", ["pixels", "w1", "b1"], ["c1"], name="conv1"),
            node("Relu", ["c1"], ["r1"], name="relu1"),
            node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv2"),
            node("Relu", ["c2"], ["r2"], name="relu2"),
            node("GlobalAveragePool", ["r2"], ["pooled"], name="pool"),
            node("Flatten", ["pooled"], ["features"], name="flat"),
        ],
        "convolutions",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 12])],
        [numpy_helper.from_array(value.astype(np.float32), n) for n, value in weights.items()],
    )
    return save(graph, file)


def test_int8_is_near_float32_and_another_encoder(tmp_path: Path) -> None:
    file = convolutions(tmp_path / "model.onnx")
    images = pictures(*[(40, 50)] * 5, seed=5)
    exact = open_frame_encoder(f"onnx:{file}")
    rounded = open_frame_encoder(f"onnx:{file}", precision="int8")
    first, second = exact.encode(images), rounded.encode(images)
    assert not np.array_equal(first, second)
    assert min(cosine(a, b) for a, b in zip(first, second, strict=True)) > 0.99
    assert rounded.identity["precision"] == "int8"
    assert rounded.identity["quantization"] == onnx_int8.METHOD
    assert rounded.identity["revision"] == exact.identity["revision"]
    assert not same_encoder(exact.identity, rounded.identity)
    assert rounded.note.startswith("frames are described in int8: mean cosine 0.9")


def test_int8_computes_with_integers_and_is_kept(tmp_path: Path, cache: Path) -> None:
    file = convolutions(tmp_path / "model.onnx")
    images = pictures((40, 50), seed=5)
    first = open_frame_encoder(f"onnx:{file}", precision="int8").encode(images)
    [kept] = cache.iterdir()
    model = onnx.load(str(kept))
    kinds = {numpy_helper.to_array(value).dtype for value in model.graph.initializer}
    assert np.dtype(np.int8) in kinds  # weights
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}
    before = kept.stat().st_mtime_ns
    second = open_frame_encoder(f"onnx:{file}", precision="int8").encode(images)
    assert kept.stat().st_mtime_ns == before
    assert second.tobytes() == first.tobytes()


def test_other_weights_or_preprocessing_make_another_int8_model(
    tmp_path: Path, cache: Path
) -> None:
    open_frame_encoder(f"onnx:{convolutions(tmp_path / 'm.onnx')}", precision="int8")
    open_frame_encoder(f"onnx:{convolutions(tmp_path / 'm.onnx', 0.4)}", precision="int8")
    options = {"std": 0.25}
    open_frame_encoder(f"onnx:{tmp_path / 'm.onnx'}", options=options, precision="int8")
    assert len(list(cache.iterdir())) == 3


def test_int8_needs_no_cache(tmp_path: Path, cache: Path) -> None:
    cache.parent.parent.mkdir()
    cache.parent.write_text("a file where the folder would be")
    encoder = open_frame_encoder(f"onnx:{convolutions(tmp_path / 'm.onnx')}", precision="int8")
    assert np.isfinite(encoder.encode(pictures((40, 50)))).all()


def test_a_model_that_int8_ruins_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = convolutions(tmp_path / "model.onnx")
    other = convolutions(tmp_path / "other.onnx", 3.0)
    onnx_model = other.read_bytes()
    monkeypatch.setattr(onnx_int8, "int8_model", lambda *_: onnx_model)
    monkeypatch.setattr(onnx_int8, "LEAST_COSINE", 0.9999)
    with pytest.raises(UsageError, match=r"does not bear int8: .*mean cosine of 0\.\d+"):
        open_frame_encoder(f"onnx:{file}", precision="int8")


def test_a_model_that_cannot_be_quantised_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxruntime import quantization

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no shape for node 3")

    monkeypatch.setattr(quantization, "quantize_static", fail)
    with pytest.raises(UsageError, match=r"cannot be brought to int8 .*no shape for node 3"):
        open_frame_encoder(f"onnx:{convolutions(tmp_path / 'm.onnx')}", precision="int8")


def test_a_fixed_batch_is_calibrated_in_its_own_size(tmp_path: Path) -> None:
    file = averaging_model(tmp_path / "mean.onnx", [4, 3, 16, 16], axes=(2, 3))
    images = pictures(*[(20, 20)] * 6, seed=2)
    exact = open_frame_encoder(f"onnx:{file}").encode(images)
    # Nothing in it is a product, so that nothing is rounded.
    rounded = open_frame_encoder(f"onnx:{file}", precision="int8").encode(images)
    np.testing.assert_allclose(rounded, exact, atol=0.05)


def test_int8_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = convolutions(tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"vidvec\[onnx\]"):
        open_frame_encoder(f"onnx:{file}", precision="int8")


def test_made_pictures_are_like_natural_ones() -> None:
    made = onnx_int8.made_pictures(20, 64, 96)
    assert all(each.shape == (64, 96, 3) and each.dtype == np.uint8 for each in made)
    assert [each.tobytes() for each in made[:3]] == [
        each.tobytes() for each in onnx_int8.made_pictures(3, 64, 96)
    ]
    grey = np.stack([each.mean(axis=2) for each in made])
    assert grey.std() > 30
    # Neighbours are alike, as in natural pictures; in white noise this is 0.
    aside = np.corrcoef(grey[:, :, :-1].ravel(), grey[:, :, 1:].ravel())[0, 1]
    assert aside > 0.85


@pytest.mark.shared
@pytest.mark.slow
def test_int8_keeps_a_real_models_neighbours(shared: Path) -> None:
    from vidvec.data.video import decode

    model = shared / "data" / "models" / "mobilenet_v2_1.0_224.onnx"
    clips = sorted((shared / "data" / "videos" / "panda70m").glob("*.mp4"))[:16]
    images = [image for clip in clips for image in decode(clip, max_frames=2).images]
    exact = open_frame_encoder(f"onnx:{model}").encode(images)
    rounded = open_frame_encoder(f"onnx:{model}", precision="int8").encode(images)
    assert np.mean([cosine(a, b) for a, b in zip(exact, rounded, strict=True)]) > 0.98
