"""Video files into pictures, chosen by time.

Which frames: one a second, at most 32 spread over the whole video (``wanted_times``); for each
wanted time the frame that a viewer sees at that moment. Where the wanted times lie close together
the file is decoded from start to end, else the decoder jumps from keyframe to keyframe.

FFmpeg's own messages stay off, as PyAV leaves them unless told otherwise: its bridge to Python's
logging takes the interpreter lock inside FFmpeg's threads, which can hang.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.data.sampling import sample_positions
from vidvec.errors import BadRecord

# Wanted times further apart than this are sought; closer ones cost less decoded in one go.
SEEK_GAP_SECONDS = 5.0
# Codecs whose decoders leave out frames that no other frame needs, which saves a third of the work.
_SKIPPABLE = frozenset({"h264", "hevc"})
# Containers whose header states how long the whole file is (others only estimate it).
_TIMED_CONTAINERS = frozenset({"matroska,webm", "flv", "asf"})
# One thread a video: frame threads cost half as much again in total, and videos run side by side.
_THREADS = 1


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


class _SeekFailedError(Exception):
    """The container cannot be sought reliably."""


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
    path: Path, *, max_frames: int = 32, frames_per_second: float = 1.0, short_side: int = 256
) -> DecodedVideo:
    """Decodes the pictures of a video that stand for it.

    For each wanted time (``wanted_times``) the last frame that came on at or before it; a frame
    that stands for several times comes once. Pictures are turned upright and scaled so that the
    short side is at most ``short_side``, with square pixels; they are never enlarged. A still
    picture is a video of one frame.

    Args:
        path: The video file.
        max_frames: At most so many pictures.
        frames_per_second: Pictures a second, as far as ``max_frames`` allows.
        short_side: Pixels.

    Raises:
        BadRecord: ``missing-file``, ``unreadable-file``, ``empty-file``, ``not-a-video``,
            ``no-video-stream``, ``unknown-codec``, ``truncated-video``, or ``damaged-video`` where
            decoding went wrong and gave less than half of the wanted frames.
    """
    _check_file(path)
    choose = partial(wanted_times, max_frames=max_frames, frames_per_second=frames_per_second)
    with _open(path) as (container, stream):
        declared = _declared_seconds(stream)
        if declared is not None and _widest_gap(choose(declared)) > SEEK_GAP_SECONDS:
            try:
                pictures = _Pictures(stream, short_side)
                return _decode_by_seeking(path, container, pictures, choose, declared)
            except _SeekFailedError:
                pass
    with _open(path) as (container, stream):
        timeline = _read_timeline(path, container, stream)
    with _open(path) as (container, stream):
        return _decode_in_order(path, container, _Pictures(stream, short_side), choose, timeline)


def to_jpeg(image: NDArray[np.uint8], short_side: int = 90, quality: int = 80) -> bytes:
    """A picture as a small JPEG file, never enlarged.

    Args:
        image: (height, width, 3) uint8 RGB.
        short_side: Pixels at most.
        quality: 1 to 100.
    """
    import cv2

    size = _scaled(image.shape[1], image.shape[0], short_side)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(encoded)


# --- Opening ------------------------------------------------------------------------------------


@contextmanager
def _open(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and the stream of moving pictures in it."""
    import av

    try:
        # "file:" and the whitelist: neither a colon in a name nor a playlist that calls itself a
        # video makes FFmpeg open anything but files.
        container = av.open(
            f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"}
        )
    except av.error.FFmpegError as error:
        detail = f"{path.name} is no video file that FFmpeg can read ({error.strerror})"
        raise BadRecord("not-a-video", detail) from None
    with container:
        if container.format.name == "tty":
            raise BadRecord("not-a-video", f"{path.name} is a text file")
        cover = av.stream.Disposition.attached_pic
        streams = [one for one in container.streams.video if not one.disposition & cover]
        if not streams:
            kinds = ", ".join(sorted({one.type for one in container.streams})) or "nothing"
            detail = f"{path.name} holds {kinds}, expected moving pictures"
            raise BadRecord("no-video-stream", detail)
        if streams[0].codec_context is None:
            raise BadRecord("unknown-codec", f"{path.name}: FFmpeg has no decoder for its pictures")
        streams[0].codec_context.thread_type = "AUTO"
        streams[0].codec_context.thread_count = _THREADS
        yield container, streams[0]


