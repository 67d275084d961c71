"""Decoding: which frame, when, how large, and what is refused."""

from __future__ import annotations

import bisect
import contextlib
import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.media import clips, cut, damaged, draw, read, render, render_sound, steady
from vidvec.data import containers, frame_reader, timeline
from vidvec.data.frame_reader import FrameReader
from vidvec.data.video import DecodedVideo, decode, to_jpeg, wanted_times
from vidvec.errors import BadRecord

VP9 = {"cpu-used": "8", "deadline": "realtime"}
B_FRAMES = {"bf": "3"}


def expected_numbers(
    times: list[float], duration: float, max_frames: int = 32, per_second: float = 1.0
) -> list[int]:
    """By hand: for each wanted second the last frame that came on, each once."""
    shown = [time - times[0] for time in times]
    seconds = wanted_times(duration, max_frames, per_second)
    numbers = [bisect.bisect_right(shown, second + 5e-4) - 1 for second in seconds]
    return sorted(set(numbers))


def check(decoded: DecodedVideo, times: list[float], max_frames: int = 32) -> None:
    expected = expected_numbers(times, decoded.duration_seconds, max_frames)
    assert [read(image) for image in decoded.images] == expected
    shown = np.array([times[number] - times[0] for number in expected])
    np.testing.assert_allclose(decoded.times_seconds, shown, atol=1e-3)
    assert decoded.times_seconds.dtype == np.float32


def reason(path: Path) -> str:
    with pytest.raises(BadRecord) as caught:
        decode(path)
    return caught.value.reason


