"""Containers and codecs: each shows the right frames at the right times, read in either way.

What a frame shows is its number (``media.draw``), so that what comes out is held against what was
drawn at that time, not against what the file says. Encoders that PyAV's build lacks fail here: its
version is pinned, and so is what it brings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.data.media import HEIGHT, WIDTH, read, render, steady
from vidvec.data import timeline
from vidvec.data.video import decode

ENCODERS: dict[str, dict[str, Any]] = {
    "h264": {"codec": "libx264", "codec_options": {"bf": "3", "preset": "veryfast"}},
    "hevc": {
        "codec": "libx265",
        "codec_options": {"preset": "superfast", "x265-params": "log-level=none:pools=1:bframes=3"},
    },
    "vp8": {"codec": "libvpx", "codec_options": {"cpu-used": "8", "deadline": "realtime"}},
    "vp9": {"codec": "libvpx-vp9", "codec_options": {"cpu-used": "8", "deadline": "realtime"}},
    "av1": {
        "codec": "libsvtav1",
        "codec_options": {"preset": "12", "svtav1-params": "lp=1:keyint=12"},
    },
    "mpeg2": {"codec": "mpeg2video", "rate": 25, "codec_options": {"bf": "2"}},
    "mpeg4": {"codec": "mpeg4", "codec_options": {"bf": "2"}},
    "mjpeg": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "flv1": {"codec": "flv"},
    "wmv2": {"codec": "wmv2"},
    "theora": {"codec": "libtheora"},
    "prores": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "dnxhd": {
        "codec": "dnxhd",
        "pix_fmt": "yuv422p",
        "codec_options": {"profile": "dnxhr_hq"},
        "size": (256, 192),
    },
    "ffv1": {"codec": "ffv1", "codec_options": {"level": "3"}},
    "qtrle": {"codec": "qtrle", "pix_fmt": "rgb24"},
    "huffyuv": {"codec": "huffyuv", "pix_fmt": "yuv422p"},
    "raw": {"codec": "rawvideo", "pix_fmt": "uyvy422"},
    "gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "apng": {"codec": "apng", "pix_fmt": "rgb24"},
}
HELD = {
    "mp4": ["h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg"],
    "mov": ["h264", "hevc", "mpeg4", "mjpeg", "prores", "dnxhd", "qtrle", "raw"],
    "mkv": ["h264", "hevc", "vp8", "vp9", "av1", "mpeg2", "mpeg4", "mjpeg", "ffv1", "prores"],
    "webm": ["vp8", "vp9", "av1"],
    "avi": ["h264", "vp8", "mpeg4", "mjpeg", "huffyuv", "ffv1", "raw"],
    "flv": ["h264", "hevc", "vp9", "av1", "flv1"],
    "ts": ["h264", "hevc", "mpeg2", "mpeg4"],
    "m2ts": ["h264"],
    "mpg": ["mpeg2"],
    "vob": ["mpeg2"],
    "3gp": ["h264", "mpeg4"],
    "asf": ["wmv2"],
    "nut": ["h264", "vp9"],
    "mxf": ["mpeg2", "dnxhd"],
    "ivf": ["vp8", "vp9", "av1"],
    "gif": ["gif"],
    "apng": ["apng"],
}
CASES = [(suffix, codec) for suffix, codecs in HELD.items() for codec in codecs]


@pytest.mark.parametrize(("suffix", "codec"), CASES, ids=map("-".join, CASES))
def test_the_right_frames_at_the_right_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, codec: str
) -> None:
    more = dict(ENCODERS[codec])
    rate = more.setdefault("rate", 25 if suffix in {"mxf", "vob", "mpg"} else 10)
    path = render(tmp_path / f"clip.{suffix}", steady(100, rate), **more)
    whole = decode(path)
    count = -(-100 // rate)
    assert [read(image) for image in whole.images] == [rate * second for second in range(count)]
    np.testing.assert_allclose(whole.times_seconds, range(count), atol=2e-3)
    assert whole.duration_seconds == pytest.approx(100 / rate, abs=1.01 / rate)
    width, height = more.get("size", (WIDTH, HEIGHT))
    assert whole.images[0].shape == (height, width, 3)
    # Far apart, so that what lies between is left out; then without packets in memory.
    few = decode(path, max_frames=3, frames_per_second=rate)
    numbers = [round((i + 0.5) * 99 / 3) for i in range(3)]
    assert [read(image) for image in few.images] == numbers
    monkeypatch.setattr(timeline, "HELD_BYTES", 0)
    from_file = decode(path, max_frames=3, frames_per_second=rate)
    assert np.array_equal(few.images, from_file.images)
    assert np.array_equal(few.times_seconds, from_file.times_seconds)
