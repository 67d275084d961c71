"""What a collection holds of a video, and filters as its expressions."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import BadRecord, UsageError
from vidvec.search.filters import MOST_VALUES, moment
from vidvec.search.types import Filter, IndexedVideo

if TYPE_CHECKING:
    from pymilvus import CollectionSchema, MilvusClient

ID_BYTES = 512
# Titles are searched this far: as many pairs of letters as a field may hold.
TITLE_CHARACTERS = 4_000
MOST_TAGS = 1_024
UNKNOWN = -1  # a duration that is not known
LONG_AGO = -(2**62)  # a date that is not known
PARTS = 2**31
# Fields that say all that is known of a video.
KNOWN = ["id", "video"]


def schema(client: MilvusClient, dimension: int, description: str) -> CollectionSchema:
    """The fields of a collection.

    ``vector`` has length 1, or is zero; ``row`` grows in the order in which videos come in;
    ``part``, below ``PARTS``, is drawn from the id, for reading a collection in pieces; ``pairs``
    are the letters of the title and each two that follow one another, small; ``spoken`` is the
    language and what it is a variant of, such as zh-hant and zh; ``video`` is all that is known.
    """
    from pymilvus import DataType

    made = client.create_schema(auto_id=False, enable_dynamic_field=False, description=description)
    text = DataType.VARCHAR
    made.add_field("id", text, is_primary=True, max_length=ID_BYTES)
    made.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    made.add_field("row", DataType.INT64)
    made.add_field("part", DataType.INT64)
    made.add_field("tags", DataType.ARRAY, element_type=text, max_capacity=1024, max_length=1024)
    made.add_field("pairs", DataType.ARRAY, element_type=text, max_capacity=4096, max_length=16)
    made.add_field("category", text, max_length=1024)
    made.add_field("spoken", DataType.ARRAY, element_type=text, max_capacity=64, max_length=256)
    made.add_field("seconds", DataType.DOUBLE)
    made.add_field("moment", DataType.INT64)
    made.add_field("video", DataType.JSON)
    return made


def refusal(video: IndexedVideo) -> str:
    """Why a video does not fit into a collection; empty where it does."""
    size = len(video.id.encode(errors="replace"))
    if size > ID_BYTES:
        return f"its id has {size} bytes, expected at most {ID_BYTES}"
    if len(video.tags) > MOST_TAGS or any(len(tag.encode()) > 1024 for tag in video.tags):
        return "it has more than 1,024 tags, or one of more than 1,024 bytes"
    if len(video.category.encode()) > 1024 or len(video.language.encode()) > 256:
        return "its category has more than 1,024 bytes, or its language more than 256"
    if len(json.dumps(document(video)).encode()) > 60_000:
        return "what is known of it has more than 60,000 bytes"
    return ""


def document(video: IndexedVideo) -> dict[str, Any]:
    """What is known of a video, as it is given back."""
    return {
        "title": video.title,
        "tags": list(video.tags),
        "category": video.category,
        "language": video.language,
        "seconds": video.duration_seconds,
        "date": video.date,
        "file": video.file,
    }


def record(video: IndexedVideo, vector: NDArray[np.float32], row: int) -> dict[str, Any]:
    """A video and its (E,) unit vector as a collection takes them.

    Raises:
        BadRecord: Its date is none.
    """
    when = moment(video.date)
    return {
        "id": video.id,
        "vector": vector,
        "row": row,
        "part": zlib.crc32(video.id.encode()) % PARTS,
        "tags": list(dict.fromkeys(video.tags)),
        "pairs": pairs_of(video.title[:TITLE_CHARACTERS]),
        "category": video.category,
        "spoken": spoken(video.language),
        "seconds": UNKNOWN if video.duration_seconds is None else video.duration_seconds,
        "moment": LONG_AGO if when is None else when,
        "video": document(video),
    }


def known(entity: dict[str, Any]) -> IndexedVideo:
    """What a collection says of a video, from its fields ``KNOWN``."""
    held = entity["video"]
    if isinstance(held, str | bytes):
        held = json.loads(held)
    return IndexedVideo(
        id=entity["id"],
        title=held["title"],
        tags=tuple(held["tags"]),
        category=held["category"],
        language=held["language"],
        duration_seconds=held["seconds"],
        date=held["date"],
        file=held["file"],
    )


def spoken(language: str) -> list[str]:
    """A language and what it is a variant of, small: ``zh-Hant`` is also ``zh``."""
    parts = language.lower().split("-")[:64]
    return ["-".join(parts[: at + 1]) for at in range(len(parts))] if language else []


def pairs_of(text: str) -> list[str]:
    """The letters of a text and each two that follow one another, small, each once."""
    small = folded(text)
    two = [small[at : at + 2] for at in range(len(small) - 1)]
    return list(dict.fromkeys([*small, *two]))[:4096]


def folded(text: str) -> str:
    """A text whose letters differ in nothing but case where those of others do; as long."""
    return "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)


def listed(texts: Collection[str]) -> str:
    """Several texts in an expression."""
    return json.dumps(list(texts), ensure_ascii=False)


def expression(asked: Filter) -> str:
    """A filter as a condition of the cluster; empty where it asks for nothing.

    Raises:
        UsageError: A date is none, or there are more than 1,000 values.
    """
    asked_for = len(asked.tags) + len(asked.categories) + len(asked.languages)
    if asked_for > MOST_VALUES:
        raise UsageError(f"the filter has {asked_for} values, expected at most {MOST_VALUES}")
    parts = []
    if asked.tags:
        parts.append(f"array_contains_all(tags, {listed(dict.fromkeys(asked.tags))})")
    if asked.categories:
        parts.append(f"category in {listed(asked.categories)}")
    if asked.languages:
        small = [language.lower() for language in asked.languages]
        parts.append(f"array_contains_any(spoken, {listed(small)})")
    if asked.min_seconds is not None:
        parts.append(f"seconds >= {max(0.0, float(asked.min_seconds))!r}")
    if asked.max_seconds is not None:
        parts.append(f"seconds >= 0.0 and seconds <= {float(asked.max_seconds)!r}")
    after, before = _moment(asked.after, "after"), _moment(asked.before, "before")
    if after is not None:
        parts.append(f"moment >= {after}")
    if before is not None:
        parts.append(f"moment > {LONG_AGO} and moment < {before}")
    return " and ".join(parts)


def _moment(date: str, name: str) -> int | None:
    try:
        return moment(date)
    except BadRecord as error:
        raise UsageError(f"filter {name}: {error.detail}") from None


def both(*conditions: str) -> str:
    """Conditions that all have to hold."""
    return " and ".join(f"({one})" for one in conditions if one)


def by_ids(ids: Sequence[str]) -> str:
    """The condition of being one of these videos."""
    return f"id in {listed(ids)}"
