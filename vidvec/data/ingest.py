"""A source into a corpus: read, decode, encode, append; what cannot be read is named and counted.

A killed ingest carries on. The manifest says how many rows of the source are in the committed
shards; they are skipped, and rejects written after the last commit are cut off.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vidvec import storage
from vidvec.data import corpus as store
from vidvec.data.frames import FrameEncoder, open_frame_encoder
from vidvec.data.pairs import read_pairs
from vidvec.data.sampling import sample_positions
from vidvec.data.sources import Source, open_source
from vidvec.data.tokenizer import load_tokenizer, train_tokenizer
from vidvec.data.video import decode, to_jpeg
from vidvec.errors import BadRecord, UsageError
from vidvec.records import Pair, Reject, SourceRow, Video

COMMIT_SECONDS = 20.0
THUMBNAILS = 8
MAX_TAGS = 10_000
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class IngestReport:
    """What an ingest did.

    Attributes:
        videos: Videos in the corpus now.
        added: Of these, from this source (an interrupted run's part included).
        rejected: Records left out, counted by reason.
        pairs: Scored pairs in the corpus now.
        note: A sentence on the frame encoder where there is something to know.
        resumed_at: Rows of the source that an interrupted run had done.
    """

    videos: int
    added: int
    rejected: Counter[str]
    pairs: int
    note: str = ""
    resumed_at: int = 0


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How to ingest.

    Attributes:
        encoder: Frame encoder: ``classic``, ``onnx:FILE`` or ``hf:NAME``.
        encoder_options: What it takes besides, such as ``size``.
        tokenizer: Name or folder; empty: one is trained on the corpus's titles.
        pairs: Files with scored pairs.
        tag_list: File that fixes the tag vocabulary; ``None``: the corpus's most frequent tags.
        strict: Stop at the first record that cannot be read.
        workers: Videos decoded side by side.
    """

    encoder: str = "classic"
    encoder_options: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = ""
    pairs: tuple[Path, ...] = ()
    tag_list: Path | None = None
    strict: bool = False
    workers: int = 2


def ingest(
    source_path: Path, corpus_path: Path, options: IngestOptions, progress: Progress | None = None
) -> IngestReport:
    """Reads a source into a corpus, new or already there.

    Args:
        source_path: See ``open_source``.
        corpus_path: The corpus folder. Where it is complete and the source is new, the videos are
            appended; where it holds this source already, nothing is done.
        options: See there.
        progress: Called with rows done and records rejected.

    Raises:
        UsageError: The source, an option, or the mix with what the corpus holds cannot be used.
        BadRecord: ``strict``, and a record cannot be read; what came before it is kept.
    """
    source = open_source(source_path, options.tag_list)
    _check_options(options)
    writer = _Writer(corpus_path, source)
    if writer.entry["complete"]:
        _take_late_pairs(writer, options.pairs)
        return writer.report()
    encoder = _LazyEncoder(options)
    resumed_at = writer.entry["cursor"]
    rows = islice(source.read(), resumed_at, None)
    for done, result in enumerate(_processed(rows, encoder, options.workers), resumed_at + 1):
        outcome = writer.add(result, encoder.identity)
        if isinstance(outcome, Reject) and options.strict:
            writer.commit()
            raise BadRecord(outcome.reason, f"{outcome.where} {outcome.id}: {outcome.detail}")
        if progress is not None:
            progress(done, sum(writer.entry["rejected"].values()))
    _finish(writer, source, options)
    return replace(writer.report(), note=encoder.note, resumed_at=resumed_at)


def read_video(
    path: Path | str,
    *,
    title: str = "",
    video_id: str = "",
    encoder: str | FrameEncoder = "classic",
) -> Video:
    """One video file with its frame features, as ``ingest`` would store it.

    Args:
        path: The file.
        title: Its title.
        video_id: Its id; by default the file's name.
        encoder: Frame encoder, opened or by its spec; must be the one that the model to use was
            trained on.

    Raises:
        BadRecord: The file cannot be decoded.
    """
    opened = open_frame_encoder(encoder) if isinstance(encoder, str) else encoder
    name = video_id or Path(path).stem
    result = _process(SourceRow(str(path), Video(id=name, title=title), Path(path)), opened)
    if isinstance(result, Reject):
        raise BadRecord(result.reason, f"{path}: {result.detail}")
    return result.video


def _check_options(options: IngestOptions) -> None:
    """Finds out now what else would come out after the last video."""
    for file in options.pairs:
        if not file.is_file():
            raise UsageError(f"file of pairs {file} does not exist")
    if options.tokenizer:
        load_tokenizer(options.tokenizer)


class _LazyEncoder:
    """Opens the frame encoder when the first video file needs it; features need none."""

    def __init__(self, options: IngestOptions) -> None:
        self._options = options
        self._encoder: FrameEncoder | None = None

    def open(self) -> FrameEncoder:
        if self._encoder is None:
            self._encoder = open_frame_encoder(
                self._options.encoder, options=self._options.encoder_options
            )
        return self._encoder

    @property
    def identity(self) -> dict[str, Any] | None:
        # Through JSON, as the manifest holds it, so that the two can be compared.
        return json.loads(json.dumps(self._encoder.identity)) if self._encoder else None

    @property
    def note(self) -> str:
        return self._encoder.note if self._encoder else ""


@dataclass(frozen=True, slots=True)
class _Processed:
    """A video with its frames, and whether they were made here by the frame encoder."""

    where: str
    video: Video
    encoded: bool


def _process(row: SourceRow, encoder: FrameEncoder) -> _Processed | Reject:
    video = row.video
    try:
        decoded = decode(row.file or Path(), short_side=encoder.short_side)
    except BadRecord as error:
        return Reject(row.where, video.id, error.reason, error.detail)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is found below
        frames = encoder.encode(decoded.images).astype(np.float16)
    if not np.isfinite(frames).all():
        detail = "the frame encoder gave a number that is no finite float16"
        return Reject(row.where, video.id, "nan", detail)
    shown = sample_positions(len(decoded.images), THUMBNAILS)
    video = replace(
        video,
        frames=frames,
        frame_times_seconds=decoded.times_seconds,
        duration_seconds=decoded.duration_seconds,
        thumbnails=tuple(to_jpeg(decoded.images[position]) for position in shown),
    )
    return _Processed(row.where, video, encoded=True)


def _processed(
    rows: Iterator[SourceRow | Reject], encoder: _LazyEncoder, workers: int
) -> Iterator[_Processed | Reject]:
    """Rows in order, video files decoded and encoded ahead by ``workers`` threads.

    Threads, because decoding and encoding release the interpreter, and a fork under Arrow hangs.
    """
    with ThreadPoolExecutor(max(1, workers)) as pool:
        ahead: deque[Future[_Processed | Reject] | _Processed | Reject] = deque()
        for row in rows:
            if isinstance(row, Reject):
                ahead.append(row)
            elif row.file is None or len(row.video.frames):
                ahead.append(_Processed(row.where, row.video, encoded=False))
            else:
                ahead.append(pool.submit(_process, row, encoder.open()))
            if len(ahead) > 2 * workers:
                yield _result(ahead.popleft())
        while ahead:
            yield _result(ahead.popleft())


def _result(item: Future[_Processed | Reject] | _Processed | Reject) -> _Processed | Reject:
    return item.result() if isinstance(item, Future) else item


class _Writer:
    """Appends to a corpus and commits it, by shard and every ``COMMIT_SECONDS``."""

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

    def add(self, result: _Processed | Reject, identity: dict[str, Any] | None) -> Video | Reject:
        """Takes one row's result, in order; returns what became of it."""
        if not isinstance(result, Reject):
            problem = self._problem(result, identity)
            if problem is not None:
                result = Reject(result.where, result.video.id, *problem)
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

    def _problem(self, item: _Processed, identity: dict[str, Any] | None) -> tuple[str, str] | None:
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

    def report(self) -> IngestReport:
        """Counts of the corpus and of this source."""
        corpus = store.Corpus(self.path, unfinished=True)
        return IngestReport(
            videos=len(corpus),
            added=self.entry["videos"],
            rejected=Counter(self.entry["rejected"]),
            pairs=len(corpus.pairs()),
        )


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


def _finish(writer: _Writer, source: Source, options: IngestOptions) -> None:
    """Everything that needs all videos: tokenizer, tag vocabulary, pairs, shard sizes."""
    writer.commit()
    writer.merge_small_shards()
    corpus = store.Corpus(writer.path, unfinished=True)
    folder = writer.path / "tokenizer"
    if options.tokenizer:
        load_tokenizer(options.tokenizer).save(folder)
    elif not (folder / "tokenizer.json").is_file():
        train_tokenizer(store.iterate_titles(corpus)).save(folder)
    if source.tag_list is not None:
        writer.manifest["tag_vocabulary"] = source.tag_list
    elif not writer.manifest["tag_vocabulary"] or len(writer.manifest["ingests"]) == 1:
        writer.manifest["tag_vocabulary"] = frequent_tags(corpus)
    _take_pairs(writer, corpus, (*options.pairs, *source.pairs))
    writer.entry["complete"] = True
    writer.commit()


def frequent_tags(corpus: store.Corpus, limit: int = MAX_TAGS) -> list[str]:
    """The corpus's most frequent tags, ties by name; a tag of one video only teaches nothing."""
    counts = Counter(tag for tags in corpus.column("tags").to_pylist() for tag in set(tags or ()))
    shared = [tag for tag, count in counts.items() if count > 1]
    return sorted(shared, key=lambda tag: (-counts[tag], tag))[:limit]


def _take_pairs(writer: _Writer, corpus: store.Corpus, files: tuple[Path, ...]) -> None:
    """Adds scored pairs to ``pairs.parquet``; those with an unknown video are rejected."""
    new, rejects = _new_pairs(corpus, files)
    for reject in rejects:
        writer.reject(reject)
    if new:
        write_pairs(writer.path / "pairs.parquet", [*corpus.pairs(), *new])
    writer.manifest["pairs"] += len(new)


def _take_late_pairs(writer: _Writer, files: tuple[Path, ...]) -> None:
    """Adds pairs to a corpus whose videos are all there; without new ones nothing changes."""
    corpus = store.Corpus(writer.path, unfinished=True)
    if files and _new_pairs(corpus, files)[0]:
        _take_pairs(writer, corpus, files)
        writer.commit()


def _new_pairs(corpus: store.Corpus, files: tuple[Path, ...]) -> tuple[list[Pair], list[Reject]]:
    """Pairs of these files that the corpus does not have yet, and what is wrong with the others.

    A pair that came with an earlier ingest is not taken again, as where one file of pairs is given
    with each of several sources.
    """
    held = Counter(corpus.pairs())
    new: list[Pair] = []
    rejects: list[Reject] = []
    for file in dict.fromkeys(path.resolve() for path in files):
        read, bad = read_pairs(file)
        rejects += bad
        for pair in read:
            missing = [video for video in (pair.id_1, pair.id_2) if video not in corpus]
            if missing:
                detail = f"pair {pair.id_1} {pair.id_2}: not in the corpus: {', '.join(missing)}"
                rejects.append(Reject(file.name, missing[0], "pair-unknown-id", detail))
            elif held[pair]:
                held[pair] -= 1
            else:
                new.append(pair)
    return new, rejects


def write_pairs(path: Path, pairs: list[Pair]) -> None:
    """Writes pairs as Parquet with columns id_1, id_2, score; atomically."""
    columns = {name: [getattr(pair, name) for pair in pairs] for name in ("id_1", "id_2", "score")}
    with storage.atomic_path(path) as temporary:
        pq.write_table(pa.table(columns), temporary)
