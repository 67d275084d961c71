"""Speeds as ratios, both sides measured in turn in one run.

    python -m benchmarks.run

Ratios, because machines differ and drift: each round times one side and then the other, and the
median of the rounds' ratios is printed with the lowest and the highest.
"""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import TruncatedSVD

from vidvec.config import load_recipe
from vidvec.data.batches import BatchBuilder
from vidvec.data.corpus import Corpus
from vidvec.data.ingest import IngestOptions, ingest
from vidvec.embed.fusion import fit, normalised_weights
from vidvec.train.optimizer import make_optimizer
from vidvec.train.pretrain import PretrainTask
from vidvec.train.start import new_model
from vidvec.train.trainer import train_step

ROUNDS = 5
VIDEOS = 2000
FRAME_SIZE = 1536
BATCH = 32


def make_corpus(folder: Path) -> Corpus:
    """Random videos with the published lengths: about 18 frames and 20 title characters."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(0)
    counts = random.integers(4, 33, VIDEOS)
    letters = [chr(0x4E00 + i) for i in range(1500)]
    titles = ["".join(random.choice(letters, random.integers(5, 33))) for _ in range(VIDEOS)]
    flat = random.normal(size=(int(counts.sum()), FRAME_SIZE)).astype(np.float16)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), FRAME_SIZE)
    tags = [[str(tag) for tag in random.integers(0, 500, 5)] for _ in range(VIDEOS)]
    table = pa.table(
        {
            "id": [str(i) for i in range(VIDEOS)],
            "title": titles,
            "tags": tags,
            "frames": pa.ListArray.from_arrays(pa.array(offsets), rows),
        }
    )
    pq.write_table(table, folder / "videos.parquet")
    ingest(folder / "videos.parquet", folder / "corpus", IngestOptions())
    return Corpus(folder / "corpus")


def compare(name: str, slow: Callable[[], object], fast: Callable[[], object]) -> None:
    """Prints how many times faster ``fast`` is; each runs once before it counts."""
    slow()
    fast()
    ratios = []
    for _ in range(ROUNDS):
        times = []
        for side in (slow, fast):
            began = time.perf_counter()
            side()
            times.append(time.perf_counter() - began)
        ratios.append(times[0] / times[1])
    spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
    print(f"{name:<60} {statistics.median(ratios):6.2f}×  ({spread}, {ROUNDS} rounds)")


def training_step(corpus: Corpus, padded: bool) -> Callable[[], object]:
    """A pretraining step of the small shape, with or without padding, on the same videos."""
    recipe = load_recipe(
        "base",
        [f"model.count_padding={str(padded).lower()}", f"pretrain.batch_size={BATCH}"],
    )
    task = PretrainTask(new_model(recipe, corpus), corpus)
    optimizer = make_optimizer(task.model, task.stage)
    batch = task.batch(0)
    return lambda: train_step(task, optimizer, batch, 1)


def embedding(corpus: Corpus, padded: bool) -> Callable[[], object]:
    """Vectors of one batch by the small shape."""
    recipe = load_recipe("base", [f"model.count_padding={str(padded).lower()}"])
    model = new_model(recipe, corpus)
    model.encoder.eval()
    batch = BatchBuilder(corpus, model.tokenizer, model.recipe.model).build(np.arange(2 * BATCH))

    def run() -> None:
        with torch.inference_mode():
            model.encoder(batch)

    return run


def loader_speed(corpus: Corpus) -> None:
    """Prints videos a second that one thread builds into flat batches from mapped shards."""
    model = new_model(load_recipe("base", ["model.size=tiny"]), corpus)
    builder = BatchBuilder(corpus, model.tokenizer, model.recipe.model)
    order = np.random.default_rng(0).permutation(len(corpus))
    speeds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for start in range(0, len(order), 128):
            builder.build(order[start : start + 128])
        speeds.append(len(order) / (time.perf_counter() - began))
    low, high = min(speeds), max(speeds)
    text = f"{statistics.median(speeds):,.0f} videos/s ({low:,.0f}–{high:,.0f})"
    print(f"{'loader, warm, one thread, 1536 numbers a frame':<60} {text}")


def main() -> None:
    """Runs all."""
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    random = np.random.default_rng(0)
    members = [random.normal(size=(20_000, 256)).astype(np.float32) for _ in range(3)]
    weights = normalised_weights(None, 3)
    whole = np.concatenate(members, axis=1)
    with tempfile.TemporaryDirectory() as folder:
        corpus = make_corpus(Path(folder))
        compare(
            "pretraining step, 6 × 384, without padding against with",
            training_step(corpus, padded=True),
            training_step(corpus, padded=False),
        )
        compare(
            "embedding, 6 × 384, without padding against with",
            embedding(corpus, padded=True),
            embedding(corpus, padded=False),
        )
        compare(
            "fusion 20,000 × 768 → 256 against sklearn (50 iterations)",
            lambda: TruncatedSVD(256, n_iter=50, random_state=0).fit(whole),
            lambda: fit(iter([members]), weights, [256] * 3, 256, "streaming"),
        )
        loader_speed(corpus)


if __name__ == "__main__":
    main()
