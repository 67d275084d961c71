"""Shards that are slow, damaged, of other vectors, or come back."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.unit.search.indexed import clustered, write_vectors
from vidvec.errors import ServerError
from vidvec.search.engine import SearchIndex, build_index
from vidvec.search.interface import open_index
from vidvec.search.sharded import splitting
from vidvec.search.sharded.engine import ShardedIndex
from vidvec.search.sharded.folder import FolderShard
from vidvec.search.sharded.layout import shard_of
from vidvec.search.sharded.splitting import split
from vidvec.search.types import IndexedVideo

COUNT, WIDTH = 40, 8
IDS = [f"v{number}" for number in range(COUNT)]
VECTORS = clustered(COUNT, WIDTH)
LIMIT = 1.0


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = write_vectors(tmp_path_factory.mktemp("whole") / "vectors", IDS, VECTORS)
    return split(folder, folder.parent / "shards", 3).file


@pytest.fixture
def file(made, tmp_path) -> Path:
    """A copy with a short pause."""
    file = shutil.copytree(made.parent, tmp_path / "shards") / made.name
    file.write_text(file.read_text().replace("retry_seconds = 5.0", "retry_seconds = 0.2"))
    return file


def until_whole(index: ShardedIndex) -> None:
    end = time.monotonic() + 20
    while index.search(VECTORS[:1], 3).missing is not None:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_slow_shard_costs_its_limit_once_and_is_asked_again_when_it_is_quick(file, monkeypatch):
    slow, gate = str(file.parent / "shard-1"), threading.Event()
    quick = FolderShard.search

    def search(self, *given, **named):
        if str(self.path) == slow and not gate.is_set():
            gate.wait(20)
        return quick(self, *given, **named)

    said = []
    text = file.read_text().replace("timeout_seconds = 5.0", f"timeout_seconds = {LIMIT}")
    file.write_text(text)
    with ShardedIndex.open(file, said=lambda *each: said.append(each)) as index:
        monkeypatch.setattr(FolderShard, "search", search)
        generation = index.generation
        began = time.monotonic()
        found = index.search(VECTORS[:1], 50)
        assert LIMIT <= time.monotonic() - began < 4 * LIMIT
        [shard] = found.missing.shards
        assert (shard.name, shard.reason) == ("shard-1", "timed-out")
        assert ("shard-1", "timed-out") in {(name, why) for name, _, why in said}
        assert {name for name, seconds, why in said if not why} == {"shard-0", "shard-2"}
        assert {hit.id for hit in found[0]} == {v for v in IDS if shard_of(v, 3) != 1}
        began = time.monotonic()
        assert index.search(VECTORS[:1], 3).missing.shards[0].name == "shard-1"
        assert time.monotonic() - began < LIMIT
        assert index.generation > generation
        gate.set()
        until_whole(index)
        assert index.missing is None


def test_a_damaged_shard_is_named_and_one_put_in_its_place_is_searched(file):
    part = file.parent / "shard-0"
    with ShardedIndex.open(file) as index:
        whole = index.search(VECTORS, 5)
        assert whole.missing is None
        kept = shutil.copytree(part, file.parent / "kept")
        for path in (part / "index" / "records.sqlite", *part.glob("index/*-wal")):
            path.unlink()
        (part / "index" / "records.sqlite").write_bytes(b"no database" * 999)
        found = index.search(VECTORS, 5)
        assert [(one.name, one.reason) for one in found.missing.shards] == [("shard-0", "damaged")]
        shutil.rmtree(part)
        kept.rename(part)
        until_whole(index)
        assert index.search(VECTORS, 5) == whole


def test_when_all_are_gone_there_is_no_answer_until_one_is_back(file):
    folders = [file.parent / f"shard-{number}" for number in range(3)]
    with ShardedIndex.open(file) as index:
        away = [folder.rename(folder.with_suffix(".away")) for folder in folders]
        for ask in (
            lambda: index.search(VECTORS[:1], 3),
            lambda: index.words("x", 3),
            index.facets,
            lambda: index.videos(["v1"]),
        ):
            with pytest.raises(ServerError, match=r"no shard answers.*3 of 3"):
                ask()
        assert len(index) == 0
        index.refresh()
        for one, folder in zip(away, folders, strict=True):
            one.rename(folder)
        end = time.monotonic() + 20
        while index.missing is not None:
            index.refresh()
            assert time.monotonic() < end
        assert index.search(VECTORS[:1], COUNT).missing is None


def test_a_shard_of_other_vectors_is_left_out(file, tmp_path):
    part = file.parent / "shard-2"
    shutil.rmtree(part)
    write_vectors(part, ["w1", "w2"], np.ones((2, WIDTH + 1), "f4"))
    build_index(part)
    with ShardedIndex.open(file) as index:
        [shard] = index.search(VECTORS[:1], 3).missing.shards
        assert (shard.name, shard.reason) == ("shard-2", "other-vectors")
        assert "vectors of 9 numbers, expected 8" in shard.why
    # Without a width in the file, that of most is taken.
    lines = [line for line in file.read_text().splitlines() if "dimension" not in line]
    file.write_text("\n".join(lines))
    with ShardedIndex.open(file) as index:
        assert index.dimension == WIDTH
        assert [one.name for one in index.missing.shards] == ["shard-2"]


def test_a_write_that_fails_in_one_shard_says_what_was_written(file, monkeypatch):
    full, add = str(file.parent / "shard-1"), SearchIndex.add

    def failing(self, *given):
        if str(self.path) == full:
            raise OSError(28, "No space left on device")
        add(self, *given)

    ids = [f"new{number}" for number in range(9)]
    vectors, known = VECTORS[:9], [IndexedVideo(each) for each in ids]
    with ShardedIndex.open(file, writable=True) as index:
        with monkeypatch.context() as patched:
            patched.setattr(SearchIndex, "add", failing)
            with pytest.raises(ServerError, match=r"added in shard-0, shard-2, on disk.*No space"):
                index.add(ids, vectors, known)
        until_whole(index)
        index.add(ids, vectors, known)  # the same again does the rest
        assert len(index) == COUNT + 9


def test_shards_without_placing_take_a_write_where_the_video_is(tmp_path):
    for name, ids in (("a", IDS[:20]), ("b", IDS[20:])):
        rows = [IDS.index(each) for each in ids]
        build_index(write_vectors(tmp_path / name, ids, VECTORS[rows]))
    file = tmp_path / "both.toml"
    file.write_text('retry_seconds = 0.1\n[[shard]]\nfolder = "a"\n[[shard]]\nfolder = "b"\n')
    ids = ["v1", "v30", "v2", "new"]
    with ShardedIndex.open(file, writable=True) as index:
        index.add(ids, VECTORS[:4], [IndexedVideo(each, "t") for each in ids])
        assert len(index) == COUNT + 1
        assert index.delete(["v3", "v33"]) == 2
        assert {hit.id for hit in index.search(VECTORS[:1], 2)[0]} == {"v0", "v1"}
        shutil.rmtree(tmp_path / "b")
        with pytest.raises(ServerError, match="nothing was written"):
            index.add(["v1"], VECTORS[:1], [IndexedVideo("v1")])
    with SearchIndex.open(tmp_path / "a") as index:
        assert index.videos(["v1"]) == [IndexedVideo("v1", "t")]
        assert "v3" not in index


def test_a_video_in_two_shards_is_found_once(tmp_path):
    for name in ("a", "b"):
        build_index(write_vectors(tmp_path / name, IDS, VECTORS))
    file = tmp_path / "both.toml"
    file.write_text('[[shard]]\nfolder = "a"\n[[shard]]\nfolder = "b"\n')
    with open_index(file) as index, SearchIndex.open(tmp_path / "a") as own:
        assert index.search(VECTORS, 7) == own.search(VECTORS, 7)


def test_a_split_that_was_killed_is_carried_on(tmp_path, monkeypatch):
    folder = write_vectors(tmp_path / "vectors", IDS, VECTORS)
    out = tmp_path / "shards"
    for step in ("_put", "build_index"):
        real, calls = getattr(splitting, step), []

        def stops(*given, real=real, calls=calls, **named):
            calls.append(given)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return real(*given, **named)

        with monkeypatch.context() as patched:
            patched.setattr(splitting, step, stops)
            with pytest.raises(KeyboardInterrupt):
                split(folder, out, 3)
        assert not (out / "shards.toml").exists()
    report = split(folder, out, 3)
    assert report.videos == COUNT
    with open_index(report.file) as index:
        assert set(index.ids) == set(IDS)
        ids, matrix = index.matrix()
        row = {video: number for number, video in enumerate(IDS)}
        wanted = VECTORS[[row[video] for video in ids]]
        wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
        assert np.allclose(matrix, wanted, atol=1e-6)
