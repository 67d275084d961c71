"""Folders of vectors with a corpus beside, and what is nearest by plain NumPy."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.corpora import WIDTH, write_corpus
from vidvec.data.corpus import Corpus
from vidvec.embed.vectors import VectorWriter
from vidvec.records import Video
from vidvec.search.types import Filter, Hit, IndexedVideo

TITLES = [
    "海边的帆船",
    "帆船 at sea",
    "A dog on the beach",
    "Ein Hund am Strand, Übung 3",
    'say "hello" 100%_sure',
    "",
    "城市夜景",
    "ÄÖ",
]
TAGS = [("sea", "海"), ("sea",), (), ("dog", "beach"), ("city", "夜", "sea")]
LANGUAGES = ["zh", "zh-Hant", "en", "", "EN-gb", "zho"]
DATES = ["", "2021-05-03", "2021-05-03T10:00:00+00:00", "1969-07-20", "2024-02-29"]


def clustered(count: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    """(count, width) float32 around a few centres, of different lengths."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((max(1, count // 50), width))
    near = centres[random.integers(0, len(centres), count)]
    return (near + 0.5 * random.standard_normal((count, width))).astype(np.float32)


def write_vectors(
    path: Path,
    ids: Sequence[str],
    vectors: NDArray[np.float32],
    corpus: Path | None = None,
    shards: int = 2,
) -> Path:
    """A folder of vectors, in the place of what was there but its index."""
    (path / "manifest.json").unlink(missing_ok=True)
    made_by = {"stage": "embed", "corpus": str(corpus)} if corpus else {"stage": "made"}
    writer = VectorWriter(path, vectors.shape[1], {"normalised": False, "made_by": made_by})
    for part in np.array_split(np.arange(len(ids)), shards) if ids else []:
        writer.append([ids[row] for row in part], vectors[part])
    writer.finish()
    return path


def videos(count: int, first: int = 0) -> list[Video]:
    """Videos with all sorts of words, tags, languages, durations and dates."""
    return [
        Video(
            id=f"v{number}",
            title=TITLES[number % len(TITLES)],
            tags=TAGS[number % len(TAGS)],
            category=("", "nature", "city")[number % 3],
            language=LANGUAGES[number % len(LANGUAGES)],
            duration_seconds=None if number % 7 == 0 else float(number % 90),
            date=DATES[number % len(DATES)],
            file=f"/clips/{number}.mp4" if number % 2 else "",
        )
        for number in range(first, first + count)
    ]


def corpus_with(path: Path, some: list[Video]) -> Corpus:
    """A corpus of videos without frames."""
    return write_corpus(path, [replace(one, frames=np.zeros((0, WIDTH), "f2")) for one in some])


def known(video: Video) -> IndexedVideo:
    """What an index is to know of a video."""
    return IndexedVideo(
        *(video.id, video.title, video.tags or (), video.category, video.language),
        *(video.duration_seconds, video.date, video.file),
    )


def nearest(
    ids: Sequence[str],
    vectors: NDArray[np.float32],
    query: NDArray[np.float32],
    k: int,
    allowed: Collection[str] | None = None,
) -> list[str]:
    """Ids of the k nearest by cosine in float64, ties by id."""
    long = np.linalg.norm(vectors.astype(np.float64), axis=1)
    cosines = vectors.astype(np.float64) @ query / np.where(long > 0, long, 1)
    ranked = sorted(
        (-cosine, video)
        for video, cosine, length in zip(ids, cosines.round(9), long, strict=True)
        if length > 0 and (allowed is None or video in allowed)
    )
    return [video for _, video in ranked[:k]]


def assert_nearest(
    hits: Sequence[Hit],
    ids: Sequence[str],
    vectors: NDArray[np.float32],
    query: NDArray[np.float32],
    k: int,
    *,
    allowed: Collection[str] | None = None,
) -> None:
    """Makes sure that hits are the k nearest, where float32 can tell them apart."""
    row = {video: number for number, video in enumerate(ids)}
    wanted = nearest(ids, vectors, query, k, allowed)
    found = [hit.id for hit in hits]
    assert len(set(found)) == len(found) == len(wanted)
    assert allowed is None or set(found) <= set(allowed)
    long = np.linalg.norm(vectors.astype(np.float64), axis=1) * np.linalg.norm(query)
    cosines = vectors.astype(np.float64) @ query / np.where(long > 0, long, 1)
    right = cosines[[row[video] for video in wanted]]
    assert np.allclose(cosines[[row[video] for video in found]], right, atol=2e-6)
    assert np.allclose([hit.cosine for hit in hits], right, atol=2e-6)


def passes(video: Video, asked: Filter) -> bool:
    """Whether a video passes a filter, by the words of ``Filter``."""
    seconds = video.duration_seconds
    languages = [one.lower() for one in asked.languages]
    language = video.language.lower()
    day, after, before = (one[:10] for one in (video.date, asked.after, asked.before))
    hour = video.date[11:19] or "00:00:00"
    moment = (day, hour)
    return (
        set(asked.tags) <= set(video.tags or ())
        and (not asked.categories or video.category in asked.categories)
        and (
            not languages
            or any(language == one or language.startswith(one + "-") for one in languages)
        )
        and (asked.min_seconds is None or (seconds is not None and seconds >= asked.min_seconds))
        and (asked.max_seconds is None or (seconds is not None and seconds <= asked.max_seconds))
        and (not after or (day != "" and moment >= (after, asked.after[11:19] or "00:00:00")))
        and (not before or (day != "" and moment < (before, asked.before[11:19] or "00:00:00")))
    )
