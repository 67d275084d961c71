"""The published claims on a made corpus: trains everything, measures, judges, writes it down.

    python -m benchmarks.reproduce FOLDER [--docs docs]

FOLDER gets the corpus and all results. Started again after a stop, it carries on; after the end, it
only writes the figures again. ``--docs`` also puts them into docs/reproduction.md and
docs/images/reproduction.png.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from benchmarks.reproduction import report
from benchmarks.reproduction.arms import Scale
from benchmarks.reproduction.chains import Experiment, core_minutes, read_results, run_chains
from benchmarks.reproduction.claims import ROWS
from benchmarks.reproduction.measure import Measured
from vidvec import Corpus, IngestOptions, Vectors, ingest, metrics
from vidvec.demo.competition import make_competition
from vidvec.embed.evaluate import pair_cosines
from vidvec.metrics import Interval
from vidvec.records import Pair


def main(folder: Path, scale: Scale, docs: Path | None) -> None:
    """Makes, trains, measures and writes."""
    experiment = Experiment(folder, scale)
    make_competition(experiment.made, videos=scale.videos)
    ingest(experiment.made, folder / "corpus", IngestOptions())
    run_chains(experiment, say)
    pairs, corpus = experiment.pairs(), experiment.corpus
    results = [read_results(experiment, seed) for seed in scale.seeds]
    measured = Measured(
        {arm: np.stack([cosines[arm] for cosines, _ in results]) for arm in results[0][0]},
        ROWS,
        np.array([pair.score for pair in pairs]),
    )
    held = {arm: [validation[arm] for _, validation in results] for arm in results[0][1]}
    context = report.Context(
        scale=scale,
        pairs=len(pairs),
        ceiling=ceiling(experiment.made, pairs),
        frames=mean_of_frames(corpus, pairs),
        validation={arm: float(np.mean(values)) for arm, values in held.items()},
        command="make reproduce" if docs else " ".join(["benchmarks.reproduce", *sys.argv[1:]]),
        core_minutes=core_minutes(experiment),
    )
    found = report.differences(measured)
    figures = report.markdown(measured, found, context)
    for place, picture in [(folder, "reproduction.png"), (docs, "images/reproduction.png")]:
        if place is not None:
            report.draw(found, place / picture)
            report.write_figures(place / "reproduction.md", figures)
    say(figures)


def ceiling(made: Path, pairs: list[Pair]) -> Interval:
    """Spearman of the similarity that the scores come from, before raters' noise and steps."""
    cosines = pair_cosines(Vectors(made / "truth" / "latent"), pairs)
    return metrics.bootstrap(metrics.spearman, cosines, [pair.score for pair in pairs])


def mean_of_frames(corpus: Corpus, pairs: list[Pair]) -> Interval:
    """Spearman of the cosine between mean frame features; 0 where a video has no frames."""
    means = {}
    for pair in pairs:
        for video in (pair.id_1, pair.id_2):
            frames = corpus.frames(corpus.row(video)).astype(np.float32)
            means[video] = frames.mean(axis=0) if len(frames) else np.zeros(corpus.frame_size)
    sides = [np.stack([means[video] for video in side]) for side in zip(*_ids(pairs), strict=True)]
    cosines = metrics.cosines(*sides)
    return metrics.bootstrap(metrics.spearman, cosines, [pair.score for pair in pairs])


def _ids(pairs: list[Pair]) -> list[tuple[str, str]]:
    return [(pair.id_1, pair.id_2) for pair in pairs]


def say(line: str) -> None:
    """Prints at once, also into a file."""
    print(line, flush=True)


def parse(arguments: list[str]) -> tuple[Path, Scale, Path | None]:
    """The command line."""
    usual = Scale()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reproduce", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--docs", type=Path, default=None)
    parser.add_argument("--videos", type=int, default=usual.videos)
    parser.add_argument("--seeds", type=int, nargs="+", default=usual.seeds)
    parser.add_argument("--pretrain-epochs", type=int, default=usual.pretrain_epochs)
    parser.add_argument("--finetune-epochs", type=int, default=usual.finetune_epochs)
    given = parser.parse_args(arguments)
    scale = Scale(given.videos, tuple(given.seeds), given.pretrain_epochs, given.finetune_epochs)
    return given.folder, scale, given.docs


if __name__ == "__main__":
    main(*parse(sys.argv[1:]))
