"""A video file read once for everything that is made of it.

This runs in a worker process (``workers.py``), so it imports what reading needs and no more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidvec.data.extras import read_extras
from vidvec.data.sampling import sample_positions
from vidvec.errors import BadRecord

THUMBNAILS = 8
# With these, the file holds no pictures and may still be worth having for what else is known of it.
WITHOUT_PICTURES = frozenset({"audio-only"})


@dataclass(frozen=True, slots=True)
class MediaRequest:
    """What is wanted of a video file; plain values only, as it goes to a worker as JSON.

    Attributes:
        max_frames, frames_per_second, short_side: See ``video.decode``.
        keyframes: Take the key frames nearest to the wanted times, which is faster.
        times_seconds: Wanted times instead of evenly spread ones; see ``video.decode``.
        thumbnails: Small pictures for a film strip, at most.
        sound: What is wanted of the sound: ``log-mel`` audio frames, made here; ``windows``, the
            samples themselves, for an audio encoder that runs elsewhere; or nothing, empty.
        speech_seconds: So much of the sound is read for a speech recogniser, from the beginning.
        screen_text: Whether text on screen is read.
    """

    max_frames: int = 32
    frames_per_second: float = 1.0
    short_side: int = 256
    keyframes: bool = False
    times_seconds: tuple[float, ...] | None = None
    thumbnails: int = THUMBNAILS
    sound: Literal["", "log-mel", "windows"] = ""
    speech_seconds: float = 0.0
    screen_text: bool = False


def _no_times() -> NDArray[np.float32]:
    return np.zeros(0, np.float32)


@dataclass(slots=True)
class Media:
    """What was read. Fields hold plain values, bytes, arrays, and lists and tuples of these.

    Attributes:
        pictures: F pictures, each (height, width, 3) uint8 RGB, upright.
        times_seconds: (F,) float32, when each comes on, from the first frame.
        duration_seconds: ``None`` where there are no pictures.
        thumbnails: JPEG files in time order.
        audio: (A, K) float32 audio frames; A is 0 where there is no sound or none was wanted.
        windows: A windows of sound; see ``sound.AudioWindows``.
        waveform: (n,) int16 at 16 kHz, mono.
        screen_text: Lines of text on screen.
        audio_times_seconds: (A,) float32, when each begins, on the pictures' clock.
        without_pictures: Reason and detail where the file holds none; else ``None``.
        notes: What could not be read though the file could, a sentence each.
    """

    pictures: list[NDArray[np.uint8]] = field(default_factory=list)
    times_seconds: NDArray[np.float32] = field(default_factory=_no_times)
    duration_seconds: float | None = None
    thumbnails: tuple[bytes, ...] = ()
    audio: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    windows: list[NDArray[np.float32]] = field(default_factory=list)
    waveform: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, np.int16))
    screen_text: str = ""
    audio_times_seconds: NDArray[np.float32] = field(default_factory=_no_times)
    without_pictures: tuple[str, str] | None = None
    notes: tuple[str, ...] = ()


def read_media(path: Path, request: MediaRequest) -> Media:
    """Reads a video file.

    Sound that is damaged costs the sound, not the video: it is a note.

    Args:
        path: The file.
        request: What is wanted of it.

    Returns:
        What is in it; without pictures, and with ``without_pictures``, where it holds sound only.

    Raises:
        BadRecord: The file cannot be decoded; see ``video.decode``.
    """
    media = Media()
    try:
        _read_pictures(path, request, media)
    except BadRecord as error:
        if error.reason not in WITHOUT_PICTURES:
            raise
        media.without_pictures = (error.reason, error.detail)
    read_extras(path, request, media)
    return media


def _read_pictures(path: Path, request: MediaRequest, media: Media) -> None:
    from vidvec.data.video import decode, to_jpeg

    times = request.times_seconds
    decoded = decode(
        path,
        max_frames=request.max_frames,
        frames_per_second=request.frames_per_second,
        short_side=request.short_side,
        times_seconds=None if times is None else np.array(times),
        keyframes=request.keyframes,
    )
    media.pictures = decoded.images
    media.times_seconds = decoded.times_seconds
    media.duration_seconds = decoded.duration_seconds
    if request.thumbnails:
        shown = sample_positions(len(decoded.images), request.thumbnails)
        media.thumbnails = tuple(to_jpeg(decoded.images[position]) for position in shown)
