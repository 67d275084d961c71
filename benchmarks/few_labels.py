"""Finetuning with few scored pairs: the whole model, low-rank updates, a residual adapter.

    python -m benchmarks.few_labels FOLDER [--videos 6000] [--seeds 1 2 3] [--json FILE]

FOLDER gets a made corpus (``vidvec make-competition``) and a pretrained tiny model for each seed.
For each number of pairs and each seed so many scored pairs are drawn: four in five to learn from,
one in five, where there are as many, to choose the checkpoint and the rate by. Measured is
Spearman on the pairs of both test parts, which nothing learns from or is chosen by; the intervals
draw pairs and seeds anew, paired between ways.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.reproduction.arms import CHAINS, Scale
from benchmarks.reproduction.chains import Experiment
from benchmarks.reproduction.measure import Contrast, Measured
from vidvec import (
    Corpus,
    IngestOptions,
    Vectors,
    embed_corpus,
    finetune,
    ingest,
    pretrain,
    storage,
)
from vidvec.data.pair_rows import write_pairs
from vidvec.data.splits import split_pairs
from vidvec.demo.competition import make_competition
from vidvec.embed.evaluate import pair_cosines
from vidvec.records import Pair

# The last: all that a made corpus of 6,000 videos has by the clean split.
SIZES = (50, 200, 864)
STEPS = 120
BATCH = 32
WAYS: dict[str, tuple[tuple[str, ...], tuple[float, ...]]] = {
    "full": (("finetune.adapter=none",), (3e-5, 1e-4, 3e-4)),
    "lora": (
        ("finetune.adapter=lora", 'finetune.adapter_parts=["pool", "projection"]'),
        (3e-4, 1e-3, 3e-3),
    ),
    "residual": (("finetune.adapter=residual",), (1e-4, 3e-4, 1e-3, 3e-3)),
    "residual, nothing else": (
        ("finetune.adapter=residual", "finetune.adapter_parts=[]"),
        (3e-4, 1e-3, 3e-3, 1e-2),
    ),
}
CHAIN = next(chain for chain in CHAINS if chain.name == "job2")


def drawn(pairs: list[Pair], count: int, seed: int) -> list[Pair]:
    """So many pairs by the clean split: four in five to learn from, one in five to choose by."""
    split, random = split_pairs(pairs, "clean"), np.random.default_rng([seed, count])
    some = min(count // 5, len(split.validation))
    held = random.choice(split.validation, some, replace=False)
    learned = random.choice(split.train, count - some, replace=False)
    return [pairs[int(number)] for number in [*learned, *held]]


def with_pairs(corpus: Corpus, folder: Path, pairs: list[Pair]) -> Path:
    """The corpus with other pairs, as a folder of links."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in corpus.path.iterdir():
        if path.name != "pairs.parquet" and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path.resolve())
    write_pairs(folder / "pairs.parquet", pairs)
    return folder


