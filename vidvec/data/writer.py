"""Appending to a corpus: shards, rejects, manifest; committed so that a kill loses little."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vidvec import storage
from vidvec.data import corpus as store
from vidvec.data.sources import Source
from vidvec.errors import BadRecord, UsageError
from vidvec.records import Pair, Reject, Video

COMMIT_SECONDS = 20.0

PAIRS, PAIRS_BEFORE = "pairs.parquet", "pairs.before.parquet"

PairRow = tuple[Pair, str]  # and the file that it comes from


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
        self._part_of = self._ids()
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
        storage.remove_leftovers(self.path)
        if not self.entry.get("replacing"):
            (self.path / PAIRS_BEFORE).unlink(missing_ok=True)

    def _ids(self) -> dict[str, str]:
        """The part of every video, by its id."""
        if not self.manifest["shards"]:
            return {}
        corpus = store.Corpus(self.path, unfinished=True)
        part_of = dict.fromkeys(corpus.ids, "")
        for part, rows in corpus.parts.items():
            part_of |= dict.fromkeys((corpus.ids[row] for row in rows), part)
        return part_of

    def add(
        self, result: Processed | Reject, identity: dict[str, Any] | None, *, strict: bool = False
    ) -> Video | Reject:
        """Takes one row's result, in order; returns what became of it.

        Raises:
            BadRecord: ``strict``, and the row is to be left out. It counts as not read yet; what
                came before it is kept.
        """
        if not isinstance(result, Reject):
            problem = self._problem(result, identity)
            if problem is not None:
                result = Reject(result.where, result.video.id, *problem)
        if isinstance(result, Reject) and strict:
            self.commit()
            raise stopped_by(result)
        self.entry["cursor"] += 1
        if isinstance(result, Reject):
            self.reject(result)
        else:
            parts = self.entry.setdefault("parts", {})
            parts[result.part] = parts.get(result.part, 0) + 1
            self._part_of[result.video.id] = result.part
            self._pending.append(result.video)
            self._pending_bytes += result.video.frames.nbytes + 4 * len(result.video.title) + 200
        old = time.monotonic() - self._committed > COMMIT_SECONDS
        if self._pending_bytes >= store.SHARD_BYTES or old:
            self.commit()
        return result if isinstance(result, Reject) else result.video

    def _problem(self, item: Processed, identity: dict[str, Any] | None) -> tuple[str, str] | None:
        """Why a readable video cannot go in, as reason and detail."""
        video = item.video
        held_in = self._part_of.get(video.id)
        if held_in is not None:
            part = f", from {held_in}" if held_in else ""
            return "duplicate-id", f"id {video.id!r} is in the corpus already{part}"
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
        self._write_rejects([reject])

    def reject_in_lists(self, rejects: Sequence[Reject]) -> None:
        """The same of rows of the source's lists; ``reopen`` takes them back."""
        start = (self.path / "rejects.jsonl").stat().st_size
        self._write_rejects(rejects)
        end = (self.path / "rejects.jsonl").stat().st_size
        counts = dict(Counter(reject.reason for reject in rejects))
        self.entry["list_rejects"] = {"start": start, "end": end, "counts": counts}

    def _write_rejects(self, rejects: Iterable[Reject]) -> None:
        counts = self.entry["rejected"]
        # What is no Unicode, as a file name may be, is written as JSON escapes it.
        rejects_file = self.path / "rejects.jsonl"
        with rejects_file.open("a", encoding="utf-8", errors="backslashreplace") as file:
            for reject in rejects:
                counts[reject.reason] = counts.get(reject.reason, 0) + 1
                file.write(json.dumps(asdict(reject), ensure_ascii=False) + "\n")

    def check_strict(self, *, but_lists: bool) -> None:
        """Refuses a source of which an earlier run left something out.

        Args:
            but_lists: What is wrong with its lists does not count, as they have changed since.

        Raises:
            BadRecord: The first record left out.
        """
        counts = Counter(self.entry["rejected"])
        if but_lists:
            counts -= Counter(self.entry.get("list_rejects", {}).get("counts", {}))
        if not counts.total():
            return
        with (self.path / "rejects.jsonl").open("rb") as file:
            file.seek(self.entry.get("rejects_start", 0))
            rejects = (Reject(**json.loads(line)) for line in file)
            first = next((reject for reject in rejects if counts[reject.reason]), None)
        more = f"an earlier run without --strict left records out of {self.path}"
        if first is None:
            raise BadRecord(next(iter(counts)), f"{more}; see its rejects.jsonl")
        raise stopped_by(first, f"; {more}")

    def reopen(self, changed: Collection[str]) -> None:
        """Makes a complete source unfinished, so that its lists are read again.

        What was wrong with them is taken back. Where another source's rejects follow in the file,
        only the counts are: the lines stay.

        Args:
            changed: Keys of those that changed; noted, as this run may be killed.
        """
        wrong = self.entry.pop("list_rejects", {"start": 0, "end": -1, "counts": {}})
        left = Counter(self.entry["rejected"]) - Counter(wrong["counts"])
        self.entry["rejected"] = dict(left)
        if wrong["end"] == self.manifest["rejects_bytes"]:
            self.manifest["rejects_bytes"] = wrong["start"]
        self.entry |= {"complete": False, "changed": sorted(changed)}
        storage.write_manifest(self.path, store.KIND, **self.manifest)
        self._clean()

    def held_pairs(self) -> list[PairRow]:
        """Pairs that the manifest counts, or counted before ``put_pairs`` began to replace them."""
        if self.entry.get("replacing"):
            return read_pair_rows(self.path / PAIRS_BEFORE)
        return read_pair_rows(self.path / PAIRS, self.manifest["pairs"])

    def put_pairs(self, rows: Sequence[PairRow]) -> None:
        """Writes all pairs anew; they count with the next commit.

        A run that is killed before leaves those that count at the head of the file; where they do
        not all stay, they are put aside first.
        """
        held = self.held_pairs()
        if rows[: len(held)] != held and not self.entry.get("replacing"):
            write_pair_rows(self.path / PAIRS_BEFORE, held)
            self.entry["replacing"] = True
            self.commit()
        if rows != held or self.entry.get("replacing"):
            write_pair_rows(self.path / PAIRS, rows)
        self.manifest["pairs"] = len(rows)
        self.entry.pop("replacing", None)

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
        if not self.entry.get("replacing"):
            (self.path / PAIRS_BEFORE).unlink(missing_ok=True)
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
        "rejects_start": manifest["rejects_bytes"],
        "complete": False,
    }
    entries.append(entry)
    return entry


def stopped_by(reject: Reject, more: str = "") -> BadRecord:
    """The error with which a strict ingest stops."""
    who = f" {reject.id}" if reject.id else ""
    return BadRecord(reject.reason, f"{reject.where}{who}: {reject.detail}{more}")


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Writes pairs as Parquet with columns id_1, id_2, score; atomically."""
    write_pair_rows(path, [(pair, "") for pair in pairs])


def write_pair_rows(path: Path, rows: Sequence[PairRow]) -> None:
    """The same, with a column ``file`` that says where each comes from."""
    names = ("id_1", "id_2", "score")
    columns = {name: [getattr(pair, name) for pair, _ in rows] for name in names}
    columns["file"] = [file for _, file in rows]
    with storage.atomic_path(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def read_pair_rows(path: Path, count: int | None = None) -> list[PairRow]:
    """Reads what ``write_pair_rows`` wrote, or its first rows; none where there is no file."""
    if not path.is_file():
        return []
    columns = pq.read_table(path).slice(0, count).to_pydict()
    rows = zip(columns["id_1"], columns["id_2"], columns["score"], strict=True)
    pairs = [Pair(*row) for row in rows]
    return list(zip(pairs, columns.get("file", [""] * len(pairs)), strict=True))
