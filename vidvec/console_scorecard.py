"""What scorecards look like in a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from vidvec.console import plain_table, printable

if TYPE_CHECKING:
    from vidvec.search.scorecard.comparison import Comparison
    from vidvec.search.scorecard.figures import Figure, Scorecard, Section


def scorecard(found: Scorecard) -> list[RenderableType]:
    """A table for each section, or a line why it is left out."""
    parts: list[RenderableType] = []
    if found.against:
        parts.append(printable(f"{found.vectors} against {found.against}"))
    for section in found.sections.values():
        if section.left_out:
            parts.append(printable(f"{section.title}: left out: {section.left_out}", "yellow"))
            continue
        parts.append(_table(section, bool(found.against)))
        parts += [printable(note, "dim") for note in section.notes]
        parts.append(Text(""))
    return parts


def _table(section: Section, against: bool) -> Table:
    headings = ["", f">{section.counted}", *(f">{each}" for each in section.columns.values())]
    shown = plain_table(*headings, title=printable(section.title), title_justify="left")
    for row in section.rows.values():
        cells = [printable(row.label + ("  (few)" if row.few else "")), Text(f"{row.count:,}")]
        figures = [row.figures.get(key) for key in section.columns]
        cells += [_cell(figure, against) for figure in figures]
        shown.add_row(*cells, style="dim" if row.few else None)
    if against:
        shown.caption = (
            "below the interval: difference from the other vectors; * its own excludes 0"
        )
        shown.caption_justify = "left"
    return shown


def _cell(figure: Figure | None, against: bool) -> Text:
    """Value, interval and difference, one below the other, as tables get wide."""
    if figure is None:
        return Text("")
    if not math.isfinite(figure.value):
        return Text("–")
    said = Text(f"{figure.value:.4f}")
    if math.isfinite(figure.low):
        said.append(f"\n{figure.low:.3f} … {figure.high:.3f}", "dim")
    less = figure.difference
    if against and less is not None and math.isfinite(less.value):
        style = ("green" if less.value > 0 else "red") if figure.differs else "dim"
        said.append(f"\n{less.value:+.4f}{'*' if figure.differs else ' '}", style)
    return said


def _figure(figure: Figure) -> Text:
    """Value and interval in one line."""
    if not math.isfinite(figure.value):
        return Text("–")
    if not math.isfinite(figure.low):
        return Text(f"{figure.value:.4f}")
    return Text(f"{figure.value:.4f} [{figure.low:.3f}, {figure.high:.3f}]")


def comparison(found: Comparison, first: str, second: str) -> list[RenderableType]:
    """The figures of two scorecards, those whose intervals do not touch in colour."""
    parts: list[RenderableType] = [
        printable(f"first: {first}, of {found.first}"),
        printable(f"second: {second}, of {found.second}"),
    ]
    for key, title in found.titles.items():
        headings = ["", "", ">first", ">second", ">difference"]
        shown = plain_table(*headings, title=printable(title), title_justify="left")
        for line in found.lines:
            if line.section != key:
                continue
            known = math.isfinite(line.difference)
            style = "bold" if line.apart else ""
            less = Text(f"{line.difference:+.4f}" if known else "", style)
            label, heading = printable(line.label), printable(line.heading)
            shown.add_row(label, heading, _figure(line.first), _figure(line.second), less)
        parts.append(shown)
    parts += [printable(note, "yellow") for note in found.notes]
    parts.append(
        Text(
            "Bold: the two intervals do not touch. A paired comparison, which sees smaller "
            "differences, is --scorecard OUT_DIR --against OTHER_VECTORS.",
            "dim",
        )
    )
    return parts
