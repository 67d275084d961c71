"""Appending to a corpus: shards, rejects, manifest; committed so that a kill loses little."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidvec import storage
from vidvec.data import corpus as store
from vidvec.data.entries import empty_manifest, entry_for, of_place, place_of
from vidvec.data.frames import describe, difference, same_encoder
from vidvec.data.pair_rows import PairRow, read_pair_rows, write_pair_rows
from vidvec.data.sampling import EVEN, settle_sampling
from vidvec.data.shards import has_width
from vidvec.data.sources import Source
from vidvec.errors import BadRecord, UsageError
from vidvec.records import Processed, Reject, Video

COMMIT_SECONDS = 20.0

PAIRS, PAIRS_BEFORE = "pairs.parquet", "pairs.before.parquet"


class CorpusWriter:
    """Appends to a corpus and commits it, by shard and every ``COMMIT_SECONDS``.

    Args:
        path: The corpus folder.
        source: What is read.
        update: The source is read again where it is in already; see ``update.py``.

    Attributes:
        path: The corpus folder.
        manifest: What the corpus's manifest says with the next commit.
        entry: The manifest's entry of this source.
        audio_encoder: Identity of the audio encoder that audio frames are made with here.
        frame_sampling: How frames that are made here were chosen; see ``sampling.py``.

    Raises:
        UsageError: The folder holds something else, or another source's unfinished ingest.
    """

    def __init__(self, path: Path, source: Source, *, update: bool = False) -> None:
        self.path = path
        self._known_rejects: frozenset[str] = frozenset()
        self._replacing: set[str] = set()
        path.mkdir(parents=True, exist_ok=True)
        if (path / storage.MANIFEST).is_file():
            self.manifest = storage.read_manifest(path, store.KIND)
            self.entry = entry_for(self.manifest, source, path, update)
        else:
            storage.remove_leftovers(path)
            if any(path.iterdir()):
                raise UsageError(f"{path} is not empty and no corpus: give a new folder")
            self.manifest = empty_manifest()
            self.entry = entry_for(self.manifest, source, path, update)
            # First of all, so that nothing is ever cleaned up in a folder that is no corpus.
            storage.write_manifest(path, store.KIND, **self.manifest)
        self._clean()
        self.audio_encoder = store.NO_AUDIO
        self.frame_sampling = EVEN
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
        self,
        result: Processed | Reject,
        identity: dict[str, Any] | None,
        *,
        strict: bool = False,
        hold: bool = False,
    ) -> Video | Reject:
        """Takes one row's result, in order; returns what became of it.

        Args:
            result: The row's.
            identity: Of the frame encoder, where it was opened.
            strict: Stop where the row is to be left out.
            hold: Commit nothing yet, as this row was made together with the next.

        Raises:
            BadRecord: ``strict``, and the row is to be left out. It counts as not read yet; what
                came before it is kept.
        """
        replaces = self._takes_place(result)
        if not isinstance(result, Reject):
            problem = self._problem(result, identity, replaces)
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
            features = result.video.frames.nbytes + result.video.audio.nbytes
            self._pending_bytes += features + 4 * len(result.video.title) + 200
        old = time.monotonic() - self._committed > COMMIT_SECONDS
        if not hold and (self._pending_bytes >= store.SHARD_BYTES or old):
            self.commit()
        return result if isinstance(result, Reject) else result.video

    def _takes_place(self, result: Processed | Reject) -> bool:
        """Whether a result may take the place of the corpus's video; only its first one may."""
        video = result.id if isinstance(result, Reject) else result.video.id
        replaces = video in self._replacing
        self._replacing.discard(video)
        return replaces

    def _problem(
        self, item: Processed, identity: dict[str, Any] | None, replaces: bool
    ) -> tuple[str, str] | None:
        """Why a readable video cannot go in, as reason and detail."""
        video = item.video
        held_in = None if replaces else self._part_of.get(video.id)
        if held_in is not None:
            part = f", from {held_in}" if held_in else ""
            return "duplicate-id", f"id {video.id!r} is in the corpus already{part}"
        if item.encoded and identity is not None:
            self.check_encoder(identity)
            settle_sampling(self.path, self.manifest, self.frame_sampling)
        if item.heard:
            self.check_audio_encoder(self.audio_encoder)
        if len(video.frames) == len(video.audio) == 0 and not video.title.strip():
            return "empty", "neither frames nor audio frames nor title"
        made = identity if item.encoded else None
        problem = self._problem_with("frame", video.frames, made)
        if problem is None:
            made = self.audio_encoder if item.heard else None
            problem = self._problem_with("audio", video.audio, made)
        return problem

    def _problem_with(
        self, kind: str, features: NDArray[np.float16], made: dict[str, Any] | None
    ) -> tuple[str, str] | None:
        """Why frame or audio features cannot go in; the first ones say whose the corpus holds.

        Args:
            kind: ``frame`` or ``audio``.
            features: (count, width) of one video.
            made: Identity of the encoder where they were made here; else they are precomputed.
        """
        if len(features) == 0:
            return None
        width, plural = features.shape[1], "frames" if kind == "frame" else "audio frames"
        held = self.manifest.get(f"{kind}_encoder", store.NO_AUDIO)
        if held["name"] == "none":
            found = made or {"name": "precomputed", "frame_size": width}
            self.manifest[f"{kind}_encoder"] = found
        elif width != held["frame_size"]:
            return f"{kind}-width", f"{plural} have {width} numbers, expected {held['frame_size']}"
        elif made is None and held["name"] != "precomputed":
            detail = f"precomputed {plural}, the corpus holds those of {held['name']}"
            return f"{kind}-encoder", detail
        return None

    def check_audio_encoder(self, identity: dict[str, Any]) -> None:
        """Refuses to mix the audio frames of two encoders in one corpus."""
        held = self.manifest.get("audio_encoder", store.NO_AUDIO)
        if "none" not in (held["name"], identity["name"]) and held != identity:
            raise UsageError(
                f"{self.path} holds audio frames of {describe(held)}; those of "
                f"{describe(identity)} cannot join them: use the same --audio, or a new corpus"
            )

    def check_encoder(self, identity: dict[str, Any]) -> None:
        """Refuses to mix the frames of two encoders in one corpus."""
        held = self.manifest["frame_encoder"]
        if held["name"] != "none" and not same_encoder(held, identity):
            raise UsageError(
                f"{self.path} holds frames of {describe(held)}; frames of {describe(identity)} "
                f"cannot join them{difference(held, identity)}: use the same encoder and options, "
                "or a new corpus, or add a second set of frames with vidvec reencode"
            )

    def reject(self, reject: Reject) -> None:
        """Writes and counts a record left out."""
        self._write_rejects([reject])

    def reject_in_lists(self, rejects: Sequence[Reject]) -> None:
        """The same of rows of the source's lists; ``reopen`` takes them back."""
        start = (self.path / "rejects.jsonl").stat().st_size
        before = Counter(self.entry["rejected"])
        self._write_rejects(rejects)
        end = (self.path / "rejects.jsonl").stat().st_size
        counts = dict(Counter(self.entry["rejected"]) - before)
        self.entry["list_rejects"] = {"start": start, "end": end, "counts": counts}

    def let_replace(self, video: str) -> None:
        """Lets the next result of this id in beside the corpus's video, in whose place it comes."""
        self._replacing.add(video)

    def forgive_known_rejects(self) -> None:
        """Has records that were left out before, for the same reason, not be written again."""
        with (self.path / "rejects.jsonl").open("rb") as file:
            self._known_rejects = frozenset(line.decode("utf-8").rstrip("\n") for line in file)

    @property
    def has_news(self) -> bool:
        """Whether this source's entry has brought anything in, committed or not."""
        return bool(self._pending or self.entry["videos"] or self.entry["rejected"])

    def drop_entry(self) -> None:
        """Takes back an update's entry that brought nothing; the source's last one is ``entry``.

        Where the source's files are others and say the same, that one goes by them from now on.
        """
        fingerprint, entries = self.entry["fingerprint"], self.manifest["ingests"]
        was_written = self.entry["cursor"] or not self.entry.get("update")
        entries.remove(self.entry)
        self.entry = of_place(entries, place_of(self.entry))[-1]
        if was_written or self.entry["fingerprint"] != fingerprint:
            self.entry["fingerprint"] = fingerprint
            self._write_manifest()

    def _write_rejects(self, rejects: Iterable[Reject]) -> None:
        counts = self.entry["rejected"]
        # What is no Unicode, as a file name may be, is written as JSON escapes it.
        rejects_file = self.path / "rejects.jsonl"
        with rejects_file.open("a", encoding="utf-8", errors="backslashreplace") as file:
            for reject in rejects:
                line = json.dumps(asdict(reject), ensure_ascii=False)
                if line not in self._known_rejects:
                    counts[reject.reason] = counts.get(reject.reason, 0) + 1
                    file.write(line + "\n")

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
            name = f"{self._next_number():06d}.arrow"
            table = store.video_table(self._pending, *self._widths())
            thumbnails = store.thumbnail_table(self._pending)
            self.manifest["shards"].append(store.write_shard(self.path, name, table, thumbnails))
            self.entry["videos"] += len(self._pending)
            self._pending, self._pending_bytes = [], 0
        self._write_manifest()
        if not self.entry.get("replacing"):
            (self.path / PAIRS_BEFORE).unlink(missing_ok=True)
        self._committed = time.monotonic()

    def _widths(self) -> tuple[int, int]:
        """Numbers in a frame and in an audio frame."""
        audio = self.manifest.get("audio_encoder", store.NO_AUDIO)
        return self.manifest["frame_encoder"]["frame_size"], audio["frame_size"]

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
        widths = self._widths()
        done = [
            len(group) == 1 and has_width(self.path, group[0]["file"], widths[0])
            for group in groups
        ]
        if all(done):
            return
        merged = []
        for group, is_done in zip(groups, done, strict=True):
            if is_done:
                merged += group
                continue
            tables = [store.read_shard(self.path, shard["file"], *widths) for shard in group]
            videos, thumbnails = (pa.concat_tables(parts) for parts in zip(*tables, strict=True))
            name = f"{self._next_number():06d}.arrow"
            merged.append(store.write_shard(self.path, name, videos, thumbnails))
        self.manifest["shards"] = merged
        self._write_manifest()
        self._clean()


def stopped_by(reject: Reject, more: str = "") -> BadRecord:
    """The error with which a strict ingest stops."""
    who = f" {reject.id}" if reject.id else ""
    return BadRecord(reject.reason, f"{reject.where}{who}: {reject.detail}{more}")
