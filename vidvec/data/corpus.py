"""The corpus: videos on disk as Arrow IPC shards that are mapped, never loaded.

    CORPUS/
      manifest.json     shards with rows, bytes and checksums; tag vocabulary; frame encoder
      shards/*.arrow    one record batch each, uncompressed (columns: ``corpus_schema``)
      thumbnails/*.arrow  id and a few JPEG pictures of each video, beside the shard of that name
      tokenizer/        the corpus's own tokenizer
      tokens/           token ids by tokenizer, made when first asked for (a cache)
      pairs.parquet     id_1, id_2, score
      rejects.jsonl     what was left out, and why

Shards never change; the manifest names those that count, and is replaced whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vidvec import storage
from vidvec.errors import FormatError, UsageError
from vidvec.records import Pair, Video

KIND = "corpus"
SHARD_BYTES = 256 * 2**20


def corpus_schema(frame_size: int) -> pa.Schema:
    """Columns of a shard; ``frames`` is a list of fixed-size lists of ``frame_size`` float16."""
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
            ("frame_times_seconds", pa.list_(pa.float32())),
            ("frames", pa.list_(pa.list_(pa.float16(), max(1, frame_size)))),
        ]
    )


THUMBNAIL_SCHEMA = pa.schema([("id", pa.string()), ("thumbnails", pa.list_(pa.binary()))])


@dataclass(frozen=True, slots=True)
class _Shard:
    """A mapped shard: ``table`` with one chunk, and views of its frame column."""

    table: pa.Table
    frames: NDArray[np.float16]  # (ΣF, D)
    offsets: NDArray[np.int32]  # (rows + 1,), in frames


def _open_table(path: Path) -> pa.Table:
    """A mapped Arrow file whose offsets and texts are sound: a bad offset ends the process."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        table.validate(full=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise FormatError(f"shard {path} cannot be opened: {error}") from None
    return table


def _open_shard(path: Path, frame_size: int) -> _Shard:
    table = _open_table(path)
    fits = table.schema.equals(corpus_schema(frame_size))
    if not fits and not table.schema.equals(corpus_schema(0)):
        raise FormatError(f"shard {path} has other columns than those of a corpus")
    column = _one_array(table.column("frames"))
    if not fits and len(column.values):  # shards from before the first frames came have no width
        raise FormatError(f"shard {path} does not have frames of {frame_size} numbers")
    offsets = column.offsets.to_numpy()
    values = column.values.values.to_numpy(zero_copy_only=True)
    return _Shard(table, values.reshape(-1, max(1, frame_size)), offsets)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array. A shard has one chunk, which is taken as it is: joining copies."""
    if column.num_chunks == 1:
        return column.chunk(0)
    joined = column.combine_chunks()
    return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined


def checksum(path: Path) -> str:
    """CRC-32C of a file, as eight hex digits."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(2**22):
            crc = google_crc32c.extend(crc, block)
    return f"{crc:08x}"


