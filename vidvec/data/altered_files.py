"""Altered copies as files, made in limited processes and found again by what they are copies of.

A copy is H.264 in MP4, without sound. Its name is a digest of all that decides what is in it, so
that a file that is there is the one that would be made: a run that was killed carries on, and
another model is measured on the very same copies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec import storage
from vidvec.data.alterations import ALTERATIONS, VERSION, Alteration, Picture, drawn, even_sized
from vidvec.data.media import Media, MediaRequest
from vidvec.data.worker import Limits
from vidvec.data.workers import WorkerPool
from vidvec.errors import BadRecord

MAKE_COPIES = "vidvec.data.altered_files:make_copies"
KIND = "altered copies"
# Models look at a picture a second, 32 of a video at most: more would be encoded for nothing.
RATE = 4.0
MOST_PICTURES = 120
SHORT_SIDE = 270
_TICKS = 1000  # a second, of the times in a copy
_JOBS = ".jobs.tmp"

Progress = Callable[..., None]


@dataclass(frozen=True, slots=True)
class AlteredCopy:
    """One altered copy on disk.

    Attributes:
        source: Id of the video that it was made of.
        kind: Of ``alterations.ALTERATIONS``.
        path: The file.
    """

    source: str
    kind: str
    path: Path


@dataclass(frozen=True, slots=True)
class Failed:
    """A video of which no copies could be made.

    Attributes:
        source: Its id.
        reason, detail: As of a ``BadRecord``.
    """

    source: str
    reason: str
    detail: str


def altered_copies(
    folder: Path,
    videos: Sequence[tuple[str, Path]],
    *,
    kinds: Sequence[str] = tuple(ALTERATIONS),
    seed: int = 0,
    workers: int = 2,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> tuple[list[AlteredCopy], list[Failed]]:
    """Makes those altered copies of videos that are not in the folder yet.

    Args:
        folder: Of the copies; made where it is not there.
        videos: Id and file of each.
        kinds: Which copies of each.
        seed: Decides, with a video's id, how it is altered.
        workers: Files altered side by side.
        limits: Of the copies of one video together; ``None``: those of ``ingest``.
        progress: Called with videos done and all.

    Returns:
        The copies, video by video in the order given; and the videos that cannot be altered.
    """
    jobs = folder / _JOBS
    jobs.mkdir(parents=True, exist_ok=True)
    storage.remove_leftovers(folder)
    jobs.mkdir(exist_ok=True)
    made = {video: _copies(folder, video, file, kinds, seed) for video, file in videos}
    failed: dict[str, Failed] = {}
    with WorkerPool(workers, limits, task=MAKE_COPIES) as pool:
        running = {}
        for number, (video, file) in enumerate(videos):
            missing = [copy for copy in made[video] if not copy.path.is_file()]
            if missing:
                job = jobs / f"{number:06d}.json"
                storage.write_json(job, _job(video, file, missing, seed))
                running[pool.submit(job, MediaRequest())] = video
        for done, future in enumerate(as_completed(running), len(videos) - len(running)):
            video = running[future]
            try:
                future.result()
            except BadRecord as error:
                failed[video] = Failed(video, error.reason, error.detail)
            if progress is not None:
                progress(done + 1, len(videos))
    copies = [copy for video, _ in videos if video not in failed for copy in made[video]]
    _note(folder, copies, seed)
    storage.remove_leftovers(folder)
    return copies, [failed[video] for video, _ in videos if video in failed]


def _copies(
    folder: Path, video: str, file: Path, kinds: Sequence[str], seed: int
) -> list[AlteredCopy]:
    """The copies of a video, whether they are there or not."""
    try:
        facts = file.stat()
        version = [facts.st_size, facts.st_mtime_ns]
    except OSError:
        version = []
    decides = [VERSION, seed, video, str(file), version, RATE, MOST_PICTURES, SHORT_SIDE]
    digest = hashlib.sha256(json.dumps(decides).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return [AlteredCopy(video, kind, folder / f"{digest}-{kind}.mp4") for kind in kinds]


def _job(
    video: str, file: Path, missing: Sequence[AlteredCopy], seed: int
) -> dict[str, str | int | dict[str, str]]:
    files = {copy.kind: str(copy.path.absolute()) for copy in missing}
    return {"id": video, "file": str(file.absolute()), "seed": seed, "copies": files}


def _note(folder: Path, copies: Sequence[AlteredCopy], seed: int) -> None:
    """Writes which file is a copy of what."""
    rows = [{"file": each.path.name, "of": each.source, "kind": each.kind} for each in copies]
    storage.write_manifest(folder, KIND, seed=seed, version=VERSION, copies=rows)


def make_copies(path: Path, _: MediaRequest) -> Media:
    """Makes the copies that a job's file names; runs in a worker process.

    Args:
        path: JSON with ``id``, ``file``, ``seed`` and, by kind, the ``copies`` to write.

    Returns:
        Nothing of interest.

    Raises:
        BadRecord: The video cannot be decoded; see ``video.decode``.
    """
    from vidvec.data.video import decode

    job = storage.read_json(path)
    read = decode(
        Path(job["file"]),
        max_frames=MOST_PICTURES,
        frames_per_second=RATE,
        short_side=SHORT_SIDE,
    )
    for kind, file in job["copies"].items():
        alteration = drawn(kind, job["seed"], job["id"])
        write_altered(Path(file), read.images, read.times_seconds, alteration)
    return Media()


def write_altered(
    path: Path,
    pictures: Sequence[Picture],
    times_seconds: NDArray[np.floating],
    alteration: Alteration,
) -> None:
    """Writes an altered copy as H.264; there whole or not at all.

    Args:
        path: The MP4 file.
        pictures: (height, width, 3) uint8 RGB, of one size.
        times_seconds: When each comes on, ascending.
        alteration: What is done to them.
    """
    import av

    options = {"preset": "veryfast", "crf": str(alteration.crf)}
    with storage.atomic_path(path) as temporary, av.open(str(temporary), "w", "mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE), options=options)
        stream.codec_context.time_base = Fraction(1, _TICKS)
        stream.codec_context.thread_count = 1  # files are made side by side
        stream.pix_fmt = "yuv420p"
        last = -1
        for picture, seconds in zip(pictures, times_seconds, strict=True):
            altered = np.ascontiguousarray(even_sized(alteration.change(picture)))
            if last < 0:
                stream.height, stream.width = altered.shape[:2]
            frame = av.VideoFrame.from_ndarray(altered, format="rgb24")
            # Two pictures may come on so near to one another that they share a tick.
            last = max(last + 1, round(_TICKS * float(seconds) / alteration.speed))
            frame.pts, frame.time_base = last, Fraction(1, _TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
