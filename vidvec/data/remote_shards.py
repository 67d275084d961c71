"""Shards on object storage: columns and rows are read by ranges, when they are asked for.

The reader of Arrow takes the columns that are wanted and no more. For features, of which single
rows are wanted, it says where their numbers lie: it is shown the shard's head and foot in memory of
the shard's size, of which the rest is never touched, and the addresses of the arrays that it gives
back are their places in the file.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidvec.data.shards import FEATURES, LATER_COLUMNS, conformed, empty_column, one_array
from vidvec.errors import FormatError, VidvecError
from vidvec.storage.location import S3Path
from vidvec.storage.ranges import RangeReader, RemoteFile

_MAGIC, _CONTINUES = b"ARROW1", 0xFFFFFFFF
_HEAD = 8  # the magic, padded
_FOOT = 10  # the footer's length and the magic
_ITEM = 2  # bytes of a float16


@dataclass(frozen=True, slots=True)
class RemoteFeatures:
    """A column of features; as ``shards.Features``, but rows are read, and are copies.

    Attributes:
        file: The shard.
        start: Where the numbers of all rows begin in it.
        width: Numbers of each feature.
        offsets: (rows + 1,) int32, where each row's begin.
    """

    file: RemoteFile
    start: int
    width: int
    offsets: NDArray[np.int32]

    def span(self, row: int) -> tuple[int, int]:
        """The range of the file that a row's numbers are in."""
        size = self.width * _ITEM
        return (
            self.start + int(self.offsets[row]) * size,
            self.start + int(self.offsets[row + 1]) * size,
        )

    def of(self, row: int) -> NDArray[np.float16]:
        """(count, width) float16 of one row."""
        data = self.file.read(*self.span(row))
        return np.frombuffer(data, np.float16).reshape(-1, self.width)

    def fetch(self, rows: Iterable[int]) -> None:
        """Brings rows into the cache, side by side."""
        self.file.fetch(self.span(row) for row in rows)


class RemoteShard:
    """A shard by URL; as ``shards.Shard``. Nothing is read before it is asked for.

    Args:
        path: The shard's.
        size: Its bytes, by the manifest.
        rows: Its rows, by the manifest.
        schema: Its columns; of those that came later it may lack some.

    Raises, when read:
        FormatError: It is missing, damaged, was changed, or has other columns.
        StorageError: The storage refuses, or fails after all retries.
    """

    def __init__(self, path: S3Path, size: int, rows: int, schema: pa.Schema) -> None:
        self.path, self.rows, self.schema = path, rows, schema
        self._file = RemoteFile(path, size)
        self._columns: dict[str, pa.Array] = {}

    def __len__(self) -> int:
        return self.rows

    def column(self, name: str) -> pa.Array:
        """A column, in memory; read once."""
        if name not in self._columns:
            self._columns[name] = self._read(name)
        return self._columns[name]

    def record(self, row: int) -> dict[str, Any]:
        """All columns of a row but features."""
        names = [name for name in self.schema.names if name not in FEATURES]
        return {name: self.column(name)[row].as_py() for name in names}

    @cached_property
    def frames(self) -> RemoteFeatures:
        """The column ``frames``."""
        return self._features("frames")

    @cached_property
    def audio(self) -> RemoteFeatures:
        """The column ``audio``."""
        return self._features("audio")

    def _read(self, name: str) -> pa.Array:
        """A column; one that came later is empty in a shard from before."""
        field = self.schema.field(name)
        try:
            held = self._reader().schema.names
            if name not in held and name in LATER_COLUMNS:
                return empty_column(field.type, self.rows)
            table = self._reader([held.index(name)] if name in held else [0]).read_all()
            table.validate(full=True)  # a bad offset would end the process
        except VidvecError:
            raise
        except (OSError, ValueError, pa.ArrowException) as error:
            raise _damaged(self.path, error) from None
        if len(table) != self.rows:
            raise FormatError(
                f"shard {self.path} has {len(table)} rows, the manifest says {self.rows}"
            )
        return one_array(conformed(table, self.path, pa.schema([field])).column(0))

    def _reader(self, places: Sequence[int] | None = None) -> Any:
        """The shard as Arrow reads it: of its columns only those at these places."""
        options = pa.ipc.IpcReadOptions(included_fields=None if places is None else list(places))
        file = pa.PythonFile(RangeReader(self._file), mode="r")
        return pa.ipc.open_file(file, options=options)

    def _features(self, name: str) -> RemoteFeatures:
        width = self.schema.field(name).type.value_type.list_size
        none = RemoteFeatures(self._file, 0, width, np.zeros(self.rows + 1, np.int32))
        if not self.rows:
            return none
        try:
            found = _laid_out(self._file, name, self.rows)
        except VidvecError:
            raise
        except (OSError, ValueError, struct.error, pa.ArrowException) as error:
            raise _damaged(self.path, error) from None
        if found is None and name not in LATER_COLUMNS:
            raise FormatError(f"shard {self.path} has no column {name}")
        if found is None or (found.width != width and not found.offsets[-1]):
            return none
        if found.width != width:
            raise FormatError(
                f"shard {self.path} has other columns than those of its corpus: {name} of "
                f"{found.width} numbers, expected {width}"
            )
        return found