class Corpus:
    """An open corpus. Videos are numbered by row, 0 … ``len(corpus) - 1``, in the order they came.

    Args:
        path: The corpus folder.
        unfinished: Open it although its ingest did not run to the end; it may lack a tokenizer.

    Raises:
        FormatError: The folder is no corpus, is unfinished, or a shard is missing or short.
    """

    def __init__(self, path: str | Path, *, unfinished: bool = False) -> None:
        self.path = Path(path)
        self.manifest = storage.read_manifest(self.path, KIND)
        if not (unfinished or self.complete):
            raise FormatError(f"{path} is unfinished: run its vidvec ingest again, it carries on")
        self.frame_encoder: dict[str, Any] = self.manifest["frame_encoder"]
        self.frame_size = int(self.frame_encoder["frame_size"])
        self._shards: list[_Shard] = []
        for entry in self.manifest["shards"]:
            self._shards.append(self._checked_shard(entry))
        rows = [len(shard.table) for shard in self._shards]
        self._starts = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)]).astype(np.int64)

    def _checked_shard(self, entry: dict[str, Any]) -> _Shard:
        path = self.path / "shards" / entry["file"]
        size = path.stat().st_size if path.is_file() else None
        if size != entry["bytes"]:
            found = "missing" if size is None else f"{size} bytes"
            raise FormatError(f"shard {path} is {found}, the manifest says {entry['bytes']} bytes")
        shard = _open_shard(path, self.frame_size)
        if len(shard.table) != entry["rows"]:
            found = f"{len(shard.table)} rows"
            raise FormatError(f"shard {path} has {found}, the manifest says {entry['rows']}")
        return shard

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __repr__(self) -> str:
        encoder = self.frame_encoder["name"]
        return f"Corpus({str(self.path)!r}, {len(self)} videos, frames {encoder}×{self.frame_size})"

    @property
    def complete(self) -> bool:
        """Whether the last ingest ran to its end."""
        return all(entry["complete"] for entry in self.manifest["ingests"])

    @property
    def tag_vocabulary(self) -> list[str]:
        """Tags that the tag objective knows; a tag's position here is its class."""
        return list(self.manifest["tag_vocabulary"])

    @property
    def parts(self) -> dict[str, NDArray[np.int64]]:
        """Rows (videos,) int64 by the folder of the source that they come from, where it has any.

        A source is read folder by folder, so that the manifest need only count.
        """
        rows: dict[str, list[NDArray[np.int64]]] = {}
        start = 0
        for entry in self.manifest["ingests"]:
            end = start + entry["videos"]
            for part, count in entry.get("parts", {}).items():
                rows.setdefault(part, []).append(np.arange(start, start + count))
                start += count
            start = end
        return {part: np.concatenate(some) for part, some in rows.items() if part}

    def column(self, name: str) -> pa.ChunkedArray:
        """A whole column, mapped; one chunk a shard."""
        if not self._shards:
            return pa.chunked_array([], corpus_schema(self.frame_size).field(name).type)
        return pa.chunked_array(
            [chunk for shard in self._shards for chunk in shard.table.column(name).chunks],
            corpus_schema(self.frame_size).field(name).type if name != "frames" else None,
        )

    @cached_property
    def ids(self) -> list[str]:
        """Ids in row order."""
        return list(self.column("id").to_pylist())

    @cached_property
    def _row_of_id(self) -> dict[str, int]:
        return {video_id: row for row, video_id in enumerate(self.ids)}

    def row(self, video_id: str) -> int:
        """The row of a video.

        Raises:
            UsageError: No video has this id.
        """
        try:
            return self._row_of_id[video_id]
        except KeyError:
            raise UsageError(f"no video {video_id!r} in {self.path}") from None

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._row_of_id

    @cached_property
    def frame_counts(self) -> NDArray[np.int64]:
        """(videos,) frames of each video."""
        parts = [np.diff(shard.offsets).astype(np.int64) for shard in self._shards]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def frames(self, row: int) -> NDArray[np.float16]:
        """(F, D) float16: a view of the mapped file, not a copy."""
        index = int(np.searchsorted(self._starts, row, side="right")) - 1
        shard = self._shards[index]
        local = row - int(self._starts[index])
        return shard.frames[shard.offsets[local] : shard.offsets[local + 1]]

    def video(self, row: int) -> Video:
        """Everything about one video but its thumbnails."""
        index = int(np.searchsorted(self._starts, row, side="right")) - 1
        values = self._shards[index].table.slice(row - int(self._starts[index]), 1)
        record = values.drop_columns(["frames"]).to_pylist()[0]
        tags = record.pop("tags")
        times = np.asarray(record.pop("frame_times_seconds"), np.float32)
        return Video(
            **record,
            tags=None if tags is None else tuple(tags),
            frame_times_seconds=times,
            frames=self.frames(row),
        )

    def thumbnails(self, row: int) -> tuple[bytes, ...]:
        """JPEG pictures of a video in time order; empty where the source had no pictures."""
        index = int(np.searchsorted(self._starts, row, side="right")) - 1
        path = self.path / "thumbnails" / self.manifest["shards"][index]["file"]
        if not path.is_file():
            return ()
        column = _open_table(path).column("thumbnails")
        return tuple(column[row - int(self._starts[index])].as_py())

    def tag_positions(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Every video's tags as positions in the vocabulary; tags outside it are left out.

        Returns:
            Positions (Σtags,) int64, and counts (videos,) int64 with −1 where never tagged.
        """
        column = self.column("tags").combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        vocabulary = pa.array(self.tag_vocabulary, pa.string())
        found = pc.index_in(column.flatten(), value_set=vocabulary)
        parents = pc.list_parent_indices(column).to_numpy()
        known = found.is_valid().to_numpy(zero_copy_only=False)
        counts = np.bincount(parents[known], minlength=len(self)).astype(np.int64)
        counts[column.is_null().to_numpy(zero_copy_only=False)] = -1
        return found.drop_null().to_numpy().astype(np.int64), counts

    def pairs(self) -> list[Pair]:
        """Scored pairs, both videos in the corpus; empty where none came along."""
        path = self.path / "pairs.parquet"
        if not path.is_file():
            return []
        # A run killed between writing pairs and the manifest leaves more rows than count.
        columns = pq.read_table(path).slice(0, self.manifest["pairs"]).to_pydict()
        rows = zip(columns["id_1"], columns["id_2"], columns["score"], strict=True)
        return [Pair(*row) for row in rows]

    def verify(self) -> list[str]:
        """Names of the shards whose checksum is not the manifest's."""
        return [
            entry["file"]
            for entry in self.manifest["shards"]
            if checksum(self.path / "shards" / entry["file"]) != entry["crc32c"]
        ]


def video_table(videos: Sequence[Video], frame_size: int) -> pa.Table:
    """Videos as one record batch of the corpus's schema, in contiguous memory."""
    schema = corpus_schema(frame_size)
    counts = [len(video.frames) for video in videos]
    stacked = [video.frames.astype(np.float16, copy=False) for video in videos if len(video.frames)]
    width = max(1, frame_size)
    flat = np.concatenate(stacked) if stacked else np.zeros((0, width), np.float16)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    rows = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), width)
    columns: list[pa.Array] = []
    for field in schema:
        if field.name == "frames":
            columns.append(pa.ListArray.from_arrays(offsets, rows))
        else:
            values = [getattr(video, field.name) for video in videos]
            columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


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


