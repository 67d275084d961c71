"""Appending to a corpus: shards, rejects, manifest; committed so that a kill loses little."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vidvec import storage
from vidvec.data import corpus as store
from vidvec.data.sources import Source
from vidvec.errors import UsageError
from vidvec.records import Pair, Reject, Video

COMMIT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Processed:
    """A video with its frames, and whether they were made here by the frame encoder.

    Attributes:
        where: Its place in the source, for a reject.
        video: The video.
        encoded: Made here by the frame encoder; else they came with the source.
        part: The source's folder that it comes from.
    """

    where: str
    video: Video
    encoded: bool
    part: str = ""


class CorpusWriter:
    """Appends to a corpus and commits it, by shard and every ``COMMIT_SECONDS``.

    Attributes:
        path: The corpus folder.
        manifest: What the corpus's manifest says with the next commit.
        entry: The manifest's entry of this source.

    Raises:
        UsageError: The folder holds something else, or another source's unfinished ingest.
    """

    def __init__(self, path: Path, source: Source) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        if (path / storage.MANIFEST).is_file():
            self.manifest = storage.read_manifest(path, store.KIND)
            self.entry = _entry_for(self.manifest, source, path)
        else:
            storage.remove_leftovers(path)
            if any(path.iterdir()):
                raise UsageError(f"{path} is not empty and no corpus: give a new folder")
            self.manifest = _empty_manifest()
            self.entry = _entry_for(self.manifest, source, path)
            # First of all, so that nothing is ever cleaned up in a folder that is no corpus.
            storage.write_manifest(path, store.KIND, **self.manifest)
        self._clean()
        self._seen = self._ids()
        self._pending: list[Video] = []
        self._pending_bytes = 0
        self._committed = time.monotonic()

    def _clean(self) -> None:
        for folder in ("shards", "thumbnails"):
            (self.path / folder).mkdir(exist_ok=True)
            storage.remove_leftovers(self.path / folder)
            listed = {entry["file"] for entry in self.manifest["shards"]}
            for shard in (self.path / folder).iterdir():
                if shard.name not in listed:
                    shard.unlink()
        with (self.path / "rejects.jsonl").open("ab") as file:
            if file.tell() > self.manifest["rejects_bytes"]:
                file.truncate(self.manifest["rejects_bytes"])

    def _ids(self) -> set[str]:
        if not self.manifest["shards"]:
            return set()
        return set(store.Corpus(self.path, unfinished=True).ids)

    def add(self, result: Processed | Reject, identity: dict[str, Any] | None) -> Video | Reject:
        """Takes one row's result, in order; returns what became of it."""
        if not isinstance(result, Reject):
            problem = self._problem(result, identity)
            if problem is not None:
                result = Reject(result.where, result.video.id, *problem)
            else:
                parts = self.entry.setdefault("parts", {})
                parts[result.part] = parts.get(result.part, 0) + 1
        self.entry["cursor"] += 1
        if isinstance(result, Reject):
            self.reject(result)
        else:
            self._seen.add(result.video.id)
            self._pending.append(result.video)
            self._pending_bytes += result.video.frames.nbytes + 4 * len(result.video.title) + 200
        old = time.monotonic() - self._committed > COMMIT_SECONDS
        if self._pending_bytes >= store.SHARD_BYTES or old:
            self.commit()
        return result if isinstance(result, Reject) else result.video

    def _problem(self, item: Processed, identity: dict[str, Any] | None) -> tuple[str, str] | None:
        """Why a readable video cannot go in, as reason and detail."""
        video = item.video
        if video.id in self._seen:
            return "duplicate-id", f"id {video.id!r} is in the corpus already"
        if item.encoded and identity is not None:
            self.check_encoder(identity)
        if len(video.frames) == 0:
            empty = not video.title.strip()
            return ("empty", "neither frames nor title") if empty else None
        width = video.frames.shape[1]
        made = identity if item.encoded else {"name": "precomputed", "frame_size": width}
        held = self.manifest["frame_encoder"]
        if held["name"] == "none":
            self.manifest["frame_encoder"] = made
        elif width != held["frame_size"]:
            return "frame-width", f"frames have {width} numbers, expected {held['frame_size']}"
        elif not item.encoded and held["name"] != "precomputed":
            return "frame-encoder", f"precomputed frames, the corpus holds those of {held['name']}"
        return None

    def check_encoder(self, identity: dict[str, Any]) -> None:
        """Refuses to mix the frames of two encoders in one corpus."""
        held = self.manifest["frame_encoder"]
        if held["name"] != "none" and held != identity:
            raise UsageError(
                f"{self.path} holds frames of {held['name']} (revision {held.get('revision')}, "
                f"{held['frame_size']} numbers); frames of {identity['name']} (revision "
                f"{identity.get('revision')}, {identity['frame_size']} numbers) cannot join them: "
                "use the same encoder and options, or a new corpus"
            )

    def reject(self, reject: Reject) -> None:
        """Writes and counts a record left out."""
        self.entry["rejected"][reject.reason] = self.entry["rejected"].get(reject.reason, 0) + 1
        # What is no Unicode, as a file name may be, is written as JSON escapes it.
        rejects = self.path / "rejects.jsonl"
        with rejects.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(json.dumps(asdict(reject), ensure_ascii=False) + "\n")

    def commit(self) -> None:
        """Makes everything added so far permanent."""
        if self._pending:
            frame_size = self.manifest["frame_encoder"]["frame_size"]
            name = f"{self._next_number():06d}.arrow"
            table = store.video_table(self._pending, frame_size)
            thumbnails = store.thumbnail_table(self._pending)
            self.manifest["shards"].append(store.write_shard(self.path, name, table, thumbnails))
            self.entry["videos"] += len(self._pending)
            self._pending, self._pending_bytes = [], 0
        self._write_manifest()
        self._committed = time.monotonic()

    def _next_number(self) -> int:
        files = [*(self.path / "shards").glob("*.arrow")]
        return 1 + max((int(file.stem) for file in files), default=-1)

    def _write_manifest(self) -> None:
        rejects = self.path / "rejects.jsonl"
        with rejects.open("ab") as file:
            os.fsync(file.fileno())
        self.manifest["rejects_bytes"] = rejects.stat().st_size
        storage.write_manifest(self.path, store.KIND, **self.manifest)

    def merge_small_shards(self) -> None:
        """Joins neighbouring shards while they fit into one; commits by time leave small ones."""
        groups: list[list[dict[str, Any]]] = []
        for shard in self.manifest["shards"]:
            fits = groups and sum(s["bytes"] for s in [*groups[-1], shard]) <= store.SHARD_BYTES
            if fits:
                groups[-1].append(shard)
            else:
                groups.append([shard])
        width = self.manifest["frame_encoder"]["frame_size"]
        done = [len(group) == 1 and self._has_width(group[0], width) for group in groups]
        if all(done):
            return
        merged = []
        for group, is_done in zip(groups, done, strict=True):
            if is_done:
                merged += group
                continue
            tables = [store.read_shard(self.path, shard["file"], width) for shard in group]
            videos, thumbnails = (pa.concat_tables(parts) for parts in zip(*tables, strict=True))
            name = f"{self._next_number():06d}.arrow"
            merged.append(store.write_shard(self.path, name, videos, thumbnails))
        self.manifest["shards"] = merged
        self._write_manifest()
        self._clean()

    def _has_width(self, shard: dict[str, Any], width: int) -> bool:
        """Whether a shard's frames have this width; those from before the first frames have 1."""
        with pa.OSFile(str(self.path / "shards" / shard["file"]), "rb") as file:
            return bool(pa.ipc.open_file(file).schema.equals(store.corpus_schema(width)))


