"""Vectors on disk: Arrow shards of id and vector, in corpus order.

    VECTORS/
      manifest.json     shards, dimension, dtype, whether normalised, what made them
      shards/*.arrow    columns id and vector, a fixed-size list (see ``dtypes``)

The manifest names the shards that count and is replaced whole after each, so a killed run loses at
most the shard it was at. On object storage (``s3://BUCKET/KEY``) the same lies under a key; shards
are copied into the cache to be read, and mapped there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidvec import storage
from vidvec.embed.dtypes import Dtype, check_dtype, column_type, decode, encode
from vidvec.errors import FormatError, StorageError, UsageError

KIND = "vectors"
SHARD_ROWS = 65_536


def _schema(dimension: int, dtype: Dtype) -> pa.Schema:
    return pa.schema([("id", pa.string()), ("vector", column_type(dimension, dtype))])


def origin(made_by: dict[str, Any]) -> dict[str, Any]:
    """What made vectors before they were compressed: ``made_by`` of the first of them."""
    while made_by.get("stage") == "compress":
        made_by = made_by["made_of"]
    return made_by


class VectorWriter:
    """Appends shards to a folder of vectors, or carries on with one that was stopped.

    Args:
        path: The folder, or its URL.
        dimension: E.
        facts: What made the vectors (``made_by`` and such); must be the same to carry on. With
            ``dtype``, that is what is kept of them; without, float32.

    Raises:
        UsageError: The folder holds vectors that something else made.
        StorageError: Object storage refuses, or fails after all retries; so does ``append``.
    """

    def __init__(self, path: Path, dimension: int, facts: dict[str, Any]) -> None:
        path = storage.located(path)
        self.path, self._dimension = path, dimension
        self._dtype = check_dtype(facts.get("dtype", "float32"))
        (path / "shards").mkdir(parents=True, exist_ok=True)
        storage.remove_leftovers(path / "shards")
        self._manifest = {"dimension": dimension, "complete": False, "shards": [], **facts}
        if (path / storage.MANIFEST).is_file():
            held = storage.read_manifest(path, KIND)
            if {key: held.get(key) for key in facts} != facts or held["dimension"] != dimension:
                raise UsageError(
                    f"{path} holds vectors of {held['dimension']} numbers made by "
                    f"{held.get('made_by')}; these would be of {dimension} numbers made by "
                    f"{facts.get('made_by')}: give a new folder, or delete that one"
                )
            self._manifest |= {key: held[key] for key in ("shards", "complete")}

    @property
    def rows(self) -> int:
        """Vectors committed so far."""
        return sum(entry["rows"] for entry in self._manifest["shards"])

    @property
    def complete(self) -> bool:
        """Whether all vectors are there."""
        return bool(self._manifest["complete"])

    def append(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Commits one shard: (n,) ids and (n, E) vectors."""
        name = f"{len(self._manifest['shards']):06d}.arrow"
        schema = _schema(self._dimension, self._dtype)
        flat = pa.array(encode(vectors, self._dtype).reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, type=schema.field("vector").type)
        batch = pa.record_batch([pa.array(ids, pa.string()), column], schema=schema)
        with (
            storage.atomic_path(self.path / "shards" / name) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, batch.schema) as writer,
        ):
            writer.write_batch(batch)
        self._manifest["shards"].append({"file": name, "rows": len(ids)})
        self._write()

    def finish(self, **facts: Any) -> None:
        """Marks the vectors as complete; with facts that are known only at the end."""
        self._manifest |= {**facts, "complete": True}
        self._write()

    def _write(self) -> None:
        storage.write_manifest(self.path, KIND, **self._manifest)


