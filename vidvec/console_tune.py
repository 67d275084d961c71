"""What a search over settings looks like in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from vidvec.console import duration, plain_table, printable

if TYPE_CHECKING:
    from vidvec.pipeline.study import TrialRow
    from vidvec.pipeline.tune import TuneReport

SHOWN = 20


def trials(report: TuneReport) -> Table:
    """The best trials first, then those that were stopped or failed; the first is marked."""
    keys = sorted({key for row in report.trials for key in row.settings})
    ordered = sorted(report.trials, key=_place)
    title = f"Spearman on {report.validation_pairs:,} validation pairs of the clean split"
    names = [key.rpartition(".")[2] for key in keys]
    headings = [
        name if names.count(name) == 1 else key for name, key in zip(names, keys, strict=True)
    ]
    shown = plain_table(
        *[">trial", ">Spearman", *(f">{name}" for name in headings), ">validations", ">time", ""],
        title=title,
        title_justify="left",
    )
    for row in ordered[:SHOWN]:
        value = "" if row.value is None else f"{row.value:.4f}"
        settings = [_setting(row.settings.get(key)) for key in keys]
        state = "best" if row.number == report.best else row.state.replace("complete", "")
        told = f"{state}: {row.reason}" if row.reason else state
        told += (" (" if told else "(") + "the recipe's own settings)" if row.own else ""
        cells = [str(row.number), value, *settings, str(row.validations), duration(row.seconds)]
        shown.add_row(*map(Text, cells), printable(told))
    if len(ordered) > SHOWN:
        shown.caption = f"and {len(ordered) - SHOWN} more in trials.json"
        shown.caption_justify = "left"
    return shown


def mattered(shares: dict[str, float]) -> Table:
    """How much each setting mattered."""
    shown = plain_table("setting", ">mattered", title="by PED-ANOVA", title_justify="left")
    for key, share in sorted(shares.items(), key=lambda item: -item[1]):
        shown.add_row(Text(key), f"{share:.0%}")
    return shown


def _place(row: TrialRow) -> tuple[int, float, int]:
    states: Sequence[str] = ("complete", "pruned", "running", "waiting", "failed")
    return states.index(row.state), -(row.value or 0.0), row.number


def _setting(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
