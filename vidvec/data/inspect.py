"""What a corpus holds: counts, lengths, tags, scores, rejects, and a page that shows it.

Columns are counted by Arrow and NumPy as they lie in the mapped shards; nothing here walks over
videos one by one except the few of a sample.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from vidvec.data import html
from vidvec.data.corpus import Corpus
from vidvec.records import Reject

Counts = tuple[tuple[str, int], ...]

TOP = 20
BINS = 12
SCORE_BINS = 11
# Scores given in steps have few values, and are counted value by value.
MOST_DISTINCT_SCORES = 21
EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Spread:
    """How a measure is spread over the videos that have it; figures are NaN where none has.

    Attributes:
        count: How many values.
        minimum, median, mean, maximum: Of the values.
        histogram: Label and count of each bin, in order. Bins are wide enough for 99 % of the
            values; the last one takes the few beyond, and its label then ends in ``+``.
    """

    count: int
    minimum: float
    median: float
    mean: float
    maximum: float
    histogram: Counts


@dataclass(frozen=True, slots=True)
class RejectSummary:
    """Records left out for one reason, the first few of them in full."""

    reason: str
    count: int
    examples: tuple[Reject, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a corpus holds.

    Attributes:
        path: Its folder.
        complete: Whether its last ingest ran to the end.
        frame_encoder: Identity of what made the frame features.
        videos: All of them.
        with_frames, with_title, with_tags: Videos that have any; a title of blanks is none.
        never_tagged: Videos whose tags nobody gave, unlike those tagged with nothing.
        languages, categories: Videos of each, most frequent first; the empty one where not known.
        category_count: Distinct categories known, where ``categories`` has only the top.
        frames_per_video, title_characters, tags_per_video: Over all videos.
        duration_seconds: Over the videos whose duration is known.
        tags: Videos that have each tag, most frequent first, the top only.
        tag_count: Distinct tags.
        tag_vocabulary_size: Tags that the tag objective knows.
        pairs: Scored pairs.
        scores: Of the pairs; one bin a value where there are few.
        pairs_per_video: Over the videos that are in a pair.
        rejects: By reason, most frequent first.
    """

    path: Path
    complete: bool
    frame_encoder: dict[str, Any]
    videos: int
    with_frames: int
    with_title: int
    with_tags: int
    never_tagged: int
    languages: Counts
    categories: Counts
    category_count: int
    frames_per_video: Spread
    title_characters: Spread
    duration_seconds: Spread
    tags_per_video: Spread
    tags: Counts
    tag_count: int
    tag_vocabulary_size: int
    pairs: int
    scores: Spread
    pairs_per_video: Spread
    rejects: tuple[RejectSummary, ...]


def summarise(corpus: Corpus) -> Summary:
    """Counts what a corpus holds.

    Args:
        corpus: Open, complete or not.
    """
    titles = corpus.column("title")
    tag_counts = pc.list_value_length(corpus.column("tags"))
    tags_per_video = _numbers(pc.fill_null(tag_counts, 0))
    tags = _tags(corpus, tags_per_video)
    categories = _value_counts(corpus.column("category"))
    scores, pairs_per_video = _pairs(corpus)
    return Summary(
        path=corpus.path,
        complete=corpus.complete,
        frame_encoder=corpus.frame_encoder,
        videos=len(corpus),
        with_frames=int((corpus.frame_counts > 0).sum()),
        with_title=int((_numbers(pc.utf8_length(pc.utf8_trim_whitespace(titles))) > 0).sum()),
        with_tags=int((tags_per_video > 0).sum()),
        never_tagged=tag_counts.null_count,
        languages=_value_counts(corpus.column("language"))[:TOP],
        categories=categories[:TOP],
        category_count=sum(1 for name, _ in categories if name),
        frames_per_video=spread(corpus.frame_counts),
        title_characters=spread(_numbers(pc.utf8_length(titles))),
        duration_seconds=spread(_numbers(corpus.column("duration_seconds").drop_null())),
        tags_per_video=spread(tags_per_video),
        tags=tags[:TOP],
        tag_count=len(tags),
        tag_vocabulary_size=len(corpus.tag_vocabulary),
        pairs=scores.count,
        scores=scores,
        pairs_per_video=pairs_per_video,
        rejects=_rejects(corpus),
    )


def _numbers(column: pa.ChunkedArray) -> NDArray[Any]:
    return column.to_numpy()


def _by_count(values: list[str], counts: list[int]) -> Counts:
    return tuple(sorted(zip(values, counts, strict=True), key=lambda item: (-item[1], item[0])))


