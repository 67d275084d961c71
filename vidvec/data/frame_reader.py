"""Decoding no more of a video than the wanted frames need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from vidvec.data.timeline import Timeline, on_at

# In a file that is not in memory the reader jumps where the next frames it needs lie further ahead
# than this; it reads up to nearer ones.
_JUMP_SECONDS = 5.0
# Codecs whose decoders can leave out frames that no other frame needs: a quarter of the work.
_SKIPPABLE = frozenset({"h264", "hevc"})
# Containers whose packets may hold one of the two fields of a frame.
_FIELD_CONTAINERS = frozenset({"mpegts"})


@dataclass(slots=True)
class FrameReader:
    """Reads frames of an open video.

    Attributes:
        container, stream: Of the video; not read from yet, where the timeline holds no packets.
        timeline: Of the video.
        gaps: Whether what the wanted frames do not need is left out.
        errors: Packets that could not be decoded.
        lost: Whether a gap went wrong, so that frames are missing: another reader, without
            gaps, is to begin anew.
    """

    container: Any
    stream: Any
    timeline: Timeline
    gaps: bool = True
    errors: int = 0
    lost: bool = False
    _source: Iterator[Any] = field(default_factory=lambda: iter(()))
    _position: int = 0

    def frames(self, wanted: list[int] | None) -> Iterator[tuple[int, Any]]:
        """Frames with their ticks, in the order in which they are shown.

        Args:
            wanted: Ticks of the frames that must be among them; ``None``: all.
        """
        timeline = self.timeline
        runs = [(0, len(timeline.order) - 1)]
        keep = None
        if wanted is not None and timeline.complete:
            keep = self._kept(wanted)
            needed = timeline.runs(wanted)
            runs = needed if self.gaps else [(0, needed[-1][1])]
            if self.stream.codec_context.name not in _SKIPPABLE:
                keep = None
        if timeline.packets is None:
            self._source = self.container.demux(self.stream)
        count = 0
        for number, (first, last) in enumerate(runs):
            if number:
                self.stream.codec_context.flush_buffers()
            key = self._shown_at(first) if first else None
            for frame in self._run(first, self._with_second_field(last), keep):
                stated = timeline.complete and frame.pts is not None
                tick = frame.pts if stated else timeline.ticks[min(count, len(timeline.ticks) - 1)]
                if key is not None and tick >= key:
                    # What the container calls a keyframe need not be one.
                    self.lost |= tick > key or not frame.key_frame or not stated
                    key = None
                yield tick, frame
                count += 1
            self.lost |= key is not None
            if self.lost:
                return

    def _shown_at(self, position: int) -> int | None:
        """The tick of a packet's frame; ``None`` where an edit list leaves it out."""
        tick = self.timeline.order[position]
        return tick if self.timeline.ticks[on_at(self.timeline.ticks, tick)] == tick else None

    def _kept(self, wanted: list[int]) -> set[int]:
        """Ticks of the packets that may not be left out."""
        ticks = self.timeline.ticks
        # The one before, too: where a frame comes as two fields, the first gives its time.
        before, after = 1, 2 if self._may_be_fields() else 1
        positions = (on_at(ticks, want) for want in wanted)
        return {tick for at in positions for tick in ticks[max(at - before, 0) : at + after]}

    def _may_be_fields(self) -> bool:
        return self.container.format.name in _FIELD_CONTAINERS

    def _with_second_field(self, last: int) -> int:
        return min(last + self._may_be_fields(), len(self.timeline.order) - 1)

    def _run(self, first: int, last: int, keep: set[int] | None) -> Iterator[Any]:
        """Decodes the packets from one position to another, both included."""
        context = self.stream.codec_context
        for packet in self._packets(first, last):
            tick = self.timeline.order[self._position - 1]
            if self.timeline.complete:
                packet.pts = tick
            if keep is not None:
                context.skip_frame = "DEFAULT" if tick in keep else "NONREF"
            yield from self._decode(packet)
        yield from self._decode(None)

    def _decode(self, packet: Any) -> list[Any]:
        import av

        try:
            decoded: list[Any] = self.stream.codec_context.decode(packet)
        except av.error.FFmpegError:
            self.errors += packet is not None
            return []
        return decoded

    def _packets(self, first: int, last: int) -> Iterator[Any]:
        """The packets at these positions; ``_position`` is that of the one behind."""
        if self.timeline.packets is not None:
            for self._position in range(first + 1, last + 2):
                yield self.timeline.packets[self._position - 1]
            return
        self._go_to(first)
        while self._position <= last and not self.lost:
            packet = self._next()
            if packet is None:
                return
            self._position += 1
            if self._position > first:
                yield packet

    def _next(self) -> Any:
        """The next packet of the file; ``None`` where there is none."""
        import av

        while True:
            try:
                packet = next(self._source, None)
            except av.error.FFmpegError:
                self.errors += 1
                continue
            if packet is None or packet.size:
                return packet

    def _go_to(self, position: int) -> None:
        """Jumps towards a position where that is worth it."""
        import av

        timeline = self.timeline
        tick = timeline.order[position]
        here = timeline.order[min(self._position, len(timeline.order) - 1)]
        if timeline.spliced or (tick - here) * timeline.tick <= _JUMP_SECONDS:
            return
        try:
            self.container.seek(tick, stream=self.stream)
        except av.error.FFmpegError:
            self.lost = True
            return
        self._source = self.container.demux(self.stream)
        packet, found = self._next(), position + 1
        if packet is not None:
            shown = packet.pts if packet.pts is not None else packet.dts
            found = timeline.last_position.get(shown, found)
        if found > position:
            self.lost = True
            return
        self._position = found
        self._source = chain([packet], self._source)
