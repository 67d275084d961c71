"""The demo's report: what each model reached, what it finds, how it learned, and a map.

Everything on the page comes from what is passed in: nothing is measured again but neighbours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidvec import storage
from vidvec.data import html
from vidvec.data.corpus import Corpus
from vidvec.demo import page
from vidvec.demo.layout import plane
from vidvec.demo.neighbours import Found, choose_queries, nearest, pair_scores
from vidvec.demo.picture import write_picture
from vidvec.embed.evaluate import Evaluation
from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError
from vidvec.search.types import Hit

__all__ = ["table_text", "write_picture", "write_report"]

MAP_DOTS = 2000
_NOT_A_LOSS = frozenset({"step", "kind", "epoch", "learning_rate", "score"})

Table = Sequence[tuple[str, Evaluation]]


def write_report(
    out: Path,
    corpus: Corpus,
    vectors: dict[str, Vectors],
    table: Table,
    runs: dict[str, Path],
    *,
    queries: int = 8,
    neighbours: int = 5,
    title: str,
) -> None:
    """Writes a page that needs nothing but itself.

    Args:
        out: The HTML file.
        corpus: The videos.
        vectors: By name; neighbours and map are of the last, such as the fusion.
        table: Name and figures of all that was measured, in the order to show.
        runs: Training runs by name, for their loss curves.
        queries: Videos whose neighbours are shown.
        neighbours: Of each.
        title: Of the page.

    Raises:
        UsageError: There are no vectors.
    """
    if not vectors:
        raise UsageError("no vectors to report on: give at least one folder of them")
    name, last = list(vectors.items())[-1]
    chosen = choose_queries(corpus, last, queries)
    found = nearest(last, chosen, neighbours)
    encoder = corpus.frame_encoder
    text = html.page(
        title,
        f"{len(corpus):,} videos, {len(corpus.pairs()):,} scored pairs, frames by "
        f"{encoder['name']} ({encoder['frame_size']} numbers)",
        _results(table),
        _neighbours(corpus, name, found),
        *(_curves(runs) if runs else ()),
        _map(corpus, name, last),
        css=page.CSS,
    )
    with storage.atomic_path(out) as temporary:
        temporary.write_text(text, "utf-8")


def table_text(table: Table) -> str:
    """The result table as Markdown, aligned to be read as it is."""
    head = ["vectors", "Spearman (95 % interval)", "Pearson", "MSE", "pairs"]
    rows = [
        [
            name,
            f"{each.spearman.value:.4f} ({each.spearman.low:.4f} to {each.spearman.high:.4f})",
            f"{each.pearson.value:.4f}",
            f"{each.mse.value:.4f}",
            f"{each.pairs:,}",
        ]
        for name, each in table
    ]
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for row in [head, rule, *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _results(table: Table) -> html.Html:
    intervals = [each.spearman for _, each in table]
    bounds = [b for each in intervals for b in (each.low, each.high) if math.isfinite(b)]
    low, high = min(bounds, default=0.0), max(bounds, default=1.0)
    rows = [
        [
            name,
            f"{each.spearman.value:.4f}",
            html.join(
                page.interval_chart(each.spearman, low, high),
                html.element("span", _interval(each), class_="soft"),
            ),
            f"{each.pearson.value:.4f}",
            f"{each.mse.value:.4f}",
            f"{each.pairs:,}",
        ]
        for name, each in table
    ]
    head = ["vectors", "Spearman", "95 % interval", "Pearson", "MSE", "pairs"]
    return html.section(
        "How well cosines rank pairs",
        html.element("p", _split_note(table)),
        html.element("div", html.table(head, rows), class_="results"),
    )


def _interval(figures: Evaluation) -> str:
    return f"{figures.spearman.low:.4f} to {figures.spearman.high:.4f}"


def _split_note(table: Table) -> str:
    note = (
        "Spearman and Pearson compare the cosine of each pair with its score, MSE compares it with "
        "the score's rank. Intervals are bootstrapped over the pairs."
    )
    splits = {each.split for _, each in table}
    if splits == {"clean"}:
        note += " No video of these pairs is in a pair of the training split."
    elif splits == {"published"}:
        shared = max(each.shared for _, each in table)
        note += f" {shared:,} of these pairs share a video with training pairs."
    return note


def _neighbours(corpus: Corpus, name: str, found: Sequence[Found]) -> html.Html:
    scores = pair_scores(corpus.pairs())
    blocks = []
    for each in found:
        cards = [_card(corpus, each.query, html.element("span", "query", class_="soft"))]
        for hit in each.hits:
            score = scores.get(frozenset((each.query, hit.id)))
            cards.append(_card(corpus, hit.id, *_match(hit, score)))
        blocks.append(html.element("div", *cards, class_="query"))
    note = (
        f"By the cosine of {name} vectors. The query, framed, was drawn before any search. "
        "Where the pair was scored, its score stands beside the cosine."
    )
    return html.section("What is found", html.element("p", note), *blocks)


def _match(hit: Hit, score: float | None) -> list[html.Html]:
    parts = [html.element("b", f"{hit.cosine:.3f}")]
    if score is not None:
        parts.append(html.element("span", f"scored {score:.3g}", class_="scored"))
    return parts


def _card(corpus: Corpus, video_id: str, *above: html.Html) -> html.Html:
    match = html.element("div", *above, class_="match")
    if video_id not in corpus:
        gone = html.element("p", f"{video_id} is not in the corpus", class_="soft")
        return html.element("article", match, gone, class_="card")
    row = corpus.row(video_id)
    return html.video_card(corpus.video(row), corpus.thumbnails(row), match, limit=3)


def read_metrics(run: Path) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Curves of a run: by figure, then by ``train`` or ``validation``, points of step and value.

    What validation goes by (``score``) is shown with the training loss, which is the same quantity;
    so the validation figures that repeat it are left out. Points that are no finite number are too.

    Args:
        run: Folder with ``metrics.jsonl``; a last line that a killed run left unfinished is left
            out.
    """
    path = run / "metrics.jsonl"
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        try:
            record: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            break
        for name, value in _figures(record).items():
            if math.isfinite(value):
                points = curves.setdefault(name, {}).setdefault(record["kind"], [])
                points.append((record["step"], value))
    return curves


