"""Features of another encoder for the videos of a corpus, without reading their metadata again.

Frames are taken at the times that the corpus has. Videos are encoded in chunks, whose pictures go
through the encoder in batches of its own size; a commit lies between two chunks, so that a run
which was killed and carried on makes the same batches, hence the same bits, as one that was not.
"""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.data.corpus import Corpus
from vidvec.data.feature_writer import Encoded, FeatureWriter
from vidvec.data.features import list_sets, video_keys
from vidvec.data.frames import (
    EncoderPrecision,
    FrameEncoder,
    describe,
    open_frame_encoder,
    same_encoder,
)
from vidvec.data.media import Media, MediaRequest
from vidvec.data.reopen import absolute_spec
from vidvec.data.sampling import EVEN, KEYFRAMES
from vidvec.data.workers import WorkerPool
from vidvec.data.writer import stopped_by
from vidvec.errors import BadRecord, UsageError
from vidvec.records import Reject

CHUNK = 64
# Half of what containers round times to, and float32 for hours.
_SAME_TIME_SECONDS = 0.002

Progress = Callable[[int, int, int], None]


@dataclass(frozen=True, slots=True)
class ReencodeOptions:
    """How to reencode.

    Attributes:
        encoder: Frame encoder, see ``open_frame_encoder``; empty: the one that began the set.
        encoder_options: What it takes besides, such as ``size``.
        encoder_precision: What it computes in; ``auto``: as what the set holds, else float32.
        name: Of the feature set; empty: after the encoder.
        restart: Throw away what the set has and begin again.
        strict: Stop at the first video whose file is gone or cannot be decoded.
        workers: Processes that read files side by side.
    """

    encoder: str = ""
    encoder_options: dict[str, Any] = field(default_factory=dict)
    encoder_precision: EncoderPrecision = "auto"
    name: str = ""
    restart: bool = False
    strict: bool = False
    workers: int = 2


@dataclass(slots=True)
class ReencodeReport:
    """What a reencoding did.

    Attributes:
        name: Of the feature set.
        encoder: The frame encoder in words.
        videos: In the set.
        added: Of these, by this run.
        without_file: Of these, videos for which the corpus names no file; they have no frames.
        rejected: Videos without frames as their file is gone or cannot be decoded, by reason.
        note: A sentence on the frame encoder where there is something to know.
    """

    name: str
    encoder: str
    videos: int
    added: int
    without_file: int
    rejected: Counter[str]
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A video's pictures on their way to the encoder."""

    key: tuple[str, str]
    images: list[NDArray[np.uint8]] = field(default_factory=list)
    times_seconds: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    reject: Reject | None = None
    has_file: bool = True


def reencode(
    corpus_path: Path, options: ReencodeOptions, progress: Progress | None = None
) -> ReencodeReport:
    """Makes a feature set of a corpus, carries on with one, or adds the corpus's new videos to it.

    Args:
        corpus_path: A complete corpus that names its video files.
        options: See there.
        progress: Called with videos done, all videos to do, and videos rejected.

    Raises:
        UsageError: The corpus names no files or none of them is there, an option cannot be used, or
            the set holds features of another encoder.
        BadRecord: ``strict``, and a file is gone or cannot be decoded.
    """
    corpus = Corpus(corpus_path)
    files = _files(corpus)
    made_with = _made_with(corpus_path, options)
    held = list_sets(corpus_path).get(options.name, {}).get("frame_encoder")
    encoder = open_frame_encoder(
        made_with["encoder"],
        options=made_with["options"],
        precision=made_with["precision"],
        like=None if options.restart else held,
    )
    # Through JSON, as the manifest holds it, so that the two can be compared.
    identity = json.loads(json.dumps(encoder.identity))
    if same_encoder(identity, corpus.frame_encoder):
        raise UsageError(f"the frames of {corpus_path} are those of {describe(identity)} already")
    name = options.name or _name_of(identity)
    writer = FeatureWriter(corpus_path, name, restart=options.restart)
    writer.check_encoder(identity)
    present = writer.keys()
    keys = video_keys(corpus)
    rows = [row for row, key in enumerate(keys) if key not in present and not corpus.gone[row]]
    _check_files(corpus_path, [files[row] for row in rows])
    if rows or not writer.manifest["complete"]:
        writer.begin(identity, made_with)
        decoded = _decoded(corpus, rows, files, encoder.short_side, options.workers)
        _add(writer, decoded, encoder, strict=options.strict, progress=progress, total=len(rows))
        writer.finish()
    return ReencodeReport(
        name=name,
        encoder=describe(writer.manifest["frame_encoder"]),
        videos=len(present) + len(rows),
        added=len(rows),
        without_file=writer.manifest["without_file"],
        rejected=Counter(writer.manifest["rejected"]),
        note=encoder.note,
    )


def _made_with(corpus: Path, options: ReencodeOptions) -> dict[str, Any]:
    """What opens the encoder: the options, or where they name none, what began the set."""
    if options.encoder:
        return {
            "encoder": absolute_spec(options.encoder),
            "options": options.encoder_options,
            "precision": options.encoder_precision,
        }
    sets = list_sets(corpus)
    if options.name not in sets:
        raise UsageError(
            f"{corpus} has no feature set {options.name!r} to carry on with (it has "
            f"{', '.join(sets) or 'none'}): say which encoder makes it, with --encoder"
        )
    made_with = dict(sets[options.name]["made_with"])
    if options.encoder_options or options.encoder_precision != "auto":
        raise UsageError("options of the encoder need --encoder with them")
    return made_with


