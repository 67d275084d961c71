"""The results on real clips as Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import date

import torch

from benchmarks.experiments.clips_arms import MEAN, ClipArm
from benchmarks.experiments.clips_measures import Hits, mean_interval
from benchmarks.reproduction.report import minus
from vidvec.metrics import Interval

MARKS = ("<!-- clips figures: begin -->", "<!-- clips figures: end -->")
TABLES = {
    "Topic precision": ("topics by frames", "topics by title", "topics by both"),
    "Altered copies found first": (
        *("copies by frames", "copies by both", "made by frames", "made by both"),
    ),
    "A clip found first by its middle frame": ("picture by frames", "picture by both"),
}
HEADS = {
    **{f"topics by {view}": view for view in ("frames", "title", "both")},
    **{f"copies by {view}": f"that came along, by {view}" for view in ("frames", "both")},
    **{f"made by {view}": f"made, clips by {view}" for view in ("frames", "both")},
    **{f"picture by {view}": f"clips by {view}" for view in ("frames", "both")},
}


def markdown(
    arms: Sequence[ClipArm],
    found: Mapping[str, Mapping[str, Hits]],
    seeds: Sequence[int],
    command: str,
) -> str:
    """The figures.

    Args:
        arms: In the order of the rows.
        found: By arm and measure, (S, Q).
        seeds: Of training.
        command: What was run.
    """
    lines = [
        f"`{command}`, {date.today().isoformat()}, one thread of {os.cpu_count()} cores, "
        f"{platform.machine()}, PyTorch {torch.__version__.split('+')[0]}; seeds "
        f"{', '.join(map(str, seeds))}; 95 % intervals over seeds and queries, in brackets. Bold: "
        "differs from the mean of the frame features read the same way, the whole paired "
        "interval on one side of 0."
    ]
    for title, measures in TABLES.items():
        heads = " | ".join(f"{HEADS[measure]} ({_queries(found, measure)})" for measure in measures)
        lines += ["", f"| {title} | {heads} |", "|---" * (len(measures) + 1) + "|"]
        for arm in arms:
            cells = " | ".join(_cell(found, arm.name, measure) for measure in measures)
            lines.append(f"| {arm.title} | {cells} |")
    return "\n".join(lines)


def _queries(found: Mapping[str, Mapping[str, Hits]], measure: str) -> int:
    return next(rows[measure].shape[1] for rows in found.values() if measure in rows)


def _cell(found: Mapping[str, Mapping[str, Hits]], arm: str, measure: str) -> str:
    if measure not in found[arm]:
        return ""
    own = found[arm][measure]
    text = _interval(mean_interval(own))
    plain = found[MEAN].get(measure)
    if plain is None or arm == MEAN:
        return text
    less = mean_interval(own - plain)
    return f"**{text}**" if less.low > 0 or less.high < 0 else text


def _interval(interval: Interval) -> str:
    return minus(f"{interval.value:.2f} ({interval.low:.2f} … {interval.high:.2f})")
