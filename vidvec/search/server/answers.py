"""What answers say, with examples."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from vidvec.config import Modality
from vidvec.search.partial import Missing
from vidvec.search.types import IndexedVideo, Why

_VIDEO = {
    "id": "1003",
    "title": "a dog on a beach",
    "tags": ["dog", "sea"],
    "category": "animals",
    "language": "en",
    "duration_seconds": 12.5,
    "date": "2021-05-03",
    "pictures": 8,
}
_WHY = {"alone": {"title": 0.7, "frames": 0.6}, "lost": {"title": 0.2, "frames": 0.1}}
_MISSING: dict[str, Any] = {
    "shards": [
        {
            "name": "shard-2",
            "reason": "timed-out",
            "why": "no answer within 5 s",
            "videos": 250_000,
        }
    ],
    "of": 4,
    "share": 0.25,
}
_HIT: dict[str, Any] = {**_VIDEO, "cosine": 0.83, "probability": 0.91, "why": _WHY}


def example(**value: Any) -> ConfigDict:
    """Settings of a model with one example."""
    return ConfigDict(json_schema_extra={"examples": [value]})


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(description="A short stable name, such as unknown-id.")
    message: str = Field(description="What was found and what was expected.")
    hint: str = Field(description="What to do; may be empty.")


class ErrorAnswer(BaseModel):
    """A request that was not answered."""

    model_config = example(
        error={"code": "unknown-id", "message": "no video '7' here", "hint": "…"}
    )

    error: ErrorDetail


class VideoAnswer(BaseModel):
    """A video."""

    model_config = example(**_VIDEO)

    id: str
    title: str = Field(description="May be empty.")
    tags: list[str]
    category: str = Field(description="May be empty.")
    language: str = Field(description="BCP 47, or empty.")
    duration_seconds: float | None
    date: str = Field(description="ISO 8601, a day or a moment, or empty.")
    pictures: int = Field(description="How many pictures of it there are.")


class WhyAnswer(BaseModel):
    """What each modality has to do with a cosine."""

    model_config = example(**_WHY)

    alone: dict[Modality, float] = Field(description="Cosine with this modality alone.")
    lost: dict[Modality, float] = Field(description="By how much it falls without this modality.")


class HitAnswer(VideoAnswer):
    """A video that was found."""

    model_config = example(**_HIT)

    cosine: float = Field(description="Of its vector and the query's; of words, how well they fit.")
    probability: float | None = Field(
        description="That the two are similar; null where nothing was calibrated."
    )
    why: WhyAnswer | None


class MissingShardAnswer(BaseModel):
    """A shard that did not answer."""

    name: str
    reason: str = Field(description="unreachable, timed-out, damaged, other-vectors or failed.")
    why: str = Field(description="A sentence for people.")
    videos: int | None = Field(description="How many it had; null where it never said.")


class MissingAnswer(BaseModel):
    """What an answer lacks of an index that is made of shards."""

    model_config = example(**_MISSING)

    shards: list[MissingShardAnswer]
    of: int = Field(description="How many shards there are.")
    share: float | None = Field(description="Of all videos; null where it is not known.")


_MissingField = Annotated[
    MissingAnswer | None,
    Field(description="Shards that did not answer; null where the answer is complete."),
]


class HitsAnswer(BaseModel):
    """What was found."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"hits": [_HIT], "took_ms": 3.2, "generation": 7, "missing": None},
                {"hits": [_HIT], "took_ms": 3.2, "generation": 8, "missing": _MISSING},
            ]
        }
    )

    hits: list[HitAnswer]
    took_ms: float = Field(description="Milliseconds that it took.")
    generation: int = Field(description="Of the index: grows with every change of it.")
    missing: _MissingField = None


class QueryAnswer(BaseModel):
    """What was seen of a file."""

    duration_seconds: float | None
    pictures: list[str] = Field(description="Data URIs of JPEG pictures.")


class UploadAnswer(HitsAnswer):
    """What was found to be like a file."""

    model_config = example(
        hits=[_HIT],
        took_ms=312.5,
        generation=7,
        missing=None,
        query={"duration_seconds": 12.5, "pictures": ["data:image/jpeg;base64,/9j/4AAQ…"]},
    )

    query: QueryAnswer


class SimilarOne(BaseModel):
    """Neighbours of one video."""

    id: str
    hits: list[HitAnswer]


class SimilarAnswer(BaseModel):
    """Neighbours of several videos."""

    model_config = example(
        results=[{"id": "1004", "hits": [_HIT]}], took_ms=3.2, generation=7, missing=None
    )

    results: list[SimilarOne]
    took_ms: float
    generation: int
    missing: _MissingField = None


class EmbedAnswer(BaseModel):
    """Vectors of length 1."""

    model_config = example(vectors=[[0.6, -0.8]], dimension=2)

    vectors: list[list[float]]
    dimension: int


class FacetValue(BaseModel):
    """A value, and how many videos have it."""

    value: str
    count: int


