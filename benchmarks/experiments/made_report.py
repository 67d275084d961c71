"""The results on the made corpus as Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import torch

from benchmarks.experiments.made_arms import BEST, DEEP, PUBLISHED, Plan
from benchmarks.reproduction.measure import Contrast, Difference, Floats, Measured
from benchmarks.reproduction.report import MARKS as VERDICTS
from benchmarks.reproduction.report import minus, plain, signed
from vidvec.metrics import Interval

MARKS = ("<!-- made figures: begin -->", "<!-- made figures: end -->")
# What one model may rank worse than the fusion it learnt.
LITTLE = 0.002
THIRD = 1 / 3
FUSED, TAUGHT, JOINED = "fused", "taught", "joined"

TITLES = {
    PUBLISHED: "job 2, as published",
    f"{DEEP}-pretrained": "the best recipe without a linear reading, pretrained alone",
    DEEP: "the best recipe without a linear reading",
    "linear": "a linear reading alone, no training step",
    JOINED: "both, each on its own, joined afterwards",
    f"{BEST}-pretrained": "the best recipe, pretrained alone",
    BEST: "**the best recipe**",
    FUSED: "fusion of six models, job 2 and the best without a linear reading, SVD to 256",
    "student": "**one model that learnt this fusion's vectors**",
    TAUGHT: "one model that learnt the hidden points themselves, which no system has",
}
SIDE_BY_SIDE = Contrast(4, "joined afterwards − without a linear reading", JOINED, DEEP)
GAIN = Contrast(1, "the best recipe − job 2", BEST, PUBLISHED)
LINEAR = Contrast(3, "the best recipe − without a linear reading", BEST, DEEP)
STUDENT = Contrast(2, "one distilled model − the fusion of six", "student", FUSED, margin=LITTLE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a plan.

    Attributes:
        plan: What was done.
        cosines: By row and seed, (P,) of the test pairs; what is not done yet is missing.
        scores: (P,) of the test pairs.
        core_seconds: By chain and student, of a training with its embedding, mean over the seeds.
        ceiling: Spearman of the similarity behind the scores, without raters' noise.
        settings: What the best recipe has and what the published one has in its place, by key.
    """

    plan: Plan
    cosines: Mapping[str, Mapping[int, Floats]]
    scores: Floats
    core_seconds: Mapping[str, float]
    ceiling: Interval
    settings: Mapping[str, tuple[str, str]]

    def seeds(self, *rows: str) -> list[int]:
        """Those that all the rows are done with."""
        found = [set(self.cosines.get(row, {})) for row in rows]
        return sorted(set.intersection(*found))

    def measured(self, *rows: str) -> Measured:
        """Correlations, with intervals over pairs and the seeds that all the rows have."""
        seeds = self.seeds(*rows)
        cosines = {row: np.stack([self.cosines[row][seed] for seed in seeds]) for row in rows}
        return Measured(cosines, {row: [row] for row in rows}, self.scores, self.plan.resamples)

    def difference(self, contrast: Contrast) -> Difference | None:
        """What came of a contrast; ``None`` where no seed is done with both sides."""
        sides = (contrast.better, contrast.worse)
        return self.measured(*sides).difference(contrast) if self.seeds(*sides) else None


def closed(better: float, worse: float, top: float) -> float:
    """Which share of the distance from ``worse`` to ``top`` lies between it and ``better``."""
    return (better - worse) / (top - worse)


def markdown(outcome: Outcome, command: str) -> str:
    """The figures."""
    return "\n".join(
        [
            _machine(outcome, command),
            "",
            *_verdicts(outcome),
            "",
            *_rows(outcome),
            "",
            "The best recipe against job 2:",
            "",
            *_settings(outcome),
        ]
    )


def _machine(outcome: Outcome, command: str) -> str:
    scale = outcome.plan.scale
    return (
        f"`{command}`, {date.today().isoformat()}, one thread of {os.cpu_count()} cores, "
        f"{platform.machine()}, PyTorch {torch.__version__.split('+')[0]}, other work running "
        f"beside it. {scale.videos:,} videos, {len(outcome.scores):,} test pairs, seeds "
        f"{', '.join(map(str, scale.seeds))}. Intervals (95 %) are over pairs and seeds, "
        "differences paired."
    )


