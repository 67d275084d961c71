"""Trials of what the best recipe could do otherwise, on a made corpus of another seed.

    python -m benchmarks.experiments.made_trials FOLDER [--docs docs] [--only NAME...]

FOLDER gets a corpus made from seed 7 and what is trained on it, with one seed of training, one
after the other. The corpus that results are measured on is not looked at. Started again after a
stop, it carries on; ``--docs`` puts what is done into docs/experiments.md.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

from benchmarks.experiments.made_arms import DEEP_CHAIN
from benchmarks.reproduction.arms import Scale, recipe_of
from benchmarks.reproduction.chains import DONE, MEASURED, Experiment
from benchmarks.reproduction.report import minus, write_figures
from vidvec import IngestOptions, Vectors, embed_corpus, finetune, ingest, pretrain, storage
from vidvec.config import Recipe
from vidvec.data.splits import corpus_split
from vidvec.demo.competition import make_competition
from vidvec.embed.evaluate import pair_cosines
from vidvec.records import Pair

MARKS = ("<!-- made trials: begin -->", "<!-- made trials: end -->")
CORPUS_SEED, SEED = 7, 1
PLAIN = "plain"
TAGS_BESIDE = "finetune.tag_weight=10.0"
LINEAR = ("model.linear_size=32",)
FAST = ("finetune.learning_rate=3e-4", "finetune.high_learning_rate=3e-4")


@dataclass(frozen=True, slots=True)
class Trial:
    """One row.

    Attributes:
        name: Of its folder.
        what: In words.
        pretrained, tuned: Settings over those of the best recipe without a linear reading.
        untuned: Measured as pretrained.
    """

    name: str
    what: str
    pretrained: tuple[str, ...] = ()
    tuned: tuple[str, ...] = ()
    untuned: bool = False


TRIALS = (
    Trial("pretrained", "pretrained alone", untuned=True),
    Trial(PLAIN, "finetuned by cosine MSE on ranks"),
    Trial("tags", "tags learned beside", tuned=(TAGS_BESIDE,)),
    Trial("tags-fast", "tags learned beside, three times the rate", tuned=(TAGS_BESIDE, *FAST)),
    Trial("soft-rank", "MSE + 0.1 soft ranks", tuned=("finetune.soft_rank_weight=0.1",)),
    Trial("cosent", "MSE + 0.02 CoSENT", tuned=("finetune.cosent_weight=0.02",)),
    Trial("layer-decay", "rates halved by layer", tuned=("finetune.layer_decay=0.5",)),
    Trial("mean", "mean weights (0.99)", tuned=("finetune.ema_decay=0.99",)),
    Trial(
        "adversarial",
        "adversarial steps (0.1), half as many",
        tuned=("finetune.adversarial=0.1", "finetune.epochs=2"),
    ),
    Trial("prefixes", "prefixes of 32 and 64 beside", tuned=("finetune.prefixes=[32, 64]",)),
    Trial("short", "a quarter of the finetuning", tuned=("finetune.epochs=1",)),
    Trial(
        "longer",
        "three epochs of pretraining, one of finetuning",
        ("pretrain.epochs=3",),
        ("finetune.epochs=1",),
    ),
    Trial("mean-pretrained", "mean weights (0.99), in pretraining", ("pretrain.ema_decay=0.99",)),
    Trial("softened", "0.3 of the tags by a slow copy", ("pretrain.tag_soft_share=0.3",)),
    Trial(
        "two-passes",
        "R-Drop with dropout of 0.1, half the finetuning",
        ("model.dropout=0.1",),
        ("finetune.r_drop_weight=1.0", "finetune.epochs=2"),
    ),
    Trial(
        "contrast",
        "frames told from titles (0.1), half the pretraining",
        ("pretrain.cross_weight=0.1", "pretrain.epochs=1"),
    ),
    Trial("linear", "a linear reading beside, pretrained alone", LINEAR, untuned=True),
    Trial("linear-tuned", "a linear reading beside", LINEAR),
    Trial("linear-tags", "a linear reading and tags beside", LINEAR, (TAGS_BESIDE,)),
)


def main(
    folder: Path,
    docs: Path | None = None,
    only: Sequence[str] = (),
    scale: Scale = Scale(),  # noqa: B008 - never changed
) -> None:
    """Makes, trains, measures and writes."""
    experiment = made(folder, scale)
    for trial in TRIALS:
        if (not only or trial.name in only) and not done(experiment, trial):
            print(f"{trial.name}: {run_trial(experiment, trial)}", flush=True)
    figures = markdown(experiment)
    write_figures(folder / "trials.md", figures, MARKS)
    if docs is not None:
        write_figures(docs / "experiments.md", figures, MARKS)


def made(folder: Path, scale: Scale) -> Experiment:
    """The corpus, made and ingested where it is not there."""
    experiment = Experiment(folder, scale, embedded=MEASURED)
    make_competition(experiment.made, videos=scale.videos, seed=CORPUS_SEED)
    ingest(experiment.made, folder / "corpus", IngestOptions())
    return experiment


def recipe(experiment: Experiment, trial: Trial) -> Recipe:
    """A trial's recipe."""
    chain = replace(DEEP_CHAIN, settings=(*DEEP_CHAIN.settings, *trial.pretrained))
    tags = len(experiment.corpus.tag_vocabulary)
    return recipe_of(chain, experiment.scale, SEED, tags, trial.tuned)


