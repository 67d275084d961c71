"""The results on sentences that people scored, as Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import torch

from benchmarks.experiments.sts_arms import PUBLISHED, Arm
from benchmarks.experiments.sts_runs import Bench, Floats, Result
from benchmarks.reproduction.measure import Contrast, Measured
from vidvec.metrics import Interval

BEGIN, END = "<!-- sts figures: begin -->", "<!-- sts figures: end -->"
LANGUAGES = {"zh": "Chinese", "en": "English"}
START = "start"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a language.

    Attributes:
        bench: What was trained.
        seeds: Those that every arm is trained with.
        results: By arm and seed.
        start_held: Spearman of the start on the held-out pairs.
        start_cosines: (P,) of the test pairs by the start.
        difference: Largest one between the start's numbers here and in sentence-transformers.
    """

    bench: Bench
    seeds: tuple[int, ...]
    results: Mapping[str, Mapping[int, Result]]
    start_held: float
    start_cosines: Floats
    difference: float

    @property
    def arms(self) -> Sequence[Arm]:
        """In the order of the table."""
        return self.bench.plan.arms

    def held(self, arm: Arm) -> float:
        """Spearman on the held-out pairs, mean over the seeds."""
        return float(np.mean([self.results[arm.name][seed].trial.held for seed in self.seeds]))

    def core_seconds(self, arm: Arm) -> float:
        """Of a training, median over the seeds."""
        spent = [self.results[arm.name][seed].trial.core_seconds for seed in self.seeds]
        return float(np.median(spent))

    def best(self, theirs: bool) -> Arm:
        """The arm of one library that ranks the held-out pairs best."""
        return max((arm for arm in self.arms if bool(arm.theirs) == theirs), key=self.held)

    def measured(self) -> Measured:
        """Correlations on the test pairs, with intervals over pairs and seeds."""
        cosines = {
            arm.name: np.stack([self.results[arm.name][seed].cosines for seed in self.seeds])
            for arm in self.arms
        }
        cosines[START] = np.tile(self.start_cosines, (len(self.seeds), 1))
        scores = np.array([pair.score for pair in self.bench.task.test])
        return Measured(cosines, {name: [name] for name in cosines}, scores)


def markdown(outcomes: Sequence[Outcome], command: str) -> str:
    """The figures of the languages that have some."""
    lines = [
        f"`{command}`, {date.today().isoformat()}, one thread of {os.cpu_count()} cores, "
        f"{platform.machine()}, PyTorch {torch.__version__.split('+')[0]}, other work running "
        "beside it."
    ]
    for outcome in outcomes:
        if outcome.seeds:
            lines += ["", *_language(outcome)]
    return "\n".join(lines)


def _language(outcome: Outcome) -> list[str]:
    bench, measured = outcome.bench, outcome.measured()
    plan, task = bench.plan, bench.task
    rates = ", ".join(f"{rate:g}" for rate in plan.rates)
    seeds = ", ".join(map(str, outcome.seeds))
    start = measured.row(START)
    return [
        f"**{LANGUAGES[bench.folder.name]}**: {len(task.train):,} pairs to learn from, "
        f"{len(task.held):,} held out to choose by, {len(task.test):,} to measure on; "
        f"{task.dropped:,} pairs of the train part left out that share a sentence with the dev "
        f"part. {plan.epochs} epochs of {plan.batch} pairs a step, seeds {seeds}, rates {rates}. "
        f"Largest difference of a number that the start gives here and in sentence-transformers: "
        f"{outcome.difference:.0e}.",
        "",
        "| | rate | held out | dev, 95 % interval | against published | core-s a run |",
        "|---|---|---|---|---|---|",
        f"| the start, not tuned | | {outcome.start_held:.4f} | {_plain(start)} | | |",
        *(_row(outcome, measured, arm) for arm in outcome.arms),
        "",
        *_libraries(outcome, measured),
        *_aside(outcome),
    ]


def _row(outcome: Outcome, measured: Measured, arm: Arm) -> str:
    trial = outcome.results[arm.name][outcome.seeds[0]].trial
    against = ""
    if arm.name != PUBLISHED:
        against = _signed(_difference(measured, arm.name, PUBLISHED))
    return (
        f"| {arm.title} | {trial.rate:g} | {outcome.held(arm):.4f} | "
        f"{_plain(measured.row(arm.name))} | {against} | {outcome.core_seconds(arm):.0f} |"
    )


def _libraries(outcome: Outcome, measured: Measured) -> list[str]:
    """The best of each library, by the held-out pairs; and the same loss in both."""
    lines = []
    ours, theirs = outcome.best(theirs=False), outcome.best(theirs=True)
    found = _difference(measured, ours.name, theirs.name)
    lines.append(
        f"- The best on the held-out pairs of each library: {ours.title} less {theirs.title}: "
        f"{_signed(found)}."
    )
    same = [(arm, _same(outcome, arm)) for arm in outcome.arms if arm.theirs]
    for other, own in same:
        if own is None:
            continue
        ratio = outcome.core_seconds(other) / outcome.core_seconds(own)
        found = _difference(measured, own.name, other.name)
        lines.append(
            f"- {own.title} here less {other.title}: {_signed(found)}; theirs takes {ratio:.2f} "
            "times the processor time."
        )
    return lines


def _aside(outcome: Outcome) -> list[str]:
    """What was trained with the first seed alone, and what it is held against, both with it."""
    seed, lines = outcome.bench.plan.seeds[0], []
    against = [arm for arm in outcome.arms if arm.name == PUBLISHED or arm.theirs == "cosine"]
    scores = np.array([pair.score for pair in outcome.bench.task.test])
    for arm in outcome.bench.plan.aside:
        some = [each for each in (arm, *against) if seed in outcome.results[each.name]]
        if arm not in some:
            continue
        cosines = {each.name: outcome.results[each.name][seed].cosines[None] for each in some}
        measured = Measured(cosines, {name: [name] for name in cosines}, scores)
        said = "; ".join(
            f"less {other.title} {_signed(_difference(measured, arm.name, other.name))}"
            for other in some[1:]
        )
        lines.append(
            f"- {arm.title}, seed {seed} alone: held out "
            f"{outcome.results[arm.name][seed].trial.held:.4f}, dev "
            f"{measured.row(arm.name).value:.4f}; {said}."
        )
    return lines


def _same(outcome: Outcome, other: Arm) -> Arm | None:
    """Our arm with the loss of one of theirs."""
    name = {"cosine": PUBLISHED}.get(other.theirs, other.theirs)
    return next((arm for arm in outcome.arms if arm.name == name), None)


def _difference(measured: Measured, better: str, worse: str) -> Interval:
    return measured.difference(Contrast(0, "", better, worse)).interval


def _plain(interval: Interval) -> str:
    return f"{interval.value:.4f} ({interval.low:.4f} … {interval.high:.4f})".replace("-", "−")


def _signed(interval: Interval) -> str:
    figures = f"{interval.value:+.4f} ({interval.low:+.4f} … {interval.high:+.4f})"
    return figures.replace("-", "−")
