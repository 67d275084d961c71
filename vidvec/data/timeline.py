"""When the frames of a video are shown, read from its packets without decoding them."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vidvec.data.containers import bad

# Containers whose header states how long the whole file is; others only estimate it.
_TIMED_CONTAINERS = frozenset({"matroska,webm", "flv", "asf"})
# Packets of no more than this are kept in memory, so that the file is read once.
HELD_BYTES = 32 << 20
# Times of decoding that go back by more than this, in seconds, are those of another recording
# behind the first, or of a counter that is full.
_BACK_SECONDS = 1.0


@dataclass(frozen=True)
class Timeline:
    """When the frames of a video are shown.

    Attributes:
        tick: Seconds a tick lasts; all times below are in ticks.
        ticks: When each frame comes on, ascending, at least one.
        keyframes: Those of them that need no other frame, ascending.
        end: Where the last frame ends.
        order: When the frame of each packet comes on, in the order of decoding; frames that an
            edit list leaves out, and others may need, are among them.
        starts: Positions in ``order`` at which decoding can begin.
        complete: Whether every packet says when it is shown; else frames are shown in order.
        packets: The packets themselves, where they are few enough bytes.
        spliced: Whether the file's own times begin anew on the way; here they go on.
    """

    tick: float
    ticks: list[int]
    keyframes: list[int]
    end: int
    order: list[int]
    starts: list[int]
    complete: bool
    packets: list[Any] | None
    spliced: bool = False

    @property
    def seconds(self) -> float:
        """From the first frame to the end of the last."""
        return (self.end - self.ticks[0]) * self.tick

    @cached_property
    def last_position(self) -> dict[int, int]:
        """The last position in ``order`` of each tick."""
        return {tick: position for position, tick in enumerate(self.order)}

    def runs(self, ticks: list[int]) -> list[tuple[int, int]]:
        """What has to be decoded for the frames at these ticks.

        A frame needs none behind it in the order of decoding, and none before the last frame that
        needs no other and is shown no later.

        Returns:
            First and last positions in ``order``, ascending, apart from one another.
        """
        if not self.complete:
            return [(0, len(self.order) - 1)]
        starts = sorted((self.order[position], position) for position in self.starts)
        spans = []
        for tick in ticks:
            last = self.last_position[tick]
            before = bisect_right(starts, (tick, last)) - 1
            spans.append((min(starts[before][1], last) if before >= 0 else 0, last))
        runs: list[tuple[int, int]] = []
        for first, last in sorted(spans):
            if runs and first <= runs[-1][1] + 1:
                runs[-1] = (runs[-1][0], max(runs[-1][1], last))
            else:
                runs.append((first, last))
        return runs


def on_at(ticks: list[int], want: int) -> int:
    """Position of the last tick at or before ``want``; 0 where there is none."""
    return max(bisect_right(ticks, want) - 1, 0)


def nearest(ticks: list[int], want: int) -> int:
    """The tick that is nearest to ``want``, the earlier of two."""
    at = on_at(ticks, want)
    return min(ticks[at : at + 2], key=lambda tick: abs(tick - want))


def read_timeline(path: Path, container: Any, stream: Any, *, whole_bytes: int = 0) -> Timeline:
    """Reads all packets of an open file without decoding them.

    Args:
        path: Of the file.
        container, stream: See ``open_video``.
        whole_bytes: Length of the file, where it is known not to be cut: then, where its packets
            go on to its end, a longer duration that it states is wrong.

    Raises:
        BadRecord: ``truncated-video`` where they end well before the file says that they do;
            ``damaged-video`` where there are none.
    """
    found = _Packets(container, stream)
    stopped = found.read()
    tick = float(stream.time_base)
    seconds = (max(found.ends, default=0) - min(found.ticks, default=0)) * tick
    declared = (stream.duration or 0) * tick
    goes_on = found.go_on_to(whole_bytes)
    if not goes_on:
        _check_length(path, seconds, declared)
    if not goes_on and container.format.name in _TIMED_CONTAINERS:
        _check_length(path, found.all_end, (container.duration or 0) / 1e6)
    if stopped and not declared:
        raise bad("truncated-video", path, f"cannot be read after {seconds:.1f} s ({stopped})")
    if not found.ticks:
        raise bad("damaged-video", path, "holds no frames")
    return Timeline(
        tick,
        sorted(set(found.ticks)),
        sorted(found.keyframes),
        max(found.ends),
        found.order,
        found.starts,
        found.complete,
        found.held,
        spliced=found.shift != 0,
    )


class _Packets:
    """What a file's packets say."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        self.ticks: list[int] = []
        self.keyframes: list[int] = []
        self.ends: list[int] = []
        self.order: list[int] = []
        self.starts: list[int] = []
        self.all_end = 0.0
        # AVI only knows the order of decoding: that of showing, where no frame needs another.
        self._in_order = stream.codec.intra_only
        self.complete = container.format.name != "avi" or self._in_order
        self.held: list[Any] | None = []
        self.shift = 0
        self._decoded_at: int | None = None
        self._bytes = self._count = self._reached = 0
        rate = stream.guessed_rate or stream.average_rate or 25
        self._nominal = max(1, round(1 / (rate * stream.time_base)))

    def read(self) -> str:
        """Reads them all; returns why they ended early, empty where they did not."""
        import av

        try:
            for packet in self._container.demux():
                if packet.size:
                    self._add(packet)
        except av.error.FFmpegError as error:
            return str(error.strerror)
        return ""

    def go_on_to(self, size: int) -> bool:
        """Whether the packets reach the end of a file of so many bytes; an index may follow."""
        # Bytes for each packet: mp4 notes its size, place, duration and offset; AVI has 16, twice.
        each = 64 if self._container.format.name.startswith(("mov", "avi")) else 0
        return 0 < size <= self._reached + max(512 + each * self._count, 0.1 * size)

    def _add(self, packet: Any) -> None:
        self._count += 1
        self._reached = max(self._reached, (packet.pos or 0) + packet.size)
        shown = packet.pts if packet.pts is not None else packet.dts
        if packet.stream_index == self._stream.index:
            shown = self._note(packet, shown)
        if shown is not None and not packet.is_discard:
            end = shown + (packet.duration or 0)
            self.all_end = max(self.all_end, end * float(packet.time_base))

    def _note(self, packet: Any, shown: int | None) -> int:
        """Takes a packet of the pictures; returns when its frame is shown."""
        self.complete &= packet.pts is not None or (self._in_order and shown is not None)
        self._splice(packet.dts)
        shown = len(self.ticks) * self._nominal if shown is None else shown + self.shift
        if packet.is_keyframe:
            self.starts.append(len(self.order))
        self.order.append(shown)
        self._hold(packet)
        if not packet.is_discard:
            self.ticks.append(shown)
            self.ends.append(shown + (packet.duration or self._nominal))
            if packet.is_keyframe:
                self.keyframes.append(shown)
        return shown

    def _splice(self, decoded_at: int | None) -> None:
        """Has times go on where those of the file begin anew."""
        if decoded_at is None:
            return
        before = self._decoded_at
        back = _BACK_SECONDS / float(self._stream.time_base)
        if before is not None and decoded_at + self.shift < before - back:
            self.shift = before + self._nominal - decoded_at
        self._decoded_at = decoded_at + self.shift

    def _hold(self, packet: Any) -> None:
        self._bytes += packet.size
        if self.held is not None:
            self.held.append(packet)
            if self._bytes > HELD_BYTES:
                self.held = None


def _check_length(path: Path, found_seconds: float, declared_seconds: float) -> None:
    if found_seconds < declared_seconds - max(1.0, 0.1 * declared_seconds):
        found = f"ends after {found_seconds:.1f} s, it says {declared_seconds:.1f} s"
        raise bad("truncated-video", path, found)
