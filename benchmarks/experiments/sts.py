"""Losses of scored pairs on sentences that people scored (STS-B), Chinese and English.

    python -m benchmarks.experiments.sts FOLDER [--docs docs]

Videos with a title and nothing else, from the same start in all arms: each loss against the
published one at the same cost, and against sentence-transformers with its own losses. FOLDER gets
everything. Started again after a stop, it carries on; after the end, it only writes the figures
again. ``--docs`` also puts them into docs/experiments.md. It needs
``pip install 'vidvec[experiments]'``, MiniLM's weights, and the texts in ``VIDVEC_SHARED`` or
``../shared``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from benchmarks.experiments import sts_data, sts_theirs
from benchmarks.experiments.sts_arms import PLANS, Plan
from benchmarks.experiments.sts_report import BEGIN, END, Outcome, markdown
from benchmarks.experiments.sts_runs import Bench, found, result, spearman_of_start
from benchmarks.experiments.sts_start import chinese_recipe, chinese_start, english_start
from benchmarks.reproduction.report import write_figures
from vidvec import storage
from vidvec.errors import UsageError

PRETRAIN_EPOCHS = 7
COMPARED_TITLES = 50


def main(folder: Path, docs: Path | None, plans: Mapping[str, Plan] = PLANS) -> None:
    """Trains, measures and writes; figures are written whenever a seed is done.

    Args:
        folder: For everything.
        docs: The folder of ``experiments.md``, or ``None``.
        plans: By language.

    Raises:
        UsageError: The texts or MiniLM's weights are missing.
    """
    # Seconds are told of one core, whatever else runs beside it.
    torch.set_num_threads(1)
    texts = sts_data.texts_folder()
    if not (texts / "stsb").is_dir():
        raise UsageError(f"{texts} has no folder stsb: set VIDVEC_SHARED to where the texts are")
    benches = [make_bench(folder, texts, language, plan) for language, plan in plans.items()]
    figures = ""
    for place in range(max(len(plan.seeds) for plan in plans.values())):
        for bench in benches:
            for seed in bench.plan.seeds[place : place + 1]:
                first = seed == bench.plan.seeds[0]
                for arm in (*bench.plan.arms, *(bench.plan.aside if first else ())):
                    result(bench, arm, seed, say)
            figures = markdown([outcome(each) for each in benches], command(docs))
            write_figures(folder / "sts.md", figures, (BEGIN, END))
            if docs is not None:
                write_figures(docs / "experiments.md", figures, (BEGIN, END))
    say(figures)


def make_bench(folder: Path, texts: Path, language: str, plan: Plan) -> Bench:
    """The pairs, the corpus and the start of a language."""
    train, test = (
        sts_data.read_scored(texts / "stsb" / f"stsb-{language}-{part}.csv")
        for part in ("train", "dev")
    )
    task = sts_data.make_task(train, test, plan.held, plan.pairs)
    own = folder / language
    corpus = sts_data.write_corpus(task, own / "pairs")
    if language == "zh":
        titles = sts_data.write_titles(texts, task, folder / "titles")
        start = chinese_start(titles, own / "start", chinese_recipe(PRETRAIN_EPOCHS))
    else:
        start = english_start(corpus, own / "start")
    bert = own / "bert"
    if not bert.is_dir():
        with storage.atomic_path(bert) as temporary:
            sts_theirs.bert_folder(start, temporary)
    return Bench(own, task, corpus, start, bert, plan)


def outcome(bench: Bench) -> Outcome:
    """What is there of a language, with the seeds that all its arms are done with."""
    done = {arm.name: found(bench, arm) for arm in (*bench.plan.arms, *bench.plan.aside)}
    seeds = tuple(
        seed for seed in bench.plan.seeds if all(seed in done[arm.name] for arm in bench.plan.arms)
    )
    file = bench.folder / "start.json"
    if not file.is_file():
        held, cosines = spearman_of_start(bench)
        model = sts_theirs.sentence_transformer(bench.bert, bench.start)
        titles = [pair.first for pair in bench.task.test[:COMPARED_TITLES]]
        difference = sts_theirs.largest_difference(bench.start, model, titles)
        figures = {"held": held, "cosines": cosines.tolist(), "difference": difference}
        storage.write_json(file, figures)
    start = storage.read_json(file)
    cosines = np.array(start["cosines"])
    return Outcome(bench, seeds, done, start["held"], cosines, start["difference"])


def command(docs: Path | None) -> str:
    """What was run."""
    if docs is not None:
        return "make experiments"
    return " ".join(["python -m benchmarks.experiments.sts", *sys.argv[1:]])


def say(line: str) -> None:
    """Prints at once, also into a file."""
    print(line, flush=True)


def parse(arguments: list[str]) -> tuple[Path, Path | None]:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.sts")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--docs", type=Path, default=None)
    given = parser.parse_args(arguments)
    return given.folder, given.docs


if __name__ == "__main__":
    main(*parse(sys.argv[1:]))