def _damaged(path: S3Path, error: Exception) -> FormatError:
    return FormatError(f"shard {path} cannot be opened: {error}")


def _laid_out(file: RemoteFile, name: str, rows: int) -> RemoteFeatures | None:
    """Where a column of features lies in a shard; ``None`` where it has none of this name."""
    memory = mmap.mmap(-1, max(file.size, mmap.PAGESIZE), flags=_LAZY)
    head = _head(file)
    memory[: len(head)] = head
    tail = file.read(file.size - _FOOT, file.size)
    (length,) = struct.unpack_from("<i", tail)
    if tail[4:] != _MAGIC or not 0 < length < file.size - _FOOT:
        raise ValueError("it is no Arrow file")
    foot = file.size - _FOOT - length
    memory[foot : file.size] = file.read(foot, file.size)
    buffer = pa.py_buffer(memoryview(memory)[: file.size])
    reader = pa.ipc.open_file(pa.BufferReader(buffer))
    if reader.num_record_batches != 1:
        raise ValueError(f"{reader.num_record_batches} record batches, expected one")
    batch = reader.get_batch(0)
    if batch.num_rows != rows:
        raise ValueError(f"{batch.num_rows} rows, the manifest says {rows}")
    if name not in batch.schema.names:
        return None
    column = batch.column(name)
    kind = column.type
    if not pa.types.is_list(kind) or not pa.types.is_fixed_size_list(kind.value_type):
        raise ValueError(f"{name} is a {kind}")
    width = kind.value_type.list_size
    place, numbers = column.buffers()[1], column.buffers()[-1]
    if place is None or numbers is None:
        return RemoteFeatures(file, 0, width, np.zeros(rows + 1, np.int32))
    at = place.address - buffer.address
    offsets = np.frombuffer(file.read(at, at + 4 * (rows + 1)), np.int32)
    start, room = numbers.address - buffer.address, numbers.size // (width * _ITEM)
    if offsets[0] < 0 or (np.diff(offsets) < 0).any() or offsets[-1] > room:
        raise ValueError(f"offsets of {name} are damaged")
    return RemoteFeatures(file, start, width, offsets)


# Private pages that no memory is set aside for until they are written to.
_LAZY = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE of Linux


def _head(file: RemoteFile) -> bytes:
    """The bytes before the body: schema and record batch, each with its length before it."""
    end = _HEAD
    for _ in range(2):
        mark, length = struct.unpack("<Ii", file.read(end, end + 8))
        if mark != _CONTINUES or not 0 < length < file.size:
            raise ValueError("it is no Arrow file")
        end += 8 + length
    return file.read(0, end)
