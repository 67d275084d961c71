"""Video files into pictures, chosen by time.

Which frames: one a second, at most 32 spread over the whole video (``wanted_times``); for each
wanted time the frame that a viewer sees at that moment. The packets are read once without decoding
them, which gives the times of all frames; then only what the wanted frames need is decoded.

FFmpeg's own messages stay off, as PyAV leaves them unless told otherwise: its bridge to Python's
logging takes the interpreter lock inside FFmpeg's threads, which can hang.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vidvec.data.sampling import sample_positions
from vidvec.errors import BadRecord

# The decoder jumps to a keyframe that lies further ahead than this; nearer ones it decodes up to.
_JUMP_SECONDS = 5.0
# Codecs whose decoders can leave out frames that no other frame needs: a third of the work.
_SKIPPABLE = frozenset({"h264", "hevc"})
# Containers whose header states how long the whole file is; others only estimate it.
_TIMED_CONTAINERS = frozenset({"matroska,webm", "flv", "asf"})


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
    path: Path, *, max_frames: int = 32, frames_per_second: float = 1.0, short_side: int = 256
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

    Raises:
        BadRecord: ``missing-file``, ``unreadable-file``, ``empty-file``, ``not-a-video``,
            ``no-video-stream``, ``unknown-codec``, ``truncated-video``, or ``damaged-video`` where
            packets could not be decoded and less than half of the wanted frames could.
    """
    _check_file(path)
    with _open(path) as (container, stream):
        timeline = _read_timeline(path, container, stream)
    times = wanted_times(timeline.seconds, max_frames, frames_per_second)
    wanted = [timeline.ticks[0] + int(np.floor(time / timeline.tick + 1e-6)) for time in times]
    for may_jump in (timeline.complete, False):
        with _open(path) as (container, stream):
            pictures = _Pictures(container, stream, short_side)
            try:
                _decode_wanted(pictures, timeline, wanted, may_jump)
            except _JumpFailedError:
                continue
            break
    expected = len(set(timeline.at_or_before(wanted)))
    if not pictures.images or (pictures.errors and 2 * len(pictures.images) < expected):
        found = f"{len(pictures.images)} of {expected} wanted frames could be decoded"
        detail = f"{path.name}: {found}, {pictures.errors} packets are damaged"
        raise BadRecord("damaged-video", detail)
    since_start = np.array(pictures.ticks) - timeline.ticks[0]
    times_seconds = np.maximum(since_start * timeline.tick, 0).astype(np.float32)
    return DecodedVideo(pictures.images, times_seconds, timeline.seconds)


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


def _check_file(path: Path) -> None:
    """Refuses a file that is not there, empty, or shorter than its own container says."""
    if not path.is_file():
        raise BadRecord("missing-file", f"{path} does not exist or is no file")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            declared = _declared_bytes(file, size)
    except OSError as error:
        raise BadRecord("unreadable-file", f"{path}: {error.strerror}") from None
    if size == 0:
        raise BadRecord("empty-file", f"{path.name} has 0 bytes")
    if declared > size:
        detail = f"{path.name} has {size:,} bytes, its container says at least {declared:,}"
        raise BadRecord("truncated-video", detail)


def _declared_bytes(file: BinaryIO, size: int) -> int:
    """How long the file says that it is, in bytes; 0 where it does not say.

    Sources: ISO/IEC 14496-12 (boxes), the RIFF chunk layout, RFC 8794 and RFC 9559 (EBML,
    Matroska), GIF89a (its last byte is a semicolon).
    """
    head = file.read(64)
    if head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp"}:
        return _declared_by_boxes(file, size)
    if head[:4] == b"RIFF" and head[4:8] not in {b"\0\0\0\0", b"\xff\xff\xff\xff"}:
        return 8 + int.from_bytes(head[4:8], "little")
    if head[:4] == b"\x1a\x45\xdf\xa3":
        header, start = _variable_integer(head, 4)
        segment = start + header
        if header >= 0 and head[segment : segment + 4] == b"\x18\x53\x80\x67":
            length, start = _variable_integer(head, segment + 4)
            return start + length if length >= 0 else 0
    if head[:4] == b"GIF8":
        file.seek(max(0, size - 64))
        return 0 if file.read().rstrip(b"\0").endswith(b";") else size + 1
    return 0


