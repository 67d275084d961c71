"""Audio frames: what is heard in a second of a video, as a row of numbers.

``log-mel`` needs no weights: the mean of a second's log-mel spectrum, its standard deviation, and
that of its slope over time, 64 numbers each. The spectrum is that of VGGish (Hershey and others,
"CNN architectures for large-scale audio classification", 2017): 25 ms windows every 10 ms, 64
triangles on the mel scale from 125 to 7,500 Hz; of the power, on Whisper's scale,
(log₁₀ max(power, 10⁻¹⁰) + 4) / 4, which keeps the numbers near −1.5 … 1.5.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidvec.data.sound import SAMPLE_RATE, AudioWindows, read_windows
from vidvec.errors import UsageError

LOG_MEL = "log-mel"
BANDS = 64
_LOWEST_HZ, _HIGHEST_HZ = 125.0, 7500.0
_WINDOW, _HOP, _FFT = 400, 160, 512  # samples
_DELTA = 2  # frames to each side that a slope is fitted to


@dataclass(frozen=True, slots=True)
class AudioFrames:
    """Audio frames of one video.

    Attributes:
        frames: (A, K) float32.
        times_seconds: (A,) float32, when each begins, counted from the first picture.
    """

    frames: NDArray[np.float32]
    times_seconds: NDArray[np.float32]


class AudioEncoder(Protocol):
    """Turns seconds of sound into features.

    Attributes:
        identity: JSON-able; encoders with equal identities give comparable features. Holds
            ``name``, ``revision``, ``preprocessing`` and ``frame_size``.
        frame_size: K, the width of a feature.
    """

    identity: dict[str, Any]
    frame_size: int

    def encode(self, windows: AudioWindows) -> NDArray[np.float32]:
        """Encodes the windows of one video as (A, K) float32."""
        ...


class LogMelEncoder:
    """Statistics of the log-mel spectrum; see the module."""

    frame_size = 3 * BANDS

    def __init__(self) -> None:
        self.identity: dict[str, Any] = {
            "name": LOG_MEL,
            "revision": "1",
            "preprocessing": {
                "sample_rate": SAMPLE_RATE,
                "window": _WINDOW,
                "hop": _HOP,
                "fft": _FFT,
                "bands": BANDS,
                "lowest_hz": _LOWEST_HZ,
                "highest_hz": _HIGHEST_HZ,
                "statistics": ["mean", "std", "delta_std"],
            },
            "frame_size": self.frame_size,
        }

    def encode(self, windows: AudioWindows) -> NDArray[np.float32]:
        """Encodes windows of sound.

        Returns:
            (A, 192) float32.
        """
        rows = [statistics(log_mel(samples)) for samples in windows.samples]
        return np.array(rows, np.float32).reshape(len(rows), self.frame_size)


def open_audio_encoder(spec: str) -> AudioEncoder | None:
    """Opens an audio encoder.

    Args:
        spec: ``log-mel``, ``hf:NAME[@REVISION]`` where NAME is a model on the hub or a local
            folder, or ``none``.

    Returns:
        The encoder; ``None`` for ``none``.

    Raises:
        UsageError: The spec or the model cannot be used.
        MissingExtraError: transformers is not installed.
        OfflineError: The model is not on this disk and the hub cannot be reached.
    """
    kind, _, name = spec.partition(":")
    if kind == "hf" and name:
        from vidvec.data.hf_audio import HuggingFaceAudioEncoder

        return HuggingFaceAudioEncoder(name)
    if spec not in (LOG_MEL, "none"):
        near = difflib.get_close_matches(spec, [LOG_MEL, "none"], 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"no audio encoder {spec!r}; {hint}expected log-mel, hf:NAME or none")
    return LogMelEncoder() if spec == LOG_MEL else None


def read_audio(path: Path, *, duration_seconds: float | None = None) -> AudioFrames | None:
    """Reads the sound of a video file as ``log-mel`` audio frames.

    Args:
        path: The file.
        duration_seconds: Of the pictures; ``None``: as the file's header says.

    Returns:
        One frame a second, at most 32 spread over the video as its pictures are; ``None`` where
        the file has no sound.

    Raises:
        BadRecord: See ``sound.read_windows``.
    """
    windows = read_windows(path, duration_seconds=duration_seconds)
    if windows is None:
        return None
    return AudioFrames(LogMelEncoder().encode(windows), windows.times_seconds)


def mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Pitch in mel of frequencies: 2595 log₁₀(1 + f / 700) (O'Shaughnessy, 1987; as in HTK)."""
    return np.asarray(2595 * np.log10(1 + np.asarray(hertz, np.float64) / 700))


def mel_filters() -> NDArray[np.float64]:
    """(257, 64) weights with which each band sums the spectrum's power.

    Band i rises from 0 to 1 and falls again between three neighbours of 66 frequencies that are
    evenly spread in mel; linear in hertz.
    """
    edges = 700 * (10 ** (np.linspace(mel(_LOWEST_HZ), mel(_HIGHEST_HZ), BANDS + 2) / 2595) - 1)
    hertz = np.arange(_FFT // 2 + 1)[:, None] * SAMPLE_RATE / _FFT
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
    return np.maximum(0.0, np.minimum(rising, falling))


_FILTERS = mel_filters().astype(np.float32)
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)).astype(np.float32)


def log_mel(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The log-mel spectrum of sound.

    Args:
        samples: (n,) at 16 kHz; fewer than 25 ms are filled up with zeros.

    Returns:
        (1 + (n − 400) // 160, 64) float32; digital silence is −1.5.
    """
    samples = np.pad(samples, (0, max(0, _WINDOW - len(samples))))
    pieces = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP]
    spectrum = np.fft.rfft(pieces * _HANN, _FFT)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ _FILTERS
    return ((np.log10(np.maximum(power, 1e-10)) + 4) / 4).astype(np.float32)


def statistics(spectrum: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean, standard deviation, and standard deviation of the slope, of each band over time.

    The slope at a frame is Σ k (c(t+k) − c(t−k)) / 2 Σ k², k = 1, 2, the ends repeated (HTK Book,
    equation 5.16).

    Args:
        spectrum: (frames, bands).

    Returns:
        (3 · bands,) float32.
    """
    padded = np.pad(spectrum, ((_DELTA, _DELTA), (0, 0)), mode="edge")
    count = len(spectrum)
    slope = np.zeros_like(spectrum)
    for k in range(1, _DELTA + 1):
        slope += k * (padded[_DELTA + k :][:count] - padded[_DELTA - k :][:count])
    slope /= 2 * sum(k * k for k in range(1, _DELTA + 1))
    return np.concatenate([spectrum.mean(axis=0), spectrum.std(axis=0), slope.std(axis=0)])