def _figures(record: dict[str, Any]) -> dict[str, float]:
    figures = {
        name: float(value)
        for name, value in record.items()
        if name not in _NOT_A_LOSS and not name.endswith("_per_second")
    }
    if record["kind"] == "validation":
        score = record["score"]
        figures = {name: value for name, value in figures.items() if value != score}
        figures["loss"] = score
    return figures


def _curves(runs: dict[str, Path]) -> list[html.Html]:
    blocks: list[html.Html] = [
        page.legend([("line train", "train"), ("line validation", "validation")])
    ]
    for name, run in runs.items():
        charts = [page.line_chart(figure, series) for figure, series in read_metrics(run).items()]
        blocks.append(html.element("h3", name))
        blocks.append(
            html.element("div", *charts, class_="charts")
            if charts
            else html.element("p", "no figures were logged", class_="soft")
        )
    return [html.section("How they learned", *blocks)]


def _map(corpus: Corpus, name: str, vectors: Vectors, seed: int = 0) -> html.Html:
    generator = np.random.default_rng(seed)
    rows = np.sort(generator.choice(len(vectors), min(MAP_DOTS, len(vectors)), replace=False))
    ids = [vectors.ids[row] for row in rows]
    videos = [corpus.video(corpus.row(each)) if each in corpus else None for each in ids]
    categories = [video.category if video else "" for video in videos]
    known = sorted(set(categories) - {""}, key=lambda each: (-categories.count(each), each))
    classes = {each: f"c{place}" for place, each in enumerate(known[: page.COLOURS])}
    labels = [
        " · ".join(part for part in (video.title or video.id, video.category) if part)
        if video
        else each
        for video, each in zip(videos, ids, strict=True)
    ]
    entries = [(kind, each) for each, kind in classes.items()]
    if set(categories) - set(classes):
        entries.append(("other", "other"))
    shown = "all" if len(rows) == len(vectors) else f"{len(rows):,} of {len(vectors):,}"
    note = (
        f"A t-SNE of {shown} {name} vectors: near on the map is near by cosine, while far "
        "apart says little. Colours are categories; point at a dot for its title."
    )
    if not len(rows):
        return html.section("A map", html.element("p", "There are no vectors.", class_="soft"))
    dots = page.scatter(
        plane(vectors.matrix[rows]), labels, [classes.get(each, "other") for each in categories]
    )
    return html.section(
        "A map",
        html.element("p", note),
        page.legend(entries),
        html.element("div", dots, class_="box"),
    )
