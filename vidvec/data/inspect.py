"""What a corpus holds: counts, lengths, scripts, tags, scores, rejects, and rows worth a look.

Columns are counted by Arrow and NumPy as they lie in the mapped shards; nothing here reads frames
or walks over videos one by one, except the few of a sample.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vidvec.data.corpus import Corpus
from vidvec.data.duplicates import Duplicates
from vidvec.data.rejects import RejectSummary, summarise_rejects
from vidvec.data.sampling import EVEN
from vidvec.data.scripts import count_scripts
from vidvec.data.spread import Counts, Spread, by_count, spread
from vidvec.data.tokenizer import load_tokenizer

TOP = 20
SCORE_BINS = 11
# Scores given in steps have few values, and are counted value by value.
MOST_DISTINCT_SCORES = 21
# Lengths in tokens are taken from so many titles at most, which takes about a second.
TOKENIZED = 100_000
EXTREMES = 4


@dataclass(frozen=True, slots=True)
class SetSummary:
    """Frames of the same videos by another encoder.

    Attributes:
        name: Of the feature set.
        frame_encoder: Identity of what made its features.
        videos: That it has rows of; some of them may be gone since.
        left_out: Videos whose file was missing or could not be decoded.
        complete: Whether its last run ran to the end.
    """

    name: str
    frame_encoder: dict[str, Any]
    videos: int
    left_out: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """What a corpus holds.

    Attributes:
        path: Its folder.
        complete: Whether its last ingest ran to the end.
        frame_encoder, audio_encoder: Identities of what made the features.
        frame_sampling: Which frames those are: ``even`` or ``keyframes``.
        feature_sets: Of the frames by other encoders that are there.
        videos: Those that are not gone; what follows is about these.
        gone: Videos that are marked so.
        present: Videos that have each kind of information; a text of blanks is none.
        together: Videos by which of what a model reads they have, most frequent first.
        never_tagged: Videos whose tags nobody gave, unlike those tagged with nothing.
        languages, categories: Videos of each, most frequent first; the empty one where not known.
        category_count: Distinct categories known, where ``categories`` has only the top.
        scripts: Titles by the script that most of their letters are in.
        mixed_scripts: Titles with a fifth of their letters or more in a second script.
        frames_per_video, title_characters, tags_per_video: Over all videos.
        audio_frames_per_video: Over the videos that have any.
        title_tokens: In tokens of the corpus's tokenizer, over all videos or an even sample of
            ``TOKENIZED``; of none where the corpus has no tokenizer yet.
        speech_characters, screen_characters: Over the videos that have such a text.
        duration_seconds: Over the videos whose duration is known.
        first_date, last_date: Of the videos whose date is known; empty where there are none.
        longest, shortest: Rows of a few, by duration, or by frames where no duration is known.
        tags: Videos that have each tag, most frequent first, the top only.
        tag_count: Distinct tags.
        tags_once: Of these, how many a single video has.
        tags_for_half: The fewest tags that are half of all that were given.
        tag_vocabulary_size: Tags that the tag objective knows.
        repeated_titles: Titles that several videos have, without regard to case and blanks around;
            most frequent first, the top only.
        repeated_title_count: Distinct titles of this kind.
        repeated_title_videos: Videos that have one of them.
        pairs: Scored pairs.
        scores: Of the pairs; one bin a value where there are few.
        pairs_per_video: Over the videos that are in a pair.
        rejects: By reason, most frequent first.
    """

    path: Path
    complete: bool
    frame_encoder: dict[str, Any]
    audio_encoder: dict[str, Any]
    frame_sampling: str
    feature_sets: tuple[SetSummary, ...]
    videos: int
    gone: int
    present: Counts
    together: Counts
    never_tagged: int
    languages: Counts
    categories: Counts
    category_count: int
    scripts: Counts
    mixed_scripts: int
    frames_per_video: Spread
    audio_frames_per_video: Spread
    title_characters: Spread
    title_tokens: Spread
    speech_characters: Spread
    screen_characters: Spread
    duration_seconds: Spread
    first_date: str
    last_date: str
    longest: tuple[int, ...]
    shortest: tuple[int, ...]
    tags_per_video: Spread
    tags: Counts
    tag_count: int
    tags_once: int
    tags_for_half: int
    tag_vocabulary_size: int
    repeated_titles: Counts
    repeated_title_count: int
    repeated_title_videos: int
    pairs: int
    scores: Spread
    pairs_per_video: Spread
    rejects: tuple[RejectSummary, ...]


class _Live:
    """The columns of a corpus without rows that are gone."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus, self.path = corpus, corpus.path
        self._rows = corpus.live if corpus.gone.any() else None
        self.frame_counts = corpus.frame_counts[corpus.live]
        self.audio_counts = corpus.audio_counts[corpus.live]

    def __len__(self) -> int:
        return len(self.corpus.live)

    def column(self, name: str) -> pa.ChunkedArray:
        """A column; mapped where nothing is gone, else a copy."""
        column = self.corpus.column(name)
        return column if self._rows is None else column.take(pa.array(self._rows))


