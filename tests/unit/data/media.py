"""Small video files for tests, in which every frame says which one it is.

A frame shows its number as a picture: a grid of 2 × 8 fields, black or white, one bit each. That
survives lossy codecs and scaling, and a turned or mirrored frame reads as another number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 128, 96
_ROWS, _COLUMNS = 2, 8
# Set in every number, so that a picture that came out black or grey is not taken for a frame.
_MARK = 0b1000_0000_0000_0001


def draw(number: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """(height, width, 3) uint8, showing a number below 2¹⁴."""
    bits = (number << 1 | _MARK) >> np.arange(_ROWS * _COLUMNS) & 1
    grid = bits.reshape(_ROWS, _COLUMNS).astype(np.uint8) * 255
    fields = np.kron(grid, np.ones((height // _ROWS, width // _COLUMNS), np.uint8))
    return np.repeat(fields[:, :, None], 3, axis=2)


def read(image: NDArray[np.uint8]) -> int:
    """The number that a picture shows; −1 where it shows none."""
    height, width = image.shape[:2]
    ys = ((np.arange(_ROWS) + 0.5) * height / _ROWS).astype(int)
    xs = ((np.arange(_COLUMNS) + 0.5) * width / _COLUMNS).astype(int)
    bits = (image[np.ix_(ys, xs)].mean(axis=2) > 127).reshape(-1).astype(int)
    number = int((bits << np.arange(bits.size)).sum())
    return (number & ~_MARK) >> 1 if number & _MARK == _MARK else -1


def render(
    path: Path,
    times_seconds: Sequence[float],
    *,
    codec: str = "libx264",
    rate: int = 10,
    keyframe_every: int = 12,
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    turn: tuple[int, bool, bool] | None = None,
    pixel_aspect: Fraction | None = None,
    audio_seconds: float = 0.0,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Path:
    """Writes a video whose frame n shows n and comes on at ``times_seconds[n]``.

    Args:
        path: Its suffix chooses the container.
        times_seconds: Ascending, to the millisecond.
        codec: Name of FFmpeg's encoder.
        rate: Nominal frames a second; AVI and MPEG files know no other times.
        keyframe_every: Frames from keyframe to keyframe.
        codec_options: For the encoder.
        container_options: For the container.
        pix_fmt: Pixel format.
        turn: Degrees counter-clockwise and mirrorings that a player is to apply.
        pixel_aspect: Width of a pixel by its height.
        audio_seconds: Length of a silent audio track; 0 for none.
        size: Width and height.
    """
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=codec_options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.gop_size = keyframe_every
        by_rate = path.suffix in {".avi", ".mpg", ".mxf"} or codec == "mpeg2video"
        base = Fraction(1, rate) if by_rate else Fraction(1, 1000)
        stream.time_base = stream.codec_context.time_base = base
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if turn is not None:
            stream.set_display_rotation(turn[0], hflip=turn[1], vflip=turn[2])
        sound = container.add_stream("aac", rate=8000) if audio_seconds else None
        for number, time in enumerate(times_seconds):
            frame = av.VideoFrame.from_ndarray(draw(number, *size), format="rgb24")
            frame.pts, frame.time_base = round(time / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            _silence(container, sound, audio_seconds)
    return path


def _silence(
    container: av.container.OutputContainer, stream: av.AudioStream, length: float
) -> None:
    for start in range(0, int(length * 8000), 1024):
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.rate, frame.pts = 8000, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def render_sound(path: Path, seconds: float = 2.0, *, cover: bool = False) -> Path:
    """A file with sound and no moving pictures, but maybe a cover picture."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        if cover:
            picture = container.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            container.mux(picture.encode(av.VideoFrame.from_ndarray(draw(1), format="rgb24")))
            container.mux(picture.encode())
        _silence(container, sound, seconds)
    return path


def steady(count: int, rate: int = 10) -> list[float]:
    """Times of frames at a constant rate."""
    return [number / rate for number in range(count)]


def cut(path: Path, share: float) -> Path:
    """A copy that ends after that share of the bytes."""
    data = path.read_bytes()
    short = path.with_name(f"cut{path.suffix}")
    short.write_bytes(data[: int(len(data) * share)])
    return short


def damaged(path: Path, share: float, seed: int = 5) -> Path:
    """A copy in which that share of the video's packets is noise."""
    rng = np.random.default_rng(seed)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for packet in packets[1:]:
        if rng.random() < share and packet.pos is not None:
            # The four bytes of length are kept, as a broken disk block would keep most of them.
            data[packet.pos + 4 : packet.pos + packet.size] = rng.bytes(packet.size - 4)
    copy = path.with_name(f"damaged{path.suffix}")
    copy.write_bytes(data)
    return copy


def clips(shared: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The real clips, each with its line of the table."""
    tables = sorted((shared / "data" / "videos").glob("*/meta.jsonl"))
    rows = [(table.parent, json.loads(line)) for table in tables for line in table.open()]
    return [(folder / row["file"], row) for folder, row in rows]