def _verdicts(outcome: Outcome) -> list[str]:
    lines = []
    gain, student = outcome.difference(GAIN), outcome.difference(STUDENT)
    if gain is not None:
        share = _closed(outcome, 1.0)
        reached = "reached" if share >= THIRD else "**not reached**"
        lines.append(
            f"- Best recipe less published one{_alone(outcome, BEST, PUBLISHED)}: "
            f"{signed(gain.interval)}, {VERDICTS[gain.verdict]}. "
            f"That closes {_percent(share)} of the distance to 1 (the target, a third, is "
            f"{reached}) and {_percent(_closed(outcome, outcome.ceiling.value))} of that to the "
            f"similarity without raters' noise ({outcome.ceiling.value:.4f})."
        )
    linear = outcome.difference(LINEAR)
    if linear is not None:
        lines.append(
            f"- The linear reading beside the transformer adds{_alone(outcome, BEST, DEEP)} "
            f"{signed(linear.interval)}, {VERDICTS[linear.verdict]}."
        )
    apart = outcome.difference(SIDE_BY_SIDE)
    if apart is not None:
        lines.append(
            "- Put beside a transformer that was finetuned without it, it adds"
            f"{_alone(outcome, JOINED, DEEP)} {signed(apart.interval)}, {VERDICTS[apart.verdict]}."
        )
    if outcome.seeds(TAUGHT, BEST, PUBLISHED):
        lines.append(
            "- The same model taught the hidden points reaches "
            f"{plain(outcome.measured(TAUGHT).row(TAUGHT))}: of the distance to that the best "
            f"recipe closes {_percent(_closed(outcome))} (same seeds)."
        )
    if student is not None:
        near = "shown" if student.verdict == "shown" else "**not shown**"
        lines.append(
            "- One distilled model less the fusion of six, at a sixth of its cost: "
            f"{signed(student.interval)}; not more than {LITTLE} worse: {near}."
        )
    return lines


def _alone(outcome: Outcome, *rows: str) -> str:
    """Says which seeds a difference is of, where not all are done."""
    seeds = outcome.seeds(*rows)
    if seeds == sorted(outcome.plan.scale.seeds):
        return ""
    return f" (seed {', '.join(map(str, seeds))} alone)"


def _closed(outcome: Outcome, top: float | None = None) -> float:
    """What the best recipe closes of job 2's distance to ``top``, or to the model taught all."""
    rows = (BEST, PUBLISHED) if top is not None else (BEST, PUBLISHED, TAUGHT)
    measured = outcome.measured(*rows)
    best, published, *rest = (measured.row(name).value for name in rows)
    return closed(best, published, top if top is not None else rest[0])


def _percent(share: float) -> str:
    return minus(f"{share:.0%}".replace("%", " %"))


def _rows(outcome: Outcome) -> list[str]:
    table = [
        "| Spearman | test pairs, 95 % interval | by seed | less job 2 | core seconds |",
        "|---|---|---|---|---|",
    ]
    for name, title in TITLES.items():
        if not outcome.seeds(name):
            continue
        measured = outcome.measured(name)
        each = (f"{value:.4f}" for value in measured.by_seed(name))
        seeds = minus(", ".join(each if name != FUSED else [next(each)]))  # there is one fusion
        against = outcome.difference(Contrast(0, "", name, PUBLISHED))
        less = "" if against is None or name == PUBLISHED else signed(against.interval)
        seconds = outcome.core_seconds.get(name)
        cost = "" if seconds is None else f"{seconds:.0f}"
        table.append(f"| {title} | {plain(measured.row(name))} | {seeds} | {less} | {cost} |")
    return table


def _settings(outcome: Outcome) -> list[str]:
    table = ["| | best | published |", "|---|---|---|"]
    return table + [
        f"| `{key}` | {ours} | {theirs} |" for key, (ours, theirs) in outcome.settings.items()
    ]
