"""Tags that are partly made up: weighted by trusted videos, softened by the model, as they are.

    python -m benchmarks.noisy_tags FOLDER [--noise 0.6] [--seeds 1 2 3] [--json FILE]

FOLDER gets a made corpus of 1,200 videos: 16 topics that show in frames and, weakly, in titles. A
share of the videos to learn from has another topic's tag; 120 others are trusted, 240 are measured
on and learned by nobody. A tiny model is pretrained on tags for each way and seed. Measured is the
mean average precision with which the tag head finds the videos of each true topic, and, where
weights are, what tags that are right and tags that are wrong came to count in the last epoch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from vidvec import Corpus, IngestOptions, ingest, load_recipe
from vidvec.data.batches import BatchBuilder
from vidvec.train.optimizer import make_optimizer
from vidvec.train.pretrain import PretrainTask
from vidvec.train.start import new_model
from vidvec.train.trainer import train_step

TOPICS, LEARNED, TRUSTED, MEASURED, WIDTH = 16, 840, 120, 240, 32
COMMON = (
    *("model.hidden_size=32", "model.layers=1", "model.heads=4", "model.ffn_size=64"),
    *("model.embedding_size=32", "model.dropout=0.1", "pretrain.batch_size=64"),
    *("pretrain.epochs=20", "pretrain.learning_rate=5e-3", "pretrain.high_learning_rate=5e-3"),
    *("pretrain.mlm_weight=0", "pretrain.mfm_weight=0", "pretrain.validation_share=0"),
)
SOFT = ("pretrain.tag_soft_share=0.4", "pretrain.tag_soft_momentum=0.98")
WAYS: dict[str, tuple[str, ...]] = {
    "tags as they are": (),
    "weighted": ("pretrain.tag_weighting=gdw",),
    "weighted, at most 1": ("pretrain.tag_weighting=gdw", "pretrain.tag_weighting_limit=1.0"),
    "softened": SOFT,
    "trusted videos alone, as many steps": ("trusted", "pretrain.epochs=150"),
    "all tags right": ("clean",),
}


def make(folder: Path, noise: float, seed: int) -> tuple[Corpus, NDArray[np.int64]]:
    """A corpus and each video's true topic; the last ones are those measured on, without tags."""
    random, count = np.random.default_rng(seed), LEARNED + TRUSTED + MEASURED
    topics = random.integers(TOPICS, size=count)
    centres = random.normal(size=(TOPICS, WIDTH))
    wrong = (random.random(count) < noise) & (np.arange(count) >= TRUSTED)
    said = np.where(wrong, (topics + random.integers(1, TOPICS, count)) % TOPICS, topics)
    rows = []
    for number, topic in enumerate(topics.tolist()):
        frames = centres[topic] + 2.5 * random.normal(size=(6, WIDTH))
        words = [f"word{random.integers(40) if random.random() < 0.7 else topic}" for _ in range(6)]
        tags = [f"topic{said[number]}"] if number < LEARNED + TRUSTED else None
        rows.append(
            {
                "id": f"v{number:05d}",
                "title": " ".join(words),
                "tags": tags,
                "frames": frames.astype(np.float32).tolist(),
            }
        )
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "videos.parquet")
    (folder / "trusted.txt").write_text("".join(f"v{n:05d}\n" for n in range(TRUSTED)), "utf-8")
    if not (folder / "corpus" / "manifest.json").is_file():
        ingest(folder / "videos.parquet", folder / "corpus", IngestOptions())
    corpus = Corpus(folder / "corpus")
    place = {f"v{number:05d}": topic for number, topic in enumerate(topics)}
    return corpus, np.array([place[video] for video in corpus.ids], np.int64)


