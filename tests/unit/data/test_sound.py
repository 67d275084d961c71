"""Sound read from files: the right seconds, on the pictures' clock, whatever the file is like."""

from __future__ import annotations

import av
import numpy as np
import pytest

from tests.unit.data.media import damaged, render, steady
from tests.unit.data.sounds import pitches, second_of, write_sound
from vidvec.data import sound as module
from vidvec.data.sound import read_waveform, read_windows
from vidvec.data.video import decode, wanted_times
from vidvec.errors import BadRecord


def seconds(path, **options) -> tuple[list[float], list[int]]:
    """When the windows of a file begin, and which seconds of ``pitches`` they are."""
    windows = read_windows(path, **options)
    assert all(one.dtype == np.float32 and len(one) <= 16_000 for one in windows.samples)
    return windows.times_seconds.tolist(), [second_of(one) for one in windows.samples]


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.mp4", "aac", 44_100),
        ("a.mov", "pcm_s16le", 16_000),
        ("a.mkv", "flac", 48_000),
        ("a.webm", "libopus", 48_000),
        ("a.ts", "mp2", 32_000),
        ("a.flv", "libmp3lame", 22_050),
        ("a.avi", "libmp3lame", 44_100),
    ],
)
def test_each_second_is_the_right_one(tmp_path, name, codec, rate):
    sound = pitches(5, rate)
    path = write_sound(tmp_path / name, sound, rate=rate, codec=codec, video_seconds=5)
    assert seconds(path) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])


@pytest.mark.parametrize("rate", [8_000, 11_025, 12_345, 16_000, 44_100, 96_000, 192_000])
@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_rates_and_channels(tmp_path, rate, layout):
    path = write_sound(tmp_path / "a.wav", pitches(2, rate), rate=rate, layout=layout)
    times, found = seconds(path)
    assert (times, found) == ([0, 1], [0, 1])
    windows = read_windows(path)
    level = np.abs(windows.samples[0][2000:14_000]).max()
    assert 0.15 < level < 0.45  # it was 0.3 in every channel


def test_samples_are_those_that_were_written(tmp_path):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 40_000).astype(np.float32)
    windows = read_windows(write_sound(tmp_path / "a.wav", sound))
    assert [len(one) for one in windows.samples] == [16_000, 16_000, 8_000]
    assert np.abs(np.concatenate(windows.samples) - sound).max() < 2**-14


def test_channels_are_mixed(tmp_path):
    left, right = pitches(1), -pitches(1)
    both = read_windows(write_sound(tmp_path / "a.wav", np.stack([left, right]), layout="stereo"))
    assert np.abs(both.samples[0]).max() < 1e-3
    one = np.stack([left, np.zeros_like(left)])
    half = read_windows(write_sound(tmp_path / "b.wav", one, layout="stereo"))
    assert np.abs(half.samples[0] - left / 2).max() < 1e-3


def test_long_sound_is_looked_at_where_its_pictures_are(tmp_path):
    path = write_sound(tmp_path / "a.wav", pitches(100, 8_000), rate=8_000)
    times, found = seconds(path)
    assert times == wanted_times(100).tolist()
    assert len(times) == 32
    assert found == [time % 20 for time in times]


def test_only_what_is_wanted_is_decoded(tmp_path, monkeypatch):
    path = write_sound(tmp_path / "a.mkv", pitches(600, 8_000), rate=8_000, codec="flac")
    count = 0
    frames = module._frames

    def counted(*arguments):
        nonlocal count
        for frame in frames(*arguments):
            count += frame.samples
            yield frame

    monkeypatch.setattr(module, "_frames", counted)
    times, found = seconds(path)
    assert found == [time % 20 for time in times]
    assert 32 * 8_000 <= count < 60 * 8_000  # of 600


def test_a_jump_gives_what_reading_through_gives(tmp_path, monkeypatch):
    noise = np.random.default_rng(1).normal(0, 0.5, 90 * 16_000)
    sound = np.convolve(noise, np.full(32, 1 / 32), "same").astype(np.float32)
    for codec, name in (("aac", "a.mp4"), ("libopus", "a.webm"), ("libmp3lame", "a.mkv")):
        path = write_sound(tmp_path / name, sound, codec=codec)
        jumped = read_windows(path)
        with monkeypatch.context() as patched:
            patched.setattr(module._Taken, "needs", lambda *_: True)
            through = read_windows(path)
        assert jumped.times_seconds.tolist() == through.times_seconds.tolist()
        for one, other in zip(jumped.samples, through.samples, strict=True):
            # Files whose times are in milliseconds may be off by one, which is 16 samples.
            end = min(len(one), len(other)) - 20
            pieces = (one[20 + lag : end + lag] for lag in range(-16, 17))
            assert max(np.corrcoef(some, other[20:end])[0, 1] for some in pieces) > 0.99


@pytest.mark.parametrize(("video_start", "sound_start"), [(0, 1), (0, 1.5), (2, 0), (2, 3)])
def test_sound_and_pictures_have_one_clock(tmp_path, video_start, sound_start):
    path = write_sound(
        tmp_path / "a.mkv",
        pitches(6),
        start_seconds=sound_start,
        video_seconds=4,
        video_start=video_start,
    )
    duration = decode(path).duration_seconds
    windows = read_windows(path, duration_seconds=duration)
    for time, samples in zip(windows.times_seconds, windows.samples, strict=True):
        begins = time + video_start - sound_start  # in the sound
        inner = samples if begins >= 0 else samples[: round((1 + begins) * 16_000)]
        # Where a window has parts of two seconds, the longer one is heard.
        assert second_of(inner) in {int(max(begins, 0)), int(begins + 0.5)}
    first = max(0, int(sound_start - video_start))
    assert windows.times_seconds.tolist() == list(range(first, 4))


