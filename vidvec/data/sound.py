"""What is heard in a video file: one-second windows on the pictures' clock, or the whole of it.

Windows begin at the times of ``video.wanted_times``: every second, at most 32 over all of it. The
packets of the sound are read once, from front to end, and only those that a window needs are
decoded, so that three hours take as little memory as three seconds. Where the file has a gap in its
sound, its samples are zeros; a window that the sound hardly reaches is left out.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.data.video import wanted_times
from vidvec.errors import BadRecord

SAMPLE_RATE = 16_000  # samples a second, of one channel: what models of sound take
WINDOW_SECONDS = 1.0
# A window with less sound than this is left out.
_LEAST_SECONDS = 0.1
# Decoded ahead of a window, as codecs of sound need up to 80 ms (Opus) to be in swing.
_PREROLL_SECONDS = 0.25
# Timestamps that differ more from where the samples before them end are a gap or a jump.
_GAP_SECONDS = 0.05
# The reading ends when as many packets in a row lie behind all that is wanted.
_BEHIND_PACKETS = 1000
_RATES = range(1_000, 800_000)


@dataclass(frozen=True, slots=True)
class AudioWindows:
    """Seconds of a video's sound.

    Attributes:
        samples: A windows, each (n,) float32 at 16 kHz, mono, in −1 … 1; n is at most 16,000, and
            less where the sound begins or ends within the window.
        times_seconds: (A,) float32, when each window begins, counted from the first picture.
    """

    samples: list[NDArray[np.float32]]
    times_seconds: NDArray[np.float32]


def read_windows(
    path: Path, *, duration_seconds: float | None = None, max_windows: int = 32
) -> AudioWindows | None:
    """Reads the seconds of sound that stand for a video.

    Args:
        path: The file.
        duration_seconds: Of the pictures; ``None``: as the file's header says. What is heard
            after the last picture is not taken.
        max_windows: At most so many.

    Returns:
        The windows, of which there may be none; ``None`` where the file has no sound.

    Raises:
        BadRecord: ``not-a-video``, or ``damaged-audio`` where there is sound and none of it can be
            decoded.
    """
    with _open(path) as sound:
        if sound is None:
            return None
        duration = sound.duration_seconds if duration_seconds is None else duration_seconds
        times = wanted_times(duration, max_windows)
        length = round(WINDOW_SECONDS * SAMPLE_RATE)
        taken = _Taken.empty([round(time * SAMPLE_RATE) for time in times], length)
        _take(sound, taken, path)
    windows = [part.sound() for part in taken.parts]
    heard = [place for place, one in enumerate(windows) if len(one) >= _LEAST_SECONDS * SAMPLE_RATE]
    return AudioWindows([windows[place] for place in heard], times[heard].astype(np.float32))


def read_waveform(path: Path, *, max_seconds: float) -> NDArray[np.int16] | None:
    """Reads the sound of a file from its first picture on.

    Args:
        path: The file.
        max_seconds: What comes later is not read.

    Returns:
        (n,) int16 at 16 kHz, mono; ``None`` where the file has no sound.

    Raises:
        BadRecord: As in ``read_windows``.
    """
    with _open(path) as sound:
        if sound is None:
            return None
        taken = _Taken.empty([0], round(max_seconds * SAMPLE_RATE), np.int16)
        _take(sound, taken, path)
    [part] = taken.parts
    return part.samples[: part.end]


@dataclass(frozen=True, slots=True)
class _Sound:
    """An open file and the stream of sound in it; ``start``: when its pictures begin."""

    container: Any
    stream: Any
    start_seconds: float
    duration_seconds: float


@contextmanager
def _open(path: Path) -> Iterator[_Sound | None]:
    import av

    name = os.fsencode(path.name).decode("utf-8", "backslashreplace")
    try:
        # As in video.py: nothing but this file is ever opened.
        container = av.open(
            f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"}
        )
    except av.error.FFmpegError as error:
        found = f"{name} is no file that FFmpeg can read ({error.strerror})"
        raise BadRecord("not-a-video", found) from None
    with container:
        streams = [one for one in container.streams.audio if one.codec_context is not None]
        best = container.streams.best("audio")
        stream = best if best in streams else next(iter(streams), None)
        if stream is None:
            yield None
            return
        stream.codec_context.thread_count = 1
        cover = av.stream.Disposition.attached_pic
        pictures = [one for one in container.streams.video if not one.disposition & cover]
        first = [*pictures, stream][0]
        starts = (one.start_time * one.time_base for one in [first] if one.start_time is not None)
        start = float(next(starts, 0))
        stated = first.duration * first.time_base if first.duration else 0
        duration = float(stated) or (container.duration or 0) / av.time_base
        yield _Sound(container, stream, start, duration)


@dataclass(slots=True)
class _Part:
    """One window: its samples, and from where to where there is sound in it."""

    start: int  # in samples from the first picture
    samples: NDArray[Any]
    begin: int = -1
    end: int = 0

    def put(self, position: int, samples: NDArray[np.float32]) -> None:
        """Takes those samples that lie in the window; the first is at ``position``."""
        low = max(0, position - self.start)
        high = min(len(self.samples), position + len(samples) - self.start)
        if low >= high:
            return
        some = samples[low + self.start - position : high + self.start - position]
        if self.samples.dtype == np.int16:
            some = np.round(np.clip(some, -1, 1) * 32767)
        self.samples[low:high] = some
        self.begin = low if self.begin < 0 else min(self.begin, low)
        self.end = max(self.end, high)

    def sound(self) -> NDArray[Any]:
        """The samples from the first to the last that there are."""
        return self.samples[max(0, self.begin) : self.end]


@dataclass(slots=True)
class _Taken:
    """Windows in order, none of which overlap; ``errors``: packets that could not be decoded."""

    parts: list[_Part]
    length: int
    starts: list[int]
    errors: int = 0

    @classmethod
    def empty(cls, starts: list[int], length: int, kind: type[np.generic] = np.float32) -> _Taken:
        return cls([_Part(start, np.zeros(length, kind)) for start in starts], length, starts)

    def put(self, position: int, samples: NDArray[np.float32]) -> None:
        first = max(0, bisect_right(self.starts, position) - 1)
        for part in self.parts[first:]:
            if part.start >= position + len(samples):
                break
            part.put(position, samples)

    def needs(self, begin: float, end: float) -> bool:
        """Whether sound between these samples is in a window or right before one."""
        preroll = _PREROLL_SECONDS * SAMPLE_RATE
        last = bisect_right(self.starts, end + preroll) - 1
        return last >= 0 and begin < self.starts[last] + self.length


def _take(sound: _Sound, taken: _Taken, path: Path) -> None:
    """Decodes what the windows need.

    Raises:
        BadRecord: ``damaged-audio`` where packets cannot be decoded and no sound came.
    """
    run: _Run | None = None
    for frame in _frames(sound, taken):
        time = None
        if frame.pts is not None and frame.time_base:
            time = float(frame.pts * frame.time_base) - sound.start_seconds
        if run is None or not run.goes_on(frame, time):
            _put(taken, run, None)
            run = _Run.of(frame, time, run)
        _put(taken, run, frame)
    _put(taken, run, None)
    if taken.errors and not any(part.end for part in taken.parts):
        name = os.fsencode(path.name).decode("utf-8", "backslashreplace")
        found = f"{name} has sound of which {taken.errors} packets are damaged and none can be read"
        raise BadRecord("damaged-audio", found)


def _put(taken: _Taken, run: _Run | None, frame: Any) -> None:
    for position, samples in run.resampled(frame) if run is not None else ():
        taken.put(position, samples)


def _frames(sound: _Sound, taken: _Taken) -> Iterator[Any]:
    """Frames of sound that a window may need, in the file's order."""
    import av

    packets, behind, last = sound.container.demux(sound.stream), 0, taken.starts[-1] + taken.length
    while behind < _BEHIND_PACKETS:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            stamp = packet.pts if packet.pts is not None else packet.dts
            if packet.size and stamp is not None:
                scale = float(packet.time_base) * SAMPLE_RATE
                begin = stamp * scale - sound.start_seconds * SAMPLE_RATE
                behind = behind + 1 if begin > last else 0
                if not taken.needs(begin, begin + (packet.duration or 0) * scale):
                    continue
            decoded = packet.decode()
        except (av.error.FFmpegError, ValueError):  # ValueError: a frame that makes no sense
            taken.errors += 1
            continue
        yield from (frame for frame in decoded if frame.sample_rate in _RATES and frame.samples)


