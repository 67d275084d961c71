"""What calibrations and groups of near duplicates look like in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from vidvec.console import plain_table, printable

if TYPE_CHECKING:
    from vidvec.data.corpus import Corpus
    from vidvec.search.calibrate import Calibration, Threshold
    from vidvec.search.corpora import Corpora
    from vidvec.search.dedup import Deduplication

GROUPS = 10


def calibration(found: Calibration, thresholds: Sequence[Threshold]) -> list[RenderableType]:
    """How good the probabilities are, what they foretell, and the thresholds."""
    missing = f"; {found.missing:,} pairs without vectors left out" if found.missing else ""
    head = (
        f"{found.pairs:,} pairs ({found.split}), {found.similar:,} similar: score "
        f"{found.positive:.4g} or more{missing}"
    )
    kept = found.qualities[found.method]
    return [
        Text(head),
        _qualities(found),
        _bins(found),
        *(Text(str(each), "" if each.cosine is not None else "yellow") for each in thresholds),
        *[Text("cosines foretell nothing here: no better than the share", "yellow")]
        * (kept.log_loss >= kept.base_log_loss),
    ]


def _qualities(found: Calibration) -> Table:
    table = plain_table(
        "probability by",
        ">log loss",
        ">Brier",
        ">calibration error",
        title="on pairs that were not fitted on",
        title_justify="left",
    )
    for name, each in found.qualities.items():
        shown = f"{name}, taken" if name == found.method else name
        error = f"{each.calibration_error:.4f}"
        table.add_row(shown, f"{each.log_loss:.4f}", f"{each.brier:.4f}", error)
    base = found.qualities[found.method]
    table.add_row("the share alone", f"{base.base_log_loss:.4f}", f"{base.base_brier:.4f}", "")
    return table


def _bins(found: Calibration) -> Table:
    from vidvec.search.fitting import REPEATS

    table = plain_table(">foretold", ">similar", ">pairs")
    for each in found.qualities[found.method].bins:
        table.add_row(f"{each.foretold:.3f}", f"{each.similar:.3f}", f"{each.pairs / REPEATS:.0f}")
    return table


def duplicates(
    found: Deduplication, corpus: Corpus | Corpora | None, gone: int
) -> list[RenderableType]:
    """The largest groups, and what was compared."""
    parts: list[RenderableType] = []
    if found.groups:
        headings = [">videos", ">least cosine", "represented by"] + ["title"] * (corpus is not None)
        table = plain_table(*headings)
        for group in found.groups[:GROUPS]:
            cells = [
                Text(f"{len(group.members):,}"),
                Text(f"{group.members[-1].cosine:.4f}"),
                printable(group.representative),
            ]
            if corpus is not None:
                known = group.representative in corpus
                row = corpus.row(group.representative) if known else -1
                cells.append(printable(corpus.video(row).title if known else ""))
            table.add_row(*cells)
        parts.append(table)
    more = len(found.groups) - GROUPS
    if more > 0:
        parts.append(Text(f"and {more:,} more groups: --csv, --json and --html list them", "dim"))
    parts.append(
        Text(
            f"{found.compared:,} videos compared, at a cosine of {found.threshold:.4g} or more: "
            f"{len(found.groups):,} groups, {found.extra:,} videos that another one represents"
        )
    )
    if found.recall is not None:
        some = found.recall
        parts.append(
            Text(
                f"of {some.pairs:,} pairs that a sample of {some.sample:,} videos has with all, "
                f"{some.found:,} were found"
            )
        )
    if gone:
        parts.append(Text(f"{gone:,} videos that are gone from the source are left out"))
    if found.left_out:
        names = ", ".join(found.left_out[:3]) + (" …" if len(found.left_out) > 3 else "")
        count = len(found.left_out)
        parts.append(printable(f"{count:,} vectors without direction are left out: {names}"))
    return parts
