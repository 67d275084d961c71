"""Decoding against plain loops over every frame, on real clips, one thread each.

    python -m benchmarks.decode CLIPS [--rounds 3] [--ingest]

CLIPS is a folder of videos. Every side takes the same frames: those that ``vidvec`` takes, one a
second and at most 32, with the short side at 256 pixels. The first pass checks that: each picture
of a plain loop must be of the same time, to half a frame, and look the same. Then all sides go
through all clips in turn, round by round; processor time counts, as other work may run beside it.
``--ingest`` times whole ingests instead, with two workers.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Comparison
from benchmarks.report import HEADER, table_row, this_machine
from vidvec import IngestOptions, ingest
from vidvec.data.access import VIDEO_SUFFIXES
from vidvec.data.containers import open_video
from vidvec.data.timeline import on_at, read_timeline
from vidvec.data.video import decode

Picture = NDArray[np.uint8]
Taken = tuple[float, Picture]
# Mean difference of two scalings of one picture, 0…255; other frames of a clip differ by more.
_ALIKE = 8.0


@dataclass(frozen=True, slots=True)
class Clip:
    """What the plain loops are told of a clip, so that they take the same frames.

    Attributes:
        path: The file.
        numbers: Of the wanted frames, counted in the order in which they are shown.
        shape: (height, width) of the wanted pictures.
        frames: In the clip.
        frame_seconds: How long one is on.
        times: When vidvec says that the wanted frames come on, in seconds.
        pictures: What vidvec decodes.
    """

    path: Path
    numbers: list[int]
    shape: tuple[int, ...]
    frames: int
    frame_seconds: float
    times: list[float]
    pictures: list[Picture]


def look(path: Path) -> Clip:
    """Which frames vidvec takes."""
    decoded = decode(path)
    with open_video(path) as (container, stream):
        line = read_timeline(path, container, stream)
    since = [round(float(time) / line.tick) + line.ticks[0] for time in decoded.times_seconds]
    numbers = [on_at(line.ticks, tick) for tick in since]
    return Clip(
        path,
        numbers,
        decoded.images[0].shape[:2],
        len(line.ticks),
        line.seconds / len(line.ticks),
        decoded.times_seconds.tolist(),
        decoded.images,
    )


def by_opencv(clip: Clip) -> Iterator[Taken]:
    """Every frame read through OpenCV; wanted ones with the time that it states, in seconds."""
    wanted = set(clip.numbers)
    capture = _capture(clip.path)
    number, first = 0, None
    while True:
        there, picture = capture.read()
        if not there:
            return
        if first is None:
            first = capture.get(cv2.CAP_PROP_POS_MSEC)
        if number in wanted:
            shown = capture.get(cv2.CAP_PROP_POS_MSEC) - first
            yield shown / 1000, _small(picture, clip.shape)
        number += 1


def by_opencv_with_care(clip: Clip) -> Iterator[Taken]:
    """The same without turning into pictures what is not wanted, and no further than that is."""
    wanted = set(clip.numbers)
    capture = _capture(clip.path)
    first = None
    for number in range(clip.numbers[-1] + 1):
        if not capture.grab():
            return
        if first is None:
            first = capture.get(cv2.CAP_PROP_POS_MSEC)
        if number in wanted:
            shown = capture.get(cv2.CAP_PROP_POS_MSEC) - first
            yield shown / 1000, _small(capture.retrieve()[1], clip.shape)


def by_pyav(clip: Clip) -> Iterator[Taken]:
    """Every frame decoded by PyAV, wanted ones turned into pictures."""
    wanted = set(clip.numbers)
    with av.open(str(clip.path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        first = None
        for number, frame in enumerate(container.decode(stream)):
            shown = frame.time if frame.time is not None else float(frame.dts * stream.time_base)
            first = shown if first is None else first
            if number in wanted:
                yield shown - first, _small(frame.to_ndarray(format="bgr24"), clip.shape)


def by_vidvec(clip: Clip, *, keyframes: bool = False) -> Iterator[Taken]:
    """As ``vidvec ingest`` does, with or without ``--keyframes``."""
    decoded = decode(clip.path, keyframes=keyframes)
    yield from zip(decoded.times_seconds.tolist(), decoded.images, strict=True)


def _capture(path: Path) -> Any:
    return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])


def _small(picture: Picture, shape: tuple[int, ...]) -> Picture:
    small = cv2.resize(picture, shape[::-1], interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small[:, :, ::-1])


Way = Callable[[Clip], Iterator[Taken]]
PLAIN: dict[str, Way] = {
    "OpenCV, every frame": by_opencv,
    "OpenCV, only as far and as much as is wanted": by_opencv_with_care,
    "PyAV, every frame": by_pyav,
}
OURS: dict[str, Way] = {
    "vidvec": by_vidvec,
    "vidvec --keyframes": partial(by_vidvec, keyframes=True),
}


def differences(clip: Clip, way: Way) -> list[str]:
    """What a plain loop takes otherwise than vidvec."""
    taken = list(way(clip))
    if len(taken) != len(clip.pictures):
        return [f"{len(taken)} pictures instead of {len(clip.pictures)}"]
    found = []
    for (shown, picture), expected, image in zip(taken, clip.times, clip.pictures, strict=True):
        unlike = float(np.abs(picture.astype(int) - image).mean())
        if abs(shown - expected) > clip.frame_seconds / 2 or unlike > _ALIKE:
            found.append(f"{shown:.3f} s instead of {expected:.3f} s, unlike by {unlike:.1f}")
    return found


def check(clips: list[Clip]) -> None:
    """Says where a plain loop takes other frames, or states other times for them."""
    for name, way in PLAIN.items():
        for clip in clips:
            found = differences(clip, way)
            if found:
                print(f"{name}: {clip.path.name} differs in {len(found)} pictures: {found[0]}")


def measure(clips: list[Clip], rounds: int) -> dict[str, tuple[float, ...]]:
    """Processor seconds that every way takes for all clips, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in (*PLAIN, *OURS)}
    for _ in range(rounds):
        for name, way in (PLAIN | OURS).items():
            began = time.process_time()
            for clip in clips:
                list(way(clip))
            seconds[name].append(time.process_time() - began)
    return {name: tuple(values) for name, values in seconds.items()}


