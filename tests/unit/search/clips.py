"""Short clips that look unlike one another, and a corpus, model and vectors of them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.models import write_checkpoint
from vidvec.data.corpus import Corpus
from vidvec.data.ingest import IngestOptions, ingest
from vidvec.embed.embedder import embed

COUNT = 6
SIZE = (96, 128)


def scene(number: int, time: float = 0.0) -> NDArray[np.uint8]:
    """(96, 128, 3) uint8: large fields in colours of its own, which drift a little with time."""
    random = np.random.default_rng(number)
    fields = random.integers(0, 256, (4, 4, 3)).astype(np.uint8)
    picture = np.kron(fields, np.ones((SIZE[0] // 4, SIZE[1] // 4, 1), np.uint8))
    return np.roll(picture, round(4 * time), axis=1)


def film(path: Path, number: int, seconds: float = 3.0, *, hertz: float = 0.0) -> Path:
    """A clip of a scene, ten pictures a second, with a tone where ``hertz`` is above 0."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        sound = container.add_stream("aac", rate=16_000, layout="mono") if hertz else None
        for place in range(round(10 * seconds)):
            frame = av.VideoFrame.from_ndarray(scene(number, place / 10), format="rgb24")
            frame.pts, frame.time_base = place, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        for start in range(0, round(16_000 * seconds) if sound else 0, 1024):
            wave = np.sin(2 * np.pi * hertz * (start + np.arange(1024)) / 16_000) / 3
            tone = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], "fltp", "mono")
            tone.rate, tone.pts = 16_000, start
            container.mux(sound.encode(tone))
        if sound is not None:
            container.mux(sound.encode())
    return path


def onnx_model(path: Path, seed: int = 0) -> Path:
    """A frame encoder: means over an 8 × 8 grid of the picture, mixed into 20 numbers."""
    random = np.random.default_rng(seed)
    weight = random.normal(size=(20, 3, 8, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["maps"], strides=[8, 8]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 20])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
    return path


def made(root: Path, *settings: str, options: IngestOptions | None = None) -> Path:
    """Clips, their corpus, a model of them and its vectors, in folders of these names.

    Args:
        root: Where.
        settings: Of the model.
        options: Of the ingest.
    """
    (root / "clips").mkdir(parents=True)
    for number in range(COUNT):
        film(root / "clips" / f"clip{number}.mp4", number, hertz=200.0 * (1 + number))
    ingest(root / "clips", root / "corpus", options or IngestOptions())
    write_checkpoint(root / "model", Corpus(root / "corpus"), *settings)
    embed(root / "model", root / "corpus", root / "vectors")
    return root
