"""Files whose times are not what one expects: odd beginnings, lies, gaps, lengths."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.unit.data.media import draw, read, render, steady
from vidvec.data import timeline
from vidvec.data.video import DecodedVideo, decode
from vidvec.errors import BadRecord

B_FRAMES = {"bf": "3", "sc_threshold": "0"}
VP8 = {"codec": "libvpx", "codec_options": {"cpu-used": "8", "deadline": "realtime"}}


def shown(decoded: DecodedVideo) -> list[int]:
    return [read(image) for image in decoded.images]


def check(decoded: DecodedVideo, times: list[float]) -> None:
    """Each picture is the one that was drawn for its time."""
    drawn = [times[number] - times[0] for number in shown(decoded)]
    assert decoded.times_seconds.tolist() == pytest.approx(drawn, abs=2e-3)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("vfr.mov", {"codec_options": B_FRAMES}),
        ("vfr.flv", {"codec_options": B_FRAMES}),
        ("vfr.ts", {"codec_options": B_FRAMES}),
        ("vfr.webm", VP8),
        ("vfr.3gp", {"codec": "mpeg4"}),
    ],
)
def test_variable_frame_rate(tmp_path: Path, name: str, more: dict[str, Any]) -> None:
    rng = np.random.default_rng(8)
    gaps = rng.choice([0.033, 0.04, 0.1, 0.7, 2.9], 40)
    times = [0.0, *np.cumsum(gaps).round(3).tolist()]
    path = render(tmp_path / name, times, **more)
    decoded = decode(path, max_frames=1000)
    check(decoded, times)
    seconds = np.arange(np.ceil(decoded.duration_seconds)) + 5e-4
    chosen = np.searchsorted(times, seconds, side="right") - 1
    assert shown(decoded) == sorted(set(chosen.tolist()))
    keys = decode(path, keyframes=True)
    check(keys, times)
    assert 2 < len(keys.images) < len(decoded.images)


@pytest.mark.parametrize("first", [-1.0, 7.25])
@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts", "flv"])
def test_any_first_time(tmp_path: Path, suffix: str, first: float) -> None:
    times = [first + time for time in steady(50)]
    # mp4 and transport streams can say that a frame comes before 0.
    flags = {"avoid_negative_ts": "disabled"} if suffix in {"mp4", "mov", "ts"} else {}
    path = render(tmp_path / f"c.{suffix}", times, codec_options=B_FRAMES, container_options=flags)
    decoded = decode(path)
    # In mp4 an edit list has players begin at 0.
    cut = 10 if first < 0 and suffix in {"mp4", "mov"} else 0
    assert shown(decoded) == list(range(cut, 50, 10))
    assert decoded.times_seconds.tolist() == pytest.approx(range((50 - cut) // 10), abs=2e-3)
    assert decoded.duration_seconds == pytest.approx(5.0 - cut / 10, abs=0.05)


def index_of(path: Path, kind: bytes) -> int:
    """Where the content of the only box of a kind begins."""
    data = path.read_bytes()
    assert data.count(kind) == 1
    return data.index(kind) + 4


def patch(path: Path, at: int, value: bytes) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[:at] + value + data[at + len(value) :])
    return path


def test_an_edit_list_that_begins_between_key_frames(tmp_path: Path) -> None:
    options = {"sc_threshold": "0", "bf": "0"}
    path = render(tmp_path / "clip.mp4", steady(60), codec_options=options)
    at = index_of(path, b"elst")
    # Version 0: flags, count, then duration, media time, rate; media times in 1/16000 s (mdhd).
    count, duration, media_time = struct.unpack(">IIi", path.read_bytes()[at + 4 : at + 16])
    assert (count, media_time) == (1, 0)
    patch(path, at + 8, struct.pack(">Ii", duration * 35 // 60, 16000 * 15 // 10))
    decoded = decode(path)  # begins at frame 15, in the middle of a group of twelve, ends at 49
    assert shown(decoded) == [15, 25, 35, 45]
    assert decoded.times_seconds.tolist() == pytest.approx([0, 1, 2, 3], abs=1e-3)
    assert decoded.duration_seconds == pytest.approx(3.5, abs=0.11)
    last = decode(path, max_frames=1)
    assert shown(last) == [35]
    keys = decode(path, keyframes=True)
    assert shown(keys) == [24, 36, 48]
    assert keys.times_seconds.tolist() == pytest.approx([0.9, 2.1, 3.3], abs=1e-3)


@pytest.mark.parametrize("factor", [0.25, 10.0])
def test_a_lying_duration_in_mp4(tmp_path: Path, factor: float) -> None:
    path = render(tmp_path / "clip.mp4", steady(60), codec_options={"bf": "0"})
    for box, at in ((b"mvhd", 16), (b"mdhd", 16)):
        start = index_of(path, box)
        stated = struct.unpack(">I", path.read_bytes()[start + at : start + at + 4])[0]
        patch(path, start + at, struct.pack(">I", int(stated * factor)))
    patch(path, index_of(path, b"elst") - 4, b"free")
    decoded = decode(path)
    assert shown(decoded) == [0, 10, 20, 30, 40, 50]
    assert decoded.duration_seconds == pytest.approx(6.0, abs=0.11)


@pytest.mark.parametrize("factor", [0.0, 0.25, 10.0])
@pytest.mark.parametrize("name", ["clip.mkv", "clip.flv", "clip.avi"])
def test_a_lying_duration(tmp_path: Path, name: str, factor: float) -> None:
    path = render(tmp_path / name, steady(60))
    data = path.read_bytes()
    if name == "clip.mkv":
        at, kind = data.index(b"\x44\x89\x88") + 3, ">d"  # Duration, a double of milliseconds
    elif name == "clip.flv":
        at, kind = data.index(b"duration\x00") + 9, ">d"  # a double of seconds
    else:
        at, kind = data.index(b"strh") + 8 + 32, "<I"  # dwLength, in frames
    [stated] = struct.unpack_from(kind, data, at)
    assert stated in {6000.0, 6.2, 60}  # FFmpeg counts B-frames' delay in FLV
    lie = type(stated)(stated * factor)
    decoded = decode(patch(path, at, struct.pack(kind, lie)))
    assert shown(decoded) == [0, 10, 20, 30, 40, 50]
    assert decoded.duration_seconds == pytest.approx(6.0, abs=0.11)


@pytest.mark.parametrize("name", ["clip.mkv", "clip.avi", "clip.flv"])
def test_a_file_of_which_the_end_was_never_written(tmp_path: Path, name: str) -> None:
    path = render(tmp_path / name, steady(120))
    data = path.read_bytes()
    half = len(data) // 2
    path.write_bytes(data[:half] + bytes(len(data) - half))
    with pytest.raises(BadRecord, match="truncated-video"):
        decode(path)


@pytest.mark.parametrize(
    ("name", "kind", "more"),
    [
        ("live.mkv", "matroska", {"live": "1"}),
        ("live.webm", "webm", {"live": "1"}),
        ("live.mp4", "mp4", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
        ("live.flv", "flv", {"flvflags": "no_duration_filesize"}),
        ("live.ts", "mpegts", {}),
    ],
)
def test_no_duration_at_all(tmp_path: Path, name: str, kind: str, more: dict[str, str]) -> None:
    # Written to a pipe, so that nothing can be put in afterwards.
    class Pipe:
        def __init__(self) -> None:
            self.parts: list[bytes] = []

        def write(self, part: Any) -> int:
            self.parts.append(bytes(part))
            return len(part)

    pipe = Pipe()
    with av.open(pipe, "w", format=kind, container_options=more) as container:
        stream = container.add_stream("libvpx" if kind == "webm" else "libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 128, 96, "yuv420p", 12
        stream.codec_context.time_base = Fraction(1, 10)
        for number in range(45):
            frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    path = tmp_path / name
    path.write_bytes(b"".join(pipe.parts))
    with av.open(str(path)) as container:
        assert container.streams.video[0].duration is None or kind in {"mpegts", "mp4"}
    decoded = decode(path)
    assert shown(decoded) == [0, 10, 20, 30, 40]
    assert decoded.duration_seconds == pytest.approx(4.5, abs=0.11)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("clip.h264", {"codec_options": {"bf": "0"}}),
        ("clip.h264", {"codec_options": B_FRAMES}),
        ("clip.hevc", {"codec": "libx265", "codec_options": {"x265-params": "log-level=none"}}),
        ("clip.m4v", {"codec": "mpeg4"}),
        ("clip.m2v", {"codec": "mpeg2video"}),
        ("clip.mjpeg", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    ],
)
def test_streams_without_a_container_are_shown_in_order(
    tmp_path: Path, name: str, more: dict[str, Any]
) -> None:
    # They say nothing of times: 25 frames a second are taken for granted.
    decoded = decode(render(tmp_path / name, steady(100, 25), rate=25, **more))
    assert shown(decoded) == [0, 25, 50, 75]
    assert decoded.times_seconds.tolist() == pytest.approx([0, 1, 2, 3], abs=0.05)
    assert decoded.duration_seconds == pytest.approx(4.0, abs=0.05)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_one_recording_behind_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, in_memory: bool
) -> None:
    monkeypatch.setattr(timeline, "HELD_BYTES", 32 << 20 if in_memory else 0)
    codec = {"codec": "mpeg2video"} if suffix == "mpg" else {"codec_options": B_FRAMES}
    one = render(tmp_path / f"one.{suffix}", steady(100, 25), rate=25, **codec)
    both = tmp_path / f"both.{suffix}"
    both.write_bytes(one.read_bytes() * 2)  # times begin anew in the middle
    decoded = decode(both)
    assert shown(decoded) == [0, 25, 50, 75] * 2
    assert decoded.times_seconds.tolist() == pytest.approx(range(8), abs=0.05)
    assert decoded.duration_seconds == pytest.approx(8.0, abs=0.1)
    assert shown(decode(both, max_frames=3)) == [25, 0, 50]  # at 1, 4 and 6 s
    keys = decode(both, keyframes=True)
    for time, number in zip(keys.times_seconds.tolist(), shown(keys), strict=True):
        assert time % 4 == pytest.approx(number / 25, abs=2e-3)
    assert len(keys.images) > 4


def test_a_transport_stream_whose_clock_wraps(tmp_path: Path) -> None:
    times = [2**33 / 90_000 - 3.7 + time for time in steady(80)]  # 33 bits at 90 kHz
    decoded = decode(render(tmp_path / "clip.ts", times, codec_options=B_FRAMES))
    assert shown(decoded) == list(range(0, 80, 10))
    assert decoded.duration_seconds == pytest.approx(8.0, abs=0.05)


def test_a_transport_stream_that_begins_anywhere(tmp_path: Path) -> None:
    path = render(tmp_path / "clip.ts", steady(80), codec_options=B_FRAMES, keyframe_every=24)
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 4 // 188 * 188 :])
    decoded = decode(path)
    numbers = shown(decoded)
    assert len(numbers) >= 5
    gaps = np.diff(decoded.times_seconds)
    assert (np.diff(numbers) / 10).tolist() == pytest.approx(gaps.tolist(), abs=2e-3)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "webm"])
def test_very_short_ones(tmp_path: Path, suffix: str) -> None:
    more = VP8 if suffix == "webm" else {}
    for count in (1, 5):  # 0.04 s and 0.2 s
        path = render(tmp_path / f"clip.{suffix}", steady(count, 25), rate=25, **more)
        for keyframes in (False, True):
            decoded = decode(path, keyframes=keyframes)
            assert shown(decoded) == [0]
            assert decoded.times_seconds.tolist() == [0.0]
            assert 0 < decoded.duration_seconds <= count / 25 + 0.11
    assert shown(decode(path, frames_per_second=25)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_three_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    times = [10 * number + number % 7 / 10 for number in range(1081)]
    path = render(tmp_path / f"clip.{suffix}", times, codec_options={"preset": "ultrafast"})
    decoded = decode(path)
    assert decoded.duration_seconds == pytest.approx(10_800, abs=15)
    check(decoded, times)
    seconds = [round((i + 0.5) * (np.ceil(decoded.duration_seconds) - 1) / 32) for i in range(32)]
    assert shown(decoded) == (np.searchsorted(times, seconds, side="right") - 1).tolist()
    for held in (32 << 20, 0):
        monkeypatch.setattr(timeline, "HELD_BYTES", held)
        keys = decode(path, keyframes=True)
        check(keys, times)
        again = decode(path, times_seconds=keys.times_seconds)
        assert np.array_equal(again.images, keys.images)


def test_times_of_many_hours_find_their_frames_again(tmp_path: Path) -> None:
    # In float32 they are exact to two milliseconds only.
    times = [1801.001 * number + number % 3 / 1000 for number in range(40)]  # twenty hours
    path = render(tmp_path / "clip.mkv", times)
    decoded = decode(path)
    again = decode(path, times_seconds=decoded.times_seconds)
    assert shown(again) == shown(decoded)
    assert again.times_seconds.tolist() == decoded.times_seconds.tolist()