@dataclass(slots=True)
class _Run:
    """Frames of one kind that follow one another without a gap, resampled together."""

    kind: tuple[str, str, int]
    rate: int
    resampler: Any
    start: int  # in samples of SAMPLE_RATE from the first picture
    start_seconds: float
    taken: int = 0  # samples of the frames so far
    given: int = 0  # samples of SAMPLE_RATE so far
    downmix: bool = field(default=False)

    @classmethod
    def of(cls, frame: Any, time: float | None, before: _Run | None) -> _Run:
        """A run that begins with a frame: at its time, or where the run before ends."""
        seconds = time if time is not None else (before.end_seconds if before else 0.0)
        start = math.floor(seconds * SAMPLE_RATE + 0.5)
        return cls(_kind(frame), frame.sample_rate, _resampler(), start, seconds)

    @property
    def end_seconds(self) -> float:
        return self.start_seconds + self.taken / self.rate

    def goes_on(self, frame: Any, time: float | None) -> bool:
        """Whether a frame follows on what came before."""
        follows = time is None or abs(time - self.end_seconds) <= _GAP_SECONDS
        return follows and _kind(frame) == self.kind

    def resampled(self, frame: Any) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Mono samples at SAMPLE_RATE with their positions; ``None`` asks for what is left."""
        if frame is not None:
            self.taken += frame.samples
            frame.pts = None  # the run knows the time; a jump within the tolerance is no matter
        for piece in self._resample(frame):
            samples = np.nan_to_num(piece.to_ndarray().reshape(-1), posinf=1.0, neginf=-1.0)
            yield self.start + self.given, samples
            self.given += len(samples)

    def _resample(self, frame: Any) -> list[Any]:
        import av

        if frame is None and self.taken == 0:
            return []
        if not self.downmix:
            try:
                return list(self.resampler.resample(frame))
            except (av.error.FFmpegError, ValueError):
                if frame is None or self.given:
                    return []
                self.downmix = True  # a layout that the resampler does not know
                self.resampler = _resampler()
        return list(self.resampler.resample(None if frame is None else _mono(frame)))


def _resampler() -> Any:
    """To mono at SAMPLE_RATE; the weights of the channels add up to 1 at most."""
    import av

    weights = {"rematrix_maxval": "1.0"}
    return av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE, options=weights)


def _kind(frame: Any) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


# The first letters of FFmpeg's sample formats (u8p, s16p, s32p, s64p, fltp, dblp) as NumPy's.
_KINDS = {"u": "u", "s": "i", "f": "f", "d": "f"}


def _mono(frame: Any) -> Any:
    """The mean of a frame's channels, as a frame."""
    import av

    channels = frame.layout.nb_channels
    if frame.format.is_planar:
        # PyAV looks for planes up to a null pointer, which need not stand behind the last of more
        # than eight: its to_ndarray then reads what is no memory of ours.
        kind = np.dtype(f"{_KINDS[frame.format.name[0]]}{frame.format.bytes}")
        planes = [np.frombuffer(plane, kind, frame.samples) for plane in frame.planes[:channels]]
        values = np.stack(planes)
    else:
        values = frame.to_ndarray().reshape(-1, channels).T
        kind = values.dtype
    mean = values.astype(np.float64).mean(axis=0)
    if kind.kind == "u":
        mean = mean / 128 - 1
    elif kind.kind == "i":
        mean /= np.iinfo(kind).max
    made = av.AudioFrame.from_ndarray(mean[None].astype(np.float32), format="flt", layout="mono")
    made.sample_rate = frame.sample_rate
    return made
