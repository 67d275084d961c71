"""A process that writes to an index without end, and says what was acknowledged.

python -m tests.unit.search.writing FOLDER SEED FOLD_AT
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from vidvec.search import engine
from vidvec.search.types import IndexedVideo

WIDTH = 16
Write = tuple[str, list[str], int]


def next_write(random: np.random.Generator, number: int) -> Write:
    """What is done, with which ids, and the number that their vectors come from."""
    ids = [f"v{row}" for row in np.unique(random.integers(0, 60, 3)).tolist()]
    return ("delete" if random.random() < 0.3 else "add", ids, number)


def vectors_of(write: Write) -> np.ndarray:
    """(ids, 16) what a write adds."""
    return np.random.default_rng(write[2]).standard_normal((len(write[1]), WIDTH), np.float32)


def main() -> None:
    """Opens, says so, and writes until it is killed."""
    folder, seed, fold_at = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    engine.FOLD_AT = fold_at
    random = np.random.default_rng(seed)
    with engine.SearchIndex.open(folder, writable=True) as index:
        print("open", flush=True)  # noqa: T201
        for number in range(10**9):
            write = next_write(random, number)
            if write[0] == "add":
                videos = [IndexedVideo(video, f"title {number}") for video in write[1]]
                index.add(write[1], vectors_of(write), videos)
            else:
                index.delete(write[1])
            print(number, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