def _declared_by_boxes(file: BinaryIO, size: int) -> int:
    """End of the box with media or their index that reaches beyond the file, else 0."""
    offset = 0
    while offset + 8 <= size:
        file.seek(offset)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:  # 0 is "to the end of the file", the others are no boxes
            return 0
        offset += length
        if offset > size and header[4:8] in {b"mdat", b"moov", b"moof"}:
            return offset
    return 0


def _variable_integer(data: bytes, start: int) -> tuple[int, int]:
    """An EBML integer (RFC 8794, section 4), −1 where it says "unknown", and where it ends."""
    first = data[start] if start < len(data) else 0
    width = 9 - first.bit_length()
    bits = (1 << 7 * width) - 1
    value = int.from_bytes(data[start : start + width], "big") & bits
    return (-1 if width > 8 or value == bits else value), start + width


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
        if container.format.name == "tty":  # FFmpeg draws text files as a terminal would
            raise BadRecord("not-a-video", f"{path.name} is a text file")
        cover = av.stream.Disposition.attached_pic
        streams = [one for one in container.streams.video if not one.disposition & cover]
        if not streams:
            kinds = ", ".join(sorted({one.type for one in container.streams})) or "nothing"
            detail = f"{path.name} holds {kinds}, expected moving pictures"
            raise BadRecord("no-video-stream", detail)
        if streams[0].codec_context is None:
            raise BadRecord("unknown-codec", f"{path.name}: FFmpeg has no decoder for its pictures")
        # One thread: more cost half as much again in total, and videos are decoded side by side.
        streams[0].codec_context.thread_count = 1
        yield container, streams[0]


@dataclass(frozen=True, slots=True)
class _Timeline:
    """When the frames of a video are shown, read from its packets.

    Attributes:
        tick: Seconds a tick lasts; all times below are in ticks.
        ticks: When each frame comes on, ascending, at least one.
        keyframes: Those of them that need no other frame, ascending.
        end: Where the last frame ends.
        complete: Whether every packet said when it is shown.
    """

    tick: float
    ticks: list[int]
    keyframes: list[int]
    end: int
    complete: bool

    @property
    def seconds(self) -> float:
        return (self.end - self.ticks[0]) * self.tick

    def at_or_before(self, wanted: list[int]) -> list[int]:
        """Positions in ``ticks`` of the frames that are on at the wanted ticks."""
        found = np.searchsorted(self.ticks, wanted, side="right") - 1
        return [int(position) for position in np.maximum(found, 0)]


def _read_timeline(path: Path, container: Any, stream: Any) -> _Timeline:
    """Reads all packets without decoding them.

    Raises:
        BadRecord: ``truncated-video`` where they end well before the file says that they do;
            ``damaged-video`` where there are none.
    """
    import av

    ticks, keyframes, complete, stopped = [], [], True, ""
    end, all_end = 0, 0.0
    spare = _frame_ticks(stream)
    try:
        for packet in container.demux():
            if packet.size == 0 or packet.is_discard:
                continue
            shown = packet.pts if packet.pts is not None else packet.dts
            if packet.stream_index == stream.index:
                complete &= packet.pts is not None
                shown = shown if shown is not None else len(ticks) * spare
                ticks.append(shown)
                end = max(end, shown + (packet.duration or spare))
                if packet.is_keyframe:
                    keyframes.append(shown)
            if shown is not None:
                all_end = max(all_end, (shown + (packet.duration or 0)) * float(packet.time_base))
    except av.error.FFmpegError as error:
        stopped = str(error.strerror)
    tick = float(stream.time_base)
    seconds = (end - min(ticks, default=0)) * tick
    declared = stream.duration * tick if stream.duration is not None else None
    _check_length(path, seconds, declared)
    if container.format.name in _TIMED_CONTAINERS and container.duration is not None:
        _check_length(path, all_end, container.duration / av.time_base)
    if stopped and declared is None:
        detail = f"{path.name}: reading stopped after {seconds:.1f} s ({stopped})"
        raise BadRecord("truncated-video", detail)
    if not ticks:
        raise BadRecord("damaged-video", f"{path.name} holds no frames")
    return _Timeline(tick, sorted(set(ticks)), sorted(keyframes), end, complete)


