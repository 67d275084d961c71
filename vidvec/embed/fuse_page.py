"""The report on a fusion in words and cells, and as a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from vidvec.data import html
from vidvec.embed.fuse_report import FuseReport, MemberReport
from vidvec.metrics import Interval
from vidvec.storage import atomic_path

HEADINGS = (
    *("vectors", "weight", "Spearman", "95 % interval"),
    *("adds to the others", "95 % interval"),
    *("with those before", "adds", "95 % interval"),
    *("ms a video", "bytes"),
)

_CSS = "td + td { white-space: nowrap; }"


def rows(report: FuseReport) -> list[list[str]]:
    """Cells under ``HEADINGS``: a row a member, the concatenation, the fused vectors."""
    last: list[list[str]] = []
    wide = 4 * report.concatenated_numbers
    for name, figure, milliseconds, size in (
        ("all, concatenated", report.concatenated, None, wide),
        (f"fused to {report.numbers} numbers", report.fused, report.milliseconds, report.bytes),
    ):
        shown = [_figure(figure), _interval(figure)]
        price = "" if milliseconds is None else _milliseconds(milliseconds)
        last.append([name, "", *shown, *[""] * 5, price, f"{size:,}"])
    return [*map(_cells, report.members), *last]


def _cells(member: MemberReport) -> list[str]:
    price = "–" if member.milliseconds is None else _milliseconds(member.milliseconds)
    return [
        member.path,
        f"{member.weight:.3f}",
        _figure(member.spearman),
        _interval(member.spearman),
        _figure(member.without, "+"),
        _interval(member.without, "+"),
        _figure(member.so_far),
        _figure(member.added, "+"),
        _interval(member.added, "+"),
        price,
        f"{member.bytes:,}",
    ]


def _figure(interval: Interval | None, sign: str = "") -> str:
    if interval is None or not math.isfinite(interval.value):
        return "–" if interval is not None else ""
    return f"{interval.value:{sign}.4f}"


def _interval(interval: Interval | None, sign: str = "") -> str:
    if interval is None or not math.isfinite(interval.value):
        return ""
    return f"{interval.low:{sign}.4f} … {interval.high:{sign}.4f}"


def _milliseconds(value: float) -> str:
    return f"{value:.3g}"


def short_names(paths: Sequence[str]) -> list[str]:
    """As much of the end of each path as tells it from the others."""
    parts = [Path(path).parts for path in paths]
    for count in range(1, max(map(len, parts), default=0) + 1):
        names = [str(Path(*some[-count:])) for some in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)


def title(report: FuseReport) -> str:
    """What the figures are of."""
    missing = f", {report.missing:,} more without vectors" if report.missing else ""
    return f"{report.path}: split {report.split}, {report.pairs:,} pairs{missing}"


def sentences(report: FuseReport) -> list[str]:
    """What the cells do not say: the SVD's cost, the price, where weights are from."""
    svd = report.svd
    said = [
        f"The SVD keeps {report.kept:.2%} of the length in {report.numbers} of "
        f"{report.concatenated_numbers} numbers; Spearman {_figure(svd, '+')} "
        f"({_interval(svd, '+')}) to the plain concatenation."
    ]
    fusing = f"fusing {_milliseconds(report.fusing_milliseconds)}"
    if report.milliseconds is None:
        reasons = [f"{m.path}: {m.unpriced}" for m in report.members if m.unpriced]
        said.append(f"Price not known of {'; '.join(reasons)}; {fusing} ms a video.")
    else:
        said.append(
            f"A fused vector takes {_milliseconds(report.milliseconds)} ms a video, of that "
            f"{fusing}; the models were timed on {report.device} with {report.sampled} videos "
            "whose frame features were there."
        )
    facts = report.weights_from
    if facts is not None and facts["fitted"] and facts["split"] == report.split:
        said.append(
            f"The weights were fitted on these pairs, which favours them here: on pairs left out "
            f"in turn they came to {facts['spearman']:.4f}, equal ones to "
            f"{facts['equal_spearman']:.4f}."
        )
    return said


def write_page(path: Path, report: FuseReport) -> None:
    """Writes the report as one HTML file, whole or not at all."""
    table = html.table(HEADINGS, rows(report))
    said = [html.element("p", sentence) for sentence in sentences(report)]
    text = html.page("What a fusion is worth", title(report), table, *said, css=_CSS)
    with atomic_path(path) as temporary:
        temporary.write_text(text, "utf-8", errors="replace")
