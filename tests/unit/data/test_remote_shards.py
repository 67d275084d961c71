"""Shards that are read by ranges, against the same shards mapped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.corpora import AUDIO_WIDTH, WIDTH, made_videos, with_more
from vidvec import storage
from vidvec.data import remote_shards
from vidvec.data import shards as mapped
from vidvec.data.features import feature_schema
from vidvec.data.remote_shards import RemoteShard
from vidvec.errors import FormatError

VIDEOS = with_more(made_videos(60))


class Ranges:
    """A file in the place of an object; counts what is read."""

    def __init__(self, path, size):
        self._content = path.read_bytes()
        self.size, self.path = len(self._content), path
        self.asked: list[tuple[int, int]] = []

    def read(self, start, end):
        assert 0 <= start <= end <= self.size
        self.asked.append((start, end))
        return self._content[start:end]

    def fetch(self, spans):
        for span in spans:
            self.read(*span)


@pytest.fixture(autouse=True)
def ranges(monkeypatch):
    monkeypatch.setattr(remote_shards, "RemoteFile", Ranges)


def shard_of(folder, videos, frame_size=WIDTH, audio_size=AUDIO_WIDTH):
    table = mapped.video_table(videos, frame_size, audio_size)
    entry = mapped.write_shard(folder, "0.arrow", table, mapped.thumbnail_table(videos))
    return folder / "shards" / "0.arrow", entry


def opened(path, rows, frame_size=WIDTH, audio_size=AUDIO_WIDTH):
    return RemoteShard(path, 0, rows, mapped.corpus_schema(frame_size, audio_size))


def test_every_column_and_row_is_as_mapped(tmp_path):
    path, _ = shard_of(tmp_path, VIDEOS)
    remote, local = opened(path, len(VIDEOS)), mapped.open_shard(path, WIDTH, AUDIO_WIDTH)
    assert len(remote) == len(local) == 60
    for name in remote.schema.names:
        assert remote.column(name).equals(local.column(name)), name
    for row in range(60):
        assert remote.record(row) == local.record(row)
        for name in ("frames", "audio"):
            ours, theirs = getattr(remote, name), getattr(local, name)
            assert (ours.offsets == theirs.offsets).all()
            assert ours.of(row).dtype == np.float16
            assert (ours.of(row) == theirs.of(row)).all()


def test_a_row_asks_for_its_own_bytes(tmp_path):
    path, _ = shard_of(tmp_path, VIDEOS)
    remote = opened(path, len(VIDEOS))
    frames, file = remote.frames, remote._file
    head = sum(end - start for start, end in file.asked)
    assert head < 16_000, "head, foot and offsets, whatever the frames"
    file.asked.clear()
    row = max(range(60), key=lambda each: len(VIDEOS[each].frames))
    frames.of(row)
    assert [end - start for start, end in file.asked] == [VIDEOS[row].frames.nbytes]
    file.asked.clear()
    remote.column("id")
    numbers = range(frames.span(0)[0], frames.span(59)[1])
    assert not any(start < numbers.stop and end > numbers.start for start, end in file.asked)


def test_columns_that_came_later_are_empty(tmp_path):
    path, _ = shard_of(tmp_path, VIDEOS)
    table = mapped.open_table(path).drop_columns(["date", "audio", "audio_times_seconds"])
    older = tmp_path / "older.arrow"
    with pa.OSFile(str(older), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    remote = opened(older, 60)
    assert set(remote.column("date").to_pylist()) == {""}
    assert remote.audio.of(3).shape == (0, AUDIO_WIDTH)
    assert remote.frames.of(1).shape == VIDEOS[1].frames.shape


def test_a_shard_from_before_the_first_frames(tmp_path):
    bare = [replace(video, frames=np.zeros((0, 1), np.float16)) for video in VIDEOS]
    path, _ = shard_of(tmp_path, bare, frame_size=1)
    assert opened(path, 60).frames.of(5).shape == (0, WIDTH)
    path, _ = shard_of(tmp_path / "other", VIDEOS)
    with pytest.raises(FormatError, match=f"frames of {WIDTH} numbers, expected 99"):
        _ = opened(path, 60, frame_size=99).frames


def test_an_empty_shard(tmp_path):
    path, _ = shard_of(tmp_path, [])
    remote = opened(path, 0)
    assert remote.frames.offsets.tolist() == [0]
    assert len(remote.column("title")) == 0


def test_a_feature_set_reads_the_same_way(tmp_path):
    schema = feature_schema(WIDTH)
    table = mapped.video_table(VIDEOS, WIDTH, AUDIO_WIDTH).select(schema.names)
    with pa.OSFile(str(tmp_path / "0"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(table.cast(schema))
    remote = RemoteShard(tmp_path / "0", 0, 60, schema)
    assert (remote.frames.of(2) == VIDEOS[2].frames).all()
    assert remote.column("id").to_pylist() == [video.id for video in VIDEOS]


@pytest.mark.parametrize("place", ["head", "foot", "offsets", "rows"])
def test_a_damaged_shard_is_refused(tmp_path, place):
    path, _ = shard_of(tmp_path, VIDEOS)
    content = bytearray(path.read_bytes())
    rows = 60
    if place == "head":
        content[8:16] = b"\xff" * 8
    elif place == "foot":
        content[-10:-6] = b"\x00\x00\x00\x7f"
    elif place == "offsets":
        remote = opened(path, 60)
        at = bytes(content).index(remote.frames.offsets.tobytes())
        content[at + 40 : at + 44] = b"\xff\xff\xff\x7f"
    elif place == "rows":
        rows = 61
    path.write_bytes(bytes(content))
    with pytest.raises(FormatError, match=r"shard .*0\.arrow"):
        _ = opened(path, rows).frames


def test_no_directory_is_made_for_a_url():
    assert storage.beside(storage.located("s3://b/c"), 1) != storage.beside(
        storage.located("s3://b/c"), 2
    )
