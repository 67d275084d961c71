"""Video files into pictures, chosen by time.

Which frames: one a second, at most 32 spread over the whole video (``wanted_times``); for each
wanted time the frame that a viewer sees at that moment, or the nearest key frame. The packets are
read once without decoding them, which gives the times of all frames (``timeline.py``); then only
what the wanted frames need is decoded (``frame_reader.py``).

FFmpeg's own messages stay off, as PyAV leaves them unless told otherwise: its bridge to Python's
logging takes the interpreter lock inside FFmpeg's threads, which can hang.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.data.containers import bad, check_file, open_video
from vidvec.data.frame_reader import FrameReader
from vidvec.data.sampling import sample_positions
from vidvec.data.timeline import Timeline, nearest, on_at, read_timeline

# Many containers keep times to the millisecond only, so half of one is allowed for, in seconds.
_ROUNDING = 0.0005


@dataclass(frozen=True, slots=True)
class DecodedVideo:
    """Pictures of one video.

    Attributes:
        images: F pictures, each (height, width, 3) uint8 RGB, upright.
        times_seconds: (F,) float32, when each picture comes on, counted from the first frame.
        duration_seconds: From the first frame to the end of the last.
    """

    images: list[NDArray[np.uint8]]
    times_seconds: NDArray[np.float32]
    duration_seconds: float


def wanted_times(
    duration_seconds: float, max_frames: int = 32, frames_per_second: float = 1.0
) -> NDArray[np.float64]:
    """The moments at which a video is looked at.

    Every ``1 / frames_per_second`` seconds from 0 to below the duration, but at least one; where
    that is more than ``max_frames``, those of them that ``sample_positions`` gives.

    Returns:
        (F,) float64 seconds, ascending, 1 ≤ F ≤ max_frames.
    """
    count = max(1, int(np.ceil(duration_seconds * frames_per_second)))
    return sample_positions(count, max_frames) / frames_per_second


def decode(
    path: Path,
    *,
    max_frames: int = 32,
    frames_per_second: float = 1.0,
    short_side: int = 256,
    times_seconds: NDArray[np.floating[Any]] | None = None,
    keyframes: bool = False,
) -> DecodedVideo:
    """Decodes the pictures that stand for a video.

    For each wanted time (``wanted_times``) the last frame that came on at or before it; a frame
    that stands for several times comes once. Pictures are turned upright and scaled so that the
    short side is at most ``short_side``, with square pixels; they are never enlarged. A still
    picture is a video of one frame.

    Args:
        path: The video file.
        max_frames: At most so many pictures.
        frames_per_second: Pictures a second, as far as ``max_frames`` allows.
        short_side: Pixels.
        times_seconds: The wanted times, ascending, instead of those of ``wanted_times``: those of
            an earlier call give its frames again.
        keyframes: Take the key frame nearest to each wanted time, earlier or later, the earlier of
            two equally near, with its own time. Nothing else is decoded, so that this is faster;
            there are no more pictures than key frames.

    Raises:
        BadRecord: ``missing-file``, ``unreadable-file``, ``empty-file``, ``not-a-video``,
            ``no-video-stream``, ``audio-only``, ``truncated-video``, or ``damaged-video`` where
            packets cannot be decoded and less than half of the wanted frames can.
    """
    whole_bytes = check_file(path)
    with open_video(path) as (container, stream):
        timeline = read_timeline(path, container, stream, whole_bytes=whole_bytes)
        times = times_seconds
        if times is None:
            length = timeline.seconds - 2 * _ROUNDING
            times = wanted_times(length, max_frames, frames_per_second)
        wanted = _Wanted.of(timeline, times, keyframes)
        gaps = timeline.complete and (bool(timeline.keyframes) or not keyframes)
        pictures = None
        if timeline.packets is not None:
            pictures = _take(container, stream, wanted, short_side, gaps=gaps)
    again = [True, False] if gaps and timeline.packets is None else [False]
    while pictures is None:
        with open_video(path) as (container, stream):
            way = {"gaps": again.pop(0)}
            pictures = _take(container, stream, wanted.from_file(), short_side, **way)
    _check_count(path, pictures, wanted)
    since_start = np.array(pictures.ticks) - timeline.ticks[0]
    shown = np.maximum(since_start * timeline.tick, 0).astype(np.float32)
    return DecodedVideo(pictures.images, shown, timeline.seconds)


def to_jpeg(image: NDArray[np.uint8], short_side: int = 90, quality: int = 80) -> bytes:
    """A picture as a small JPEG file, never enlarged.

    Args:
        image: (height, width, 3) uint8 RGB.
        short_side: Pixels at most.
        quality: 1 to 100.
    """
    import cv2

    size = _scaled(image.shape[1], image.shape[0], short_side)
    bgr = cv2.resize(image, size, interpolation=cv2.INTER_AREA)[:, :, ::-1]
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which frames are wanted.

    Attributes:
        timeline: Of the video.
        moments: The wanted times in ticks, ascending.
        keyframes: Whether key frames are wanted.
        ticks: When the wanted frames come on, ascending, as far as packets tell.
    """

    timeline: Timeline
    moments: list[int]
    keyframes: bool
    ticks: list[int]

    @classmethod
    def of(
        cls, timeline: Timeline, times_seconds: NDArray[np.floating[Any]], keyframes: bool
    ) -> _Wanted:
        ticks, times = timeline.ticks, times_seconds.astype(np.float64)
        # Beyond four hours, float32 is less exact than the containers are.
        allowed = np.maximum(_ROUNDING, np.spacing(times_seconds.astype(np.float32)))
        late = np.rint(times / timeline.tick) if keyframes else (times + allowed) // timeline.tick
        moments = [ticks[0] + int(ticks_since) for ticks_since in late]
        if keyframes and timeline.keyframes:
            chosen = {nearest(timeline.keyframes, moment) for moment in moments}
        else:
            chosen = {ticks[on_at(ticks, moment)] for moment in moments}
        return cls(timeline, moments, keyframes, sorted(chosen))

    def from_file(self) -> _Wanted:
        """The same, without packets in memory."""
        return replace(self, timeline=replace(self.timeline, packets=None))