def results(experiment: Experiment, trial: Trial) -> Path:
    """Where a trial's results are; other settings, other folder."""
    name = f"{trial.name}-{recipe(experiment, trial).hash}"
    return experiment.folder / "trials" / name


def done(experiment: Experiment, trial: Trial) -> bool:
    """Whether a trial has its results."""
    return (results(experiment, trial) / DONE).is_file()


def run_trial(experiment: Experiment, trial: Trial) -> dict[str, Any]:
    """Trains, embeds and measures; trials with one pretraining share it."""
    settings, corpus = recipe(experiment, trial), experiment.corpus
    folder = results(experiment, trial)
    run = experiment.folder / "pretrained" / settings.stage_hash("pretrain")
    costs = run.with_suffix(".json")
    began = time.process_time()
    pretrain(corpus.path, run, settings)
    if not costs.is_file():
        storage.write_json(costs, {"core_seconds": time.process_time() - began})
    spent = float(storage.read_json(costs)["core_seconds"])
    if not trial.untuned:
        began = time.process_time()
        finetune(corpus.path, folder / "run", settings, run)
        run, spent = folder / "run", spent + time.process_time() - began
    embed_corpus(run, corpus.path, folder / "vectors", parts=MEASURED)
    vectors, scored = Vectors(folder / "vectors"), corpus.pairs()
    held = [scored[at] for at in corpus_split(corpus, "clean").validation]
    found = {"test": rank(vectors, experiment.pairs()), "validation": rank(vectors, held)}
    storage.write_json(folder / DONE, {**found, "core_seconds": spent})
    if not trial.untuned:
        shutil.rmtree(run)
    return found


def rank(vectors: Vectors, pairs: Sequence[Pair]) -> float:
    """Spearman of the pairs' cosines with their scores."""
    scores = [pair.score for pair in pairs]
    return float(spearmanr(pair_cosines(vectors, pairs), scores).statistic)


def markdown(experiment: Experiment) -> str:
    """A table of the trials that are done."""
    rows = {
        trial: storage.read_json(results(experiment, trial) / DONE)
        for trial in TRIALS
        if done(experiment, trial)
    }
    means = {trial.name: (row["test"] + row["validation"]) / 2 for trial, row in rows.items()}
    lines = [
        "| | test pairs | validation pairs | mean less plain | core seconds |",
        "|---|---|---|---|---|",
    ]
    for trial, row in rows.items():
        against = PLAIN in means and trial.name != PLAIN
        less = minus(f"{means[trial.name] - means[PLAIN]:+.4f}") if against else ""
        lines.append(
            f"| {trial.what} | {row['test']:.4f} | {row['validation']:.4f} | {less} | "
            f"{row['core_seconds']:.0f} |"
        )
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None = None) -> tuple[Path, Path | None, list[str]]:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.made_trials")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--docs", type=Path, default=None)
    names = [trial.name for trial in TRIALS]
    parser.add_argument("--only", nargs="+", choices=names, default=[])
    given = parser.parse_args(arguments)
    return given.folder, given.docs, given.only


if __name__ == "__main__":
    main(*parse())
