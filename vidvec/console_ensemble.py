"""What ensembles look like in a terminal: see ``vidvec.console``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from vidvec.console import plain_table, printable

if TYPE_CHECKING:
    from vidvec.embed.fuse_report import FuseReport
    from vidvec.embed.soup import SoupReport
    from vidvec.embed.weights_fit import FittedWeights
    from vidvec.metrics import Interval


def fitted(found: FittedWeights) -> list[str]:
    """Which weights were found, and how they do on pairs that they were not fitted on."""
    weights = ", ".join(f"{weight:.3f}" for weight in found.weights)
    where = f"{found.pairs:,} pairs, split {found.split}"
    missing = f"; {found.missing:,} more without vectors" if found.missing else ""
    if found.fitted:
        lines = [f"weights {weights}, fitted on {where}{missing}"]
    else:
        lines = [f"equal weights are kept: {found.reason} ({where}{missing})"]
    if found.spearman is not None and found.equal is not None and found.difference is not None:
        lines.append(
            f"on {found.held_out:,} pairs left out in turn: Spearman {found.spearman} fitted, "
            f"{found.equal} equal, difference {found.difference}"
        )
    return lines


def fuse_report(report: FuseReport) -> list[Table | Text]:
    """Figures and prices; what each member adds; and what cells do not say."""
    from vidvec.embed.fuse_page import rows, sentences, short_names, title

    figures = plain_table(
        *("vectors", ">weight", ">Spearman", ">95 % interval", ">ms a video", ">bytes"),
        title=printable(title(report)),
        title_justify="left",
    )
    gains = plain_table(
        *("vectors", ">adds to all", ">95 % interval", ">so far", ">adds", ">95 % interval"),
    )
    names = short_names([member.path for member in report.members])
    for place, cells in enumerate(rows(report)):
        name = printable(names[place] if place < len(names) else cells[0])
        figures.add_row(name, *map(Text, (*cells[1:4], *cells[9:])))
        if place < len(names):
            gains.add_row(name, *map(Text, cells[4:9]))
    return [figures, gains, *map(printable, sentences(report))]


def soup(name: str, report: SoupReport) -> Table:
    """The ingredients of a soup and the soup itself."""
    measured = report.spearman is not None
    title = f"{name}: split {report.split}, {report.pairs:,} pairs" if measured else name
    headings = ["model", "in the soup", *[">Spearman", ">95 % interval"] * measured]
    shown = plain_table(*headings, title=printable(title), title_justify="left")
    for each in report.ingredients:
        shown.add_row(
            printable(each.path), "yes" if each.used else "no", *_figure_cells(each.spearman)
        )
    if measured:
        shown.add_row("the soup", "", *_figure_cells(report.spearman))
    return shown


def _figure_cells(figure: Interval | None) -> list[str]:
    if figure is None:
        return []
    return [f"{figure.value:.4f}", f"{figure.low:.4f} … {figure.high:.4f}"]


def soup_verdict(report: SoupReport) -> list[str]:
    """Whether the soup holds, and what speaks against it."""
    lines = []
    if report.difference is not None:
        lines.append(f"to the best model: {report.difference}")
    if report.worse:
        way = "take the best model" if report.greedy else "take the best model, or --greedy"
        lines.append(f"warning: the soup is worse than its best model: {way}")
    elif report.greedy and sum(each.used for each in report.ingredients) == 1:
        lines.append("no other model helps: the soup is the best model alone")
    if report.greedy:
        lines.append("the models were chosen on these pairs, which favours the soup a little here")
    if len(report.starts) > 1:
        starts = ", ".join(report.starts)
        lines.append(f"warning: the models have different starts ({starts}); soups rarely hold so")
    return lines
