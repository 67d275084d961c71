"""Video files into pictures, chosen by time.

Which frames: one a second, at most 32 spread over the whole video (``wanted_times``); for each
wanted time the frame that a viewer sees at that moment. The packets are read once without decoding
them, which gives the times of all frames; then only what the wanted frames need is decoded.

FFmpeg's own messages stay off, as PyAV leaves them unless told otherwise: its bridge to Python's
logging takes the interpreter lock inside FFmpeg's threads, which can hang.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vidvec.data.sampling import sample_positions
from vidvec.errors import BadRecord

# The decoder jumps to a keyframe that lies further ahead than this; nearer ones it decodes up to.
_JUMP_SECONDS = 5.0
# Many containers keep times to the millisecond only, so half of one is allowed for, in seconds.
_ROUNDING = 0.0005
# Codecs whose decoders can leave out frames that no other frame needs: a quarter of the work.
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
    path: Path,
    *,
    max_frames: int = 32,
    frames_per_second: float = 1.0,
    short_side: int = 256,
    times_seconds: NDArray[np.floating[Any]] | None = None,
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

    Raises:
        BadRecord: ``missing-file``, ``unreadable-file``, ``empty-file``, ``not-a-video``,
            ``no-video-stream``, ``audio-only``, ``truncated-video``, or ``damaged-video`` where
            packets cannot be decoded and less than half of the wanted frames can.
    """
    from av.video.reformatter import VideoReformatter

    _check_file(path)
    with _open(path) as (container, stream):
        timeline = _read_timeline(path, container, stream)
    times = times_seconds
    if times is None:
        times = wanted_times(timeline.seconds - 2 * _ROUNDING, max_frames, frames_per_second)
    wanted = [timeline.ticks[0] + int((time + _ROUNDING) / timeline.tick) for time in times]
    for may_jump in (timeline.complete and bool(timeline.keyframes), False):
        with _open(path) as (container, stream):
            pictures = _Pictures(container, stream, timeline, short_side, VideoReformatter())
            if _decode_wanted(pictures, wanted, may_jump):
                break
    expected = len({_on_at(timeline.ticks, want) for want in wanted})
    count = len(pictures.images)
    if count == 0 or (pictures.errors and 2 * count < expected):
        damage = f"{pictures.errors} packets are damaged"
        raise _bad("damaged-video", path, f"gave {count} of {expected} wanted frames, {damage}")
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
    bgr = cv2.resize(image, size, interpolation=cv2.INTER_AREA)[:, :, ::-1]
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def _bad(reason: str, path: Path, found: str) -> BadRecord:
    """An error that names the file, as text even where the name is not UTF-8."""
    name = os.fsencode(path.name).decode("utf-8", "backslashreplace")
    return BadRecord(reason, f"{name} {found}")


def _check_file(path: Path) -> None:
    """Refuses a file that is not there, empty, or shorter than its own container says."""
    if not path.is_file():
        raise _bad("missing-file", path, "does not exist or is no file")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            declared = _declared_bytes(file, size)
    except OSError as error:
        raise _bad("unreadable-file", path, f"cannot be read: {error.strerror}") from None
    if size == 0:
        raise _bad("empty-file", path, "has 0 bytes")
    if declared > size:
        found = f"has {size:,} bytes, its container says at least {declared:,}"
        raise _bad("truncated-video", path, found)


