"""What is taken of a video besides its pictures: audio frames, speech, text on screen.

Files are read in worker processes (``extras.py``); models that take sound run here, in the process
that ingests. Text is only made where the source has none.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vidvec.data.audio import LOG_MEL, AudioEncoder, open_audio_encoder
from vidvec.data.corpus import NO_AUDIO
from vidvec.data.sound import AudioWindows
from vidvec.errors import UsageError
from vidvec.records import Video

if TYPE_CHECKING:
    from vidvec.data.asr import SpeechRecognizer
    from vidvec.data.media import Media


class Modalities:
    """What is wanted of each video, and the models that make it.

    Args:
        audio: Audio encoder, opened or by its spec; see ``open_audio_encoder``.
        asr: Speech recogniser as ``hf:NAME``; empty: none.
        ocr: Whether text on screen is read.

    Attributes:
        audio_identity: Identity of the audio encoder.

    Raises:
        UsageError: A spec or model cannot be used.
        MissingExtraError: transformers is not installed.
        OfflineError: A model is not on this disk and the hub cannot be reached.
        VidvecError: What reads text on screen is not installed.
    """

    def __init__(
        self, audio: str | AudioEncoder = LOG_MEL, asr: str = "", *, ocr: bool = False
    ) -> None:
        encoder = open_audio_encoder(audio) if isinstance(audio, str) else audio
        self._encoder = encoder
        identity = NO_AUDIO if encoder is None else encoder.identity
        # Through JSON, as the manifest holds it, so that the two can be compared.
        self.audio_identity: dict[str, Any] = json.loads(json.dumps(identity))
        self._recognizer = _open_recognizer(asr)
        self._ocr = ocr
        if ocr:
            from vidvec.data.ocr import check_ocr

            check_ocr()

    def wanted(self, video: Video) -> dict[str, Any]:
        """Fields of a ``MediaRequest`` that say what of a video's file is to be read."""
        from vidvec.data.asr import MAX_SECONDS

        kind = "log-mel" if self.audio_identity["name"] == LOG_MEL else "windows"
        fresh = self._encoder is not None and len(video.audio) == 0
        speech = self._recognizer is not None and not video.speech_text.strip()
        return {
            "sound": kind if fresh else "",
            "speech_seconds": MAX_SECONDS if speech else 0.0,
            "screen_text": self._ocr and not video.screen_text.strip(),
        }

    def complete(self, video: Video, media: Media) -> tuple[Video, bool, tuple[str, ...]]:
        """A video with what was read of its file, and what the models make of that.

        Args:
            video: As the source has it.
            media: What was read where ``wanted`` was asked for.

        Returns:
            The video; whether its audio frames were made here; a sentence on each thing that could
            not be made.
        """
        notes: list[str] = []
        heard = False
        frames, times = media.audio, media.audio_times_seconds
        try:
            if media.windows and self._encoder is not None:
                frames = self._encoder.encode(AudioWindows(media.windows, times))
            with np.errstate(over="ignore"):  # what is too large is found below
                small = frames.astype(np.float16)
            if not np.isfinite(small).all():
                raise ValueError("the audio encoder gave a number that is no finite float16")
            if len(small):
                video, heard = replace(video, audio=small, audio_times_seconds=times), True
        except Exception as error:  # whatever a foreign model raises
            notes.append(f"sound left out, {type(error).__name__}: {error}")
        if media.screen_text:
            video = replace(video, screen_text=media.screen_text)
        if self._recognizer is not None and len(media.waveform):
            try:
                speech = self._recognizer.transcribe(media.waveform, video.language)
                language = video.language or speech.language
                video = replace(video, speech_text=speech.text, language=language)
            except Exception as error:
                notes.append(f"speech left out, {type(error).__name__}: {error}")
        return video, heard, tuple(notes)


def _open_recognizer(spec: str) -> SpeechRecognizer | None:
    if not spec:
        return None
    kind, _, name = spec.partition(":")
    if kind != "hf" or not name:
        raise UsageError(f"no speech recogniser {spec!r}; expected hf:NAME, a model on the hub")
    from vidvec.data.asr import SpeechRecognizer

    return SpeechRecognizer(name)
