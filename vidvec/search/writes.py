"""Writing records of an index: videos in, out, changed; all inside a transaction of the store."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import astuple

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import BadRecord, UsageError
from vidvec.search.filters import moment
from vidvec.search.store import CHUNK, Store
from vidvec.search.types import IndexedVideo

_MULTIPLIERS = np.random.default_rng(20211).integers(0, 2**63, 65_536, np.uint64) * 2 + 1


def digests(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """(n,) numbers that differ where the bits of (n, E) vectors do, but for a chance of 2⁻⁶⁴."""
    bits = np.ascontiguousarray(vectors, np.float32).view(np.uint32)
    mixed = bits.astype(np.uint64) + np.uint64(1)
    width = bits.shape[1]
    many = np.resize(_MULTIPLIERS, width) + np.arange(width, dtype=np.uint64) // 65_536 * 2
    return (mixed * many).sum(1, dtype=np.uint64).view(np.int64)


def facts_digest(video: IndexedVideo) -> int:
    """A number that differs where what is known of a video does."""
    text = json.dumps(astuple(video), ensure_ascii=True).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big", signed=True)


def insert(
    store: Store,
    videos: Sequence[IndexedVideo],
    *,
    vectors: NDArray[np.float32] | None = None,
    places: Sequence[int] | None = None,
    digest: Sequence[int] | None = None,
    zero: Sequence[bool] = (),
) -> None:
    """Puts videos that are not there into the records, under new rows.

    Args:
        store: In a transaction.
        videos: What is known of them.
        vectors: (n, E) float32, kept in the records; or:
        places: Where the vectors are in the folder,
        digest: and their digests.
        zero: Which vectors have no length; empty: none.
    """
    connection = store.connection
    first = int(connection.execute("SELECT next_row FROM state").fetchone()[0])
    rows = range(first, first + len(videos))
    nothing: list[int | None] = [None] * len(videos)
    entries = zip(rows, videos, places or nothing, digest or nothing, strict=True)
    connection.executemany(
        "INSERT INTO videos VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (_record(row, video, place, number) for row, video, place, number in entries),
    )
    connection.executemany(
        "INSERT INTO titles (rowid, title) VALUES (?, ?)",
        ((row, video.title) for row, video in zip(rows, videos, strict=True)),
    )
    _insert_tags(connection, dict(zip(rows, videos, strict=True)))
    if vectors is not None:
        blobs = ((row, vector.tobytes()) for row, vector in zip(rows, vectors, strict=True))
        connection.executemany("INSERT INTO added VALUES (?, ?)", blobs)
    none = [(row,) for row, empty in zip(rows, zero, strict=False) if empty]
    connection.executemany("INSERT INTO zeros VALUES (?)", none)
    connection.execute("UPDATE state SET next_row = ?", [first + len(videos)])


def _record(
    row: int, video: IndexedVideo, place: int | None, digest: int | None
) -> tuple[object, ...]:
    tags = json.dumps(video.tags, ensure_ascii=False)
    try:
        begins = moment(video.date)
    except BadRecord as error:
        raise UsageError(f"video {video.id!r}: {error.detail}") from None
    return (
        *(row, video.id, video.title, tags, video.category, video.language),
        *(video.duration_seconds, video.date, begins, video.file),
        *(place, digest, facts_digest(video)),
    )


def _insert_tags(connection: sqlite3.Connection, videos: Mapping[int, IndexedVideo]) -> None:
    names = {tag for video in videos.values() for tag in video.tags}
    if not names:
        return
    connection.executemany(
        "INSERT OR IGNORE INTO tag_names (name) VALUES (?)", ((name,) for name in sorted(names))
    )
    numbers = _tag_numbers(connection, sorted(names))
    pairs = ((numbers[tag], row) for row, video in videos.items() for tag in video.tags)
    connection.executemany("INSERT OR IGNORE INTO tags VALUES (?, ?)", pairs)


def _tag_numbers(connection: sqlite3.Connection, names: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(names), CHUNK):
        some = names[start : start + CHUNK]
        asked = ",".join("?" * len(some))
        sql = f"SELECT name, tag FROM tag_names WHERE name IN ({asked})"  # noqa: S608
        found.update(connection.execute(sql, some))
    return found


def remove(store: Store, rows: Sequence[int]) -> None:
    """Takes rows out of the records, in a transaction; readers learn of it at once."""
    connection = store.connection
    each = [(row,) for row in rows]
    _forget_text(connection, rows)
    for table in ("videos", "added", "zeros"):
        connection.executemany(f"DELETE FROM {table} WHERE row = ?", each)  # noqa: S608
    connection.executemany("INSERT INTO removed (row) VALUES (?)", each)


def _forget_text(connection: sqlite3.Connection, rows: Sequence[int]) -> None:
    """Takes titles and tags of rows out of their indexes; the records are still there."""
    for row in rows:
        title, tags = connection.execute(
            "SELECT title, tags FROM videos WHERE row = ?", [row]
        ).fetchone()
        connection.execute(
            "INSERT INTO titles (titles, rowid, title) VALUES ('delete', ?, ?)", [row, title]
        )
        numbers = _tag_numbers(connection, sorted(set(json.loads(tags))))
        connection.executemany(
            "DELETE FROM tags WHERE tag = ? AND row = ?", [(tag, row) for tag in numbers.values()]
        )


def change(store: Store, videos: Mapping[int, IndexedVideo]) -> None:
    """Replaces what is known of videos, by row, in a transaction; their vectors stay."""
    connection = store.connection
    _forget_text(connection, list(videos))
    for row, video in videos.items():
        _, _, title, tags, category, language, seconds, date, begins, file, *_, facts = _record(
            row, video, None, None
        )
        connection.execute(
            "UPDATE videos SET title = ?, tags = ?, category = ?, language = ?, seconds = ?, "
            "date = ?, moment = ?, file = ?, facts = ? WHERE row = ?",
            [title, tags, category, language, seconds, date, begins, file, facts, row],
        )
        connection.execute("INSERT INTO titles (rowid, title) VALUES (?, ?)", [row, video.title])
    _insert_tags(connection, videos)


def overrule(store: Store, rows: Sequence[int]) -> None:
    """Notes that the folder's vectors of rows do not count any more, in a transaction."""
    store.connection.executemany(
        "INSERT OR REPLACE INTO overruled "
        "SELECT id, digest FROM videos WHERE row = ? AND digest IS NOT NULL",
        [(row,) for row in rows],
    )


def accept(store: Store, ids: Sequence[str]) -> None:
    """The folder's vectors of videos count again, in a transaction."""
    store.connection.executemany("DELETE FROM overruled WHERE id = ?", [(one,) for one in ids])


def move(store: Store, places: Sequence[tuple[int, int]]) -> None:
    """Notes new places of vectors in the folder, as (place, row), in a transaction."""
    store.connection.executemany("UPDATE videos SET place = ? WHERE row = ?", places)