def summarise(corpus: Corpus) -> Summary:
    """Counts what a corpus holds.

    Args:
        corpus: Open, complete or not.
    """
    live = _Live(corpus)
    tag_counts = pc.list_value_length(live.column("tags"))
    tags_per_video = _numbers(pc.fill_null(tag_counts, 0))
    tags = _tags(live, tags_per_video)
    given = np.array([count for _, count in tags], np.int64)
    categories = _value_counts(live.column("category"))
    scripts = count_scripts(live.column("title"))
    repeated = _repeated_titles(live)
    scores, pairs_per_video = _pairs(corpus)
    present = _present(live, tags_per_video)
    order = _by_length(live)
    dates = pc.min_max(_known(live.column("date")))
    return Summary(
        path=corpus.path,
        complete=corpus.complete,
        frame_encoder=corpus.frame_encoder,
        audio_encoder=corpus.audio_encoder,
        frame_sampling=corpus.manifest.get("frame_sampling", EVEN),
        feature_sets=_sets(corpus),
        videos=len(live),
        gone=int(corpus.gone.sum()),
        present=tuple((name, int(has.sum())) for name, has in present.items()),
        together=_together(present),
        never_tagged=tag_counts.null_count,
        languages=_value_counts(live.column("language"))[:TOP],
        categories=categories[:TOP],
        category_count=sum(1 for name, _ in categories if name),
        scripts=scripts.titles[:TOP],
        mixed_scripts=scripts.mixed,
        frames_per_video=spread(live.frame_counts),
        audio_frames_per_video=spread(live.audio_counts[live.audio_counts > 0]),
        title_characters=spread(_numbers(pc.utf8_length(live.column("title")))),
        title_tokens=_title_tokens(live),
        speech_characters=_characters(live, "speech_text"),
        screen_characters=_characters(live, "screen_text"),
        duration_seconds=spread(_numbers(live.column("duration_seconds").drop_null())),
        first_date=dates["min"].as_py() or "",
        last_date=dates["max"].as_py() or "",
        longest=tuple(order[::-1][:EXTREMES]),
        shortest=tuple(order[: min(EXTREMES, max(0, len(order) - EXTREMES))]),
        tags_per_video=spread(tags_per_video),
        tags=tags[:TOP],
        tag_count=len(tags),
        tags_once=int((given == 1).sum()),
        tags_for_half=int(np.searchsorted(given.cumsum() * 2, given.sum()) + 1) if tags else 0,
        tag_vocabulary_size=len(corpus.tag_vocabulary),
        repeated_titles=repeated[:TOP],
        repeated_title_count=len(repeated),
        repeated_title_videos=sum(count for _, count in repeated),
        pairs=scores.count,
        scores=scores,
        pairs_per_video=pairs_per_video,
        rejects=summarise_rejects(corpus),
    )


def as_json(summary: Summary, duplicates: Duplicates | None, corpus: Corpus) -> dict[str, Any]:
    """A summary as JSON can hold it; rows are given by their videos' ids.

    Args:
        summary: Of the corpus.
        duplicates: ``None`` where they were not looked for.
        corpus: For the ids.
    """

    def ids(rows: tuple[int, ...]) -> list[str]:
        return [corpus.video(row).id for row in rows]

    found = None
    if duplicates is not None:
        found = asdict(duplicates)
        for kind in ("exact", "near"):
            groups = getattr(duplicates, kind)
            found[kind] = [{"ids": ids(g.rows), "similarity": g.similarity} for g in groups]
        found["still"] = ids(duplicates.still)
    extremes = {"longest": ids(summary.longest), "shortest": ids(summary.shortest)}
    return {**asdict(summary), "path": str(summary.path), **extremes, "duplicates": found}


