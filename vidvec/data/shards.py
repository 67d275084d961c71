"""Shards of a corpus: Arrow IPC files of one record batch each, mapped, never loaded.

Columns came to be more over time. A shard that lacks some of ``LATER_COLUMNS`` reads as if they
were empty; so do features of a shard that was written before the first features of their kind came,
as their width was not known then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidvec import storage
from vidvec.errors import FormatError, StorageError
from vidvec.records import Video
from vidvec.storage import objects

THUMBNAIL_SCHEMA = pa.schema([("id", pa.string()), ("thumbnails", pa.list_(pa.binary()))])
LATER_COLUMNS = ("date", "file", "stamp", "audio_times_seconds", "audio")
FEATURES = ("frames", "audio")


def corpus_schema(frame_size: int, audio_size: int = 0) -> pa.Schema:
    """Columns of a shard.

    ``frames`` and ``audio`` are lists of fixed-size lists of so many float16; of one, empty, where
    the size is 0.
    """
    return pa.schema(
        [
            ("id", pa.string()),
            ("title", pa.string()),
            ("speech_text", pa.string()),
            ("screen_text", pa.string()),
            ("tags", pa.list_(pa.string())),
            ("category", pa.string()),
            ("language", pa.string()),
            ("duration_seconds", pa.float32()),
            ("date", pa.string()),
            ("file", pa.string()),
            ("stamp", pa.string()),
            ("frame_times_seconds", pa.list_(pa.float32())),
            ("frames", pa.list_(pa.list_(pa.float16(), max(1, frame_size)))),
            ("audio_times_seconds", pa.list_(pa.float32())),
            ("audio", pa.list_(pa.list_(pa.float16(), max(1, audio_size)))),
        ]
    )


@dataclass(frozen=True, slots=True)
class Features:
    """A column of features, mapped.

    Attributes:
        values: (Σ, width) float16, those of all rows.
        offsets: (rows + 1,) int32, where each row's begin.
    """

    values: NDArray[np.float16]
    offsets: NDArray[np.int32]

    def of(self, row: int) -> NDArray[np.float16]:
        """(count, width) float16 of one row: a view."""
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def fetch(self, rows: Iterable[int]) -> None:
        """Nothing: they are mapped."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A mapped shard: ``table`` with one chunk, and views of its columns of features.

    ``remote_shards.RemoteShard`` is the same of one on object storage.
    """

    table: pa.Table
    frames: Features
    audio: Features

    def __len__(self) -> int:
        return len(self.table)

    def column(self, name: str) -> pa.Array:
        """A column, mapped."""
        return one_array(self.table.column(name))

    def record(self, row: int) -> dict[str, Any]:
        """All columns of a row but features."""
        rows = self.table.slice(row, 1).drop_columns(list(FEATURES)).to_pylist()
        found: dict[str, Any] = rows[0]
        return found


def check_sizes(folder: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Compares the sizes of shards with a manifest's entries; on object storage, by one listing.

    Raises:
        FormatError: One is missing, or of another size.
    """
    listed = objects.sizes(folder) if isinstance(folder, storage.S3Path) else None
    for entry in entries:
        path = folder / entry["file"]
        if listed is not None:
            size = listed.get(entry["file"])
        else:
            size = path.stat().st_size if path.is_file() else None
        if size != entry["bytes"]:
            found = "missing" if size is None else f"{size} bytes"
            raise FormatError(f"shard {path} is {found}, the manifest says {entry['bytes']} bytes")


def open_table(path: Path) -> pa.Table:
    """A mapped Arrow file whose offsets and texts are sound: a bad offset ends the process."""
    try:
        table = pa.ipc.open_file(storage.mapped(path)).read_all()
        table.validate(full=True)
    except StorageError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise FormatError(f"shard {path} cannot be opened: {error}") from None
    return table


def open_shard(path: Path, frame_size: int, audio_size: int) -> Shard:
    """Maps a shard.

    Raises:
        FormatError: It is damaged, or has other columns than a corpus with such features.
    """
    table = conformed(open_table(path), path, corpus_schema(frame_size, audio_size))
    columns = (one_array(table.column(name)) for name in FEATURES)
    return Shard(table, *map(features_of, columns))


