"""The results as Markdown and as a picture."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch

from benchmarks.reproduction.arms import Scale
from benchmarks.reproduction.claims import CLAIMS, CONTRASTS, LITTLE, TITLES
from benchmarks.reproduction.measure import Difference, Measured
from vidvec import storage
from vidvec.metrics import Interval

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
MARKS = {"shown": "**shown**", "not shown": "not shown", "opposite": "**the opposite**"}
COLOURS = {"shown": "#1b7837", "not shown": "#737373", "opposite": "#b2182b"}


@dataclass(frozen=True, slots=True)
class Context:
    """What is known besides the arms.

    Attributes:
        scale: What was trained.
        pairs: Test pairs measured on.
        ceiling: Spearman of the similarity behind the scores, without raters' noise.
        frames: Spearman of the plain mean of the frame features, no training.
        validation: By arm, Spearman on the clean validation pairs, mean over the seeds.
        command: What was run.
        core_minutes: Of all training and embedding, one core each.
    """

    scale: Scale
    pairs: int
    ceiling: Interval
    frames: Interval
    validation: dict[str, float]
    command: str
    core_minutes: float


def differences(measured: Measured) -> list[Difference]:
    """Every contrast's outcome."""
    return [measured.difference(contrast) for contrast in CONTRASTS]


def markdown(measured: Measured, found: Sequence[Difference], context: Context) -> str:
    """The figures: what showed and what did not, differences, and all arms."""
    return "\n".join(
        [
            *_machine(context),
            "",
            *_summary(found),
            "",
            *_claims(found),
            "",
            *_arms(measured, context),
        ]
    )


def _machine(context: Context) -> list[str]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    scale = context.scale
    seeds = ", ".join(map(str, scale.seeds))
    return [
        f"`{context.command}`, {date.today().isoformat()}, {os.cpu_count()} cores, "
        f"{platform.machine()}, {gpu}, PyTorch {torch.__version__.split('+')[0]}; "
        f"{context.core_minutes:.0f} core-minutes of training. "
        f"{scale.videos:,} videos, {context.pairs:,} test pairs, "
        f"seeds {seeds}, {scale.pretrain_epochs} epochs of pretraining and "
        f"{scale.finetune_epochs} of finetuning.",
    ]


def _summary(found: Sequence[Difference]) -> list[str]:
    """One line a claim, those that did not show first."""
    lines: dict[str, list[str]] = {"not": [], "part": [], "all": []}
    for number, claim in CLAIMS.items():
        own = [each for each in found if each.contrast.claim == number]
        missing = [each for each in own if each.verdict != "shown"]
        told = "; ".join(
            f"{each.contrast.what}: {signed(each.interval)}, {MARKS[each.verdict]}"
            for each in missing or own
        )
        kind = "all" if not missing else "part" if len(missing) < len(own) else "not"
        lines[kind].append(f"- ({number}) {claim}: {told}.")
    titles = {
        "not": "Published claims that did **not** show here:",
        "part": "Claims that showed in part; what of them did not:",
        "all": "Claims that showed:",
    }
    return [
        line
        for kind, title in titles.items()
        for line in ([title, "", *lines[kind], ""] * bool(lines[kind]))
    ]


def _claims(found: Sequence[Difference]) -> list[str]:
    table = [
        "| claim | difference | here, 95 % interval | by seed | published | verdict |",
        "|---|---|---|---|---|---|",
    ]
    last = 0
    for each in found:
        contrast = each.contrast
        claim = "" if contrast.claim == last else f"({contrast.claim}) {CLAIMS[contrast.claim]}"
        last = contrast.claim
        published = "" if contrast.published is None else minus(f"{contrast.published:+.4f}")
        seeds = minus(", ".join(f"{value:+.4f}" for value in each.by_seed))
        table.append(
            f"| {claim} | {contrast.what} | {signed(each.interval)} | {seeds} | {published} | "
            f"{MARKS[each.verdict]} |"
        )
    note = (
        f"Shown: the interval is above 0; for (7), above −{LITTLE}. The opposite: it is below. "
        "Published differences are on other data, with a large model, partly on the leaky split."
    )
    return [*table, "", note]


def _arms(measured: Measured, context: Context) -> list[str]:
    table = [
        "| Spearman | test pairs, 95 % interval | by seed | validation pairs |",
        "|---|---|---|---|",
        f"| ceiling: the similarity without raters' noise | {plain(context.ceiling)} | | |",
        f"| plain mean of the frame features | {plain(context.frames)} | | |",
    ]
    for name, title in TITLES.items():
        seeds = minus(", ".join(f"{value:.4f}" for value in measured.by_seed(name)))
        held = context.validation.get(name)
        table.append(
            f"| {title} | {plain(measured.row(name))} | {seeds} | "
            f"{'' if held is None else minus(f'{held:.4f}')} |"
        )
    return table


def plain(interval: Interval) -> str:
    """A figure with its interval."""
    return minus(f"{interval.value:.4f} ({interval.low:.4f} … {interval.high:.4f})")


def signed(interval: Interval) -> str:
    """A difference with its interval."""
    return minus(f"{interval.value:+.4f} ({interval.low:+.4f} … {interval.high:+.4f})")


def minus(figures: str) -> str:
    """With the sign that is as wide as a plus."""
    return figures.replace("-", "−")


def write_figures(path: Path, figures: str, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Puts the figures between the marks of a Markdown file; a missing file is made of them."""
    first, last = marks
    text = path.read_text("utf-8") if path.is_file() else f"{first}\n{last}\n"
    before, mark, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not mark or not end:
        raise ValueError(f"{path} has no lines {first} and {last} to put the figures between")
    with storage.atomic_path(path) as temporary:
        temporary.write_text(f"{before}{first}\n\n{figures}\n\n{last}{after}", "utf-8")


def draw(found: Sequence[Difference], path: Path) -> None:
    """Every difference with its interval, and the published one beside it, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(8.5, 0.42 * len(found) + 1.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_xscale("symlog", linthresh=0.01, linscale=2)
    axes.axvline(0, color="black", linewidth=0.8)
    for place, each in enumerate(found):
        interval, colour = each.interval, COLOURS[each.verdict]
        axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=2)
        axes.plot(interval.value, place, "o", color=colour)
        if each.contrast.published is not None:
            axes.plot(each.contrast.published, place, "D", color="black", fillstyle="none")
    labels = [f"({each.contrast.claim}) {each.contrast.what}".replace("`", "") for each in found]
    axes.set_yticks(range(len(found)), labels)
    axes.invert_yaxis()
    ticks = [-0.1, -0.01, -0.005, 0, 0.005, 0.01, 0.1]
    axes.set_xticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
    axes.set_xlabel("difference in Spearman's correlation (linear to ±0.01, logarithmic beyond)")
    axes.grid(axis="x", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
    handles = [
        Line2D([], [], color=colour, marker="o", linewidth=2, label=verdict)
        for verdict, colour in COLOURS.items()
    ]
    handles.append(
        Line2D([], [], color="black", marker="D", fillstyle="none", linestyle="", label="published")
    )
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
    with storage.atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