def _declared_bytes(file: BinaryIO, size: int) -> int:
    """How long the file says that it is, in bytes; 0 where it does not say.

    Sources: ISO/IEC 14496-12 (boxes), the RIFF chunk layout, RFC 8794 and RFC 9559 (EBML,
    Matroska), GIF89a (its last byte is a semicolon).
    """
    head = file.read(128)
    if head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp"}:
        return _declared_by_boxes(file, size)
    if head[:4] == b"RIFF" and head[4:8] not in {b"\0\0\0\0", b"\xff\xff\xff\xff"}:
        return 8 + int.from_bytes(head[4:8], "little")
    segment = head.find(b"\x18\x53\x80\x67") + 4
    if head[:4] == b"\x1a\x45\xdf\xa3" and 4 < segment < len(head):
        width = 9 - head[segment].bit_length()
        ones = (1 << 7 * width) - 1  # all ones mean that the length is not known
        length = int.from_bytes(head[segment : segment + width], "big") & ones
        return segment + width + length if length < ones else 0
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
            break
        offset += length
        if offset > size and header[4:8] in {b"mdat", b"moov", b"moof"}:
            return offset
    return 0


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
        found = f"is no video file that FFmpeg can read ({error.strerror})"
        raise _bad("not-a-video", path, found) from None
    with container:
        if container.format.name == "tty":  # FFmpeg draws text files as a terminal would
            raise _bad("not-a-video", path, "is a text file")
        cover = av.stream.Disposition.attached_pic
        videos = container.streams.video
        streams = [one for one in videos if one.codec_context and not one.disposition & cover]
        if not streams:
            kinds = ", ".join(sorted({one.type for one in container.streams})) or "nothing"
            found = f"holds {kinds}, expected moving pictures that FFmpeg can decode"
            heard = any(one.codec_context for one in container.streams.audio)
            raise _bad("audio-only" if heard else "no-video-stream", path, found)
        # One thread: two cost a third more work in total, and videos are decoded side by side.
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
        complete: Whether every packet says when it is shown; else frames are shown in order.
    """

    tick: float
    ticks: list[int]
    keyframes: list[int]
    end: int
    complete: bool

    @property
    def seconds(self) -> float:
        return (self.end - self.ticks[0]) * self.tick


def _read_timeline(path: Path, container: Any, stream: Any) -> _Timeline:
    """Reads all packets without decoding them.

    Raises:
        BadRecord: ``truncated-video`` where they end well before the file says that they do;
            ``damaged-video`` where there are none.
    """
    import av

    ticks: list[int] = []
    keyframes: list[int] = []
    ends: list[int] = []
    all_end = 0.0
    complete, stopped = container.format.name != "avi", ""  # AVI only knows the order of decoding
    rate = stream.guessed_rate or stream.average_rate or 25
    nominal = max(1, round(1 / (rate * stream.time_base)))
    try:
        for packet in container.demux():
            if packet.size == 0 or packet.is_discard:
                continue
            shown = packet.pts if packet.pts is not None else packet.dts
            if packet.stream_index == stream.index:
                complete &= packet.pts is not None
                shown = shown if shown is not None else len(ticks) * nominal
                ticks.append(shown)
                ends.append(shown + (packet.duration or nominal))
                if packet.is_keyframe:
                    keyframes.append(shown)
            if shown is not None:
                all_end = max(all_end, (shown + (packet.duration or 0)) * float(packet.time_base))
    except av.error.FFmpegError as error:
        stopped = str(error.strerror)
    tick = float(stream.time_base)
    seconds = (max(ends, default=0) - min(ticks, default=0)) * tick
    declared = (stream.duration or 0) * tick
    _check_length(path, seconds, declared)
    if container.format.name in _TIMED_CONTAINERS:
        _check_length(path, all_end, (container.duration or 0) / av.time_base)
    if stopped and not declared:
        raise _bad("truncated-video", path, f"cannot be read after {seconds:.1f} s ({stopped})")
    if not ticks:
        raise _bad("damaged-video", path, "holds no frames")
    return _Timeline(tick, sorted(set(ticks)), sorted(keyframes), max(ends), complete)


def _check_length(path: Path, found_seconds: float, declared_seconds: float) -> None:
    if found_seconds < declared_seconds - max(1.0, 0.1 * declared_seconds):
        found = f"ends after {found_seconds:.1f} s, it says {declared_seconds:.1f} s"
        raise _bad("truncated-video", path, found)


@dataclass(slots=True)
class _Pictures:
    """The pictures chosen so far, their ticks, and how many packets were damaged."""

    container: Any
    stream: Any
    timeline: _Timeline
    short_side: int
    scaler: Any
    images: list[NDArray[np.uint8]] = field(default_factory=list)
    ticks: list[int] = field(default_factory=list)
    errors: int = 0

    def add(self, tick: int, frame: Any) -> None:
        """Takes a frame, unless it is the one taken last."""
        if tick not in self.ticks[-1:]:
            self.images.append(self._to_rgb(frame))
            self.ticks.append(tick)

    def _to_rgb(self, frame: Any) -> NDArray[np.uint8]:
        """A decoded frame as (height, width, 3) uint8 RGB: scaled, with square pixels, upright."""
        aspect = float(self.stream.sample_aspect_ratio or 1)
        width, height = frame.width * min(1.0, aspect), frame.height / max(1.0, aspect)
        width, height = _scaled(width, height, self.short_side)
        small = self.scaler.reformat(frame, width, height, "rgb24")
        image: NDArray[np.uint8] = small.to_ndarray()
        for side in frame.side_data:
            if side.type.name == "DISPLAYMATRIX":
                image = _upright(image, np.frombuffer(bytes(side), np.int32))
        return np.ascontiguousarray(image)

    def frames(self, keep: set[int] | None) -> Iterator[tuple[int, Any]]:
        """Frames with their ticks, from where the container stands.

        Other frames than those at the ticks in ``keep`` may be left out, where it is given.
        """
        import av

        ticks = self.timeline.ticks
        count, packets = 0, self.container.demux(self.stream)
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
                by_order = ticks[min(count, len(ticks) - 1)]
                stated = self.timeline.complete and frame.pts is not None
                yield (frame.pts if stated else by_order), frame
                count += 1


def _decode_wanted(pictures: _Pictures, wanted: list[int], may_jump: bool) -> bool:
    """Adds for each wanted tick the frame that is on; false where a jump went wrong."""
    import av

    timeline, keep = pictures.timeline, None
    if timeline.complete and pictures.stream.codec_context.name in _SKIPPABLE:
        # The one before, too: where a frame comes as two fields, the first gives its time.
        positions = {_on_at(timeline.ticks, want) for want in wanted}
        keep = {tick for at in positions for tick in timeline.ticks[max(at - 1, 0) : at + 1]}
    frames = pictures.frames(keep)
    shown, ahead = None, next(frames, None)
    for want in wanted:
        keyframe = timeline.keyframes[_on_at(timeline.keyframes, want)] if may_jump else 0
        here = shown[0] if shown else timeline.ticks[0]
        if may_jump and (keyframe - here) * timeline.tick > _JUMP_SECONDS:
            try:
                pictures.container.seek(keyframe, stream=pictures.stream)
            except av.error.FFmpegError:
                return False
            frames = pictures.frames(keep)
            shown, ahead = None, next(frames, None)
            if ahead is None or ahead[0] > want:
                return False
        while ahead is not None and ahead[0] <= want:
            shown, ahead = ahead, next(frames, None)
        on = shown or ahead  # the first that can be decoded where the beginning is damaged
        if on is not None:
            pictures.add(*on)
    return True


def _on_at(ticks: list[int], want: int) -> int:
    """Position of the last tick at or before ``want``; 0 where there is none."""
    return max(bisect_right(ticks, want) - 1, 0)


def _scaled(width: float, height: float, short_side: int) -> tuple[int, int]:
    scale = min(1.0, short_side / min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _upright(image: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Applies a display matrix (ISO/IEC 14496-12, the track header's), to the nearest quarter turn.

    Its first entries a, b, _, c, d mean x' = a x + c y, y' = b x + d y with y pointing down.
    """
    a, b, _, c, d = matrix[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.transpose(1, 0, 2), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
