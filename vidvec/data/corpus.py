"""The corpus: videos on disk as Arrow IPC shards that are mapped, never loaded.

    CORPUS/
      manifest.json     shards with rows, bytes and checksums; tag vocabulary; encoders
      shards/*.arrow    one record batch each, uncompressed (columns: ``corpus_schema``)
      thumbnails/*.arrow  id and a few JPEG pictures of each video, beside the shard of that name
      tokenizer/        the corpus's own tokenizer
      tokens/           token ids by tokenizer, made when first asked for (a cache)
      pairs.parquet     id_1, id_2, score
      rejects.jsonl     what was left out, and why
      features/NAME/    frames of the same videos by other encoders (``features.py``)

Shards never change; the manifest names those that count, and is replaced whole. On object storage
(``s3://BUCKET/KEY``) the same lies under a key, and what is asked for is read by ranges
(``remote_shards.py``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vidvec import storage
from vidvec.data.features import FeatureSet, list_sets
from vidvec.data.frames import same_encoder
from vidvec.data.remote_shards import RemoteShard
from vidvec.data.shards import (
    THUMBNAIL_SCHEMA,
    Shard,
    check_sizes,
    checksum,
    corpus_schema,
    open_shard,
    open_table,
    read_shard,
    thumbnail_table,
    video_table,
    write_shard,
)
from vidvec.errors import FormatError, UsageError
from vidvec.records import Pair, Video

__all__ = [
    "KIND",
    "NO_AUDIO",
    "SHARD_BYTES",
    "THUMBNAIL_SCHEMA",
    "Corpus",
    "checksum",
    "corpus_schema",
    "iterate_texts",
    "read_shard",
    "thumbnail_table",
    "video_table",
    "write_shard",
]

KIND = "corpus"
SHARD_BYTES = 256 * 2**20
SHARDS_AT_ONCE = 8  # that are asked on object storage
# Identity of the audio encoder of a corpus without audio frames.
NO_AUDIO: dict[str, Any] = {"name": "none", "frame_size": 0}
Result = TypeVar("Result")


class Corpus:
    """An open corpus. Videos are numbered by row, 0 … ``len(corpus) - 1``, in the order they came.

    Args:
        path: The corpus folder, or its URL, ``s3://BUCKET/KEY``.
        unfinished: Open it although its ingest did not run to the end; it may lack a tokenizer.
        features: A feature set, whose frames are read in the place of the corpus's own.

    Raises:
        UsageError: There is no such feature set, or it lacks videos.
        FormatError: The folder is no corpus, is unfinished, or a shard is missing or short.
        StorageError: Object storage refuses, or fails after all retries.
    """

    def __init__(self, path: str | Path, *, unfinished: bool = False, features: str = "") -> None:
        self.path = storage.located(path)
        self.manifest = storage.read_manifest(self.path, KIND)
        if not (unfinished or self.complete):
            raise FormatError(f"{path} is unfinished: run its vidvec ingest again, it carries on")
        self.frame_encoder: dict[str, Any] = self.manifest["frame_encoder"]
        self.frame_size = int(self.frame_encoder["frame_size"])
        self.audio_encoder: dict[str, Any] = self.manifest.get("audio_encoder", NO_AUDIO)
        self.audio_size = int(self.audio_encoder["frame_size"])
        self._thumbnails: dict[int, pa.ChunkedArray | None] = {}
        self._shards = self._checked_shards()
        rows = [len(shard) for shard in self._shards]
        self._starts = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)]).astype(np.int64)
        self.features = features
        self._set = FeatureSet(self, features) if features else None
        if self._set is not None:
            self.frame_encoder = self._set.frame_encoder
            self.frame_size = int(self.frame_encoder["frame_size"])

    @property
    def feature_sets(self) -> dict[str, dict[str, Any]]:
        """Manifests of the feature sets by name: ``frame_encoder``, ``complete``, ``rejected``."""
        return list_sets(self.path)

    def with_frames_of(self, encoder: dict[str, Any]) -> Corpus:
        """This corpus with the frames of an encoder: its own or those of a complete feature set.

        Args:
            encoder: Identity of the encoder.

        Returns:
            The corpus as it is where it has no such frames.

        Raises:
            UsageError: The feature set lacks videos that came later.
        """
        if same_encoder(self.frame_encoder, encoder):
            return self
        if same_encoder(self.manifest["frame_encoder"], encoder):
            return Corpus(self.path)
        for name, manifest in self.feature_sets.items():
            if manifest["complete"] and same_encoder(manifest["frame_encoder"], encoder):
                return Corpus(self.path, features=name)
        return self

    @property
    def content(self) -> list[dict[str, Any]]:
        """Entries of the shards that are read: with other content, a run is another run."""
        own: list[dict[str, Any]] = self.manifest["shards"]
        own = [*own, {"gone": self.manifest["gone"]}] if self.gone.any() else own
        return own if self._set is None else [*own, *self._set.manifest["shards"]]

    def _checked_shards(self) -> list[Shard | RemoteShard]:
        folder, entries = self.path / "shards", self.manifest["shards"]
        check_sizes(folder, entries)
        if isinstance(folder, storage.S3Path):
            schema = corpus_schema(self.frame_size, self.audio_size)
            return [
                RemoteShard(folder / each["file"], each["bytes"], each["rows"], schema)
                for each in entries
            ]
        return [self._checked_shard(entry) for entry in entries]

    def _checked_shard(self, entry: dict[str, Any]) -> Shard:
        path = self.path / "shards" / entry["file"]
        shard = open_shard(path, self.frame_size, self.audio_size)
        if len(shard) != entry["rows"]:
            found = f"{len(shard)} rows"
            raise FormatError(f"shard {path} has {found}, the manifest says {entry['rows']}")
        return shard

    def _of_each(self, read: Callable[[Shard | RemoteShard], Result]) -> list[Result]:
        """What is read of each shard; on object storage, of several at once."""
        if not storage.is_remote(self.path):
            return [read(shard) for shard in self._shards]
        with ThreadPoolExecutor(SHARDS_AT_ONCE) as pool:
            return list(pool.map(read, self._shards))

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

        Without rows that are gone. A source is read folder by folder, so that the manifest need
        only count.
        """
        rows: dict[str, list[NDArray[np.int64]]] = {}
        start = 0
        for entry in self.manifest["ingests"]:
            end = start + entry["videos"]
            for part, count in entry.get("parts", {}).items():
                rows.setdefault(part, []).append(np.arange(start, start + count))
                start += count
            start = end
        joined = {part: np.concatenate(some) for part, some in rows.items() if part}
        return {part: some[~self.gone[some]] for part, some in joined.items()}

    @cached_property
    def gone(self) -> NDArray[np.bool_]:
        """(videos,) whether a video's source does not have it any more; see ``update.py``.

        Such rows stay, so that no other row changes its number; ``compact`` removes them.
        """
        gone = np.zeros(len(self), np.bool_)
        for first, count in self.manifest.get("gone", ()):
            gone[first : first + count] = True
        return gone

    @property
    def edition(self) -> str:
        """Names which videos are left, once any are gone or were removed; empty before.

        Rows are only ever added until then, so that their count says which they are.
        """
        facts = (self.manifest.get("gone", []), self.manifest.get("compacted", 0))
        if facts == ([], 0):
            return ""
        return hashlib.sha256(str(facts).encode()).hexdigest()[:12]

    @cached_property
    def live(self) -> NDArray[np.int64]:
        """(n,) int64 rows that are not gone, ascending."""
        return np.flatnonzero(~self.gone)

    def column(self, name: str) -> pa.ChunkedArray:
        """A whole column, mapped (by URL: in memory); one chunk a shard."""
        width = int(self.manifest["frame_encoder"]["frame_size"])
        chunks = self._of_each(lambda shard: shard.column(name))
        return pa.chunked_array(chunks, corpus_schema(width, self.audio_size).field(name).type)

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
        if self._set is not None:
            return self._set.frame_counts
        parts = self._of_each(lambda shard: np.diff(shard.frames.offsets).astype(np.int64))
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    @cached_property
    def audio_counts(self) -> NDArray[np.int64]:
        """(videos,) audio frames of each video."""
        parts = self._of_each(lambda shard: np.diff(shard.audio.offsets).astype(np.int64))
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def _place(self, row: int) -> tuple[Shard | RemoteShard, int]:
        """The shard that holds a row, and its row there."""
        index = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._shards[index], row - int(self._starts[index])

    def frames(self, row: int) -> NDArray[np.float16]:
        """(F, D) float16: a view of the mapped file; by URL, a copy of what is read."""
        if self._set is not None:
            return self._set.frames(row)
        shard, local = self._place(row)
        return shard.frames.of(local)

    def audio(self, row: int) -> NDArray[np.float16]:
        """(A, K) float16: as ``frames``."""
        shard, local = self._place(row)
        return shard.audio.of(local)

    def fetch(self, rows: NDArray[np.int64], *, audio: bool = False) -> None:
        """By URL, brings frames of (n,) rows, or audio frames, into the cache, side by side.

        So that many are not waited for one after the other. Mapped, nothing is done.
        """
        if not storage.is_remote(self.path):
            return
        if self._set is not None and not audio:
            self._set.fetch(rows)
            return
        places = np.searchsorted(self._starts, rows, side="right") - 1
        for index in np.unique(places).tolist():
            shard, local = self._shards[index], rows[places == index] - self._starts[index]
            (shard.audio if audio else shard.frames).fetch(local.tolist())

    def video(self, row: int) -> Video:
        """Everything about one video but its thumbnails."""
        shard, local = self._place(row)
        record = shard.record(local)
        tags = record.pop("tags")
        times = np.asarray(record.pop("frame_times_seconds"), np.float32)
        audio_times = np.asarray(record.pop("audio_times_seconds"), np.float32)
        if self._set is not None:
            times = self._set.times_seconds(row)
        return Video(
            **record,
            tags=None if tags is None else tuple(tags),
            frame_times_seconds=times,
            frames=self.frames(row),
            audio_times_seconds=audio_times,
            audio=self.audio(row),
        )

    def thumbnails(self, row: int) -> tuple[bytes, ...]:
        """JPEG pictures of a video in time order; empty where the source had no pictures."""
        index = int(np.searchsorted(self._starts, row, side="right")) - 1
        if index not in self._thumbnails:
            path = self.path / "thumbnails" / self.manifest["shards"][index]["file"]
            found = open_table(path).column("thumbnails") if path.is_file() else None
            self._thumbnails[index] = found
        column = self._thumbnails[index]
        return () if column is None else tuple(column[row - int(self._starts[index])].as_py())

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
        """Scored pairs, both videos in the corpus and not gone; empty where none came along."""
        path = self.path / "pairs.parquet"
        if not path.is_file():
            return []
        # A run killed between writing pairs and the manifest leaves more rows than count.
        columns = (
            pq.read_table(storage.local_file(path)).slice(0, self.manifest["pairs"]).to_pydict()
        )
        rows = zip(columns["id_1"], columns["id_2"], columns["score"], strict=True)
        pairs = [Pair(*row) for row in rows]
        if not self.gone.any() and "compacted" not in self.manifest:
            return pairs
        live = {self.ids[row] for row in self.live.tolist()}
        return [pair for pair in pairs if pair.id_1 in live and pair.id_2 in live]

    def verify(self) -> list[str]:
        """Names of the shards, feature sets' included, whose checksum is not the manifest's."""
        folders = {"": self.manifest["shards"]}
        for name, manifest in self.feature_sets.items():
            folders[f"features/{name}/shards/"] = manifest["shards"]
        return [
            folder + entry["file"]
            for folder, entries in folders.items()
            for entry in entries
            if _checksum_of(self.path / (folder or "shards/") / entry["file"]) != entry["crc32c"]
        ]


def _checksum_of(path: Path) -> str:
    """A file's checksum; empty where the file is missing."""
    return checksum(path) if path.is_file() else ""


def iterate_texts(corpus: Corpus) -> Iterator[str]:
    """Titles in row order, then what is said and what is written in the picture, where known."""
    for name in ("title", "speech_text", "screen_text"):
        for chunk in corpus.column(name).chunks:
            yield from (text for text in chunk.to_pylist() if text or name == "title")