class Vectors:
    """An open folder of vectors, mapped.

    Args:
        path: The folder, or its URL.

    Raises:
        FormatError: It is none, is unfinished, or a shard is damaged.
        StorageError: Object storage refuses, or fails after all retries.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = storage.located(path)
        self.manifest = storage.read_manifest(self.path, KIND)
        if not self.manifest["complete"]:
            raise FormatError(f"{path} is unfinished: run the command that makes it again")
        self.dimension = int(self.manifest["dimension"])
        self.dtype = check_dtype(self.manifest.get("dtype", "float32"))
        self.normalised = bool(self.manifest["normalised"])
        self._tables = [self._open(entry) for entry in self.manifest["shards"]]

    def _open(self, entry: dict[str, Any]) -> pa.Table:
        path = self.path / "shards" / entry["file"]
        try:
            table = pa.ipc.open_file(storage.mapped(path)).read_all()
            table.validate(full=True)  # a bad offset would end the process
        except StorageError:
            raise
        except (OSError, ValueError, pa.ArrowException) as error:
            raise FormatError(f"shard {path} cannot be opened: {error}") from None
        if not table.schema.equals(_schema(self.dimension, self.dtype)):
            kind = "" if self.dtype == "float32" else f" in {self.dtype}"
            raise FormatError(
                f"shard {path} does not hold vectors of {self.dimension} numbers{kind}"
            )
        if len(table) != entry["rows"]:
            raise FormatError(f"shard {path} has {len(table)} rows, expected {entry['rows']}")
        return table

    def __len__(self) -> int:
        return sum(len(table) for table in self._tables)

    def __repr__(self) -> str:
        kind = "" if self.dtype == "float32" else f" {self.dtype}"
        return f"Vectors({str(self.path)!r}, {len(self)} × {self.dimension}{kind})"

    @cached_property
    def ids(self) -> list[str]:
        """Ids in order."""
        return [video for table in self._tables for video in table.column("id").to_pylist()]

    @cached_property
    def _row_of_id(self) -> dict[str, int]:
        return {video: row for row, video in enumerate(self.ids)}

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._row_of_id

    def row(self, video_id: str) -> int:
        """The row of a video.

        Raises:
            UsageError: No vector has this id.
        """
        try:
            return self._row_of_id[video_id]
        except KeyError:
            raise UsageError(f"no vector for video {video_id!r} in {self.path}") from None

    def shards(self) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Ids and (n, E) vectors, shard by shard; of float32, views of the mapped files."""
        for table, kept in zip(self._tables, self.kept_shards(), strict=True):
            yield table.column("id").to_pylist(), self.decode(kept)

    def kept_shards(self) -> Iterator[NDArray[Any]]:
        """(n, W) what is kept of the vectors, shard by shard: views of the mapped files."""
        for table in self._tables:
            column = table.column("vector")
            # Combining would copy, even a single chunk.
            chunk = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
            flat = chunk.values.to_numpy(zero_copy_only=True)
            yield flat.reshape(-1, column.type.list_size)

    def decode(self, kept: NDArray[Any]) -> NDArray[np.float32]:
        """(n, E) vectors from (n, W) of what is kept of them."""
        return decode(kept, self.dtype, self.dimension)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, E) vectors of (n,) rows; of a mapped file only these are read."""
        found = np.empty((len(rows), self.dimension), np.float32)
        kept, starts = self._mapped
        shards = np.searchsorted(starts, rows, side="right") - 1
        for shard in np.unique(shards).tolist():
            mine = shards == shard
            found[mine] = self.decode(kept[shard][rows[mine] - starts[shard]])
        return found

    @cached_property
    def _mapped(self) -> tuple[list[NDArray[Any]], NDArray[np.int64]]:
        """What is kept, by shard, and the row that each shard begins with, and their end."""
        kept = list(self.kept_shards())
        return kept, np.cumsum([0, *map(len, kept)], dtype=np.int64)

    @cached_property
    def matrix(self) -> NDArray[np.float32]:
        """(videos, E) float32, all in memory."""
        empty = np.zeros((0, self.dimension), np.float32)
        return np.concatenate([empty, *(vectors for _, vectors in self.shards())])
