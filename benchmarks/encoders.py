"""An ONNX frame encoder in float32 and int8 on the real clips: speed, features, neighbours.

    python benchmarks/encoders.py [SHARED]

Prints a line a precision: pictures a second (the best of five), the features' cosines with those in
float32, and how many clips keep their nearest neighbour and their nearest five.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec.data.frames import FrameEncoder, open_frame_encoder
from vidvec.data.video import decode
from vidvec.errors import BadRecord

Features = NDArray[np.float32]
PICTURES = 8
ROUNDS = 5


def clips(shared: Path) -> list[list[NDArray[np.uint8]]]:
    """Up to ``PICTURES`` pictures of each clip that can be decoded."""
    found = []
    for file in sorted((shared / "data" / "videos").glob("*/*")):
        if file.suffix not in {".jsonl", ".txt", ".md"}:
            try:
                found.append(decode(file, max_frames=PICTURES, short_side=224).images)
            except BadRecord:
                continue
    return found


def cosines(first: Features, second: Features) -> Features:
    """Row by row."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(axis=1) / lengths


def neighbours(features: Features, counts: list[int]) -> NDArray[np.int64]:
    """(clips, 5) nearest clips by their mean features, around the mean of all."""
    means = np.stack([part.mean(axis=0) for part in np.split(features, np.cumsum(counts)[:-1])])
    means -= means.mean(axis=0)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return np.argsort(-(means @ means.T - 2 * np.eye(len(means))), axis=1)[:, :5]


def speed(encoder: FrameEncoder, images: list[NDArray[np.uint8]]) -> float:
    """Pictures a second, the best of ``ROUNDS``."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        encoder.encode(images)
        seconds.append(time.perf_counter() - start)
    return len(images) / min(seconds)


def main(shared: Path) -> None:
    """Measures and prints."""
    videos = clips(shared)
    counts = [len(images) for images in videos]
    images = [image for some in videos for image in some]
    print(f"{len(videos)} clips, {len(images)} pictures")
    model = f"onnx:{shared / 'data' / 'models' / 'mobilenet_v2_1.0_224.onnx'}"
    exact = open_frame_encoder(model)
    expected = exact.encode(images)
    nearest = neighbours(expected, counts)
    for precision in ("float32", "int8"):
        start = time.perf_counter()
        encoder = open_frame_encoder(model, precision=precision)
        opened = time.perf_counter() - start
        features = encoder.encode(images)
        near = cosines(features, expected)
        found = neighbours(features, counts)
        five = np.mean([len({*a} & {*b}) / 5 for a, b in zip(found, nearest, strict=True)])
        print(
            f"{precision:8} {speed(encoder, images[:256]):5.0f} pictures/s  opened in "
            f"{opened:.1f} s  cosine {near.mean():.4f} (least {near.min():.4f})  nearest kept "
            f"{np.mean(found[:, 0] == nearest[:, 0]):.1%}, of five {five:.1%}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("../shared"))
