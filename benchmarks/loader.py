"""Reading: videos a second from one process, and how fast a corpus of a million opens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.corpus import FRAME_SIZE, make_corpus
from benchmarks.measure import Comparison, alternate, timed
from benchmarks.plain_data import make_loader
from benchmarks.steps import SMALL, make_recipe, plain_videos
from vidvec.data.batches import BatchBuilder
from vidvec.data.corpus import Corpus
from vidvec.data.texts import title_tokens
from vidvec.data.tokenizer import load_tokenizer

VIDEOS = 2000
PASSES = 10  # of vidvec's side in a round: one is over in the blink of an eye
BATCH = 128
MANY = 1_000_000
NARROW = 16


def compare_loading(folder: Path, rounds: int) -> Iterator[Comparison]:
    """Batches of 128 of shuffled videos, 1536 numbers a frame, all in the page cache."""
    corpus = make_corpus(folder / "loader", VIDEOS)
    config = make_recipe(SMALL).model.model_copy(update={"frame_size": corpus.frame_size})
    builder = BatchBuilder(corpus, load_tokenizer(corpus.path / "tokenizer"), config)
    loader = make_loader(plain_videos(corpus), BATCH, shuffle=True)
    order = np.random.default_rng(0).permutation(len(corpus))

    def fast() -> None:
        for _ in range(PASSES):
            for start in range(0, len(order), BATCH):
                builder.build(order[start : start + BATCH])

    def plain() -> None:
        for _ in loader:
            pass

    seconds = alternate({"plain": plain, "fast": fast}, rounds)
    yield Comparison(
        "loader",
        f"batches of {BATCH}, {FRAME_SIZE:,} numbers a frame, warm, one process",
        seconds["plain"],
        tuple(second / PASSES for second in seconds["fast"]),
        VIDEOS,
    )


@dataclass(frozen=True, slots=True)
class StartUp:
    """Opening a corpus in a fresh process, medians over the rounds.

    Attributes:
        videos: In the corpus.
        frame_size: Numbers of a frame in it.
        shards: Files, as many as with frames of the published width.
        make_seconds: Writing it, once.
        tokenize_seconds: Tokenizing its titles, once.
        warm, cold: What ``benchmarks.start`` says, and ``process_seconds`` from the start of the
            process, imports included, to the first batch; warm with the files in the page cache.
    """

    videos: int
    frame_size: int
    shards: int
    make_seconds: float
    tokenize_seconds: float
    warm: dict[str, float]
    cold: dict[str, float]


def measure_start(folder: Path, rounds: int, videos: int = MANY) -> StartUp:
    """Makes a corpus of narrow frames and opens it in one fresh process after the other.

    Frames of the published width would be 57 GB; opening touches none of them but the first
    batch's, and there are as many shards as there would be with them.
    """
    path = folder / "many"
    made = timed(lambda: make_corpus(path, videos, frame_size=NARROW))
    tokenized = timed(lambda: title_tokens(Corpus(path), load_tokenizer(path / "tokenizer")))
    shards = len(list((path / "shards").iterdir()))
    _open(path)
    warm = [_open(path) for _ in range(rounds)]
    cold = []
    for _ in range(rounds):
        forget(path)
        cold.append(_open(path))
    return StartUp(videos, NARROW, shards, made, tokenized, _medians(warm), _medians(cold))


def _open(path: Path) -> dict[str, float]:
    began = time.time()
    command = [sys.executable, "-m", "benchmarks.start", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    figures = json.loads(done.stdout)
    return {**figures, "process_seconds": figures.pop("at") - began}


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.median([each[name] for each in rounds])) for name in rounds[0]}


def forget(folder: Path) -> None:
    """Drops a folder's files from the page cache."""
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
