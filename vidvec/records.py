"""The records that every stage speaks of.

Letters for dimensions, here and in all files with tensors:

    B  videos in a batch            F  frames of one video      ΣF  frames of a batch
    D  width of a frame feature     T  tokens of one video, special tokens included
    A  audio frames of one video    K  width of an audio frame  ΣA, ΣT  those of a batch
    N  tokens of a flat batch, ΣF + ΣA + ΣT                     H  hidden size
    E  width of the video vector    C  tags in the vocabulary   P  pairs
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Video:
    """One video: what is known of it, and its frame features.

    Attributes:
        id: Unique within a corpus.
        title: May be empty.
        speech_text: What is said in the video, where known.
        screen_text: What is written in the picture, where known.
        tags: ``None`` where nobody tagged the video; empty where it was tagged with nothing.
        category: May be empty.
        language: A BCP 47 code such as ``zh``, or empty.
        duration_seconds: ``None`` where unknown.
        date: ISO 8601, a day or a moment in UTC (``vidvec.data.dates``); empty where unknown.
        frame_times_seconds: (F,) float32, when each frame is shown.
        frames: (F, D) float16 features, one row a frame; F may be 0.
        thumbnails: Small JPEG pictures in time order, for film strips.
        audio: (A, K) float16 features of what is heard, one row an audio frame; A may be 0.
        audio_times_seconds: (A,) float32, when each audio frame begins, on the pictures' clock.
        file: Absolute path of the video file; empty where there is none that stays.
        stamp: Differs where what the source says of the video does; empty where not known.
    """

    id: str
    title: str = ""
    speech_text: str = ""
    screen_text: str = ""
    tags: tuple[str, ...] | None = None
    category: str = ""
    language: str = ""
    duration_seconds: float | None = None
    date: str = ""
    frame_times_seconds: NDArray[np.float32] = field(
        default_factory=lambda: np.zeros(0, np.float32)
    )
    frames: NDArray[np.float16] = field(default_factory=lambda: np.zeros((0, 0), np.float16))
    thumbnails: tuple[bytes, ...] = ()
    audio: NDArray[np.float16] = field(default_factory=lambda: np.zeros((0, 0), np.float16))
    audio_times_seconds: NDArray[np.float32] = field(
        default_factory=lambda: np.zeros(0, np.float32)
    )
    file: str = ""
    stamp: str = ""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row of a source, before its video file (if it has one) is decoded.

    Attributes:
        where: Place in the source for messages, such as ``meta.jsonl:12``.
        video: The metadata; with frames already where the source holds features.
        file: The video file still to be decoded, or ``None``.
        part: The source's folder that it comes from, such as ``pairwise``; empty: none.
        version: Differs where the video file does, as its size and time do; empty: not known.
        lease: Begins to get a video file that is not on this disk as a file, but at a URL, in a tar
            or in a table; see ``borrow``. ``file`` is then ``None``.
    """

    where: str
    video: Video
    file: Path | None = None
    part: str = ""
    version: str = ""
    lease: Callable[[], AbstractContextManager[Path]] | None = None

    def borrow(self) -> AbstractContextManager[Path] | None:
        """The video file, wherever it is; ``None`` where the row has none.

        To be called before the source is asked for its next row. What it returns is entered once,
        by any thread: that waits for the file, gives its path, and raises ``BadRecord`` where it
        cannot be had; leaving removes a file that was made for the purpose.
        """
        if self.lease is not None:
            return self.lease()
        return None if self.file is None else nullcontext(self.file)


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that was left out.

    Attributes:
        where: Place in the source, such as ``meta.jsonl:12``.
        id: The record's id where it could be read, else empty.
        reason: A short stable code, counted in the closing line.
        detail: What was found and what was expected.
    """

    where: str
    id: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Processed:
    """A video with its frames, and whether they were made here by the frame encoder.

    Attributes:
        where: Its place in the source, for a reject.
        video: The video.
        encoded: Made here by the frame encoder; else they came with the source.
        part: The source's folder that it comes from.
        heard: Whether its audio frames were made here by the audio encoder.
    """

    where: str
    video: Video
    encoded: bool
    part: str = ""
    heard: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """Two videos and how similar people found them (higher is more similar)."""

    id_1: str
    id_2: str
    score: float


@dataclass(slots=True)
class Batch:
    """Videos side by side without padding.

    Attributes:
        frames: (ΣF, D) float16 or float32, original features of the videos in order.
        frame_counts: (B,) int64.
        token_ids: (ΣT,) int64, special tokens included: a video's title, then what is said, then
            what is written in the picture.
        token_counts: (B,) int64, of all texts together.
        frame_mask: (ΣF,) bool, false on padding; ``None`` where there is no padding.
        token_mask: (ΣT,) bool, likewise.
        rows: (B,) int64, the videos' rows in the corpus.
        tag_positions: (Σtags,) int64, positions in the tag vocabulary, video after video.
        tag_counts: (B,) int64; −1 where the video was never tagged.
        sizes: (4, B) int64 frames, tokens, tags and audio frames of each video, which stay in the
            host's memory so that nobody waits for a GPU to learn them; ``None`` where nobody noted
            them.
        real_positions: How many of the frames and tokens are no padding; ``None``: not noted.
        audio: (ΣA, K) float16 or float32, original features; ``None`` where audio is not read.
        audio_counts: (B,) int64, likewise.
        speech_counts, screen_counts: (B,) int64, of a video's tokens those of what is said and of
            what is written in the picture, each with its ``[SEP]``, 0 where there is no such text;
            ``None`` where the title alone is read.
    """

    frames: torch.Tensor
    frame_counts: torch.Tensor
    token_ids: torch.Tensor
    token_counts: torch.Tensor
    frame_mask: torch.Tensor | None = None
    token_mask: torch.Tensor | None = None
    rows: torch.Tensor | None = None
    tag_positions: torch.Tensor | None = None
    tag_counts: torch.Tensor | None = None
    sizes: NDArray[np.int64] | None = None
    real_positions: int | None = None
    audio: torch.Tensor | None = None
    audio_counts: torch.Tensor | None = None
    speech_counts: torch.Tensor | None = None
    screen_counts: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.frame_counts)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Those fields that are tensors, by name."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name not in _ON_HOST}
        return {name: value for name, value in fields.items() if value is not None}

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device, with ``sizes`` noted before it goes."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) for name, value in self.tensors().items()
        }
        return replace(self, **moved, sizes=self.known_sizes())

    def pinned(self) -> Batch:
        """The same batch in memory that a GPU copies from while its host goes on."""
        pinned: dict[str, Any] = {name: v.pin_memory() for name, v in self.tensors().items()}
        return replace(self, **pinned)

    def known_sizes(self) -> NDArray[np.int64]:
        """``sizes``, read from the counts where nobody noted them, which waits for a GPU."""
        if self.sizes is not None:
            return self.sizes
        counts = [self.frame_counts, self.token_counts]
        none = self.frame_counts * 0
        counts.append(none if self.tag_counts is None else self.tag_counts)
        counts.append(none if self.audio_counts is None else self.audio_counts)
        return np.stack([some.cpu().numpy() for some in counts]).clip(min=0)

    def take(self, *spans: tuple[int, int]) -> Batch:
        """The batch of some of the videos.

        Args:
            spans: First video and the one behind the last, of each span; in this order.
        """
        import torch

        sizes = self.known_sizes()
        ends = np.concatenate([np.ones((1, len(self)), np.int64), sizes]).cumsum(1)
        ends = np.concatenate([np.zeros((5, 1), np.int64), ends], axis=1)

        def cut(name: str, values: torch.Tensor) -> torch.Tensor:
            at = ends[_UNITS.get(name, 0)]
            parts = [values[int(at[first]) : int(at[end])] for first, end in spans]
            return parts[0] if len(parts) == 1 else torch.cat(parts)

        cuts: dict[str, Any] = {name: cut(name, values) for name, values in self.tensors().items()}
        sizes = np.concatenate([sizes[:, first:end] for first, end in spans], axis=1)
        return replace(self, **cuts, sizes=sizes, real_positions=None)


_ON_HOST = ("sizes", "real_positions")
# What a field has a row for: a video (0), a frame (1), a token (2), a tag (3), an audio frame (4).
_UNITS = {
    "frames": 1,
    "frame_mask": 1,
    "token_ids": 2,
    "token_mask": 2,
    "tag_positions": 3,
    "audio": 4,
}