def average_precision(scores: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    """Mean over the right ones of the precision down to each."""
    found = right[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(found) / np.arange(1, len(found) + 1)
    return float(precision[found].mean())


def run(corpus: Corpus, truth: NDArray[np.int64], overrides: list[str]) -> dict[str, Any]:
    """Trains one model; its mean average precision, seconds, and weights."""
    recipe = load_recipe("base", overrides)
    task = PretrainTask(new_model(recipe, corpus), corpus)
    optimizer = make_optimizer(task.model, task.stage)
    topic = {name: number for number, name in enumerate(corpus.tag_vocabulary)}
    classes = np.array([topic[f"topic{number}"] for number in range(TOPICS)])
    weights: dict[str, list[float]] = {"right": [], "wrong": []}
    began = time.process_time()
    for step in range(task.order.steps):
        batch = task.batch(step)
        train_step(task, optimizer, batch, step)
        if recipe.pretrain.tag_weighting != "none" and step >= task.order.steps - 15:
            encoded = task.model.encoder(batch)
            found = task._lessons.of(batch, encoded, step)["weights"].numpy()
            positions = batch.tag_positions.numpy()
            counts = batch.tag_counts.numpy()
            given = np.repeat(np.arange(len(counts)), counts.clip(min=0))
            for video, tag in zip(given, positions, strict=True):
                kind = "right" if classes[truth[int(batch.rows[video])]] == tag else "wrong"
                weights[kind].append(float(found[video, tag]))
    seconds = time.process_time() - began
    rows = np.flatnonzero(corpus.tag_positions()[1] < 0)
    builder = BatchBuilder(corpus, task.model.tokenizer, task.model.recipe.model)
    task.model.encoder.eval()
    with torch.no_grad():
        logits = task.heads.tag_logits(task.model.encoder(builder.build(rows)))
    each = [
        average_precision(logits[:, int(tag)].numpy(), truth[rows] == number)
        for number, tag in enumerate(classes)
        if (truth[rows] == number).any()
    ]
    means = {kind: float(np.mean(some)) for kind, some in weights.items() if some}
    return {"map": float(np.mean(each)), "seconds": seconds, "weights": means}


def main(folder: Path, noise: float, seeds: list[int], out: Path | None) -> None:
    """Runs all ways and seeds, prints a table, writes JSON where asked to."""
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for seed in seeds:
        made = {
            True: make(folder / f"clean-{seed}", 0.0, seed),
            False: make(folder / f"noise-{noise}-{seed}", noise, seed),
        }
        for way, extra in WAYS.items():
            corpus, truth = made["clean" in extra]
            settings = [*COMMON, f"seed={seed}", *(key for key in extra if "=" in key)]
            if any("tag_weighting=" in key for key in extra):
                settings.append(f'pretrain.trusted=["{corpus.path.parent / "trusted.txt"}"]')
            if "trusted" in extra:
                corpus, truth = make_trusted(corpus, truth, folder / f"trusted-{seed}")
            found[way].append(run(corpus, truth, settings))
            print(f"seed {seed}  {way:34s} {found[way][-1]}", flush=True)
    for way, some in found.items():
        each = [one["map"] for one in some]
        seconds = statistics.mean(one["seconds"] for one in some)
        print(
            f"{way:34s} {np.mean(each):.4f}  {', '.join(f'{v:.4f}' for v in each)}  {seconds:.0f} s"
        )
    if out is not None:
        out.write_text(json.dumps(found, indent=1), "utf-8")


def make_trusted(
    corpus: Corpus, truth: NDArray[np.int64], folder: Path
) -> tuple[Corpus, NDArray[np.int64]]:
    """The corpus of the trusted videos and of those measured on."""
    source = pq.read_table(corpus.path.parent / "videos.parquet")
    kept = [*range(TRUSTED), *range(TRUSTED + LEARNED, source.num_rows)]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(source.take(kept), folder / "videos.parquet")
    if not (folder / "corpus" / "manifest.json").is_file():
        ingest(folder / "videos.parquet", folder / "corpus", IngestOptions())
    small = Corpus(folder / "corpus")
    topic = dict(zip(corpus.ids, truth.tolist(), strict=True))
    return small, np.array([topic[video] for video in small.ids], np.int64)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--noise", type=float, default=0.6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    main(given.folder, given.noise, given.seeds, given.json)
