"""What smaller vectors cost, in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from vidvec.console import plain_table, printable

if TYPE_CHECKING:
    from vidvec.metrics import Interval
    from vidvec.search.costs import Cost, Costs


def costs(name: str, found: Costs) -> list[Table]:
    """Tables with a line for each size and dtype: of scored pairs, where there are any, of search.

    Args:
        name: Of the vectors.
        found: What was measured.
    """
    return [*([_pairs(name, found)] if found.pairs else []), _search(name, found)]


def _pairs(name: str, found: Costs) -> Table:
    title = (
        f"{name}: cosine against {found.pairs:,} scores, split: {found.split}; less than what "
        f"all {found.dimension} numbers in float32 have"
    )
    headings = (">size", "dtype", ">bytes", ">Spearman", ">95 % interval", ">less", ">interval")
    shown = plain_table(*headings, title=printable(title), title_justify="left")
    for row in found.rows:
        if row.spearman is None or row.difference is None:
            continue
        cells = [f"{row.spearman.value:.4f}", _bounds(row.spearman, "")]
        cells += [f"{row.difference.value:+.4f}", _bounds(row.difference, "+")]
        shown.add_row(*_what(row), *map(Text, cells))
    return shown


def _search(name: str, found: Costs) -> Table:
    title = (
        f"{name}: the ten nearest of {found.queries} among {found.vectors:,} vectors; then of "
        f"{found.candidates} candidates a hit, re-ranked by all numbers in float32; CPU time of a "
        "query among 100,000"
    )
    headings = (">size", "dtype", ">bytes", ">recall@10", ">re-ranked", ">ms", ">re-ranked")
    shown = plain_table(*headings, title=printable(title), title_justify="left")
    for row in found.rows:
        cells = [f"{row.recall:.3f}", f"{row.recall_reranked:.3f}"]
        cells += [f"{row.milliseconds:.2f}", f"{row.milliseconds_reranked:.2f}"]
        shown.add_row(*_what(row), *map(Text, cells))
    return shown


def _what(row: Cost) -> list[Text]:
    return [Text(f"{row.size}"), Text(row.dtype), Text(f"{row.bytes_per_vector:,}")]


def _bounds(interval: Interval, sign: str) -> str:
    return f"{interval.low:{sign}.4f} … {interval.high:{sign}.4f}"
