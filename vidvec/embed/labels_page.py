"""What checking labels found, for people: a table for a spreadsheet, a page with film strips."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from vidvec.data import html
from vidvec.data.agreement import Agreement
from vidvec.data.corpus import Corpus
from vidvec.data.csv_files import harmless, write_csv
from vidvec.data.labels import Scores
from vidvec.embed.label_check import LabelReport, Suspect
from vidvec.metrics import Interval

EVIDENCE = ("ratings", "neighbours", "model", "copies")
SUSPECT_COLUMNS = (
    *("id_1", "id_2", "score", "ratings", "suspicion", "expected"),
    *(f"against_{name}" for name in EVIDENCE),
    *("title_1", "title_2"),
)
RANK_COLUMNS = ("score", "pairs", "rank_target")
SHOWN = 40
PICTURES_A_VIDEO = 5
# Pictures of the whole page, in bytes of JPEG: a third more in the file.
MOST_PICTURES = 6_000_000


def write_suspects(path: Path, suspects: Iterable[Suspect], corpus: Corpus) -> None:
    """Writes suspects as CSV with ``SUSPECT_COLUMNS``, to be rated again; worst first."""
    write_csv(path, SUSPECT_COLUMNS, (_suspect_row(each, corpus) for each in suspects))


def write_ranks(path: Path, scores: Scores) -> None:
    """Writes every different score and its rank target as CSV with ``RANK_COLUMNS``."""
    rows = ((repr(s), str(count), f"{target:.9f}") for s, count, target in scores.ranks)
    write_csv(path, RANK_COLUMNS, rows)


def _suspect_row(suspect: Suspect, corpus: Corpus) -> list[str]:
    videos = (suspect.id_1, suspect.id_2)
    titles = [harmless(corpus.video(corpus.row(video)).title) for video in videos]
    return [
        *(harmless(video) for video in videos),
        f"{suspect.score:.6g}",
        " ".join(f"{rating:.6g}" for rating in suspect.ratings),
        f"{suspect.suspicion:.4f}",
        "" if suspect.expected is None else f"{suspect.expected:.4f}",
        *(f"{suspect.against.get(name, 0):.4f}" for name in EVIDENCE),
        *titles,
    ]


def to_html(report: LabelReport, corpus: Corpus, *, most_pictures: int = MOST_PICTURES) -> str:
    """A page that needs nothing but itself.

    Args:
        report: Of the corpus.
        corpus: Has titles and pictures.
        most_pictures: Bytes of JPEG on the page at most.
    """
    scores = report.scores
    sections = [
        html.section("Splits", _splits(report)),
        html.section("Agreement", *_agreement(report.agreement)),
        html.section(
            "Scores",
            html.histogram("Pairs by score", f"{scores.ties:.1%} of pairs tie", scores.histogram),
            _ranks(scores),
        ),
        html.section("Likely wrong, worst first", *_suspects(report, corpus, most_pictures)),
    ]
    lead = f"{report.pairs:,} scored pairs, {report.ratings:,} ratings"
    return html.page(f"Labels of {report.corpus}", lead, _figures(report), *sections)


def _figures(report: LabelReport) -> html.Html:
    graph = report.coverage
    broken = f"{report.broken:,} of {report.triangles:,}"
    tiles = [
        ("videos with a score", f"{graph.scored:,}", f"of {graph.videos:,}"),
        ("parts of the graph", f"{graph.components:,}", f"largest: {graph.largest_pairs:.1%}"),
        ("pairs a video", f"{graph.median_degree:g}", f"median; at most {graph.most_degree:,}"),
        ("broken triangles", broken, "" if report.all_triangles else "a sample"),
    ]
    if report.judged:
        tiles.append(("Spearman", f"{report.model_spearman:.4f}", f"{report.judged:,} pairs"))
    if report.duplicates is not None:
        tiles.append(("same frames", f"{report.duplicates:,}", "scored pairs"))
    return html.figures(tiles)


def _splits(report: LabelReport) -> html.Html:
    rows = [
        (
            each.name,
            f"{each.train:,}",
            f"{each.validation:,}",
            f"{each.dropped:,}",
            "" if math.isnan(each.distance) else f"{each.distance:.3f} ({each.bound:.3f})",
        )
        for each in report.splits
    ]
    head = ("split", "training", "validation", "lost", "distance of scores (of a draw)")
    return html.table(head, rows)


def agreement_rows(found: Agreement) -> list[tuple[str, str]]:
    """Figures of agreement and what each is of; a dash for what too few ratings leave open."""

    def shown(figure: Interval) -> str:
        return "–" if math.isnan(figure.value) else str(figure)

    return [
        ("pairs rated more than once", f"{found.repeated:,} of {found.pairs:,}"),
        ("Krippendorff's alpha", shown(found.alpha)),
        ("alpha of ranks", shown(found.rank_alpha)),
        ("mean absolute difference", shown(found.difference)),
        ("highest Spearman with one rating", shown(found.ceiling)),
        (
            f"highest Spearman with the mean of {found.ratings_a_pair:.2f} ratings",
            shown(found.mean_ceiling),
        ),
    ]


def _agreement(found: Agreement | None) -> list[html.Html]:
    if found is None:
        return [html.element("p", "No pair was rated twice: how far people agree is not known.")]
    raters = [
        (each.name, f"{each.ratings:,}", f"{each.bias:+.3f}", f"{each.difference:.3f}")
        for each in found.raters[:SHOWN]
    ]
    head = ("rater", "ratings", "higher than others by", "apart from others by")
    return [html.table(("", ""), agreement_rows(found)), html.table(head, raters)]


def _ranks(scores: Scores) -> html.Html:
    rows = [(f"{s:g}", f"{count:,}", f"{target:.4f}") for s, count, target in scores.ranks]
    shown = rows if len(rows) <= SHOWN else [*rows[: SHOWN // 2], *rows[-SHOWN // 2 :]]
    table = html.table(("score", "pairs", "rank target"), shown)
    return html.folded(f"Rank targets of {len(rows):,} different scores", table)


def _suspects(report: LabelReport, corpus: Corpus, most_pictures: int) -> list[html.Html]:
    parts = []
    left = most_pictures
    for suspect in report.suspects[:SHOWN]:
        cards = []
        for video in (suspect.id_1, suspect.id_2):
            row = corpus.row(video)
            pictures = html.chosen_pictures(corpus.thumbnails(row), PICTURES_A_VIDEO)
            left -= sum(map(len, pictures))
            shown = pictures if left >= 0 else []
            cards.append(html.video_card(corpus.video(row), shown, limit=PICTURES_A_VIDEO))
        parts.append(html.element("h3", said(suspect)))
        parts.append(html.element("div", *cards, class_="cards"))
    if not parts:
        parts.append(html.element("p", "Nothing speaks against any score."))
    return parts


def said(suspect: Suspect) -> str:
    """What speaks against a score, in a line."""
    reasons = ", ".join(f"{name} {value:.2f}" for name, value in suspect.against.items())
    expected = "" if suspect.expected is None else f", {suspect.expected:.2f} expected"
    return f"scored {suspect.score:.3g}{expected}: {reasons}"
