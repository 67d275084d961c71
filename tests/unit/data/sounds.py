"""Small files with sound in which every second says which one it is: by its pitch."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from tests.unit.data.media import HEIGHT, WIDTH, draw

STEP_HZ = 150


def pitches(seconds: float, rate: int = 16_000, level: float = 0.3) -> NDArray[np.float32]:
    """(n,) sound whose second s is a tone of 300 + 150 · (s modulo 20) Hz."""
    at = np.arange(round(seconds * rate)) / rate
    hertz = 300 + STEP_HZ * (at.astype(int) % 20)
    return (level * np.sin(2 * np.pi * hertz * (at % 1))).astype(np.float32)


def second_of(samples: NDArray[np.float32], rate: int = 16_000) -> int:
    """Which second, modulo 20, a piece of that sound is from; −1: of none, or it is silent."""
    if len(samples) < rate // 10 or np.abs(samples).max() < 0.02:
        return -1
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    hertz = np.argmax(spectrum) * rate / len(samples)
    place = (hertz - 300) / STEP_HZ
    return round(place) if abs(place - round(place)) < 0.2 else -1


def write_sound(
    path: Path,
    sound: NDArray[np.float32],
    *,
    rate: int = 16_000,
    codec: str = "pcm_s16le",
    layout: str = "mono",
    start_seconds: float = 0.0,
    pause: tuple[float, float] | None = None,
    video_seconds: float = 0.0,
    video_start: float = 0.0,
) -> Path:
    """Writes a file with sound, and with moving pictures where they are asked for.

    Args:
        path: Its suffix chooses the container.
        sound: (n,) for all channels, or (channels, n), in −1 … 1.
        rate: Samples a second, of the sound and the file.
        codec: Name of FFmpeg's encoder.
        layout: Of the channels.
        start_seconds: When the sound begins.
        pause: Where timestamps jump ahead, and by how much.
        video_seconds: Length of the pictures, ten a second; 0 for none.
        video_start: When they begin.
    """
    channels = av.AudioLayout(layout).nb_channels
    planes = np.broadcast_to(sound, (channels, sound.shape[-1]))
    with av.open(str(path), "w") as container:
        pictures = None
        if video_seconds:
            pictures = container.add_stream(
                "libvpx" if path.suffix == ".webm" else "libx264", rate=10
            )
            pictures.width, pictures.height, pictures.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream = container.add_stream(codec, rate=rate, layout=layout)
        form = stream.codec_context.format
        for number in range(round(video_seconds * 10)):
            frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
            frame.pts, frame.time_base = number + round(video_start * 10), Fraction(1, 10)
            container.mux(pictures.encode(frame))
        if pictures is not None:
            container.mux(pictures.encode())
        convert = av.AudioResampler(format=form, layout=layout, rate=rate)
        size = stream.codec_context.frame_size or 1024
        for first in range(0, planes.shape[1], size):
            part = np.ascontiguousarray(planes[:, first : first + size])
            whole = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
            whole.sample_rate, whole.time_base = rate, Fraction(1, rate)
            shift = pause[1] if pause and first / rate >= pause[0] else 0.0
            for frame in convert.resample(whole):
                frame.pts = first + round((start_seconds + shift) * rate)
                frame.time_base = Fraction(1, rate)
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