def conformed(table: pa.Table, path: Path, schema: pa.Schema) -> pa.Table:
    """The table with this schema's columns, without a copy of those that it has."""
    if table.schema.equals(schema):
        return table
    known = set(schema.names)
    columns = []
    for field in schema:
        held = table.column(field.name) if field.name in table.schema.names else None
        if held is None:
            is_empty = field.name in LATER_COLUMNS
        else:
            is_empty = field.name in FEATURES and _has_no_features(held)
        if held is not None and held.type.equals(field.type):
            columns.append(held)
        elif is_empty:
            columns.append(empty_column(field.type, len(table)))
        else:
            found = "missing" if held is None else f"a {held.type}"
            wrong = f"{field.name} is {found}, expected a {field.type}"
            raise FormatError(f"shard {path} has other columns than those of its corpus: {wrong}")
    if unknown := [name for name in table.schema.names if name not in known]:
        found = ", ".join(unknown)
        raise FormatError(f"shard {path} has other columns than those of a corpus: {found}")
    return pa.Table.from_arrays(columns, schema=schema)


def _has_no_features(column: pa.ChunkedArray) -> bool:
    """Whether a column is one of features of which no row has any."""
    if not pa.types.is_list(column.type) or not pa.types.is_fixed_size_list(column.type.value_type):
        return False
    return all(len(chunk.values) == 0 for chunk in column.chunks)


def empty_column(kind: pa.DataType, rows: int) -> pa.Array:
    """So many empty texts or lists."""
    if kind.equals(pa.string()):
        return pa.repeat(pa.scalar("", kind), rows)
    offsets = pa.array(np.zeros(rows + 1, np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array([], kind.value_type))


def features_of(column: pa.Array) -> Features:
    """A mapped column of features."""
    width = column.type.value_type.list_size
    values = column.values.values.to_numpy(zero_copy_only=True).reshape(-1, width)
    return Features(values, column.offsets.to_numpy())


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array. A shard has one chunk, which is taken as it is: joining copies."""
    if column.num_chunks == 1:
        return column.chunk(0)
    joined = column.combine_chunks()
    return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined


def checksum(path: Path) -> str:
    """CRC-32C of a file, as eight hex digits."""
    crc = 0
    with storage.opened(path) as file:
        while block := file.read(2**22):
            crc = google_crc32c.extend(crc, block)
    return f"{crc:08x}"


def video_table(videos: Sequence[Video], frame_size: int, audio_size: int = 0) -> pa.Table:
    """Videos as one record batch of the corpus's schema, in contiguous memory."""
    schema = corpus_schema(frame_size, audio_size)
    columns: list[pa.Array] = []
    for field in schema:
        values = [getattr(video, field.name) for video in videos]
        if field.name in FEATURES:
            columns.append(_feature_column(values, field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _feature_column(features: Sequence[NDArray[np.float16]], kind: pa.DataType) -> pa.Array:
    """Each row's (count, width) features as one column."""
    width = kind.value_type.list_size
    offsets = np.concatenate([[0], np.cumsum([len(some) for some in features])])
    stacked = [some.astype(np.float16, copy=False) for some in features if len(some)]
    flat = np.concatenate(stacked) if stacked else np.zeros((0, width), np.float16)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), width)
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), rows)


def thumbnail_table(videos: Sequence[Video]) -> pa.Table:
    """Ids and thumbnails of videos, in order."""
    return pa.Table.from_arrays(
        [
            pa.array([video.id for video in videos], pa.string()),
            pa.array([list(video.thumbnails) for video in videos], pa.list_(pa.binary())),
        ],
        schema=THUMBNAIL_SCHEMA,
    )


def write_shard(corpus: Path, name: str, videos: pa.Table, thumbnails: pa.Table) -> dict[str, Any]:
    """Writes one shard and its thumbnails; returns the manifest's entry for it."""
    path = corpus / "shards" / name
    for target, table in ((corpus / "thumbnails" / name, thumbnails), (path, videos)):
        with (
            storage.atomic_path(target) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            for batch in table.combine_chunks().to_batches():
                writer.write_batch(batch)
    return {
        "file": name,
        "rows": len(videos),
        "bytes": path.stat().st_size,
        "crc32c": checksum(path),
    }


def read_shard(
    corpus: Path, name: str, frame_size: int, audio_size: int = 0
) -> tuple[pa.Table, pa.Table]:
    """Copies of a shard, with all columns, and of its thumbnails, in memory."""
    tables = []
    for folder in ("shards", "thumbnails"):
        with pa.OSFile(str(corpus / folder / name), "rb") as source:
            tables.append(pa.ipc.open_file(source).read_all())
    schema = corpus_schema(frame_size, audio_size)
    return conformed(tables[0], corpus / "shards" / name, schema), tables[1]


def has_width(corpus: Path, name: str, frame_size: int) -> bool:
    """Whether a shard's frames have this width; those from before the first frames have 1."""
    wanted = corpus_schema(frame_size).field("frames")
    with pa.OSFile(str(corpus / "shards" / name), "rb") as file:
        return bool(pa.ipc.open_file(file).schema.field("frames").equals(wanted))
