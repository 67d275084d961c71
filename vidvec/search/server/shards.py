"""What a server that is a shard of another is asked, and answers; with examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from vidvec.search.server.answers import FacetValue, VideoAnswer, example
from vidvec.search.server.config import SHARD_BATCH, SHARD_HITS, SHARD_IDS
from vidvec.search.server.schemas import FilterBody, Strict, VideoId, body_config
from vidvec.search.text import MOST_CHARACTERS, MOST_WORDS
from vidvec.search.types import Hit

Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e30, le=1e30)]
Hits = Annotated[int, Field(ge=1, le=SHARD_HITS, description="At most so many hits.")]


class ShardHit(BaseModel):
    """A video that was found."""

    model_config = example(id="1003", cosine=0.83)

    id: str
    cosine: float = Field(description="Of its vector and the query's; of words, their score.")


class ShardAnswer(BaseModel):
    """What kind of shard a server is."""

    model_config = example(
        dimension=256,
        kind="ivf-sq8",
        videos=250_000,
        generation=3,
        model="0123456789abcdef",
        manifest={},
    )

    dimension: int
    kind: str
    videos: int
    generation: int
    model: str = Field(description="Differs where vectors cannot be compared; empty: not known.")
    manifest: dict[str, Any] = Field(description="Of the folder of vectors: what made them.")


class ShardSearchBody(Strict):
    """Vectors whose neighbours are wanted."""

    model_config = body_config({"queries": [[0.6, -0.8]], "k": 10})

    queries: Annotated[
        list[Annotated[list[Number], Field(min_length=1, max_length=65_536)]],
        Field(min_length=1, max_length=SHARD_BATCH),
    ]
    k: Hits
    filter: FilterBody = FilterBody()
    without: Annotated[
        list[Annotated[list[VideoId], Field(max_length=SHARD_HITS)]], Field(max_length=SHARD_BATCH)
    ] = Field([], description="For each query ids that are left out; empty: none.")
    exact: bool = Field(False, description="Compare with every vector.")


class ShardHitsAnswer(BaseModel):
    """For each query its hits, best first."""

    model_config = example(hits=[[{"id": "1003", "cosine": 0.83}]])

    hits: list[list[ShardHit]]


class ShardVideosBody(Strict):
    """Videos that may be here."""

    model_config = body_config({"ids": ["1003", "1004"], "vectors": True})

    ids: Annotated[list[VideoId], Field(min_length=1, max_length=SHARD_IDS)]
    vectors: bool = Field(False, description="Their vectors, too.")


class ShardVideosAnswer(BaseModel):
    """Those of the videos that are here."""

    model_config = example(videos=[], vectors=[])

    videos: list[VideoAnswer]
    vectors: list[list[float]] | None = Field(description="Of length 1, in the same order.")


class WordCountsBody(Strict):
    """What BM25 takes of the titles of all shards."""

    model_config = body_config({"titles": 1_000_000, "tokens": 2.1e7, "having": [1200]})

    titles: Annotated[int, Field(ge=0, le=2**62)]
    tokens: Annotated[Number, Field(ge=0)]
    having: Annotated[list[Annotated[int, Field(ge=0, le=2**62)]], Field(max_length=MOST_WORDS)] = (
        Field(description="Titles with each of the words of three characters or more.")
    )


class ShardWordsBody(Strict):
    """Words in titles."""

    model_config = body_config(
        {"text": "beach"},
        {"text": "beach", "k": 5, "counts": {"titles": 9, "tokens": 80, "having": [2]}},
    )

    text: Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]
    k: Hits = 1
    filter: FilterBody = FilterBody()
    counts: WordCountsBody | None = Field(
        None, description="Of all shards; without, those of this one are answered, and no hits."
    )


class ShardWordsAnswer(BaseModel):
    """Counts, and where those of all shards were given, hits."""

    model_config = example(titles=9, tokens=80, having=[2], hits=[{"id": "1003", "cosine": 1.7}])

    titles: int
    tokens: float
    having: list[int]
    hits: list[ShardHit]


class ShardFacetsBody(Strict):
    """Which videos are counted."""

    model_config = body_config({"filter": {"tags": ["sea"]}})

    filter: FilterBody = FilterBody()


class ShardFacetsAnswer(BaseModel):
    """Every value with the number of videos that have it."""

    model_config = example(videos=41, tags=[], categories=[], languages=[])

    videos: int
    tags: list[FacetValue]
    categories: list[FacetValue]
    languages: list[FacetValue]


def shard_hits(hits: Sequence[Hit]) -> list[ShardHit]:
    """Hits as an answer has them."""
    return [ShardHit.model_construct(id=hit.id, cosine=hit.cosine) for hit in hits]


def values(counts: Sequence[tuple[str, int]]) -> list[FacetValue]:
    """Values and their numbers as an answer has them."""
    return [FacetValue.model_construct(value=value, count=count) for value, count in counts]
