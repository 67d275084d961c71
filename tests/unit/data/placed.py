"""An ingest with a frame encoder that gives away which batch a picture was in, run as a program.

    python -m tests.unit.data.placed SOURCE CORPUS [DIE_AFTER]

kills itself, with all that it has started, after so many rows. Every chunk is committed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.data import processing, writer
from vidvec.data.ingest import IngestOptions, ingest


class PlacedEncoder:
    """A picture's brightness, its place in its batch, and the batch's size and sum."""

    short_side = 64
    frame_size = 4
    note = ""

    def __init__(self, batch_size: int = 4) -> None:
        self.identity: dict[str, Any] = {"name": "placed", "revision": "1", "frame_size": 4}
        self.batch_size = batch_size
        self.batches: list[int] = []

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self.batches.append(len(images))
        means = np.array([image.mean() for image in images])
        places = np.arange(len(images))
        sums = np.full(len(images), means.sum())
        sizes = np.full(len(images), len(images))
        return np.stack([means, places, sizes, sums], axis=1).astype(np.float32)


def main() -> None:
    source, corpus, *rest = sys.argv[1:]
    die_after = int(rest[0]) if rest else -1
    processing.open_frame_encoder = lambda *_, **__: PlacedEncoder()  # type: ignore[assignment]
    processing.CHUNK_BATCHES = 2
    writer.COMMIT_SECONDS = -1

    def progress(done: int, _: int) -> None:
        if done == die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    ingest(Path(source), Path(corpus), IngestOptions(), progress)


if __name__ == "__main__":
    main()