def settings_of(way: str, rate: float, pairs: int) -> tuple[str, ...]:
    """A way's settings: as many steps for any number of pairs."""
    steps_an_epoch = -(-(pairs - pairs // 5) // BATCH)
    settings, _ = WAYS[way]
    name = "learning_rate" if way == "full" else "adapter_learning_rate"
    others = ["finetune.high_learning_rate=" + repr(rate if way == "full" else 1e-4)]
    return (
        *settings,
        *others,
        f"finetune.{name}={rate!r}",
        f"finetune.batch_size={BATCH}",
        f"finetune.epochs={STEPS // steps_an_epoch}",
        f"finetune.evaluate_every={STEPS // 6}",
        "finetune.best_by=spearman",
    )


def one_way(
    experiment: Experiment, start: Path, corpus: Path, way: str, job: tuple[int, int]
) -> tuple[NDArray[np.float64], float, float]:
    """Cosines of the test pairs by the rate that its own pairs choose; seconds; that rate."""
    seed, count = job
    tried: list[tuple[float, float, Path]] = []
    took = []
    for rate in WAYS[way][1]:
        began = time.process_time()
        recipe = experiment.recipe(CHAIN, seed, settings_of(way, rate, count))
        run = corpus / "runs" / f"{way.replace(', ', '-').replace(' ', '-')}-{rate:g}"
        report = finetune(corpus, run, recipe, start)
        tried.append((1.0 if report.best is None else report.best, rate, run))
        if not report.resumed_at:
            took.append(time.process_time() - began)
    seconds = float(np.mean(took)) if took else float("nan")
    _, rate, run = min(tried)
    return measure(experiment, run), seconds, rate


def measure(experiment: Experiment, run: Path) -> NDArray[np.float64]:
    """Cosines of the test pairs."""
    vectors = run / "vectors"
    embed_corpus(run, experiment.corpus.path, vectors, parts=("test_a", "test_b"))
    return pair_cosines(Vectors(vectors), experiment.pairs())


def one_seed(experiment: Experiment, seed: int, count: int) -> dict[str, Any]:
    """Cosines, seconds and rates of each way with so many pairs; what is there is read."""
    folder = experiment.folder / f"seed{seed}"
    start, done = folder / "pretrained", folder / f"results-{count}.json"
    if not done.is_file():
        pretrain(experiment.corpus.path, start, experiment.recipe(CHAIN, seed))
        found: dict[str, Any] = {"pretrained": {"cosines": measure(experiment, start).tolist()}}
        chosen = drawn(experiment.corpus.pairs(), count, seed)
        few = with_pairs(experiment.corpus, folder / f"pairs{count}", chosen)
        for way in WAYS:
            cosines, seconds, rate = one_way(experiment, start, few, way, (seed, count))
            found[way] = {"cosines": cosines.tolist(), "seconds": seconds, "rate": rate}
        storage.write_json(done, found)
        print(f"seed {seed}, {count} pairs: done", flush=True)
    return dict(storage.read_json(done))


def main(folder: Path, videos: int, seeds: list[int], file: Path | None) -> None:
    """Makes, trains, measures, prints a table."""
    experiment = Experiment(folder, Scale(videos=videos, pretrain_epochs=6))
    make_competition(experiment.made, videos=videos)
    ingest(experiment.made, folder / "corpus", IngestOptions())
    cosines: dict[str, list[NDArray[np.float64]]] = {}
    seconds: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    for seed in seeds:
        for count in SIZES:
            for way, found in one_seed(experiment, seed, count).items():
                row = way if way == "pretrained" else f"{way} {count}"
                if row != "pretrained" or count == SIZES[0]:
                    cosines.setdefault(row, []).append(np.array(found["cosines"]))
                if row != "pretrained":
                    seconds.setdefault(row, []).append(found["seconds"])
                    rates.setdefault(row, []).append(found["rate"])
    scores = np.array([pair.score for pair in experiment.pairs()])
    stacked = {name: np.stack(values) for name, values in cosines.items()}
    measured = Measured(stacked, {name: (name,) for name in stacked}, scores)
    report(measured, seconds, rates, len(scores))
    if file is not None:
        figures = {name: measured.by_seed(name) for name in stacked}
        storage.write_json(file, {"spearman": figures, "seconds": seconds, "rates": rates})


def report(
    measured: Measured,
    seconds: dict[str, list[float]],
    rates: dict[str, list[float]],
    pairs: int,
) -> None:
    """Prints the table in Markdown."""
    base = measured.row("pretrained")
    print(f"{pairs} test pairs; pretrained alone {base}")
    print("| pairs | way | Spearman | less full | less pretrained | s a run | rates |")
    print("|---|---|---|---|---|---|---|")
    for count in SIZES:
        for way in WAYS:
            row = f"{way} {count}"
            against = []
            for other in (f"full {count}", "pretrained"):
                found = measured.difference(Contrast(0, "", row, other)).interval
                against.append(
                    ""
                    if row == other
                    else f"{found.value:+.4f} ({found.low:+.4f} … {found.high:+.4f})"
                )
            cells = [str(count), way, f"{measured.row(row).value:.4f}", *against]
            cells += [f"{np.mean(seconds[row]):.1f}", json.dumps(rates[row])]
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few_labels", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--videos", type=int, default=6000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    main(given.folder, given.videos, given.seeds, given.json)
