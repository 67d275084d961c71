"""A corpus on this disk against the same on object storage: embedding, and batches in any order.

    python -m benchmarks.storage [--videos 1500] [--rounds 3]

The server is moto, on loopback, in a process of its own beside the readers: its speed is measured
too, as one plain copy of the shards by eight threads, and is what a cold cache waits for. Each
round times every side in turn; a cold round begins with an empty cache. Processor time is of the
reading process alone, and is what counts where other work runs beside it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.corpus import make_corpus
from benchmarks.measure import timed
from benchmarks.report import this_machine
from tests.s3_server import BUCKET, s3_server
from vidvec import storage
from vidvec.config import load_recipe
from vidvec.data.batches import BatchBuilder
from vidvec.data.corpus import Corpus
from vidvec.embed.embedder import embed
from vidvec.model.weights import load_model, save_model
from vidvec.storage import cache, objects
from vidvec.storage.folders import push
from vidvec.storage.local import copy
from vidvec.train.start import new_model

SHAPE = ("model.hidden_size=64", "model.layers=2", "model.heads=2", "model.ffn_size=128")
BATCH = 128


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, s3_server() as url:
        folder = Path(name)
        os.environ |= {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "VIDVEC_CACHE": str(folder / "cache"),
        }
        corpus = make_corpus(folder / "corpus", given.videos)
        size = sum(entry["bytes"] for entry in corpus.manifest["shards"])
        save_model(folder / "run", new_model(load_recipe("base", SHAPE), corpus))
        remote = storage.located(f"s3://{BUCKET}/corpus")
        push(folder / "corpus", remote)
        machine = this_machine()
        print(f"{given.videos:,} videos, {size / 1e6:,.0f} MB; {machine.slug}")
        print("| | local | by URL, cold | by URL, warm | processor time, warm : local |")
        print("|---|---|---|---|---|")
        for what, run in sides(folder).items():
            print(table_row(what, run, folder, remote, given.rounds), flush=True)
        copies = [spent(lambda: plain_copy(remote, corpus, folder)) for _ in range(given.rounds)]
        print(f"the server, one plain copy: {median(copies)}")


def sides(folder: Path) -> dict[str, Callable[[Path], object]]:
    """What is timed, by name; each is given where the corpus is."""

    def embedded(where: Path) -> None:
        made = folder / "vectors"
        shutil.rmtree(made, ignore_errors=True)
        embed(folder / "run", where, made)

    def shuffled(where: Path) -> None:
        corpus, model = Corpus(where), load_model(folder / "run")
        builder = BatchBuilder(corpus, model.tokenizer, model.recipe.model)
        order = np.random.default_rng(0).permutation(len(corpus))
        for start in range(0, len(order), BATCH):
            builder.build(order[start : start + BATCH])

    return {"embed": embedded, "batches of 128, shuffled": shuffled}


def table_row(
    what: str, run: Callable[[Path], object], folder: Path, remote: Path, rounds: int
) -> str:
    """Medians of the three sides, and the lowest and highest ratio of warm to local."""
    run(folder / "corpus")
    local, cold, warm = [], [], []
    for _ in range(rounds):
        local.append(spent(lambda: run(folder / "corpus")))
        shutil.rmtree(folder / "cache", ignore_errors=True)
        cache._opened.cache_clear()
        cold.append(spent(lambda: run(remote)))
        warm.append(spent(lambda: run(remote)))
    ratios = sorted(slow / quick for (_, slow), (_, quick) in zip(warm, local, strict=True))
    parts = " | ".join(median(side) for side in (local, cold, warm))
    middle = statistics.median(ratios)
    return f"| {what} | {parts} | {middle:.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f}) |"


def spent(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and of processor time, that a call takes."""
    began = time.process_time()
    return timed(run), time.process_time() - began


def median(side: list[tuple[float, float]]) -> str:
    """Both medians, to print."""
    seconds, processor = (statistics.median(each) for each in zip(*side, strict=True))
    return f"{seconds:.2f} s, {processor:.2f} of processor time"


def plain_copy(remote: Path, corpus: Corpus, folder: Path) -> None:
    """Every shard to a file, as fast as the server gives it."""
    for entry in corpus.manifest["shards"]:
        path = storage.located(str(remote / "shards" / entry["file"]))
        assert isinstance(path, storage.S3Path)
        copy(objects.OpenObject(path), folder / "copied")


if __name__ == "__main__":
    main()