def _value_counts(column: pa.ChunkedArray) -> Counts:
    """Distinct values and how often each is there, most frequent first, ties by name."""
    counted = pc.value_counts(column)
    return _by_count(counted.field("values").to_pylist(), counted.field("counts").to_pylist())


def _tags(corpus: Corpus, lengths: NDArray[np.int64]) -> Counts:
    """Each tag and how many videos have it; a tag given twice to a video counts once."""
    flat = pc.list_flatten(corpus.column("tags")).combine_chunks()
    encoded = pc.dictionary_encode(flat)
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    names = encoded.dictionary.to_pylist()
    parents = np.repeat(np.arange(len(lengths)), lengths)
    given = np.unique(parents * max(1, len(names)) + encoded.indices.to_numpy())
    counts = np.bincount(given % max(1, len(names)), minlength=len(names))
    return _by_count(names, counts.tolist())


def _pairs(corpus: Corpus) -> tuple[Spread, Spread]:
    """Spread of the scores, and of how many pairs each video is in."""
    pairs = corpus.pairs()
    values = np.array([pair.score for pair in pairs])
    distinct = np.unique(values)
    scores = spread(values, bins=SCORE_BINS)
    if 0 < len(distinct) <= MOST_DISTINCT_SCORES:
        counts = np.unique(values, return_counts=True)[1]
        histogram = tuple((f"{value:g}", int(n)) for value, n in zip(distinct, counts, strict=True))
        scores = replace(scores, histogram=histogram)
    videos = pa.array([video for pair in pairs for video in {pair.id_1, pair.id_2}], pa.string())
    return scores, spread(pc.value_counts(videos).field("counts").to_numpy())


def _rejects(corpus: Corpus) -> tuple[RejectSummary, ...]:
    """Rejects by reason. Lines that the manifest does not count yet are left out."""
    path = corpus.path / "rejects.jsonl"
    if not path.is_file():
        return ()
    with path.open("rb") as file:
        lines = file.read(corpus.manifest["rejects_bytes"]).splitlines()
    counts: dict[str, int] = {}
    examples: dict[str, list[Reject]] = {}
    for line in lines:
        reject = Reject(**json.loads(line))
        counts[reject.reason] = counts.get(reject.reason, 0) + 1
        some = examples.setdefault(reject.reason, [])
        if len(some) < EXAMPLES:
            some.append(reject)
    ordered = _by_count(list(counts), list(counts.values()))
    return tuple(RejectSummary(name, count, tuple(examples[name])) for name, count in ordered)


def spread(values: ArrayLike, bins: int = BINS) -> Spread:
    """Spread of (n,) numbers, in at most about ``bins`` bins of a round width."""
    array = np.asarray(values)
    if not len(array):
        nan = float("nan")
        return Spread(0, nan, nan, nan, nan, ())
    whole = np.issubdtype(array.dtype, np.integer)
    array = array.astype(np.float64)
    return Spread(
        count=len(array),
        minimum=float(array.min()),
        median=float(np.median(array)),
        mean=float(array.mean()),
        maximum=float(array.max()),
        histogram=_histogram(array, bins, whole=whole),
    )


def _round_step(span: float, bins: int, *, whole: bool) -> float:
    """The least width 1, 2 or 5 times a power of ten with which ``bins`` bins cover a span."""
    if span <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(span / bins))
    step = next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power * bins >= span * (1 - 1e-9))
    return float(max(1.0, step) if whole else step)


def _histogram(values: NDArray[np.float64], bins: int, *, whole: bool) -> Counts:
    low, high = values.min(), np.quantile(values, 0.99, method="higher")
    step = _round_step(high - low + whole, bins, whole=whole)
    # Counted in steps, so that edges are whole numbers; what a division left short is made up for.
    scaled = values / step + 1e-9
    first = np.floor(scaled.min())
    last = np.floor(high / step + 1e-9) + 1 if whole else np.ceil(high / step - 1e-9)
    edges = np.arange(first, max(last, first + 1) + 1)
    counts = np.histogram(np.minimum(scaled, edges[-1]), edges)[0]
    labels = [_label(a * step, b * step, whole=whole) for a, b in pairwise(edges)]
    if scaled.max() > edges[-1] + 2e-9:
        labels[-1] = f"{edges[-2] * step:g}+"
    return tuple(zip(labels, counts.tolist(), strict=True))


def _label(low: float, high: float, *, whole: bool) -> str:
    if whole:
        return f"{low:.0f}" if high - low == 1 else f"{low:.0f}–{high - 1:.0f}"
    return f"{low:.6g}–{high:.6g}"


