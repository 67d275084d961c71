"""Damaged copies of video files, made from seeds: what disks, networks and bugs do to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.unit.data.media import render, render_sound, steady

# Containers and codecs; each is a video of three seconds.
FORMATS: dict[str, dict[str, Any]] = {
    "h264.mp4": {},
    "moving.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "sounding.mp4": {"audio_seconds": 3.0},
    "hevc.mp4": {"codec": "libx265", "codec_options": {"x265-params": "log-level=none"}},
    "ten-bit.mkv": {
        "codec": "libx265",
        "pix_fmt": "yuv420p10le",
        "codec_options": {"x265-params": "log-level=none"},
    },
    "h264.mkv": {},
    "h264.flv": {},
    "h264.ts": {},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mjpeg.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "mpeg2.mpg": {"codec": "mpeg2video", "rate": 25},
    "vp8.webm": {"codec": "libvpx", "codec_options": {"cpu-used": "8"}},
    "vp9.webm": {"codec": "libvpx-vp9", "codec_options": {"cpu-used": "8"}},
    "pictures.gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "wmv.asf": {"codec": "wmv2"},
}

Corrupt = Callable[[bytes, bytes, np.random.Generator], bytes]


def write_all(folder: Path) -> list[Path]:
    """A whole file of each format, and one with nothing but sound."""
    folder.mkdir(parents=True)
    files = [
        render(folder / name, steady(75, 25) if "rate" in more else steady(30), **more)
        for name, more in FORMATS.items()
    ]
    return [*files, render_sound(folder / "sound.mp4")]


def truncated(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """Ends early."""
    return data[: rng.integers(len(data))]


def flipped(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """From one bit in the whole file to one in a hundred bytes is another."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    share = 10.0 ** rng.uniform(-5.5, -2.9)
    flips = rng.random(len(bits)) < share
    flips[rng.integers(len(bits))] = True
    return np.packbits(bits ^ flips).tobytes()


def zeroed(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """A stretch of zeros, as a block that was never written has."""
    start, size = rng.integers(len(data)), rng.integers(1, 1 + len(data) // 3)
    return data[:start] + bytes(len(data[start : start + size])) + data[start + size :]


def noisy(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """A stretch of noise."""
    start, size = rng.integers(len(data)), rng.integers(1, 1 + len(data) // 3)
    return data[:start] + rng.bytes(len(data[start : start + size])) + data[start + size :]


def headed(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Begins as a file of another kind does."""
    size = int(rng.integers(4, 600))
    return other[:size] + data[size:]


def appended(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """Has noise behind it."""
    return data + rng.bytes(int(rng.integers(1, 5000)))


def cut(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    """Lacks a stretch, so that all behind it lies elsewhere than the index says."""
    start, size = rng.integers(len(data)), rng.integers(1, 1 + len(data) // 3)
    return data[:start] + data[start + size :]


CORRUPTIONS: dict[str, Corrupt] = {
    each.__name__: each for each in (truncated, flipped, zeroed, noisy, headed, appended, cut)
}


def corrupt_all(files: list[Path], folder: Path, rounds: int, seed: int = 0) -> list[Path]:
    """So many copies of each file for each kind of corruption; names begin with the kind's."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = [file.read_bytes() for file in files]
    copies = []
    for place, (file, data) in enumerate(zip(files, contents, strict=True)):
        for kind, corrupt in enumerate(CORRUPTIONS.values()):
            for number in range(rounds):
                rng = np.random.default_rng([seed, place, kind, number])
                other = contents[int(rng.integers(1, len(contents)) + place) % len(contents)]
                copy = folder / f"{corrupt.__name__}-{file.stem}-{number}{file.suffix}"
                copy.write_bytes(corrupt(data, other, rng))
                copies.append(copy)
    return copies