def print_table(clips: list[Clip], seconds: dict[str, tuple[float, ...]]) -> None:
    """Times faster than each of the plain ways."""
    pictures = sum(len(clip.numbers) for clip in clips)
    print(f"{len(clips)} clips, {sum(clip.frames for clip in clips)} frames, {pictures} wanted")
    print(HEADER)
    for ours in OURS:
        for plain in PLAIN:
            what = f"{ours} against {plain}"
            print(table_row(Comparison(ours, what, seconds[plain], seconds[ours], len(clips))))


def time_ingests(folder: Path) -> None:
    """Files tried, decoded and rejected, and videos a second, of whole ingests with two workers."""
    files = sum(file.suffix.lower() in VIDEO_SUFFIXES for file in folder.rglob("*"))
    for what, options in {
        "ingest": IngestOptions(workers=2),
        "ingest --audio none": IngestOptions(workers=2, audio="none"),
        "ingest --audio none --keyframes": IngestOptions(workers=2, audio="none", keyframes=True),
    }.items():
        with tempfile.TemporaryDirectory() as scratch:
            began = time.perf_counter()
            report = ingest(folder, Path(scratch) / "corpus", options)
            took = time.perf_counter() - began
        print(
            f"{what}: {files} files, {report.videos} videos, rejected {dict(report.rejected)}, "
            f"{took:.1f} s, {report.videos / took:.1f} videos/s"
        )


def main() -> None:
    """Runs it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ingest", action="store_true")
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    machine = this_machine()
    print(f"{machine.processor}, {machine.slug}; PyAV {av.__version__}, OpenCV {cv2.__version__}")
    if chosen.ingest:
        time_ingests(chosen.clips)
        return
    files = sorted(file for file in chosen.clips.rglob("*") if file.suffix in VIDEO_SUFFIXES)
    clips = [look(file) for file in files]
    check(clips)
    print_table(clips, measure(clips, chosen.rounds))


if __name__ == "__main__":
    main()