@pytest.mark.parametrize(("length", "heard"), [(2.0, 2), (2.05, 2), (2.5, 3), (9.0, 4)])
def test_sound_shorter_and_longer_than_the_pictures(tmp_path, length, heard):
    path = write_sound(tmp_path / "a.mp4", pitches(length), codec="flac", video_seconds=4)
    windows = read_windows(path)
    assert windows.times_seconds.tolist() == list(range(heard))
    assert len(windows.samples[-1]) == (8_000 if length == 2.5 else 16_000)


def test_a_gap_in_the_timestamps(tmp_path):
    path = write_sound(tmp_path / "a.mkv", pitches(4), pause=(2.0, 3.0))
    # Seconds 2, 3 and 4 have no sound; what was second 2 is heard at 5.
    assert seconds(path, duration_seconds=7.0) == ([0, 1, 5, 6], [0, 1, 2, 3])
    inside = write_sound(tmp_path / "b.mkv", pitches(3), pause=(0.448, 0.3))
    window = read_windows(inside).samples[0]
    assert np.abs(window[7_400:11_800]).max() == 0  # from 0.448 s to 0.748 s
    assert second_of(window[:7_000]) == second_of(window[12_200:]) == 0


def test_no_sound_and_silence(tmp_path):
    assert read_windows(render(tmp_path / "a.mp4", steady(20))) is None
    assert read_waveform(tmp_path / "a.mp4", max_seconds=10) is None
    silent = read_windows(render(tmp_path / "b.mp4", steady(20), audio_seconds=2))
    assert silent.times_seconds.tolist() == [0, 1]
    assert all(not one.any() for one in silent.samples)


def test_damaged_packets_cost_their_own_sound(tmp_path):
    path = write_sound(tmp_path / "a.mp4", pitches(20, 44_100), rate=44_100, codec="aac")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux() if packet.size]
    random = np.random.default_rng(0)
    for packet in packets[10::7]:
        data[packet.pos : packet.pos + packet.size] = random.bytes(packet.size)
    path.write_bytes(data)
    windows = read_windows(path)
    assert len(windows.samples) == 20
    assert all(np.isfinite(one).all() for one in windows.samples)
    found = [second_of(one) for one in windows.samples]
    assert sum(second == time for time, second in enumerate(found)) >= 15


def test_sound_of_which_nothing_is_left(tmp_path):
    path = write_sound(tmp_path / "a.mkv", pitches(3, 44_100), rate=44_100, codec="aac")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux() if packet.size]
    for packet in packets:
        place = data.find(bytes(packet))
        data[place : place + packet.size] = b"\xff" * packet.size
    path.write_bytes(data)
    with pytest.raises(BadRecord, match=r"damaged-audio: a\.mkv has sound of which \d+ packets"):
        read_windows(path)


def test_pictures_that_are_damaged_do_not_matter(tmp_path):
    path = write_sound(tmp_path / "a.mp4", pitches(4), codec="flac", video_seconds=4)
    assert seconds(damaged(path, 0.5)) == ([0, 1, 2, 3], [0, 1, 2, 3])


def test_what_is_no_media_file(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"not a video" * 100)
    with pytest.raises(BadRecord, match="not-a-video"):
        read_windows(tmp_path / "a.mp4")


def test_the_whole_sound(tmp_path):
    sound = np.random.default_rng(2).uniform(-0.5, 0.5, 50_000).astype(np.float32)
    path = write_sound(tmp_path / "a.wav", sound)
    whole = read_waveform(path, max_seconds=10)
    assert whole.dtype == np.int16
    assert np.abs(whole / 32767 - sound).max() < 2**-14
    assert (read_waveform(path, max_seconds=1.5) == whole[:24_000]).all()


def test_a_colon_in_a_name_opens_no_protocol(tmp_path):
    path = write_sound(tmp_path / "http:a.wav", pitches(1))
    assert seconds(path) == ([0], [0])


@pytest.mark.parametrize("kind", ["fltp", "dblp", "s16p", "s32p", "u8p", "flt", "s16"])
def test_the_mean_of_more_than_eight_channels(kind):
    # The formats' own scales: full is 1, and the zero of u8p is 128.
    full, zero, of = {
        "f": (1.0, 0, np.float32),
        "d": (1.0, 0, np.float64),
        "s16": (32767, 0, np.int16),
        "s32": (2147483647, 0, np.int32),
        "u": (128, 128, np.uint8),
    }[kind[:3] if kind[0] == "s" else kind[0]]
    drawn = np.random.default_rng(2).uniform(-0.9, 0.9, (16, 64))
    values = (drawn * full + zero).astype(of)
    laid = values if kind.endswith("p") else values.T.reshape(1, -1)
    frame = av.AudioFrame(format=kind, layout="hexadecagonal", samples=64)
    for plane, row in zip(frame.planes, np.ascontiguousarray(laid), strict=False):
        plane.update(row)
    frame.sample_rate = 8000
    mixed = module._mono(frame).to_ndarray()[0]
    np.testing.assert_allclose(mixed, drawn.mean(axis=0), atol=0.01)
