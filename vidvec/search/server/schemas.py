"""What requests say, with examples; everything that is not named here is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import File, UploadFile
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from vidvec.errors import BadRecord
from vidvec.search.filters import moment
from vidvec.search.query import TEXT_LIMIT
from vidvec.search.server.config import MOST_HITS, MOST_IDS, MOST_TEXTS
from vidvec.search.types import Filter

DEFAULT_HITS = 20
# SQLite numbers rows with 64 bits; nobody turns so many pages.
MOST_OFFSET = 1_000_000_000
MOST_FILTERS = 100


def _a_date(text: str) -> str:
    try:
        moment(text)
    except BadRecord as error:
        raise ValueError(error.detail) from None
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty: give words to look for")
    return text


VideoId = Annotated[str, Field(min_length=1, max_length=1_000, description="Id of a video.")]
Words = Annotated[
    str,
    Field(min_length=1, max_length=TEXT_LIMIT, pattern=r"\S", description="Words to look for."),
    AfterValidator(_not_blank),
]
Value = Annotated[str, Field(max_length=1_000)]
Date = Annotated[str, Field(max_length=40), AfterValidator(_a_date)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MOST_HITS, description="At most so many hits.")]
Offset = Annotated[int, Field(ge=0, le=MOST_OFFSET, description="So many are passed over.")]


class Strict(BaseModel):
    """A body or query whose every name must be known."""

    model_config = ConfigDict(extra="forbid")


def body_config(*examples: dict[str, Any], **schema: Any) -> ConfigDict:
    """Settings of a JSON body, in which a number is no text and a truth no number."""
    return ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": list(examples), **schema}
    )


class FilterQuery(Strict):
    """Which videos count; what is left out asks nothing."""

    tags: Annotated[list[Value], Field(max_length=MOST_FILTERS)] = Field(
        [], description="A video has all of these."
    )
    categories: Annotated[list[Value], Field(max_length=MOST_FILTERS)] = Field(
        [], description="Its category is one of these."
    )
    languages: Annotated[list[Value], Field(max_length=MOST_FILTERS)] = Field(
        [], description="Its language is one of these or a variant: zh takes zh-Hant, too."
    )
    min_seconds: Seconds | None = Field(None, description="Its duration, included.")
    max_seconds: Seconds | None = Field(None, description="Its duration, included.")
    after: Date = Field("", description="ISO 8601 day or moment from which it is, included.")
    before: Date = Field("", description="And up to which, not included.")

    def asked(self) -> Filter:
        """As the index takes it."""
        return Filter(
            tuple(self.tags),
            tuple(self.categories),
            tuple(self.languages),
            self.min_seconds,
            self.max_seconds,
            self.after,
            self.before,
        )


class FilterBody(FilterQuery):
    """Which videos may be found; what is left out asks nothing."""

    model_config = body_config({"tags": ["sea"], "languages": ["zh"], "max_seconds": 60})


class SearchBody(Strict):
    """What to look for: text, videos, or both together."""

    model_config = body_config(
        {"text": "a dog on a beach", "k": 5},
        {"ids": ["1003"], "unlike_ids": ["1004"], "filter": {"languages": ["en"]}},
        {"text": "beach", "words": True},
        anyOf=[
            {"required": ["text"], "properties": {"text": {"type": "string"}}},
            {"required": ["ids"], "properties": {"ids": {"minItems": 1}}},
        ],
    )

    text: Words | None = Field(None, description="Hits are to be like a video of this title.")
    ids: Annotated[list[VideoId], Field(max_length=MOST_IDS)] = Field(
        [], description="Hits are to be like these videos, which are no hits themselves."
    )
    unlike_ids: Annotated[list[VideoId], Field(max_length=MOST_IDS)] = Field(
        [], description="And unlike these."
    )
    k: Count = DEFAULT_HITS
    filter: FilterBody = FilterBody()
    explain: bool = Field(False, description="Say what each modality has to do with a hit.")
    words: bool = Field(
        False, description="Look for the text in titles, letter by letter, not by vectors."
    )

    @model_validator(mode="after")
    def _something(self) -> SearchBody:
        if self.text is None and not self.ids:
            raise ValueError("nothing to look for: give text, ids, or both")
        if self.words and (self.text is None or self.ids or self.unlike_ids):
            raise ValueError("words looks in titles: it takes text, and no ids")
        return self


class SimilarBody(Strict):
    """Videos whose neighbours are wanted, each by itself."""

    model_config = body_config({"ids": ["1003", "1004"], "k": 5})

    ids: Annotated[list[VideoId], Field(min_length=1, max_length=MOST_IDS)]
    k: Count = DEFAULT_HITS
    filter: FilterBody = FilterBody()


class EmbedBody(Strict):
    """Texts to turn into vectors."""

    model_config = body_config({"texts": ["a dog on a beach", "海浪"]})

    texts: Annotated[
        list[Annotated[str, Field(max_length=TEXT_LIMIT)]],
        Field(min_length=1, max_length=MOST_TEXTS),
    ]


MediaFile = Annotated[UploadFile, File(description="A video file or a picture.")]


class UploadForm(Strict):
    """A file to look for something like."""

    file: MediaFile
    text: Annotated[str, Field(max_length=TEXT_LIMIT)] = Field(
        "", description="Words that hits are to be like, besides."
    )
    k: Count = DEFAULT_HITS
    filter: Annotated[str, Field(max_length=100_000)] = Field(
        "", description="The filter of a search, as JSON.", examples=['{"tags": ["sea"]}']
    )
    explain: bool = Field(False, description="Say what each modality has to do with a hit.")


class EmbedForm(Strict):
    """A file to turn into a vector."""

    file: MediaFile
    title: Annotated[str, Field(max_length=TEXT_LIMIT)] = Field("", description="Its title.")


class VideoQuery(Strict):
    """Which video."""

    id: Annotated[VideoId, Field(examples=["1003"])]


class NeighboursQuery(VideoQuery):
    """Whose neighbours."""

    k: Count = DEFAULT_HITS
    explain: bool = Field(False, description="Say what each modality has to do with a hit.")


class PictureQuery(VideoQuery):
    """Which picture of which video."""

    n: Annotated[int, Field(ge=0, le=1_000, description="Its number, from 0 on.")] = 0


class GroupsQuery(Strict):
    """Which groups of near duplicates."""

    threshold: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = Field(
        None, description="Cosine from which two videos are alike; without: as in vidvec dedup."
    )
    offset: Offset = 0
    limit: Annotated[int, Field(ge=1, le=200, description="At most so many groups.")] = 50


class PairsQuery(Strict):
    """Which scored pairs."""

    split: Literal["clean", "published", "all"] = Field(
        "clean", description="Of which pairs: those not trained on, as published, or all."
    )
    offset: Offset = 0
    limit: Annotated[int, Field(ge=1, le=100, description="At most so many pairs.")] = 20
    explain: bool = Field(True, description="Say what each modality has to do with each pair.")