class FacetsAnswer(BaseModel):
    """What the videos that pass a filter have, most frequent first."""

    model_config = example(
        videos=41,
        tags=[{"value": "sea", "count": 12}],
        categories=[{"value": "animals", "count": 9}],
        languages=[{"value": "en", "count": 30}],
        missing=None,
    )

    videos: int = Field(description="How many pass.")
    tags: list[FacetValue]
    categories: list[FacetValue]
    languages: list[FacetValue]
    missing: _MissingField = None


class GroupAnswer(BaseModel):
    """Near duplicates."""

    representative: VideoAnswer
    members: list[HitAnswer] = Field(
        description="With their cosine to the representative, which comes first."
    )


class GroupsAnswer(BaseModel):
    """Some of the groups, largest first."""

    model_config = example(
        total=3, threshold=0.9, groups=[{"representative": _VIDEO, "members": [_HIT]}]
    )

    total: int
    threshold: float
    groups: list[GroupAnswer]


class PairAnswer(BaseModel):
    """A scored pair."""

    video_1: VideoAnswer
    video_2: VideoAnswer
    score: float = Field(description="Of the people.")
    cosine: float = Field(description="Of the vectors.")
    score_rank: float = Field(description="0 for the lowest of all pairs, 1 for the highest.")
    cosine_rank: float = Field(description="Likewise.")
    gap: float = Field(description="By how much the two ranks differ.")
    why: dict[Modality, float] | None = Field(
        description="By how much the cosine falls when both are seen without a modality."
    )


class PairsAnswer(BaseModel):
    """Some of the scored pairs, worst first."""

    model_config = example(
        total=260,
        spearman=0.78,
        pairs=[
            {
                "video_1": _VIDEO,
                "video_2": _VIDEO,
                "score": 1.0,
                "cosine": 0.31,
                "score_rank": 0.95,
                "cosine_rank": 0.2,
                "gap": 0.75,
                "why": {"title": 0.1, "frames": -0.2},
            }
        ],
    )

    total: int
    spearman: float | None = Field(description="Of cosine and score; null where one is constant.")
    pairs: list[PairAnswer]


class Theme(BaseModel):
    """A region of the map."""

    id: int
    name: str
    words: list[str]
    count: int
    x: float
    y: float


class MapAnswer(BaseModel):
    """All videos in the plane."""

    model_config = example(
        points=[["1003", 0.25, -0.5, 0]],
        themes=[{"id": 0, "name": "dog", "words": ["dog", "sea"], "count": 9, "x": 0.2, "y": -0.4}],
    )

    points: list[tuple[str, float, float, int]] = Field(description="Id, x, y, id of the theme.")
    themes: list[Theme]


class Can(BaseModel):
    """What this server has."""

    text: bool = Field(description="Look for text: the model is there.")
    upload: bool = Field(description="Look for files.")
    why: bool = Field(description="Say why a video was found.")
    probability: bool = Field(description="Cosines were calibrated.")
    map: bool
    pairs: bool
    groups: bool
    pictures: bool


class LimitsAnswer(BaseModel):
    """How much one request may ask for."""

    k: int
    upload_bytes: int
    text_chars: int


class InfoAnswer(BaseModel):
    """What is served."""

    name: str
    version: str
    videos: int
    dimension: int
    kind: str = Field(description="Of the index, such as exact or ivf-sq8.")
    generation: int
    model: str | None = Field(description="Which model made the vectors; null where none is here.")
    modalities: list[Modality] = Field(description="What it reads of a video.")
    can: Can
    limits: LimitsAnswer


class ShardsAnswer(BaseModel):
    """How many shards answer."""

    answering: int
    all: int


class HealthAnswer(BaseModel):
    """The process answers."""

    model_config = example(status="ok", shards=None)

    status: str
    shards: ShardsAnswer | None = Field(
        None, description="Null where the index is not made of shards."
    )


class ReadyAnswer(BaseModel):
    """All is loaded."""

    model_config = example(status="ready", videos=796, shards={"answering": 4, "all": 4})

    status: str = Field(description="ready, or incomplete where a shard does not answer.")
    videos: int
    shards: ShardsAnswer | None = Field(
        None, description="Null where the index is not made of shards."
    )


def video_answer(video: IndexedVideo, pictures: int) -> VideoAnswer:
    """A video with so many pictures."""
    return VideoAnswer.model_construct(**video_facts(video, pictures))


def video_facts(video: IndexedVideo, pictures: int) -> dict[str, Any]:
    """The fields of a ``VideoAnswer``, which a ``HitAnswer`` has, too."""
    return {
        "id": video.id,
        "title": video.title,
        "tags": list(video.tags),
        "category": video.category,
        "language": video.language,
        "duration_seconds": video.duration_seconds,
        "date": video.date,
        "pictures": pictures,
    }


def missing_answer(missing: Missing | None) -> MissingAnswer | None:
    """What an answer lacks."""
    if missing is None:
        return None
    shards = [MissingShardAnswer(**asdict(one)) for one in missing.shards]
    return MissingAnswer(shards=shards, of=missing.of, share=missing.share)


def why_answer(why: Why) -> WhyAnswer:
    """Why a video was found."""
    return WhyAnswer(alone=dict(why.alone), lost=dict(why.lost))