class Jumps:
    """Counts at how many places the decoder began, behind the first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = -1
        run = FrameReader._run

        def counted(*arguments: object) -> object:
            self.count += 1
            return run(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(FrameReader, "_run", counted)


def test_wanted_times_by_hand() -> None:
    assert wanted_times(3.0).tolist() == [0, 1, 2]
    assert wanted_times(3.01).tolist() == [0, 1, 2, 3]
    assert wanted_times(0.04).tolist() == [0]
    assert wanted_times(0.0).tolist() == [0]
    assert wanted_times(1.0, frames_per_second=4).tolist() == [0, 0.25, 0.5, 0.75]
    # 65 seconds into 4: (i + 0.5) * 64 / 4 = 8, 24, 40, 56
    assert wanted_times(65.0, max_frames=4).tolist() == [8, 24, 40, 56]


@given(st.floats(0, 10_000), st.integers(1, 64), st.sampled_from([0.5, 1.0, 2.0]))
def test_wanted_times_stay_in_the_video(duration: float, limit: int, per_second: float) -> None:
    times = wanted_times(duration, limit, per_second)
    assert len(times) == max(1, min(limit, math.ceil(duration * per_second)))
    assert all(earlier < later for earlier, later in pairwise(times))
    assert times[0] >= 0
    assert times[-1] < max(duration, 1e-9)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("b_frames.mp4", {"codec_options": B_FRAMES}),
        ("b_frames.mkv", {"codec_options": B_FRAMES}),
        ("b_frames.ts", {"codec_options": B_FRAMES}),
        ("b_frames.avi", {"codec_options": B_FRAMES}),
        ("b_frames.mpg", {"codec": "mpeg2video", "rate": 25, "codec_options": {"bf": "2"}}),
        ("vp9.mkv", {"codec": "libvpx-vp9", "codec_options": VP9}),
        ("vp9.webm", {"codec": "libvpx-vp9", "codec_options": VP9}),
        ("mjpeg.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
        ("mpeg4.avi", {"codec": "mpeg4", "codec_options": {"bf": "2"}}),
        ("pictures.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
        ("fragmented.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("one_keyframe.mp4", {"codec_options": B_FRAMES, "keyframe_every": 1000}),
    ],
)
def test_each_wanted_time_gets_its_frame(tmp_path: Path, name: str, options: dict) -> None:
    times = steady(57, options.get("rate", 10))
    path = render(tmp_path / name, times, **options)
    decoded = decode(path)
    check(decoded, times)
    assert decoded.duration_seconds == pytest.approx(len(times) / options.get("rate", 10), abs=0.05)
    assert len(decoded.images) == math.ceil(decoded.duration_seconds)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_frame_rate(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(3)
    times = [0.0]
    while times[-1] < 20:
        times.append(round(times[-1] + float(rng.choice([0.033, 0.04, 0.1, 0.7, 2.9])), 3))
    decoded = decode(render(tmp_path / f"vfr{suffix}", times, codec_options=B_FRAMES))
    check(decoded, times)
    # A frame that stays on for several seconds comes once.
    assert len(decoded.images) < len(wanted_times(decoded.duration_seconds))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_times_count_from_the_first_frame(tmp_path: Path, suffix: str) -> None:
    times = [3.7 + time for time in steady(40)]
    decoded = decode(render(tmp_path / f"late{suffix}", times, codec_options=B_FRAMES))
    check(decoded, times)
    assert decoded.times_seconds.tolist() == pytest.approx([0, 1, 2, 3])
    assert decoded.duration_seconds == pytest.approx(4.0, abs=0.05)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_frames_per_second(tmp_path: Path, suffix: str) -> None:
    # Frame 20 comes on after 2/3 s, which a Matroska file states as 0.667 s.
    path = render(tmp_path / f"clip{suffix}", steady(60, 30), rate=30)
    decoded = decode(path, frames_per_second=3)
    assert [read(image) for image in decoded.images] == [0, 10, 20, 30, 40, 50]


def test_more_frames_than_the_limit(tmp_path: Path) -> None:
    times = steady(500)
    decoded = decode(render(tmp_path / "clip.mp4", times, codec_options=B_FRAMES))
    # 50 seconds into 32: second round((i + 0.5) * 49 / 32), ten frames a second
    expected = [10 * round((i + 0.5) * 49 / 32) for i in range(32)]
    assert [read(image) for image in decoded.images] == expected


@pytest.mark.parametrize(
    ("name", "options", "jumps"),
    [
        ("clip.mp4", {"codec_options": B_FRAMES}, True),
        ("clip.mkv", {"codec_options": B_FRAMES}, True),
        ("open_gop.mp4", {"codec_options": {"bf": "3", "x264-params": "open-gop=1"}}, True),
        ("clip.webm", {"codec": "libvpx-vp9", "codec_options": VP9}, True),
        ("clip.avi", {"codec_options": B_FRAMES}, False),  # no presentation times
        ("one_keyframe.mp4", {"codec_options": B_FRAMES, "keyframe_every": 5000}, False),
    ],
)
@pytest.mark.parametrize("in_memory", [True, False])
def test_long_video_by_jumps_as_in_order(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    name: str,
    options: dict,
    jumps: bool,
    in_memory: bool,
) -> None:
    if not in_memory:
        monkeypatch.setattr(timeline, "HELD_BYTES", 0)
    times = steady(900)
    path = render(tmp_path / name, times, **{"keyframe_every": 24, **options})
    counter = Jumps(monkeypatch)
    jumping = decode(path, max_frames=8)
    assert (counter.count > 0) == jumps
    check(jumping, times, max_frames=8)
    monkeypatch.setattr(timeline.Timeline, "runs", lambda line, _: [(0, len(line.order) - 1)])
    counter.count = -1
    in_order = decode(path, max_frames=8)
    assert counter.count == 0
    assert np.array_equal(jumping.images, in_order.images)
    assert np.array_equal(jumping.times_seconds, in_order.times_seconds)


def test_a_jump_that_goes_wrong_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a transport stream FFmpeg guesses the byte position, and may land behind the keyframe.
    monkeypatch.setattr(timeline, "HELD_BYTES", 0)
    times = steady(900)
    path = render(tmp_path / "clip.ts", times, codec_options=B_FRAMES, keyframe_every=48)
    counter = Jumps(monkeypatch)
    check(decode(path, max_frames=8), times, max_frames=8)
    assert counter.count > 0


def test_skipping_frames_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = render(tmp_path / "clip.mp4", steady(80, 25), rate=25, codec_options=B_FRAMES)
    with_skips = decode(path)
    monkeypatch.setattr(frame_reader, "_SKIPPABLE", frozenset())
    assert np.array_equal(decode(path).images, with_skips.images)


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((640, 360), 256, (256, 455)),
        ((360, 640), 256, (455, 256)),
        ((128, 96), 256, (96, 128)),  # never enlarged
        ((128, 96), 48, (48, 64)),
    ],
)
def test_short_side(
    tmp_path: Path, size: tuple[int, int], short_side: int, expected: tuple[int, int]
) -> None:
    path = render(tmp_path / "clip.mp4", steady(2), size=size)
    assert decode(path, short_side=short_side).images[0].shape == (*expected, 3)


@pytest.mark.parametrize(
    ("aspect", "expected"), [(Fraction(2), (48, 128)), (Fraction(1, 2), (96, 64))]
)
def test_pixels_become_square(tmp_path: Path, aspect: Fraction, expected: tuple[int, int]) -> None:
    path = render(tmp_path / "clip.mp4", steady(12), pixel_aspect=aspect)
    decoded = decode(path)
    assert decoded.images[0].shape == (*expected, 3)
    assert [read(image) for image in decoded.images] == [0, 10]


def test_colours(tmp_path: Path) -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :32], picture[:, 32:] = (220, 30, 40), (20, 60, 200)
    path = tmp_path / "clip.png"
    cv2.imwrite(str(path), picture[:, :, ::-1])
    decoded = decode(path)
    assert np.array_equal(decoded.images[0], picture)
    assert decoded.times_seconds.tolist() == [0]


def test_jpeg_is_small_and_looks_the_same() -> None:
    picture = draw(77, 640, 360)
    back = cv2.imdecode(np.frombuffer(to_jpeg(picture), np.uint8), cv2.IMREAD_COLOR)
    assert back.shape == (90, 160, 3)
    assert read(back) == 77
    red = np.full((50, 60, 3), (200, 10, 20), np.uint8)
    back = cv2.imdecode(np.frombuffer(to_jpeg(red), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert back.shape == (50, 60, 3)
    assert np.abs(back.astype(int) - red).max() < 6
    assert len(to_jpeg(picture, quality=20)) < len(to_jpeg(picture, quality=95))


def test_no_file_no_bytes_no_video(tmp_path: Path) -> None:
    assert reason(tmp_path / "nothing.mp4") == "missing-file"
    assert reason(tmp_path) == "missing-file"
    (tmp_path / "empty.mp4").touch()
    assert reason(tmp_path / "empty.mp4") == "empty-file"
    for name in ("text.mp4", "text.txt"):
        (tmp_path / name).write_text("Not a video.\n" * 200)
        assert reason(tmp_path / name) == "not-a-video"
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(1).bytes(50_000))
    assert reason(tmp_path / "noise.mp4") == "not-a-video"
    for cover in (False, True):
        assert reason(render_sound(tmp_path / "sound.mp4", cover=cover)) == "audio-only"


def test_a_playlist_is_not_followed(tmp_path: Path) -> None:
    clip = render(tmp_path / "clip.mp4", steady(5))
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"ffconcat version 1.0\nfile 'http://127.0.0.1:9/{clip.name}'\n")
    assert reason(playlist) == "not-a-video"


@pytest.mark.parametrize("name", ["a:b.mp4", "100%03d.mp4", "视频.mp4", "-x.mp4"])
def test_names_that_mean_something_to_ffmpeg(tmp_path: Path, name: str) -> None:
    path = render(tmp_path / "clip.mp4", steady(5)).rename(tmp_path / name)
    assert read(decode(path).images[0]) == 0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("index_last.mp4", {}),
        ("index_first.mp4", {"container_options": {"movflags": "faststart"}}),
        ("with_sound.mp4", {"container_options": {"movflags": "faststart"}, "audio_seconds": 12}),
        ("fragmented.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("clip.mkv", {"audio_seconds": 12}),
        ("clip.webm", {"codec": "libvpx-vp9", "codec_options": VP9}),
        ("clip.avi", {}),
        ("clip.flv", {"audio_seconds": 12}),
        ("clip.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
    ],
)
@pytest.mark.parametrize("share", [0.6, 0.8])
def test_cut_files_are_refused(tmp_path: Path, name: str, options: dict, share: float) -> None:
    path = render(tmp_path / name, steady(120), **options)
    assert len(decode(path).images) == 12
    assert reason(cut(path, share)) == "truncated-video"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_cut_files_are_refused_by_time_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    path = render(tmp_path / f"clip{suffix}", steady(120), container_options=options)
    monkeypatch.setattr(containers, "declared_bytes", lambda *_: 0)
    assert len(decode(path).images) == 12
    assert reason(cut(path, 0.6)) == "truncated-video"


def test_sound_longer_than_pictures_is_no_cut(tmp_path: Path) -> None:
    for suffix in (".mp4", ".mkv"):
        path = render(tmp_path / f"clip{suffix}", steady(30), audio_seconds=9)
        assert decode(path).duration_seconds == pytest.approx(3.0, abs=0.05)


def test_junk_after_the_end_is_no_cut(tmp_path: Path) -> None:
    for suffix in (".mp4", ".mkv", ".avi"):
        path = render(tmp_path / f"clip{suffix}", steady(30))
        path.write_bytes(path.read_bytes() + b"\x00\x01\x02\x03junk" * 20)
        assert len(decode(path).images) == 3


def test_a_last_box_without_a_length_is_no_cut(tmp_path: Path) -> None:
    path = render(tmp_path / "clip.mp4", steady(30), container_options={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    box = data.index(b"mdat") - 4
    data[box : box + 4] = bytes(4)  # zero: to the end of the file (ISO/IEC 14496-12, 4.2)
    path.write_bytes(data)
    assert len(decode(path).images) == 3


def test_a_few_damaged_packets_are_lived_with(tmp_path: Path) -> None:
    path = render(tmp_path / "clip.mp4", steady(200), keyframe_every=5)
    decoded = decode(damaged(path, 0.05))
    assert len(decoded.images) >= 18


def test_mostly_damaged_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = render(tmp_path / "clip.mp4", steady(200), keyframe_every=5)
    assert reason(damaged(path, 1.0)) == "damaged-video"
    output = capfd.readouterr()
    assert output.out + output.err == ""  # FFmpeg keeps its messages to itself


def test_noise_in_a_file_never_breaks_the_program(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    for suffix in (".mp4", ".mkv", ".avi", ".ts"):
        data = render(tmp_path / f"clip{suffix}", steady(30)).read_bytes()
        for _ in range(15):
            noisy = bytearray(data)
            for _ in range(rng.choice([1, 10, 100])):
                noisy[rng.integers(len(noisy))] = rng.integers(256)
            path = tmp_path / f"noisy{suffix}"
            path.write_bytes(noisy)
            with contextlib.suppress(BadRecord):
                decoded = decode(path)
                assert len(decoded.images) == len(decoded.times_seconds) >= 1


@pytest.mark.shared
@pytest.mark.slow
def test_every_real_clip_decodes(shared: Path) -> None:
    for path, row in clips(shared):
        decoded = decode(path, short_side=64)
        # The table's duration is the longer of picture and sound.
        assert decoded.duration_seconds < row["duration"] + 0.15, path
        assert decoded.duration_seconds == pytest.approx(row["frames"] / row["fps"], abs=0.2), path
        assert len(decoded.images) == min(32, math.ceil(decoded.duration_seconds)), path


@pytest.mark.shared
@pytest.mark.slow
def test_frames_are_those_that_opencv_reads(shared: Path) -> None:
    chosen = [entry for entry in clips(shared) if entry[0].suffix in {".mp4", ".avi"}][::9]
    for path, row in chosen:
        decoded = decode(path, short_side=64)
        height, width = decoded.images[0].shape[:2]
        capture = cv2.VideoCapture(str(path))
        small = []
        while (picture := capture.read()[1]) is not None:
            small.append(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))
        for time, image in zip(decoded.times_seconds, decoded.images, strict=True):
            number = round(float(time) * row["fps"])
            near = range(max(0, number - 2), min(len(small), number + 3))
            error = {n: np.abs(image[:, :, ::-1].astype(int) - small[n]).mean() for n in near}
            assert error[number] <= min(error.values()) + 0.5, (path, number)
            assert error[number] < 8, (path, number)


@pytest.mark.shared
def test_every_cut_real_clip_is_refused(shared: Path, tmp_path: Path) -> None:
    for path, _ in clips(shared):
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
        assert reason(copy) == "truncated-video", path
