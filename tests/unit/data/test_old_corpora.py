"""Corpora from before there was audio, and from before the first audio came, open and grow."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.corpora import WIDTH, made_videos, write_corpus
from vidvec import storage
from vidvec.data import corpus as store
from vidvec.data.corpus import Corpus
from vidvec.data.ingest import IngestOptions, ingest
from vidvec.data.shards import LATER_COLUMNS, corpus_schema, read_shard
from vidvec.errors import FormatError
from vidvec.records import Video

AUDIO = 6
VIDEOS = made_videos(40)


def write_old(path: Path, *, shards: int = 2, without: tuple[str, ...] = LATER_COLUMNS) -> Path:
    """A corpus whose shards lack these columns, and whose manifest names no audio encoder."""
    write_corpus(path, VIDEOS, shards=shards)
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    for entry in manifest["shards"]:
        file = path / "shards" / entry["file"]
        with pa.OSFile(str(file)) as source:
            table = pa.ipc.open_file(source).read_all().drop_columns(list(without))
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        entry |= {"bytes": file.stat().st_size, "crc32c": store.checksum(file)}
    manifest.pop("audio_encoder", None)
    made = {"source": "gone", "kind": "table", "fingerprint": "gone", "complete": True}
    counts = {"cursor": len(VIDEOS), "videos": len(VIDEOS), "rejected": {}, "rejects_start": 0}
    manifest["ingests"] = [made | counts]
    storage.write_json(path / "manifest.json", manifest)
    return path


def same_as_made(corpus: Corpus) -> None:
    for row, video in enumerate(VIDEOS):
        found = corpus.video(row)
        assert (found.frames == video.frames.reshape(-1, WIDTH)).all()
        assert (found.id, found.title, found.tags) == (video.id, video.title, video.tags)
        assert (found.file, found.stamp) == ("", "")
        assert found.audio_times_seconds.tolist() == []
        assert found.audio.shape == (0, max(1, corpus.audio_size))


def features(path: Path, *, audio: int = AUDIO) -> Path:
    """A table of videos with frames and audio frames."""
    path.mkdir()
    random = np.random.default_rng(1)
    sounds = [random.normal(size=(number % 4, audio)).astype(np.float16) for number in range(10)]
    columns = {
        "id": [f"new-{number}" for number in range(10)],
        "title": ["a title"] * 10,
        "frames": pa.array(
            [np.full((2, WIDTH), number, np.float16).tolist() for number in range(10)],
            pa.list_(pa.list_(pa.float16())),
        ),
        "audio": pa.array([s.tolist() for s in sounds], pa.list_(pa.list_(pa.float32()))),
        "audio_times_seconds": [[0.5 + second for second in range(len(s))] for s in sounds],
    }
    pq.write_table(pa.table(columns), path / "meta.parquet")
    return path


@pytest.mark.parametrize("without", [LATER_COLUMNS, ("audio", "audio_times_seconds")])
def test_a_corpus_without_later_columns_opens(tmp_path, without) -> None:
    corpus = Corpus(write_old(tmp_path / "corpus", without=without))
    assert corpus.audio_encoder == {"name": "none", "frame_size": 0}
    assert corpus.audio_counts.tolist() == [0] * len(VIDEOS)
    assert corpus.column("stamp").to_pylist() == [""] * len(VIDEOS)
    assert corpus.column("audio").to_pylist() == [[]] * len(VIDEOS)
    assert corpus.verify() == []
    same_as_made(corpus)


def test_columns_that_every_corpus_has_must_be_there(tmp_path) -> None:
    path = write_old(tmp_path / "corpus", without=("screen_text",))
    with pytest.raises(FormatError, match="screen_text is missing, expected a string"):
        Corpus(path)


def test_a_column_that_no_corpus_has(tmp_path) -> None:
    path = write_old(tmp_path / "corpus")
    entry = json.loads((path / "manifest.json").read_text("utf-8"))["shards"][0]
    table, pictures = read_shard(path, entry["file"], WIDTH)
    more = table.append_column("colour", pa.array(["red"] * len(table)))
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    manifest["shards"][0] = store.write_shard(path, entry["file"], more, pictures)
    storage.write_json(path / "manifest.json", manifest)
    with pytest.raises(FormatError, match="other columns than those of a corpus: colour"):
        Corpus(path)


@pytest.mark.parametrize("shard_bytes", [1, 2**20])
def test_audio_joins_a_corpus_without(tmp_path, monkeypatch, shard_bytes) -> None:
    """Where nothing is merged, old shards stay as they are; merged ones have all columns."""
    path = write_old(tmp_path / "corpus")
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    manifest["frame_encoder"] = {"name": "precomputed", "frame_size": WIDTH}
    storage.write_json(path / "manifest.json", manifest)
    before = {file.name: file.read_bytes() for file in (path / "shards").iterdir()}
    monkeypatch.setattr(store, "SHARD_BYTES", shard_bytes)
    source = features(tmp_path / "source")
    ingest(source, path, IngestOptions())
    corpus = Corpus(path)
    assert corpus.audio_encoder == {"name": "precomputed", "frame_size": AUDIO}
    assert corpus.audio_size == AUDIO
    assert corpus.audio_counts.tolist() == [0] * 40 + [number % 4 for number in range(10)]
    same_as_made(corpus)
    wanted = np.random.default_rng(1)
    for number in range(10):
        made = wanted.normal(size=(number % 4, AUDIO)).astype(np.float16)
        found = corpus.video(40 + number)
        assert (found.audio == made).all()
        assert found.audio_times_seconds.tolist() == [0.5 + second for second in range(number % 4)]
        assert (found.frames == number).all()
    files = sorted((path / "shards").iterdir())
    if shard_bytes == 1:
        assert {name: (path / "shards" / name).read_bytes() for name in before} == before
    else:
        [file] = files
        with pa.OSFile(str(file)) as opened:
            assert pa.ipc.open_file(opened).schema == corpus_schema(WIDTH, AUDIO)
    assert corpus.verify() == []


def test_audio_of_another_width_or_maker_is_left_out(tmp_path) -> None:
    path = tmp_path / "corpus"
    ingest(features(tmp_path / "one"), path, IngestOptions())
    other = features(tmp_path / "other", audio=5)
    table = pq.read_table(other / "meta.parquet")
    ids = pa.array([f"other-{number}" for number in range(10)])
    pq.write_table(table.set_column(0, "id", ids), other / "meta.parquet")
    report = ingest(other, path, IngestOptions())
    assert report.rejected == {"audio-width": 7}  # those that have audio
    assert report.videos == 13
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    manifest["audio_encoder"]["name"] = "log-mel"
    storage.write_json(path / "manifest.json", manifest)
    third = features(tmp_path / "third")
    ids = pa.array([f"third-{number}" for number in range(10)])
    table = pq.read_table(third / "meta.parquet")
    pq.write_table(table.set_column(0, "id", ids), third / "meta.parquet")
    assert ingest(third, path, IngestOptions()).rejected == {"audio-encoder": 7}


def test_audio_cells_that_cannot_be_used(tmp_path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    rows = pa.array(
        [[[1.0, 2.0]], [[1.0, 2.0], [3.0]], [[1.0, float("inf")]], None, [[3.0, 4.0]]],
        pa.list_(pa.list_(pa.float32())),
    )
    columns = {"id": list("abcde"), "title": list("ABCDE"), "audio": rows}
    times = [[0.0], [0.0, 1.0], [0.0], None, [1.0, 2.0]]
    table = pa.table({**columns, "audio_times_seconds": times})
    pq.write_table(table, source / "meta.parquet")
    report = ingest(source, tmp_path / "corpus", IngestOptions())
    assert report.rejected == {"audio-width": 1, "nan": 1, "bad-record": 1}
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.ids == ["a", "d"]
    assert corpus.audio(0).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    "audio",
    [
        pa.array([{"bytes": b"RIFF", "path": "a.wav"}] * 3),
        pa.array(["sound/a.wav"] * 3),
        pa.array([1, 2, 3]),
    ],
)
def test_a_column_of_sounds_is_no_column_of_features(tmp_path, audio) -> None:
    source = tmp_path / "source"
    source.mkdir()
    pq.write_table(
        pa.table({"id": list("abc"), "title": list("ABC"), "audio": audio}), source / "meta.parquet"
    )
    assert ingest(source, tmp_path / "corpus", IngestOptions()).videos == 3
    assert Corpus(tmp_path / "corpus").audio_size == 0


def test_audio_is_a_view_of_the_mapped_file(tmp_path) -> None:
    random = np.random.default_rng(0)
    videos = [
        replace(video, audio=random.normal(size=(row % 5, AUDIO)).astype(np.float16))
        for row, video in enumerate(VIDEOS)
    ]
    path = tmp_path / "corpus"
    tables = store.video_table(videos, WIDTH, AUDIO), store.thumbnail_table(videos)
    entry = store.write_shard(path, "000000.arrow", *tables)
    manifest = {
        "frame_encoder": {"name": "made", "frame_size": WIDTH},
        "audio_encoder": {"name": "made", "frame_size": AUDIO},
        "tag_vocabulary": [],
        "shards": [entry],
        "pairs": 0,
        "rejects_bytes": 0,
        "ingests": [],
    }
    storage.write_manifest(path, store.KIND, **manifest)
    corpus = Corpus(path)
    before = pa.total_allocated_bytes()
    views = [corpus.audio(row) for row in range(len(corpus))]
    assert pa.total_allocated_bytes() == before
    for view, video in zip(views, videos, strict=True):
        assert (view == video.audio.reshape(-1, AUDIO)).all()
        assert not view.flags.owndata
        assert not view.flags.writeable
    assert Video(id="x").audio.shape == (0, 0)