def _check_file(path: Path) -> None:
    """Refuses a file that is not there, empty, or shorter than its own container says."""
    if not path.is_file():
        raise BadRecord("missing-file", f"{path} does not exist or is no file")
    try:
        size = path.stat().st_size
        declared = _declared_bytes(path, size)
    except OSError as error:
        raise BadRecord("unreadable-file", f"{path}: {error.strerror}") from None
    if size == 0:
        raise BadRecord("empty-file", f"{path.name} has 0 bytes")
    if declared > size:
        detail = f"{path.name} has {size:,} bytes, its container says at least {declared:,}"
        raise BadRecord("truncated-video", detail)


def _declared_bytes(path: Path, size: int) -> int:
    """How long the file says that it is, in bytes; 0 where it does not say.

    Sources: ISO/IEC 14496-12 (boxes), RFC 8794 and RFC 9559 (EBML, Matroska), the RIFF chunk
    layout, and GIF89a's trailer byte.
    """
    with path.open("rb") as file:
        head = file.read(64)
        if head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp"}:
            return _declared_by_boxes(file, size)
        if head[:4] == b"RIFF":
            length = int.from_bytes(head[4:8], "little")
            return 0 if length == 0xFFFFFFFF else 8 + length
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _declared_by_ebml(head)
        if head[:4] == b"GIF8":
            file.seek(-min(size, 64), os.SEEK_END)
            return 0 if file.read().rstrip(b"\0").endswith(b";") else size + 1
    return 0


def _declared_by_boxes(file: Any, size: int) -> int:
    """End of the first box with media data or index that reaches beyond the file, else 0."""
    offset = 0
    while offset + 8 <= size:
        file.seek(offset)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:  # 0: to the end of the file; else no box
            return 0
        offset += length
        if offset > size and header[4:8] in {b"mdat", b"moov", b"moof"}:
            return offset
    return 0


def _declared_by_ebml(head: bytes) -> int:
    """End of the Matroska segment that follows the EBML header; 0 where its size is open."""
    header_size, start = _vint(head, 4)
    start += header_size
    if head[start : start + 4] != b"\x18\x53\x80\x67":
        return 0
    segment_size, start = _vint(head, start + 4)
    return 0 if segment_size < 0 else start + segment_size


def _vint(data: bytes, start: int) -> tuple[int, int]:
    """A variable-size integer (RFC 8794, section 4) and where it ends; −1 for "unknown"."""
    first = data[start] if start < len(data) else 0
    width = 9 - first.bit_length()
    if width > 8:
        return -1, start
    value = int.from_bytes(data[start : start + width], "big") & ((1 << 7 * width) - 1)
    return (-1 if value == (1 << 7 * width) - 1 else value), start + width


# --- Times ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Timeline:
    """When the frames of a video are shown, from its packets alone.

    Attributes:
        ticks: (F,) int64, ascending presentation times in units of the stream's time base.
        end: Where the last frame ends, same unit.
        complete: Whether every packet had a presentation time.
    """

    ticks: NDArray[np.int64]
    end: int
    complete: bool


