"""Videos looked at by their key frames alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.data.media import read, render, steady
from tests.unit.data.test_reencode import Numbers
from vidvec.data import frame_reader, timeline
from vidvec.data.corpus import Corpus
from vidvec.data.ingest import IngestOptions, ingest
from vidvec.data.reencode import ReencodeOptions, reencode
from vidvec.data.sampling import EVEN, KEYFRAMES, settle_sampling
from vidvec.data.video import decode, wanted_times
from vidvec.errors import UsageError

# Key frames at every 12th frame of ten a second, and nowhere else.
X264 = {"bf": "3", "sc_threshold": "0"}
VP9 = {"cpu-used": "8", "deadline": "realtime", "auto-alt-ref": "0"}
MPEG4 = {"codec": "mpeg4", "codec_options": {"bf": "2", "sc_threshold": "1000000000"}}
FORMATS: dict[str, dict[str, Any]] = {
    "closed.mp4": {"codec_options": X264},
    "open.mp4": {"codec_options": X264 | {"x264-params": "open-gop=1"}},
    "open.mkv": {"codec_options": X264 | {"x264-params": "open-gop=1"}},
    "moving.mp4": {
        "codec_options": X264,
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
    "stream.ts": {"codec_options": X264},
    "vp9.webm": {"codec": "libvpx-vp9", "codec_options": VP9},
    "in_order.avi": {"codec_options": X264},  # says nothing of when frames are shown
    "mpeg4.avi": MPEG4,
    "mpeg4.mp4": MPEG4,
}


def expected(count: int, key_every: int, max_frames: int = 32) -> list[int]:
    """Numbers of the key frames that are nearest to the wanted times, by trying all of them."""
    keys = range(0, count, key_every)
    wanted = wanted_times(count / 10, max_frames)
    return sorted({min(keys, key=lambda key: (abs(key - 10 * time), key)) for time in wanted})


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_the_nearest_key_frames_with_their_own_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, in_memory: bool
) -> None:
    monkeypatch.setattr(timeline, "HELD_BYTES", 32 << 20 if in_memory else 0)
    path = render(tmp_path / name, steady(190), **FORMATS[name])
    for most in (32, 3):
        decoded = decode(path, keyframes=True, max_frames=most)
        numbers = expected(190, 12, most)
        assert [read(image) for image in decoded.images] == numbers
        np.testing.assert_allclose(decoded.times_seconds, np.array(numbers) / 10, atol=1e-3)
        assert decoded.duration_seconds == pytest.approx(19.0, abs=0.11)


def test_nothing_else_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = render(tmp_path / "clip.mp4", steady(190), codec_options=X264)
    fed = []
    decode_packet = frame_reader.FrameReader._decode

    def noted(self: Any, packet: Any) -> Any:
        fed.extend([] if packet is None else [packet.is_keyframe])
        return decode_packet(self, packet)

    monkeypatch.setattr(frame_reader.FrameReader, "_decode", noted)
    assert len(decode(path, keyframes=True).images) == len(fed) == len(expected(190, 12))
    assert all(fed)


def test_pictures_are_those_of_decoding_it_all(tmp_path: Path) -> None:
    path = render(tmp_path / "clip.mp4", steady(60), codec_options=X264)
    chosen = decode(path, keyframes=True)
    every = decode(path, frames_per_second=10, max_frames=1000)
    times = every.times_seconds.tolist()
    for time, image in zip(chosen.times_seconds.tolist(), chosen.images, strict=True):
        assert np.array_equal(image, every.images[times.index(time)])
    again = decode(path, times_seconds=chosen.times_seconds)
    assert again.times_seconds.tolist() == chosen.times_seconds.tolist()
    assert np.array_equal(again.images, chosen.images)


def test_one_key_frame_is_one_picture(tmp_path: Path) -> None:
    for name, more in {"clip.mp4": {}, "clip.gif": {"codec": "gif", "pix_fmt": "rgb8"}}.items():
        path = render(tmp_path / name, steady(40), keyframe_every=1000, **more)
        decoded = decode(path, keyframes=True)
        assert decoded.times_seconds.tolist() == [0.0]
        assert read(decoded.images[0]) == 0
        assert decoded.duration_seconds == pytest.approx(4.0, abs=0.11)


def test_where_every_frame_is_a_key_frame(tmp_path: Path) -> None:
    for name in ("clip.avi", "clip.mov"):
        path = render(tmp_path / name, steady(40), codec="mjpeg", pix_fmt="yuvj420p")
        decoded = decode(path, keyframes=True)
        assert [read(image) for image in decoded.images] == [0, 10, 20, 30]
        assert decoded.times_seconds.tolist() == pytest.approx([0, 1, 2, 3], abs=1e-3)


def test_frames_that_are_only_called_key_frames(tmp_path: Path) -> None:
    path = render(tmp_path / "clip.mp4", steady(190), codec_options=X264)
    data = path.read_bytes()
    assert data.count(b"stss") == 1  # without its list of key frames, every frame counts as one
    path.write_bytes(data.replace(b"stss", b"free"))
    decoded = decode(path, keyframes=True)
    assert [read(image) for image in decoded.images] == expected(190, 12)
    plain = decode(path)
    assert [read(image) for image in plain.images] == list(range(0, 190, 10))


def test_key_frames_that_are_made_over_many_frames(tmp_path: Path) -> None:
    # Intra refresh: places where a decoder may begin have whole pictures only later.
    options = {"sc_threshold": "0", "x264-params": "intra-refresh=1:keyint=12"}
    path = render(tmp_path / "clip.mp4", steady(190), codec_options=options)
    plain = decode(path)
    assert [read(image) for image in plain.images] == list(range(0, 190, 10))
    decoded = decode(path, keyframes=True)
    shown = [read(image) for image in decoded.images]
    assert shown == [round(10 * time) for time in decoded.times_seconds.tolist()]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for name in ("closed.mp4", "open.mkv", "in_order.avi"):
        render(folder / name, steady(60), **FORMATS[name])
    rows = [{"file": file.name, "title": file.stem} for file in sorted(folder.iterdir())]
    (folder / "meta.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_corpus_of_key_frames(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = IngestOptions(keyframes=True, audio="none")
    ingest(source, tmp_path / "corpus", options)
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.manifest["frame_sampling"] == "keyframes"
    for row in range(3):
        times = corpus.video(row).frame_times_seconds
        assert times.tolist() == pytest.approx([0, 1.2, 2.4, 3.6, 4.8], abs=1e-3)
    numbers = Numbers()
    monkeypatch.setattr("vidvec.data.reencode.open_frame_encoder", lambda *_, **__: numbers)
    assert not reencode(tmp_path / "corpus", ReencodeOptions("numbers", name="other")).rejected
    other = Corpus(tmp_path / "corpus", features="other")
    for row in range(3):
        assert other.frames(row)[:, 0].tolist() == [0, 12, 24, 36, 48]


def test_frames_chosen_in_two_ways_do_not_mix(source: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    render(tmp_path / "more" / "one.mp4", steady(20))
    corpus, options = tmp_path / "corpus", IngestOptions(keyframes=True, audio="none")
    ingest(source, corpus, options)
    before = Corpus(corpus).manifest
    with pytest.raises(UsageError, match="cannot join them: ingest with --keyframes"):
        ingest(tmp_path / "more", corpus, IngestOptions(audio="none"))
    assert Corpus(corpus, unfinished=True).manifest["shards"] == before["shards"]
    assert ingest(tmp_path / "more", corpus, options).videos == 4
    even = {"frame_encoder": before["frame_encoder"]}
    settle_sampling(corpus, even, EVEN)
    assert "frame_sampling" not in even
    with pytest.raises(UsageError, match="cannot join them: ingest without --keyframes"):
        settle_sampling(corpus, even, KEYFRAMES)