@dataclass(slots=True)
class _Pictures:
    """The pictures chosen so far, their ticks, and how many packets were damaged."""

    stream: Any
    short_side: int
    images: list[NDArray[np.uint8]] = field(default_factory=list)
    ticks: list[int] = field(default_factory=list)
    errors: int = 0
    _scaler: Any = None

    def add(self, tick: int, frame: Any) -> None:
        """Takes a frame, unless it is the one taken last."""
        if tick not in self.ticks[-1:]:
            self.images.append(self._to_rgb(frame))
            self.ticks.append(tick)

    def _to_rgb(self, frame: Any) -> NDArray[np.uint8]:
        """A decoded frame as (height, width, 3) uint8 RGB: scaled, with square pixels, upright."""
        if self._scaler is None:
            from av.video.reformatter import VideoReformatter

            self._scaler = VideoReformatter()
        aspect = float(self.stream.sample_aspect_ratio or 1)
        width, height = frame.width * min(1.0, aspect), frame.height / max(1.0, aspect)
        width, height = _scaled(width, height, self.short_side)
        small = self._scaler.reformat(frame, width, height, "rgb24", threads=1)
        image: NDArray[np.uint8] = small.to_ndarray()
        return np.ascontiguousarray(_upright(image, frame))


def _take(
    container: Any, stream: Any, wanted: _Wanted, short_side: int, *, gaps: bool
) -> _Pictures | None:
    """The wanted frames of an open video; ``None`` where gaps cost some of them."""
    reader = FrameReader(container, stream, wanted.timeline, gaps)
    if wanted.keyframes and not gaps:  # what packets say of key frames does not hold
        chosen = _nearest_key_frames(reader.frames(None), wanted.moments)
    else:
        chosen = _on_at(reader.frames(wanted.ticks), wanted.ticks)
    pictures = _Pictures(stream, short_side)
    for tick, frame in chosen:
        pictures.add(tick, frame)
    pictures.errors = reader.errors
    # Where packets are damaged, frames that were left out may have to stand for others.
    return None if reader.lost or (gaps and reader.errors) else pictures


def _on_at(frames: Iterator[tuple[int, Any]], moments: list[int]) -> Iterator[tuple[int, Any]]:
    """For each moment the frame that is on."""
    shown, ahead = None, next(frames, None)
    for moment in moments:
        while ahead is not None and ahead[0] <= moment:
            shown, ahead = ahead, next(frames, None)
        on = shown or ahead  # the first that can be decoded where the beginning is damaged
        if on is not None:
            yield on


def _nearest_key_frames(
    frames: Iterator[tuple[int, Any]], moments: list[int]
) -> Iterator[tuple[int, Any]]:
    """For each moment the nearest key frame, as decoding tells which frames are."""
    left, before = list(moments), None
    for tick, frame in frames:
        if not frame.key_frame:
            continue
        while before is not None and left and left[0] - before[0] <= tick - left[0]:
            yield before
            del left[0]
        before = tick, frame
    if before is not None and left:
        yield before


def _check_count(path: Path, pictures: _Pictures, wanted: _Wanted) -> None:
    count, expected = len(pictures.images), len(wanted.ticks)
    if count == 0 or (pictures.errors and 2 * count < expected):
        damage = f"{pictures.errors} packets are damaged"
        raise bad("damaged-video", path, f"gave {count} of {expected} wanted frames, {damage}")


def _scaled(width: float, height: float, short_side: int) -> tuple[int, int]:
    scale = min(1.0, short_side / min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _upright(image: NDArray[np.uint8], frame: Any) -> NDArray[np.uint8]:
    """A frame's picture as it is to be shown."""
    try:
        sides = list(frame.side_data)
    except ValueError:
        # PyAV 18.1 refuses all of it where there is a kind that it has no name for, such as Exif.
        # Then it still says how far the picture is turned, though not whether it is mirrored.
        return np.rot90(image, round(frame.rotation / 90))
    for side in sides:
        if side.type.name == "DISPLAYMATRIX":
            image = _turned(image, np.frombuffer(bytes(side), np.int32))
    return image


def _turned(image: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Applies a display matrix (ISO/IEC 14496-12, the track header's), to the nearest quarter turn.

    Its first entries a, b, _, c, d mean x' = a x + c y, y' = b x + d y with y pointing down.
    """
    a, b, _, c, d = matrix[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.transpose(1, 0, 2), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
