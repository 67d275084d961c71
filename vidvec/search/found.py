"""What a vidvec server answers, as records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vidvec.search.partial import Found, Missing, MissingShard
from vidvec.search.types import IndexedVideo, Why


@dataclass(frozen=True, slots=True)
class FoundVideo:
    """A video that was found.

    Attributes:
        video: What is known of it; its ``file`` is the server's matter, and empty.
        pictures: How many pictures of it there are.
        cosine: Of its vector and the query's; of words, how well they fit.
        probability: That the two are similar; ``None`` where nothing was calibrated.
        why: ``None`` where it was not asked for.
    """

    video: IndexedVideo
    pictures: int
    cosine: float
    probability: float | None
    why: Why | None

    @property
    def id(self) -> str:
        """Of the video."""
        return self.video.id


@dataclass(frozen=True, slots=True)
class FoundGroup:
    """Near duplicates, the one that stands for all first, with their cosine to it."""

    members: tuple[FoundVideo, ...]


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """A scored pair; see ``vidvec.search.worst.WorstPair``."""

    video_1: IndexedVideo
    video_2: IndexedVideo
    score: float
    cosine: float
    score_rank: float
    cosine_rank: float
    gap: float
    why: Mapping[str, float] | None


@dataclass(frozen=True, slots=True)
class ServerFacets:
    """What the videos that pass a filter have, by count: see ``SearchIndex.facets``."""

    videos: int
    tags: dict[str, int]
    categories: dict[str, int]
    languages: dict[str, int]
    missing: Missing | None = None


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server has.

    Attributes:
        name: Of the folder of vectors.
        version: Of vidvec there.
        videos: How many there are.
        dimension: E.
        kind: Of the index.
        generation: Of the index.
        model: What made the vectors; ``None`` where it is not there.
        modalities: What it reads.
        can: What the server can do: text, upload, why, probability, map, pairs, groups, pictures.
        limits: k, upload_bytes, text_chars.
    """

    name: str
    version: str
    videos: int
    dimension: int
    kind: str
    generation: int
    model: str | None
    modalities: tuple[str, ...]
    can: dict[str, bool]
    limits: dict[str, int]


_KNOWN = ("id", "title", "category", "language", "duration_seconds", "date")


def read_video(found: Mapping[str, Any]) -> IndexedVideo:
    """What an answer says of a video."""
    return IndexedVideo(**{name: found[name] for name in _KNOWN}, tags=tuple(found["tags"]))


def read_hits(
    found: Sequence[Mapping[str, Any]], missing: Mapping[str, Any] | None = None
) -> Found[FoundVideo]:
    """The hits of an answer, and what it lacks."""
    hits = (
        FoundVideo(
            read_video(each),
            each["pictures"],
            each["cosine"],
            each["probability"],
            None if each["why"] is None else Why(each["why"]["alone"], each["why"]["lost"]),
        )
        for each in found
    )
    return Found(hits, read_missing(missing))


def read_missing(found: Mapping[str, Any] | None) -> Missing | None:
    """Shards that an answer lacks."""
    if found is None:
        return None
    shards = tuple(MissingShard(**each) for each in found["shards"])
    return Missing(shards, found["of"], found["share"])
