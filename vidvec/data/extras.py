"""Sound and text on screen of a video file, beside its pictures.

This runs in a worker process. What fails here costs that alone, not the video: it is a note.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vidvec.data.sampling import sample_positions
from vidvec.errors import BadRecord, VidvecError

if TYPE_CHECKING:
    from vidvec.data.media import Media, MediaRequest


def read_extras(path: Path, request: MediaRequest, media: Media) -> None:
    """Reads what is wanted besides pictures, and puts it into ``media``.

    Raises:
        VidvecError: What reads text on screen is not installed.
    """
    steps: list[tuple[bool, str, Callable[[Path, MediaRequest, Media], None]]] = [
        (request.sound != "", "sound", _read_sound),
        (request.speech_seconds > 0, "speech", _read_waveform),
        (request.screen_text and len(media.pictures) > 0, "text on screen", _read_screen_text),
    ]
    for wanted, what, step in steps:
        if not wanted:
            continue
        try:
            step(path, request, media)
        except BadRecord as error:
            media.notes += (f"{what} left out, {error.reason}: {error.detail}",)
        except VidvecError:  # the user's to mend, such as an extra that is not installed
            raise
        except Exception as error:  # whatever a file makes a library raise
            media.notes += (f"{what} left out, {type(error).__name__}: {error}",)


def _read_sound(path: Path, request: MediaRequest, media: Media) -> None:
    from vidvec.data.audio import read_audio
    from vidvec.data.sound import read_windows

    duration = media.duration_seconds
    if request.sound == "log-mel":
        if (heard := read_audio(path, duration_seconds=duration)) is not None:
            media.audio, media.audio_times_seconds = heard.frames, heard.times_seconds
    elif (windows := read_windows(path, duration_seconds=duration)) is not None:
        media.windows, media.audio_times_seconds = windows.samples, windows.times_seconds


def _read_waveform(path: Path, request: MediaRequest, media: Media) -> None:
    from vidvec.data.sound import read_waveform

    samples = read_waveform(path, max_seconds=request.speech_seconds)
    if samples is not None:
        media.waveform = samples


def _read_screen_text(path: Path, request: MediaRequest, media: Media) -> None:
    """Reads a few of the pictures; larger ones are decoded where the file has them."""
    from vidvec.data.ocr import PICTURES, SHORT_SIDE, read_screen_text
    from vidvec.data.video import decode

    chosen = sample_positions(len(media.pictures), PICTURES)
    pictures = [media.pictures[position] for position in chosen]
    may_be_larger = min(pictures[0].shape[:2]) >= request.short_side
    if request.short_side < SHORT_SIDE and may_be_larger:
        times = media.times_seconds[chosen]
        pictures = decode(path, times_seconds=times, short_side=SHORT_SIDE).images
    media.screen_text = read_screen_text(pictures)