def _empty_manifest() -> dict[str, Any]:
    return {
        "frame_encoder": {"name": "none", "frame_size": 0},
        "tag_vocabulary": [],
        "shards": [],
        "rejects_bytes": 0,
        "pairs": 0,
        "ingests": [],
    }


def _entry_for(manifest: dict[str, Any], source: Source, path: Path) -> dict[str, Any]:
    """The manifest's entry of this source: found, to be continued, or new."""
    manifest.pop("kind", None)
    manifest.pop("format_version", None)
    entries: list[dict[str, Any]] = manifest["ingests"]
    for entry in entries:
        if entry["fingerprint"] == source.fingerprint:
            return entry
    entries[:] = [entry for entry in entries if entry["complete"] or entry["cursor"]]
    unfinished = [entry["source"] for entry in entries if not entry["complete"]]
    if unfinished:
        raise UsageError(
            f"{path} holds an unfinished ingest of {unfinished[0]}, and the source is another now: "
            "finish that one first, or delete the corpus and start again"
        )
    entry = {
        "source": str(source.path),
        "kind": source.kind,
        "fingerprint": source.fingerprint,
        "cursor": 0,
        "videos": 0,
        "rejected": {},
        "complete": False,
    }
    entries.append(entry)
    return entry


def write_pairs(path: Path, pairs: list[Pair]) -> None:
    """Writes pairs as Parquet with columns id_1, id_2, score; atomically."""
    columns = {name: [getattr(pair, name) for pair in pairs] for name in ("id_1", "id_2", "score")}
    with storage.atomic_path(path) as temporary:
        pq.write_table(pa.table(columns), temporary)