def _known(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of texts without the empty ones."""
    return column.filter(pc.not_equal(column, ""))


def _sets(corpus: Corpus) -> tuple[SetSummary, ...]:
    return tuple(
        SetSummary(
            name,
            manifest["frame_encoder"],
            sum(entry["rows"] for entry in manifest["shards"]),
            sum(manifest["rejected"].values()),
            bool(manifest["complete"]),
        )
        for name, manifest in corpus.feature_sets.items()
    )


def _numbers(column: pa.ChunkedArray) -> NDArray[Any]:
    return column.to_numpy()


def _has_text(live: _Live, name: str) -> NDArray[np.bool_]:
    """(videos,) whether a text is more than blanks."""
    return _numbers(pc.utf8_length(pc.utf8_trim_whitespace(live.column(name)))) > 0


def _characters(live: _Live, name: str) -> Spread:
    """Lengths of a text over the videos that have it."""
    return spread(_numbers(pc.utf8_length(live.column(name)))[_has_text(live, name)])


# What a model reads; the rest is learned from, or only shown.
_READ = ("frames", "audio", "title", "speech text", "screen text")


def _present(live: _Live, tags_per_video: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """(videos,) by kind of information, whether a video has it."""
    return {
        "frames": live.frame_counts > 0,
        "audio": live.audio_counts > 0,
        "title": _has_text(live, "title"),
        "speech text": _has_text(live, "speech_text"),
        "screen text": _has_text(live, "screen_text"),
        "tags": tags_per_video > 0,
        "category": _has_text(live, "category"),
        "language": _has_text(live, "language"),
        "duration": _numbers(live.column("duration_seconds").is_valid()),
        "date": _has_text(live, "date"),
    }


def _together(present: dict[str, NDArray[np.bool_]]) -> Counts:
    """How many videos have which of what a model reads, most frequent first."""
    has = np.stack([present[name] for name in _READ])
    codes, counts = np.unique((1 << np.arange(len(_READ))) @ has, return_counts=True)
    names = [
        " + ".join(name for bit, name in enumerate(_READ) if code >> bit & 1) or "nothing"
        for code in codes.tolist()
    ]
    return by_count(names, counts.tolist())


def _title_tokens(live: _Live) -> Spread:
    """Lengths of titles in tokens, of an even sample where there are many."""
    folder = live.path / "tokenizer"
    if not (folder / "tokenizer.json").is_file():
        return spread([])
    titles = live.column("title")
    if len(titles) > TOKENIZED:
        titles = titles.take(pa.array(np.linspace(0, len(titles) - 1, TOKENIZED).astype(np.int64)))
    return spread(load_tokenizer(folder).encode(titles.to_pylist())[1])


def _by_length(live: _Live) -> list[int]:
    """Rows of a few of the shortest and of the longest, in this order, ties by row."""
    column = live.column("duration_seconds")
    lengths = _numbers(column.cast(pa.float64()))  # NaN where not known
    rows = np.flatnonzero(np.isfinite(lengths))
    if not len(rows):
        lengths = live.frame_counts
        rows = np.flatnonzero(lengths > 0)
    ordered = rows[np.argsort(lengths[rows], kind="stable")]
    if len(ordered) > 2 * EXTREMES:
        ordered = np.concatenate([ordered[:EXTREMES], ordered[-EXTREMES:]])
    return [int(row) for row in live.corpus.live[ordered]]


def _repeated_titles(live: _Live) -> Counts:
    """Titles of several videos as they are first written, with how many have them."""
    titles = live.column("title")
    plain = pc.utf8_lower(pc.utf8_trim_whitespace(titles))
    counted = pc.value_counts(plain)
    often = counted.filter(pc.greater(counted.field("counts"), 1))
    named = by_count(often.field("values").to_pylist(), often.field("counts").to_pylist())
    repeated = [(title, count) for title, count in named if title]
    shown = [
        (titles[pc.index(plain, title).as_py()].as_py().strip(), n) for title, n in repeated[:TOP]
    ]
    return (*shown, *repeated[TOP:])


def _value_counts(column: pa.ChunkedArray) -> Counts:
    """Distinct values and how often each is there, most frequent first, ties by name."""
    counted = pc.value_counts(column)
    return by_count(counted.field("values").to_pylist(), counted.field("counts").to_pylist())


def _tags(live: _Live, lengths: NDArray[np.int64]) -> Counts:
    """Each tag and how many videos have it; a tag given twice to a video counts once."""
    flat = pc.list_flatten(live.column("tags")).combine_chunks()
    encoded = pc.dictionary_encode(flat)
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    names = encoded.dictionary.to_pylist()
    parents = np.repeat(np.arange(len(lengths)), lengths)
    given = np.unique(parents * max(1, len(names)) + encoded.indices.to_numpy())
    counts = np.bincount(given % max(1, len(names)), minlength=len(names))
    return by_count(names, counts.tolist())


def _pairs(corpus: Corpus) -> tuple[Spread, Spread]:
    """Spread of the scores, and of how many pairs each video is in."""
    pairs = corpus.pairs()
    values = np.array([pair.score for pair in pairs]) + 0.0  # of −0, 0
    distinct = np.unique(values)
    scores = spread(values, bins=SCORE_BINS)
    if 0 < len(distinct) <= MOST_DISTINCT_SCORES:
        counts = np.unique(values, return_counts=True)[1]
        histogram = tuple((f"{value:g}", int(n)) for value, n in zip(distinct, counts, strict=True))
        scores = replace(scores, histogram=histogram)
    videos = pa.array([video for pair in pairs for video in {pair.id_1, pair.id_2}], pa.string())
    return scores, spread(pc.value_counts(videos).field("counts").to_numpy())


def sample_rows(corpus: Corpus, count: int, seed: int = 0) -> list[int]:
    """Rows of ``count`` videos drawn from those not gone, ascending; all where there are fewer."""
    generator = np.random.default_rng(seed)
    live = corpus.live
    rows = live[generator.choice(len(live), min(count, len(live)), replace=False)]
    return sorted(int(row) for row in rows)