def thumbnail_table(videos: Sequence[Video]) -> pa.Table:
    """Ids and thumbnails of videos, in order."""
    return pa.Table.from_arrays(
        [
            pa.array([video.id for video in videos], pa.string()),
            pa.array([list(video.thumbnails) for video in videos], pa.list_(pa.binary())),
        ],
        schema=THUMBNAIL_SCHEMA,
    )


def read_shard(corpus: Path, name: str, frame_size: int) -> tuple[pa.Table, pa.Table]:
    """Copies of a shard and of its thumbnails, in memory.

    Where the shard is from before the first frames came, its empty frames get ``frame_size``.
    """
    tables = []
    for folder in ("shards", "thumbnails"):
        with pa.OSFile(str(corpus / folder / name), "rb") as source:
            tables.append(pa.ipc.open_file(source).read_all())
    schema = corpus_schema(frame_size)
    if not tables[0].schema.equals(schema):
        place = schema.get_field_index("frames")
        empty = pa.array([[]] * len(tables[0]), schema.field(place).type)
        tables[0] = tables[0].set_column(place, schema.field(place), empty)
    return tables[0], tables[1]


def iterate_titles(corpus: Corpus) -> Iterator[str]:
    """Titles in row order."""
    for chunk in corpus.column("title").chunks:
        yield from chunk.to_pylist()
