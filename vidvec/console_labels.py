"""What checked labels, and pseudo-labels, look like in a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from vidvec.console import plain_table, printable
from vidvec.embed.labels_page import agreement_rows

if TYPE_CHECKING:
    from vidvec.data.agreement import Agreement
    from vidvec.embed.label_check import LabelReport
    from vidvec.search.pseudo import PseudoLabels
    from vidvec.search.pseudo_check import PseudoCheck

SUSPECTS = 10
RANKS = 12
RATERS = 8


def labels(report: LabelReport) -> list[RenderableType]:
    """Scores, graph, splits, agreement, and the scores most likely to be wrong."""
    scores, graph = report.scores, report.coverage
    parts: list[RenderableType] = [
        Text(
            f"{report.pairs:,} scored pairs, {scores.lowest:g} to {scores.highest:g}, mean "
            f"{scores.mean:.4g}; {scores.distinct:,} different scores, {scores.ties:.1%} of pairs "
            "of them tie"
        ),
        Text(
            f"{graph.scored:,} of {graph.videos:,} videos are scored, {graph.median_degree:g} "
            f"pairs a video (median; at most {graph.most_degree:,}); {graph.components:,} parts, "
            f"the largest with {graph.largest_pairs:.1%} of the pairs"
        ),
        _ranks(report),
        _splits(report),
        *_agreement(report.agreement),
        Text(_triangles(report)),
    ]
    if report.judged:
        figure = f"Spearman {report.model_spearman:.4f}"
        parts.append(Text(f"cosines of {report.judged:,} pairs: {figure}"))
    if report.duplicates is not None:
        parts.append(Text(f"{report.duplicates:,} scored pairs of videos with the same frames"))
    if report.suspects:
        parts.append(_suspects(report))
    return parts


def _triangles(report: LabelReport) -> str:
    sampled = "" if report.all_triangles else ", a sample"
    return (
        f"{report.broken:,} of {report.triangles:,} triangles of pairs{sampled} cannot be: two "
        "pairs are alike, the third is not"
    )


def _ranks(report: LabelReport) -> Table:
    ranks = report.scores.ranks
    table = plain_table(
        ">score", ">pairs", ">rank target", title="rank normalisation", title_justify="left"
    )
    half = RANKS // 2
    shown = [*ranks] if len(ranks) <= RANKS else [*ranks[:half], None, *ranks[-half:]]
    for row in shown:
        if row is None:
            table.add_row("…", "", "")
        else:
            table.add_row(f"{row[0]:g}", f"{row[1]:,}", f"{row[2]:.4f}")
    return table


def _splits(report: LabelReport) -> Table:
    table = plain_table(
        "split",
        ">training",
        ">validation",
        ">lost",
        ">distance of scores",
        ">a random draw's, 95 %",
        title="splits",
        title_justify="left",
    )
    for each in report.splits:
        distances = (each.distance, each.bound)
        shown = ["" if math.isnan(some) else f"{some:.3f}" for some in distances]
        counts = (each.train, each.validation, each.dropped)
        table.add_row(each.name, *(f"{count:,}" for count in counts), *shown)
    return table


def _agreement(found: Agreement | None) -> list[RenderableType]:
    if found is None:
        return [Text("no pair was rated twice: how far people agree is not known", "yellow")]
    table = plain_table("agreement", ">figure [95 % interval]")
    for name, figure in agreement_rows(found):
        table.add_row(name, figure)
    if len(found.raters) < 2:
        return [table]
    raters = plain_table("rater", ">ratings", ">higher than others by", ">apart from others by")
    for each in found.raters[:RATERS]:
        figures = (f"{each.ratings:,}", f"{each.bias:+.3f}", f"{each.difference:.3f}")
        raters.add_row(printable(each.name), *figures)
    return [table, raters]


def _suspects(report: LabelReport) -> Table:
    table = plain_table(
        "video",
        "video",
        ">score",
        ">expected",
        ">suspicion",
        "what speaks against it",
        title=f"likely wrong, worst first ({len(report.suspects):,} pairs in all)",
        title_justify="left",
    )
    for each in report.suspects[:SUSPECTS]:
        reasons = ", ".join(f"{name} {value:.2f}" for name, value in each.against.items())
        expected = "" if each.expected is None else f"{each.expected:.3f}"
        table.add_row(
            printable(each.id_1),
            printable(each.id_2),
            f"{each.score:.3g}",
            expected,
            f"{each.suspicion:.3f}",
            reasons,
        )
    return table


def pseudo_labels(found: PseudoLabels) -> Text:
    """How many pairs of each kind, and what was left alone."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.counts().items())
    return Text(
        f"{len(found.pairs):,} pairs of {found.videos:,} videos: {kinds}; scores learned from "
        f"{found.learned_from:,} scored pairs; {found.held:,} videos left alone that are "
        "validated on"
    )


def pseudo_check(found: PseudoCheck) -> list[RenderableType]:
    """Spearman of each seed with and without, their difference, and what follows."""
    table = plain_table(
        "seed",
        ">without",
        ">with",
        ">difference",
        title=f"Spearman on {found.pairs:,} pairs ({found.split}), learned from {found.train:,}",
        title_justify="left",
    )
    for seed, without, with_ in zip(found.seeds, found.without, found.with_, strict=True):
        table.add_row(str(seed), f"{without:.4f}", f"{with_:.4f}", f"{with_ - without:+.4f}")
    difference = found.difference
    said = (
        f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}] with "
        f"pseudo-labels: {found.verdict}"
    )
    return [table, Text(said)]
