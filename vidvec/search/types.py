"""What search takes and gives: filters, hits, what is known of a video, groups.

Plain records without libraries, which the index, the commands, the server and its client share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vidvec.config import Modality


@dataclass(frozen=True, slots=True)
class Filter:
    """Which videos may be found; what is empty or ``None`` asks nothing.

    Attributes:
        tags: A video has all of these.
        categories: Its category is one of these.
        languages: Its language is one of these, or a variant: ``zh`` takes ``zh-Hant``, too.
        min_seconds, max_seconds: Its duration lies between them, both included; a video of unknown
            duration passes neither.
        after: ISO 8601 date or time from which it may be, included.
        before: And up to which, not included. A video without a date passes neither.
    """

    tags: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    min_seconds: float | None = None
    max_seconds: float | None = None
    after: str = ""
    before: str = ""

    def __bool__(self) -> bool:
        """Whether it asks for anything."""
        return self != Filter()


@dataclass(frozen=True, slots=True)
class IndexedVideo:
    """What an index knows of a video besides its vector.

    Attributes:
        id: Its id.
        title: Words, possibly none.
        tags: Possibly none.
        category, language: Empty where not known.
        duration_seconds: ``None`` where not known.
        date: ISO 8601, a day or a moment; empty where not known.
        file: Absolute path of the video file; empty where there is none.
    """

    id: str
    title: str = ""
    tags: tuple[str, ...] = ()
    category: str = ""
    language: str = ""
    duration_seconds: float | None = None
    date: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """A video found, and the cosine of its vector with the query's."""

    id: str
    cosine: float


@dataclass(frozen=True, slots=True)
class Why:
    """Where a cosine comes from, by modality (title, frames, audio, …).

    Attributes:
        alone: Cosine of the query with the video seen through this modality alone; a modality that
            the video lacks is left out.
        lost: How much lower the cosine is when the video is seen without this modality; only where
            the video has another one.
    """

    alone: Mapping[Modality, float] = field(default_factory=dict)
    lost: Mapping[Modality, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Videos that are near duplicates of one another.

    Attributes:
        representative: Id of the one that stands for all: of the members that all others are alike
            to, the one with the highest mean cosine to them.
        members: Ids with their cosine to the representative, which comes first with 1.0, the rest
            by falling cosine, then id.
    """

    representative: str
    members: tuple[Hit, ...]