def _declared_seconds(stream: Any) -> float | None:
    """The duration that the file states for the video stream itself, if it does."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    parts = stream.metadata.get("DURATION", "").split(":")  # Matroska's tag, 00:00:02.600000000
    try:
        return sum(float(part) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))
    except ValueError:
        return None


def _check_length(path: Path, found_seconds: float, declared_seconds: float | None) -> None:
    """Refuses a video that ends well before the file says that it does."""
    if declared_seconds is None:
        return
    if found_seconds < declared_seconds - max(1.0, 0.1 * declared_seconds):
        detail = f"{path.name} ends after {found_seconds:.1f} s, it says {declared_seconds:.1f} s"
        raise BadRecord("truncated-video", detail)


def _read_timeline(path: Path, container: Any, stream: Any) -> _Timeline:
    """Reads all packets without decoding them.

    Raises:
        BadRecord: ``truncated-video`` where they end too early.
    """
    import av

    ticks: list[int] = []
    complete, stopped = True, ""
    end, end_seconds = 0, 0.0
    spare = _frame_ticks(stream)
    try:
        for packet in container.demux():
            tick = packet.pts if packet.pts is not None else packet.dts
            if packet.size == 0 or packet.is_discard:
                continue
            if packet.stream_index == stream.index:
                complete &= packet.pts is not None
                tick = tick if tick is not None else len(ticks) * spare
                ticks.append(tick)
                end = max(end, tick + (packet.duration or spare))
            if tick is not None:
                last = (tick + (packet.duration or 0)) * packet.time_base
                end_seconds = max(end_seconds, float(last))
    except av.error.FFmpegError as error:
        stopped = str(error.strerror)
    seconds = float((end - min(ticks, default=0)) * stream.time_base)
    declared = _declared_seconds(stream)
    _check_length(path, seconds, declared)
    if container.duration is not None and container.format.name in _TIMED_CONTAINERS:
        _check_length(path, end_seconds, container.duration / av.time_base)
    if stopped and declared is None:
        detail = f"{path.name}: reading stopped after {seconds:.1f} s ({stopped})"
        raise BadRecord("truncated-video", detail)
    if not ticks:
        raise BadRecord("damaged-video", f"{path.name} holds no frames")
    return _Timeline(np.unique(np.array(ticks, np.int64)), end, complete)


def _frame_ticks(stream: Any) -> int:
    """How long a frame lasts by the nominal rate, in units of the stream's time base."""
    rate = stream.guessed_rate or stream.average_rate or Fraction(25)
    return max(1, round(1 / (rate * stream.time_base)))


def _widest_gap(times: NDArray[np.float64]) -> float:
    return float(np.diff(times).max(initial=0.0))


def _in_ticks(times: NDArray[np.float64], origin: int, stream: Any) -> list[int]:
    """The last tick at or before each time; the leeway is for times such as 1/3."""
    ticks = np.floor(times / float(stream.time_base) + 1e-6)
    return [origin + int(tick) for tick in ticks]


# --- Decoding -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Pictures:
    """The pictures chosen so far, with their ticks, and how many packets were damaged."""

    stream: Any
    short_side: int
    images: list[NDArray[np.uint8]] = field(default_factory=list)
    ticks: list[int] = field(default_factory=list)
    errors: int = 0

    def add(self, tick: int, frame: Any) -> None:
        """Takes a frame, unless it is the one taken last."""
        if not self.ticks or self.ticks[-1] != tick:
            self.images.append(_to_rgb(frame, self.stream.sample_aspect_ratio, self.short_side))
            self.ticks.append(tick)

    def result(self, path: Path, origin: int, end: int, expected: int) -> DecodedVideo:
        count = len(self.images)
        if count == 0 or (self.errors and 2 * count < expected):
            detail = (
                f"{path.name}: {count} of {expected} wanted frames could be decoded, "
                f"{self.errors} packets are damaged"
            )
            raise BadRecord("damaged-video", detail)
        base = self.stream.time_base
        times = np.array([float((tick - origin) * base) for tick in self.ticks], np.float32)
        return DecodedVideo(self.images, np.maximum(times, 0), float((end - origin) * base))


def _frames(
    container: Any, pictures: _Pictures, keep: set[int] | None = None
) -> Iterator[tuple[int, Any]]:
    """Frames with the ticks when they come on, from where the container stands.

    Args:
        container: An open container.
        pictures: Its stream is decoded, its errors are counted.
        keep: Ticks of frames that are needed; others are left out where no frame depends on them.
            ``None``: all are needed.
    """
    import av

    stream = pictures.stream
    spare = _frame_ticks(stream)
    tick = (stream.start_time or 0) - spare
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            if keep is not None:
                needed = packet.size == 0 or packet.pts in keep
                stream.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"
            decoded = packet.decode()
        except av.error.FFmpegError:
            pictures.errors += 1
            continue
        for frame in decoded:
            stated = frame.pts if frame.pts is not None else frame.dts
            tick = stated if stated is not None else tick + spare
            yield tick, frame


