"""Writing a feature set: in parts that survive a kill, joined into shards of fixed length."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidvec import storage
from vidvec.data.corpus import checksum
from vidvec.data.features import KIND, feature_schema, set_folder, shard_keys
from vidvec.data.frames import describe, difference, same_encoder
from vidvec.errors import UsageError
from vidvec.records import Reject

COMMIT_SECONDS = 20.0
# Videos a shard: with 32 frames of 1536 numbers each, 200 MB.
SHARD_VIDEOS = 2048


@dataclass(frozen=True, slots=True)
class Encoded:
    """One video's row of a feature set.

    Attributes:
        key: Id and stamp of the video.
        times_seconds: (F,) float32.
        frames: (F, D) float16; F is 0 where ``reject`` says why, or the video has no file.
        reject: Why there are no frames.
        has_file: Whether the corpus names a file of the video.
    """

    key: tuple[str, str]
    times_seconds: NDArray[np.float32]
    frames: NDArray[np.float16]
    reject: Reject | None = None
    has_file: bool = True


class FeatureWriter:
    """Appends to a feature set, new or there already.

    The set's bytes depend only on what is added and in which order, not on when it was committed
    or stopped: shards hold ``SHARD_VIDEOS`` videos, and a part is joined to those before it.

    Args:
        corpus: The corpus folder.
        name: Of the set.
        restart: Throw away what the set has.

    Attributes:
        manifest: What the set's manifest says with the next commit.
    """

    def __init__(self, corpus: Path, name: str, *, restart: bool = False) -> None:
        self.path = set_folder(corpus, name)
        if restart and (self.path / storage.MANIFEST).is_file():
            shutil.rmtree(self.path)
        self._shards = self.path / "shards"
        if (self.path / storage.MANIFEST).is_file():
            self.manifest = storage.read_manifest(self.path, KIND)
            del self.manifest["kind"], self.manifest["format_version"]
            self._clean()
        elif self.path.is_dir() and any(self.path.iterdir()):
            raise UsageError(f"{self.path} is not empty and no feature set: give another --name")
        else:
            self.manifest = {
                "frame_encoder": {"name": "none", "frame_size": 0},
                "made_with": {},
                "shards": [],
                "without_file": 0,
                "rejected": {},
                "rejects_bytes": 0,
                "complete": False,
            }
        self._pending: list[Encoded] = []
        self._committed = time.monotonic()

    def _clean(self) -> None:
        storage.remove_leftovers(self.path)
        self._shards.mkdir(parents=True, exist_ok=True)
        storage.remove_leftovers(self._shards)
        listed = {entry["file"] for entry in self.manifest["shards"]}
        for shard in self._shards.iterdir():
            if shard.name not in listed:
                shard.unlink()
        with (self.path / "rejects.jsonl").open("ab") as file:
            if file.tell() > self.manifest["rejects_bytes"]:
                file.truncate(self.manifest["rejects_bytes"])

    def keys(self) -> set[tuple[str, str]]:
        """Id and stamp of the videos that are in the set."""
        return {key for entry in self.manifest["shards"] for key in shard_keys(self._read(entry))}

    def check_encoder(self, identity: dict[str, Any]) -> None:
        """Refuses to mix the features of two encoders in one set."""
        held = self.manifest["frame_encoder"]
        if held["name"] != "none" and not same_encoder(held, identity):
            raise UsageError(
                f"feature set {self.path} holds frames of {describe(held)}; frames of "
                f"{describe(identity)} cannot join them{difference(held, identity)}: use the same "
                "encoder and options, or give another --name"
            )

    def begin(self, identity: dict[str, Any], made_with: dict[str, Any]) -> None:
        """Makes the set an unfinished one, to which features are added.

        Args:
            identity: Of the frame encoder.
            made_with: What opens it again.
        """
        if self.manifest["frame_encoder"]["name"] == "none":
            self.manifest |= {"frame_encoder": identity, "made_with": made_with}
        self.manifest["complete"] = False
        self._shards.mkdir(parents=True, exist_ok=True)
        self._write_manifest()

    def add(self, rows: Sequence[Encoded]) -> None:
        """Takes videos that were encoded together; a commit is before or after all of them."""
        self._pending += rows
        self.manifest["without_file"] += sum(not row.has_file for row in rows)
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def finish(self) -> None:
        """Commits what is left, joins the last parts and declares the set complete."""
        self.commit()
        self._join(last=True)
        self.manifest["complete"] = True
        self._write_manifest()

    def commit(self) -> None:
        """Makes everything added so far permanent."""
        entries = self.manifest["shards"]
        if self._pending:
            table = self._table(self._pending)
            start = sum(entry["rows"] for entry in entries)
            # Filled up to the next whole shard, so that parts never lie across two.
            for first, length in _cuts(start, len(table)):
                part = table.slice(first, length)
                entries.append(self._write_shard(start + first, part))
            self._write_rejects()
            self._pending = []
        self._write_manifest()
        self._join(last=False)
        self._committed = time.monotonic()

    def _join(self, *, last: bool) -> None:
        """Joins the parts of each whole shard; ``last``: of the one that is not, too."""
        groups: dict[int, list[dict[str, Any]]] = {}
        start = 0
        for entry in self.manifest["shards"]:
            groups.setdefault(start // SHARD_VIDEOS, []).append(entry)
            start += entry["rows"]
        joined = []
        for number, group in groups.items():
            rows = sum(entry["rows"] for entry in group)
            if len(group) > 1 and (rows == SHARD_VIDEOS or last):
                tables = [pa.Table.from_batches([self._read(entry)]) for entry in group]
                table = pa.concat_tables(tables).combine_chunks()
                joined.append(self._write_shard(number * SHARD_VIDEOS, table))
            else:
                joined += group
        if joined != self.manifest["shards"]:
            self.manifest["shards"] = joined
            self._write_manifest()
            self._clean()

    def _table(self, rows: Sequence[Encoded]) -> pa.Table:
        width = self.manifest["frame_encoder"]["frame_size"]
        frames = np.concatenate([np.zeros((0, width), np.float16), *(row.frames for row in rows)])
        times = np.concatenate([np.zeros(0, np.float32), *(row.times_seconds for row in rows)])
        counts = [len(row.frames) for row in rows]
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
        features = pa.FixedSizeListArray.from_arrays(pa.array(frames.reshape(-1)), width)
        columns = [
            pa.array([row.key[0] for row in rows], pa.string()),
            pa.array([row.key[1] for row in rows], pa.string()),
            pa.ListArray.from_arrays(offsets, pa.array(times)),
            pa.ListArray.from_arrays(offsets, features),
        ]
        return pa.Table.from_arrays(columns, schema=feature_schema(width))

    def _write_shard(self, start: int, table: pa.Table) -> dict[str, Any]:
        # A slice keeps the offsets and values of the whole: taken anew, it has its own.
        [batch] = table.take(pa.array(np.arange(len(table)))).combine_chunks().to_batches()
        path = self._shards / f"{start:09d}-{start + len(table):09d}.arrow"
        with (
            storage.atomic_path(path) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, batch.schema) as writer,
        ):
            writer.write_batch(batch)
        size = path.stat().st_size
        return {"file": path.name, "rows": len(batch), "bytes": size, "crc32c": checksum(path)}

    def _read(self, entry: dict[str, Any]) -> pa.RecordBatch:
        with pa.OSFile(str(self._shards / entry["file"]), "rb") as source:
            return pa.ipc.open_file(source).get_batch(0)

    def _write_rejects(self) -> None:
        counts = self.manifest["rejected"]
        rejects = [row.reject for row in self._pending if row.reject is not None]
        path = self.path / "rejects.jsonl"
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            for reject in rejects:
                counts[reject.reason] = counts.get(reject.reason, 0) + 1
                file.write(json.dumps(asdict(reject), ensure_ascii=False) + "\n")

    def _write_manifest(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "rejects.jsonl").open("ab") as file:
            os.fsync(file.fileno())
            self.manifest["rejects_bytes"] = file.tell()
        storage.write_manifest(self.path, KIND, **self.manifest)


def _cuts(start: int, rows: int) -> list[tuple[int, int]]:
    """Where rows that follow ``start`` others are cut at whole shards: first and length of each."""
    cuts = []
    first = 0
    while first < rows:
        length = min(rows - first, SHARD_VIDEOS - (start + first) % SHARD_VIDEOS)
        cuts.append((first, length))
        first += length
    return cuts