def _check_length(path: Path, found_seconds: float, declared_seconds: float | None) -> None:
    if declared_seconds is None:
        return
    if found_seconds < declared_seconds - max(1.0, 0.1 * declared_seconds):
        detail = f"{path.name} ends after {found_seconds:.1f} s, it says {declared_seconds:.1f} s"
        raise BadRecord("truncated-video", detail)


def _frame_ticks(stream: Any) -> int:
    """How many ticks a frame lasts by the nominal rate."""
    rate = stream.guessed_rate or stream.average_rate or Fraction(25)
    return max(1, round(1 / (rate * stream.time_base)))


class _JumpFailedError(Exception):
    """The container did not go where it was sent."""


@dataclass(slots=True)
class _Pictures:
    """The pictures chosen so far, their ticks, and how many packets were damaged."""

    container: Any
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

    def frames(self, keep: set[int] | None) -> Iterator[tuple[int, Any]]:
        """Frames with their ticks, from where the container stands.

        Args:
            keep: Ticks of the frames that are needed; others are left out where no frame depends
                on them. ``None``: all are needed.
        """
        import av

        spare = _frame_ticks(self.stream)
        tick = (self.stream.start_time or 0) - spare
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if keep is not None:
                    needed = packet.size == 0 or packet.pts in keep
                    self.stream.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"
                decoded = packet.decode()
            except av.error.FFmpegError:
                self.errors += 1
                continue
            for frame in decoded:
                stated = frame.pts if frame.pts is not None else frame.dts
                tick = stated if stated is not None else tick + spare
                yield tick, frame


def _decode_wanted(
    pictures: _Pictures, timeline: _Timeline, wanted: list[int], may_jump: bool
) -> None:
    """Adds for each wanted tick the frame that is on.

    Raises:
        _JumpFailedError: A jump led behind the wanted frame.
    """
    keep = None
    if timeline.complete and pictures.stream.codec_context.name in _SKIPPABLE:
        # The one before, too: where a frame comes as two fields, the first gives its time.
        positions = timeline.at_or_before(wanted)
        keep = {timeline.ticks[at] for one in positions for at in (max(one - 1, 0), one)}
    frames = pictures.frames(keep)
    shown, ahead = None, next(frames, None)
    for want in wanted:
        keyframe = _last_at_or_before(timeline.keyframes, want)
        here = shown[0] if shown else timeline.ticks[0]
        if may_jump and (keyframe - here) * timeline.tick > _JUMP_SECONDS:
            _jump(pictures, keyframe)
            frames = pictures.frames(keep)
            shown, ahead = None, next(frames, None)
            if ahead is None or ahead[0] > want:
                raise _JumpFailedError
        while ahead is not None and ahead[0] <= want:
            shown, ahead = ahead, next(frames, None)
        on = shown or ahead  # the first that can be decoded where the beginning is damaged
        if on is not None:
            pictures.add(*on)


def _last_at_or_before(ticks: list[int], want: int) -> int:
    position = int(np.searchsorted(ticks, want, side="right")) - 1
    return ticks[position] if position >= 0 else want


def _jump(pictures: _Pictures, keyframe: int) -> None:
    import av

    try:
        pictures.container.seek(keyframe, stream=pictures.stream)
    except av.error.FFmpegError:
        raise _JumpFailedError from None


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