def _decode_in_order(
    path: Path,
    container: Any,
    pictures: _Pictures,
    choose: Callable[[float], NDArray[np.float64]],
    timeline: _Timeline,
) -> DecodedVideo:
    origin = int(timeline.ticks[0])
    duration = float((timeline.end - origin) * pictures.stream.time_base)
    wanted = _in_ticks(choose(duration), origin, pictures.stream)
    targets = np.unique(np.maximum(np.searchsorted(timeline.ticks, wanted, side="right") - 1, 0))
    keep = None
    if timeline.complete and pictures.stream.codec_context.name in _SKIPPABLE:
        # The one before, too: where a frame comes as two fields, the first gives its time.
        keep = {int(timeline.ticks[at]) for one in targets for at in (max(one - 1, 0), one)}
    shown: tuple[int, Any] | None = None
    done = 0
    for tick, frame in _frames(container, pictures, keep):
        while done < len(wanted) and wanted[done] < tick:
            pictures.add(*(shown or (tick, frame)))
            done += 1
        if done == len(wanted):
            break
        shown = (tick, frame)
    if done < len(wanted) and shown is not None:
        pictures.add(*shown)
    return pictures.result(path, origin, timeline.end, len(targets))


def _decode_by_seeking(
    path: Path,
    container: Any,
    pictures: _Pictures,
    choose: Callable[[float], NDArray[np.float64]],
    declared: float,
) -> DecodedVideo:
    stream = pictures.stream
    frames = _frames(container, pictures)
    shown: tuple[int, Any] | None = None
    ahead = next(frames, None)
    if ahead is None:
        raise _SeekFailedError
    origin = ahead[0]
    wanted = _in_ticks(choose(declared), origin, stream)
    with _open(path) as (probe, probe_stream):
        for want in wanted:
            keyframe, request = _keyframe_before(probe, probe_stream, want)
            if shown is not None and keyframe > shown[0]:
                container.seek(request, stream=stream)
                frames = _frames(container, pictures)
                shown, ahead = None, next(frames, None)
            while ahead is not None and ahead[0] <= want:
                shown, ahead = ahead, next(frames, None)
            if shown is None:  # the jump landed too late
                raise _SeekFailedError
            pictures.add(*shown)
    end = origin + round(declared / stream.time_base)
    if ahead is None and shown is not None:
        end = shown[0] + _frame_ticks(stream)
        _check_length(path, float((end - origin) * stream.time_base), declared)
    return pictures.result(path, origin, end, len(wanted))


def _keyframe_before(container: Any, stream: Any, want: int) -> tuple[int, int]:
    """Finds from where the frame shown at ``want`` can be decoded.

    Containers that index by decoding time may answer with a keyframe that is shown after ``want``;
    asking for an earlier time then helps.

    Returns:
        The tick of the keyframe, and the tick to ask ``seek`` for.
    """
    import av

    for margin_seconds in (0, 1, 10):
        request = want - int(margin_seconds / stream.time_base)
        try:
            container.seek(request, stream=stream)
            packets = (one for one in container.demux(stream) if one.is_keyframe and one.size)
            first = next(packets, None)
        except av.error.FFmpegError:
            break
        if first is not None and first.pts is not None and first.pts <= want:
            return first.pts, request
    raise _SeekFailedError


# --- Pictures -------------------------------------------------------------------------------------


def _scaled(width: float, height: float, short_side: int) -> tuple[int, int]:
    """Width and height with the short side at most ``short_side``, proportions kept."""
    scale = min(1.0, short_side / min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _to_rgb(frame: Any, pixel_aspect: Fraction | None, short_side: int) -> NDArray[np.uint8]:
    """A decoded frame as (height, width, 3) uint8 RGB: scaled, with square pixels, upright."""
    aspect = float(pixel_aspect or 1)
    width, height = frame.width * min(1.0, aspect), frame.height / max(1.0, aspect)
    width, height = _scaled(width, height, short_side)
    image: NDArray[np.uint8] = frame.to_ndarray(format="rgb24", width=width, height=height)
    for side in frame.side_data:
        if side.type.name == "DISPLAYMATRIX":
            image = _upright(image, np.frombuffer(bytes(side), np.int32))
    return np.ascontiguousarray(image)


def _upright(image: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Applies a display matrix, to the nearest quarter turn.

    Its first entries a, b, _, c, d mean x' = a x + c y, y' = b x + d y with y pointing down
    (ISO/IEC 14496-12, the track header's matrix).
    """
    a, b, c, d = (int(matrix[at]) for at in (0, 1, 3, 4))
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.transpose(1, 0, 2), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
