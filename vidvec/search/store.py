"""What an index knows of its videos: a SQLite file, the truth beside the folder of vectors.

Rows number the videos; a row is never used twice, so that a replaced video gets a new one. The
vector of a row is at ``place`` in the folder of vectors, or in ``added``.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import FormatError, UsageError
from vidvec.search.filters import marks
from vidvec.search.types import IndexedVideo

FILE = "records.sqlite"
# How long a writer waits for another one, in seconds.
WAIT_SECONDS = 10.0
CHUNK = 500

SCHEMA = """
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    dimension INTEGER NOT NULL,
    generation INTEGER NOT NULL,   -- grows with every acknowledged write
    epoch INTEGER NOT NULL,        -- grows when a FAISS file or the folder's places are replaced
    next_row INTEGER NOT NULL,
    covered INTEGER NOT NULL,      -- the FAISS file has the rows below
    file TEXT NOT NULL,            -- name of the FAISS file; '' for none
    checksum INTEGER NOT NULL,     -- its CRC-32C
    kind TEXT NOT NULL,
    settings TEXT NOT NULL,        -- JSON: how to search the file, and what was measured
    made_of TEXT NOT NULL          -- JSON: which vectors and corpus were taken in
);
CREATE TABLE videos (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    tags TEXT NOT NULL,            -- JSON list
    category TEXT NOT NULL,
    language TEXT NOT NULL,
    seconds REAL,
    date TEXT NOT NULL,
    moment INTEGER,                -- date as seconds since 1970
    file TEXT NOT NULL,
    place INTEGER,                 -- in the folder of vectors; NULL: the vector is in added
    digest INTEGER,                -- of the vector in the folder
    facts INTEGER NOT NULL         -- digest of what is known of the video
);
CREATE INDEX by_place ON videos (place);
CREATE TABLE added (row INTEGER PRIMARY KEY, vector BLOB NOT NULL);
-- Rows whose vector has no length: they are kept, and never found.
CREATE TABLE zeros (row INTEGER PRIMARY KEY);
-- Rows that went since the FAISS file was made.
CREATE TABLE removed (sequence INTEGER PRIMARY KEY AUTOINCREMENT, row INTEGER NOT NULL);
-- Videos whose vector in the folder was deleted or replaced by a write: not taken in again.
CREATE TABLE overruled (id TEXT PRIMARY KEY, digest INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE tag_names (tag INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE tags (tag INTEGER, row INTEGER, PRIMARY KEY (tag, row)) WITHOUT ROWID;
CREATE VIRTUAL TABLE titles USING fts5 (
    title, content = 'videos', content_rowid = 'row', tokenize = 'trigram'
);
"""
INDEXES = """
CREATE INDEX IF NOT EXISTS by_category ON videos (category);
CREATE INDEX IF NOT EXISTS by_language ON videos (language);
CREATE INDEX IF NOT EXISTS by_seconds ON videos (seconds);
CREATE INDEX IF NOT EXISTS by_moment ON videos (moment);
"""


@dataclass(frozen=True, slots=True)
class State:
    """The row of ``state``; see the schema."""

    dimension: int
    generation: int
    epoch: int
    next_row: int
    covered: int
    file: str
    checksum: int
    kind: str
    settings: dict[str, Any]
    made_of: dict[str, Any]


class Store:
    """An open file of records, for any number of threads.

    Args:
        path: The SQLite file.
        writable: Writes will be asked for.
        safe: Acknowledged writes survive a loss of power; without it a new file is written faster,
            which must not be used before it is synced.

    Raises:
        FormatError: The file is missing or damaged.
    """

    def __init__(self, path: Path, *, writable: bool = False, safe: bool = True) -> None:
        self.path, self.writable, self._safe = path, writable, safe
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        if not path.is_file():
            raise FormatError(f"{path} is missing: {remedy(path)}")
        self.state()

    @classmethod
    def create(cls, path: Path, dimension: int) -> Store:
        """A new file without videos, in the fast and unsafe mode.

        Raises:
            UsageError: This Python's SQLite has no trigram index of text.
        """
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.executescript(SCHEMA)
        except sqlite3.OperationalError as error:
            raise UsageError(
                f"SQLite {sqlite3.sqlite_version} cannot index titles ({error}): Python needs one "
                "of version 3.34 or later with FTS5"
            ) from None
        connection.execute(
            "INSERT INTO state VALUES (1, ?, 0, 0, 0, 0, '', 0, '', '{}', '{}')", [dimension]
        )
        connection.close()
        return cls(path, writable=True, safe=False)

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection."""
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            mode = "rw" if self.writable else "ro"
            found = sqlite3.connect(
                f"{self.path.resolve().as_uri()}?mode={mode}",
                uri=True,
                timeout=WAIT_SECONDS,
                isolation_level=None,
                check_same_thread=False,  # close() is called from any thread
            )
            if self.writable and self._safe:
                found.execute("PRAGMA synchronous = FULL")
            elif self.writable:
                found.executescript("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;")
                found.execute("PRAGMA cache_size = -262144")
            self._local.connection = found
            with self._lock:
                self._open.append(found)
        return found

    def close(self) -> None:
        """Closes all threads' connections."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()
        self._local = threading.local()

    def settle(self) -> None:
        """Turns a new file, written fast, into one for readers beside a writer; closes it."""
        self.connection.executescript(INDEXES)
        self.connection.executescript("PRAGMA analysis_limit = 1000; ANALYZE")
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.close()
        self._safe = True

    def read(self, sql: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Rows of a query, as they come.

        Raises:
            FormatError: The file is damaged.
        """
        with self._errors():
            yield from self.connection.execute(sql, values)

    def value(self, sql: str) -> Any:
        """What a query for one value gives."""
        with self._errors():
            found = self.connection.execute(sql).fetchone()
        return None if found is None else found[0]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors as the user's."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise UsageError(
                    f"another process has been writing to {self.path.parent} for "
                    f"{WAIT_SECONDS:.0f} s: try again when it is done"
                ) from None
            if "readonly" in str(error):
                raise UsageError(f"{self.path.parent} was opened for reading only") from None
            raise FormatError(f"{self.path}: {error}; {remedy(self.path)}") from None
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
                raise
            raise FormatError(f"{self.path} is damaged ({error}): {remedy(self.path)}") from None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write that is there whole, and on disk when the block ends, or not at all.

        Raises:
            UsageError: Another process has been writing for longer than ``WAIT_SECONDS``, or the
                store was opened for reading.
        """
        connection = self.connection
        if not self.writable:
            raise UsageError(f"{self.path.parent} was opened for reading only")
        with self._errors():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """What is read inside is of one moment."""
        with self._errors():
            self.connection.execute("BEGIN")
            try:
                yield
            finally:
                self.connection.execute("ROLLBACK")

    def state(self) -> State:
        """The state as it is on disk."""
        found = self.read(
            "SELECT dimension, generation, epoch, next_row, covered, file, checksum, kind, "
            "settings, made_of FROM state"
        )
        row = next(found, None)
        if row is None:
            raise FormatError(f"{self.path} has no state: {remedy(self.path)}")
        return State(*row[:-2], *(json.loads(text) for text in row[-2:]))

    def generation(self) -> int:
        """Grows with every acknowledged write."""
        return int(self.value("SELECT generation FROM state"))

    def update_state(self, **values: object) -> None:
        """Sets columns of the state and counts a write, inside a transaction."""
        columns = "".join(f", {name} = ?" for name in values)
        given = [json.dumps(v) if isinstance(v, dict) else v for v in values.values()]
        self.connection.execute(f"UPDATE state SET generation = generation + 1{columns}", given)  # noqa: S608

    def rows_of(self, ids: Sequence[str]) -> dict[str, int]:
        """Rows of those of these ids that are there."""
        return dict(self._chunks("SELECT id, row FROM videos WHERE id", ids))

    def all_ids(self) -> dict[int, str]:
        """Ids of all rows."""
        return dict(self.read("SELECT row, id FROM videos"))

    def ids_of(self, rows: Sequence[int]) -> dict[int, str]:
        """Ids of those of these rows that are there."""
        return dict(self._chunks("SELECT row, id FROM videos WHERE row", rows))

    def _chunks(self, sql: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(values), CHUNK):
            some = values[start : start + CHUNK]
            yield from self.read(f"{sql} IN ({marks(some)})", some)

    def videos(self, ids: Sequence[str]) -> dict[str, IndexedVideo]:
        """What is known of those of these ids that are there."""
        found = self._chunks(
            "SELECT id, title, tags, category, language, seconds, date, file FROM videos WHERE id",
            ids,
        )
        return {
            key: IndexedVideo(key, title, tuple(json.loads(tags)), *rest)
            for key, title, tags, *rest in found
        }

    def known(self, ids: Sequence[str]) -> dict[str, tuple[int, int | None, int | None, int]]:
        """Row, place, digest of the vector and of the facts of those of these ids there are."""
        sql = "SELECT id, row, place, digest, facts FROM videos WHERE id"
        return {key: (row, *rest) for key, row, *rest in self._chunks(sql, ids)}

    def overruled(self, ids: Sequence[str]) -> dict[str, int]:
        """Digests of vectors of the folder that do not count, by id."""
        return dict(self._chunks("SELECT id, digest FROM overruled WHERE id", ids))

    def blobs(self, rows: Sequence[int]) -> dict[int, bytes]:
        """Vectors in float32 of those of these rows that are in ``added``."""
        return dict(self._chunks("SELECT row, vector FROM added WHERE row", rows))

    def places(self, first: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(n,) rows from ``first`` on, and (n,) their places; −1: in ``added``."""
        if first:
            found = self.read(
                "SELECT row, coalesce(place, -1) FROM videos WHERE row >= ? ORDER BY row", [first]
            )
        else:
            found = self.read("SELECT row, coalesce(place, -1) FROM videos INDEXED BY by_place")
        numbers = np.fromiter(_flat(found), np.int64).reshape(-1, 2)
        return numbers[:, 0], numbers[:, 1]

    def zeros(self) -> list[int]:
        """Rows whose vector has no length."""
        return [row for (row,) in self.read("SELECT row FROM zeros")]

    def removed(self, after: int) -> tuple[list[int], int]:
        """Rows that went since a point in the sequence, and the point that is reached."""
        found = list(self.read("SELECT sequence, row FROM removed WHERE sequence > ?", [after]))
        return [row for _, row in found], max((number for number, _ in found), default=after)


def _flat(pairs: Iterable[tuple[int, int]]) -> Iterator[int]:
    for row, place in pairs:
        yield row
        yield place


def remedy(path: Path) -> str:
    """What to do where an index cannot be used."""
    return (
        f"vidvec index {path.parent.parent} --restart makes it anew (what was added or deleted "
        "while searching is lost)"
    )