def sample_rows(corpus: Corpus, count: int, seed: int = 0) -> list[int]:
    """Rows of ``count`` videos drawn without replacement, ascending; all where there are fewer."""
    generator = np.random.default_rng(seed)
    rows = generator.choice(len(corpus), min(count, len(corpus)), replace=False)
    return sorted(int(row) for row in rows)


def to_html(corpus: Corpus, summary: Summary, rows: Sequence[int]) -> str:
    """A page that needs nothing but itself: figures, histograms, rejects, and some videos.

    Args:
        corpus: The corpus.
        summary: Of it.
        rows: Videos to show with film strip, title and tags.
    """
    cards = [html.video_card(corpus.video(row), corpus.thumbnails(row)) for row in rows]
    state = "complete" if summary.complete else "unfinished: run its ingest again, it carries on"
    return html.page(
        f"Corpus {summary.path}",
        f"{summary.videos:,} videos, {state}",
        _figures(summary),
        html.section("Lengths", _lengths(summary)),
        html.section("Words", _words(summary)),
        html.section("Scored pairs", _scores(summary)),
        html.section("Left out", _left_out(summary)),
        html.section(
            f"{len(cards):,} of {summary.videos:,} videos",
            html.element("div", *cards, class_="cards"),
        ),
    )


def describe(measured: Spread) -> str:
    """The figures of a spread on one line."""
    if not measured.count:
        return "none known"
    values = (measured.minimum, measured.maximum, measured.median, measured.mean)
    low, high, median, mean = (f"{round(value, 2):,.10g}" for value in values)
    return f"{low} to {high}, median {median}, mean {mean}"


def _figures(summary: Summary) -> html.Html:
    def share(part: int) -> str:
        return f"{part / summary.videos:.1%} of all" if summary.videos else ""

    encoder = summary.frame_encoder
    return html.figures(
        [
            ("videos", f"{summary.videos:,}", ""),
            ("with frames", f"{summary.with_frames:,}", share(summary.with_frames)),
            ("with a title", f"{summary.with_title:,}", share(summary.with_title)),
            ("with tags", f"{summary.with_tags:,}", share(summary.with_tags)),
            ("scored pairs", f"{summary.pairs:,}", ""),
            ("frame encoder", str(encoder["name"]), f"{encoder['frame_size']} numbers a frame"),
        ]
    )


def _lengths(summary: Summary) -> html.Html:
    measures = {
        "Frames a video": summary.frames_per_video,
        "Title, characters": summary.title_characters,
        "Duration, seconds": summary.duration_seconds,
    }
    boxes = [html.bars(name, describe(each), each.histogram) for name, each in measures.items()]
    return html.element("div", *boxes, class_="columns")


def _words(summary: Summary) -> html.Html:
    tags = (
        f"{summary.tag_count:,} distinct, {summary.tag_vocabulary_size:,} of them to be learned; "
        f"a video has {describe(summary.tags_per_video)}; {summary.never_tagged:,} never tagged"
    )
    boxes = [
        html.bars("Tags", tags, summary.tags),
        html.bars("Categories", f"{summary.category_count:,} known", named(summary.categories)),
        html.bars("Languages", "", named(summary.languages)),
    ]
    return html.element("div", *boxes, class_="columns")


def named(counts: Counts) -> Counts:
    """Counts with words for the empty label."""
    return tuple((label or "not known", count) for label, count in counts)


def _scores(summary: Summary) -> html.Html:
    if not summary.pairs:
        return html.element("p", "No scored pairs came along.", class_="soft")
    videos = f"{summary.pairs_per_video.count:,} videos; {describe(summary.pairs_per_video)}"
    boxes = [
        html.bars("Scores", describe(summary.scores), summary.scores.histogram),
        html.bars("Pairs a video", videos, summary.pairs_per_video.histogram),
    ]
    return html.element("div", *boxes, class_="columns")


def _left_out(summary: Summary) -> html.Html:
    if not summary.rejects:
        return html.element("p", "Nothing was left out.", class_="soft")
    rows = []
    for left_out in summary.rejects:
        lines = [
            html.element("div", f"{reject.where} {reject.id}: {reject.detail}")
            for reject in left_out.examples
        ]
        if left_out.count > len(lines):
            more = f"and {left_out.count - len(lines):,} more in rejects.jsonl"
            lines.append(html.element("div", more, class_="soft"))
        rows.append([left_out.reason, f"{left_out.count:,}", html.join(*lines)])
    return html.table(["reason", "records", "which"], rows)