def _name_of(identity: dict[str, Any]) -> str:
    """A set's name after its encoder, such as ``siglip2-base-patch16-224-fp16``."""
    base = identity["name"].partition(":")[2] or identity["name"]
    base = base.partition("@")[0].rpartition("/")[2].removesuffix(".onnx")
    precision = identity["precision"]
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", base).strip("-._")
    return (kept or "features") + ("" if precision == "float32" else f"-{precision}")


def _files(corpus: Corpus) -> list[str]:
    """The video file of every row, empty where none."""
    files: list[str] = corpus.column("file").to_pylist()
    if not any(files):
        raise UsageError(
            f"{corpus.path} names no video files: it was made from features, TFRecords, URLs or "
            "tar shards, or by a vidvec that did not note them; ingest the videos into a new "
            "corpus with --encoder"
        )
    return files


def _check_files(corpus: Path, files: Iterable[str]) -> None:
    """Refuses to begin where not one file is there: a disk is not mounted, or all have moved."""
    named = [file for file in files if file]
    if named and not any(Path(file).is_file() for file in named):
        raise UsageError(
            f"none of the {len(named)} video files of {corpus} is there any more, such as "
            f"{named[0]}: mount their disk, or put them back where they were"
        )


def _decoded(
    corpus: Corpus,
    rows: list[int],
    files: list[str],
    short_side: int,
    workers: int,
) -> Iterator[_Decoded]:
    """The pictures of rows, in order, decoded ahead by worker processes."""
    keys = video_keys(corpus)
    with WorkerPool(workers) as pool:
        ahead: deque[tuple[int, NDArray[np.float32], Future[Media] | None]] = deque()
        for row in rows:
            times = corpus.video(row).frame_times_seconds
            request = _request(corpus, times, short_side)
            coming = pool.submit(Path(files[row]), request) if files[row] else None
            ahead.append((row, times, coming))
            if len(ahead) > 2 * workers:
                done = ahead.popleft()
                yield _settle(keys[done[0]], files[done[0]], *done[1:])
        for row, times, coming in ahead:
            yield _settle(keys[row], files[row], times, coming)


def _request(corpus: Corpus, times_seconds: NDArray[np.float32], short_side: int) -> MediaRequest:
    """The pictures at the times that the corpus has, or where it has none, as in ingest."""
    if len(times_seconds):  # those of key frames, too, give these again
        wanted = tuple(times_seconds.tolist())
        return MediaRequest(short_side=short_side, times_seconds=wanted, thumbnails=0)
    keyframes = corpus.manifest.get("frame_sampling", EVEN) == KEYFRAMES
    return MediaRequest(short_side=short_side, keyframes=keyframes, thumbnails=0)


def _settle(
    key: tuple[str, str],
    file: str,
    wanted: NDArray[np.float32],
    coming: Future[Media] | None,
) -> _Decoded:
    """What was read of a video."""
    if coming is None:
        return _Decoded(key, has_file=False)
    try:
        found = coming.result()
        if found.without_pictures is not None and len(wanted):
            raise BadRecord(*found.without_pictures)
        if len(wanted) and not _same_times(found.times_seconds, wanted):
            shown = ", ".join(f"{time:.3f}" for time in found.times_seconds[:3])
            raise BadRecord(
                "other-times",
                f"{file} has {len(found.pictures)} frames at {shown} … s where the corpus has "
                f"{len(wanted)}: the file has changed since it was ingested",
            )
    except BadRecord as error:
        return _Decoded(key, reject=Reject(file, key[0], error.reason, error.detail))
    return _Decoded(key, found.pictures, wanted if len(wanted) else found.times_seconds)


def _same_times(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> bool:
    return len(found) == len(wanted) and bool((np.abs(found - wanted) <= _SAME_TIME_SECONDS).all())


def _add(
    writer: FeatureWriter,
    decoded: Iterator[_Decoded],
    encoder: FrameEncoder,
    *,
    strict: bool,
    progress: Progress | None,
    total: int,
) -> None:
    """Encodes and adds chunk by chunk."""
    done = rejected = 0
    while chunk := encode_together(islice(decoded, CHUNK), encoder):
        for row in chunk:
            if strict and row.reject is not None:
                writer.commit()
                raise stopped_by(row.reject)
        writer.add(chunk)
        rejected += sum(row.reject is not None for row in chunk)
        done += len(chunk)
        if progress is not None:
            progress(done, total, rejected)


def encode_together(decoded: Iterable[_Decoded], encoder: FrameEncoder) -> list[Encoded]:
    """Features of several videos, their pictures in batches of the encoder's size."""
    videos: list[_Decoded] = []
    waiting: list[NDArray[np.uint8]] = []
    parts = [np.zeros((0, encoder.frame_size), np.float32)]
    counts = []
    for video in decoded:
        waiting += video.images
        counts.append(len(video.images))
        video.images.clear()  # they need memory until they are encoded, not until the chunk ends
        videos.append(video)
        while len(waiting) >= encoder.batch_size:
            size = encoder.batch_size
            parts.append(encoder.encode(waiting[:size]))
            del waiting[:size]
    if waiting:
        parts.append(encoder.encode(waiting))
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is found below
        features = np.concatenate(parts).astype(np.float16)
    each = np.split(features, np.cumsum(counts)[:-1]) if counts else []
    return [_row(video, frames) for video, frames in zip(videos, each, strict=True)]


def _row(video: _Decoded, frames: NDArray[np.float16]) -> Encoded:
    if np.isfinite(frames).all():
        return Encoded(video.key, video.times_seconds, frames, video.reject, video.has_file)
    detail = "the frame encoder gave a number that is no finite float16"
    reject = Reject(video.key[0], video.key[0], "nan", detail)
    return Encoded(video.key, np.zeros(0, np.float32), frames[:0], reject)
