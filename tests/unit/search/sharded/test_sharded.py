"""Shards searched as one against one index over all of their videos."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.unit.search.indexed import (
    assert_nearest,
    clustered,
    corpus_with,
    videos,
    write_vectors,
)
from vidvec.cli import main
from vidvec.errors import ServerError, UsageError
from vidvec.search.engine import SearchIndex, build_index
from vidvec.search.interface import open_index
from vidvec.search.sharded.engine import ShardedIndex
from vidvec.search.sharded.splitting import split
from vidvec.search.types import Filter, IndexedVideo

COUNT, WIDTH, SHARDS = 400, 16, 3
ODD = ['it\'s "quoted" \\ and 🎬', "海/边 #1", "tab\there"]
FILTERS = [
    Filter(),
    Filter(tags=("sea",)),
    Filter(tags=("sea", "海"), min_seconds=10, max_seconds=60),
    Filter(categories=("nature", "")),
    Filter(languages=("EN", "zh-hant"), max_seconds=80.5),
    Filter(after="2021-05-03", before="2024-01-01"),
    Filter(tags=('no "such\\ tag',)),
]
WORDS = ["帆船", "海边的帆船", "dog beach", "strand übung", "边", '"hello"', "100%_", "nowhere"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Vectors with ties over all shards, one zero and one NaN."""
    place = tmp_path_factory.mktemp("whole")
    corpus = corpus_with(place / "corpus", videos(COUNT))
    ids = [f"v{number}" for number in range(COUNT)] + ODD
    vectors = clustered(len(ids), WIDTH)
    vectors[7], vectors[9] = 0, np.nan
    vectors[100:140] = vectors[100]
    folder = write_vectors(place / "vectors", ids, vectors, corpus.path)
    build_index(folder)
    return folder


@pytest.fixture(scope="module")
def made(whole) -> Path:
    return split(whole, whole.parent / "shards", SHARDS).file


@pytest.fixture
def file(made, tmp_path) -> Path:
    """A copy to write to and to break."""
    return shutil.copytree(made.parent, tmp_path / "shards") / made.name


@pytest.fixture(scope="module")
def pair(whole, made) -> Iterator[tuple[SearchIndex, ShardedIndex]]:
    with SearchIndex.open(whole) as own, ShardedIndex.open(made) as other:
        yield own, other


def test_shards_find_what_one_index_finds(pair):
    own, other = pair
    queries = np.concatenate([clustered(5, WIDTH) + 0.1, own.vectors_of(["v120", "v3"])])
    without = [{"v1", "v2"}, set(), {"v3"}, {"not there"}, set(), {"v101"}, set()]
    for asked in FILTERS:
        found = other.search(queries, 9, filter=asked, without=without)
        assert found == own.search(queries, 9, filter=asked, without=without)
        assert found.missing is None
        assert other.facets(asked) == own.facets(asked)
        assert other.facets(asked, 2) == own.facets(asked, 2)
    assert other.search(queries, 1000) == own.search(queries, 1000)
    assert other.search(np.zeros((1, WIDTH), "f4"), 3) == [[]]
    assert other.like([*ODD, "v5", "v100"], 12) == own.like([*ODD, "v5", "v100"], 12)


def test_shards_score_words_as_one_index_does(pair):
    own, other = pair
    for text in WORDS:
        for asked in FILTERS[:3]:
            for k in (1, 7, 500):
                found, wanted = other.words(text, k, filter=asked), own.words(text, k, filter=asked)
                assert [hit.id for hit in found] == [hit.id for hit in wanted]
                scores = [hit.cosine for hit in wanted]
                assert [hit.cosine for hit in found] == pytest.approx(scores, rel=1e-9)


def test_shards_know_what_one_index_knows(pair):
    own, other = pair
    assert len(other) == len(own) == COUNT + len(ODD) - 1
    assert sorted(other.ids) == sorted(own.ids)
    assert other.videos([*ODD, "v3"]) == own.videos([*ODD, "v3"])
    assert (other.vectors_of(["v3", *ODD, "v3"]) == own.vectors_of(["v3", *ODD, "v3"])).all()
    for each in pair:
        assert ("v3" in each, "v9" in each, 5 in each) == (True, False, False)
    for ids in (["v9"], ["v1", "nowhere"]):
        with pytest.raises(UsageError, match=ids[-1]):
            other.vectors_of(ids)
    (ids, mine), (others, theirs) = other.matrix(), own.matrix()
    rows = np.argsort(np.array(ids, object)), np.argsort(np.array(others, object))
    assert (mine[rows[0]] == theirs[rows[1]]).all()
    for wrong in (np.zeros((1, 3), "f4"), np.full((1, WIDTH), np.nan, "f4")):
        with pytest.raises(UsageError):
            other.search(wrong, 3)
    with pytest.raises(UsageError, match="k is 0"):
        other.search(np.zeros((1, WIDTH), "f4"), 0)


def test_what_cannot_be_asked_is_not_a_shards_failure(pair):
    _, other = pair
    odd, query = "\ud800", np.ones((1, WIDTH), "f4")
    assert odd not in other
    assert len(other.search(query, 3, without=[{odd, "v1"}])[0]) == 3
    for ask in (
        lambda: other.vectors_of([odd]),
        lambda: other.videos([odd]),
        lambda: other.search(query, 3, filter=Filter(tags=(odd,))),
        lambda: other.facets(Filter(languages=(odd,))),
        lambda: other.facets(Filter(after="yesterday")),
        lambda: other.words(odd, 3),
        lambda: other.words(" ", 3),
        lambda: other.search(query, 3, filter=Filter(categories=("a",) * 1_001)),
    ):
        with pytest.raises(UsageError):
            ask()
        assert other.missing is None


def test_shards_with_lists_find_nearly_all_and_exactly_all_when_told(whole, tmp_path):
    ids = [f"v{number}" for number in range(3_000)]
    vectors = clustered(len(ids), WIDTH, seed=4)
    folder = write_vectors(tmp_path / "vectors", ids, vectors)
    file = split(folder, tmp_path / "shards", 2, kind="ivf-sq8").file
    queries = vectors[:40] + 0.05
    with open_index(file) as index:
        assert index.kind == "ivf-sq8"
        for query, hits in zip(queries, index.search(queries, 10, exact=True), strict=True):
            assert_nearest(hits, ids, vectors, query, 10)
        quick, sure = index.search(queries, 10), index.search(queries, 10, exact=True)
        both = [len(set(a) & set(b)) for a, b in zip(quick, sure, strict=True)]
        assert np.mean(both) > 9


def test_a_write_goes_to_the_shard_of_its_id_and_is_found_by_others(file):
    with (
        ShardedIndex.open(file, writable=True) as writer,
        ShardedIndex.open(file) as reader,
    ):
        before = len(reader)
        new = np.eye(WIDTH, dtype=np.float32)[:6]
        ids = [f"new{number}" for number in range(4)] + ["v1", "v2"]
        known = [IndexedVideo(each, f"the words of {each}", ("sea",)) for each in ids]
        writer.add(ids, new, known)
        writer.add(ids, new, known)
        assert len(reader) == before + 4
        found = reader.search(new, 1)
        assert [hits[0].id for hits in found] == ids
        assert reader.videos(ids) == known
        assert {hit.id for hit in reader.words("the words of", 9)} == set(ids)
        assert writer.delete(["new0", "v1", "nowhere"]) == 2
        assert "new0" not in reader
        assert "v1" not in reader
        assert len(reader) == before + 2
        with pytest.raises(UsageError, match="reading only"):
            reader.add(["x"], new[:1], [IndexedVideo("x")])


def test_the_same_again_takes_in_what_changed_and_keeps_writes(tmp_path):
    ids = [f"v{number}" for number in range(60)]
    vectors = clustered(60, WIDTH)
    folder = write_vectors(tmp_path / "vectors", ids, vectors)
    first = split(folder, tmp_path / "shards", 4)
    assert first.written
    assert first.videos == 60
    assert not split(folder, tmp_path / "shards", 4).written
    with ShardedIndex.open(first.file, writable=True) as index:
        index.add(["mine"], vectors[:1], [IndexedVideo("mine")])
        index.delete(["v5"])
    write_vectors(folder, [*ids[:50], "late"], np.concatenate([vectors[:50], vectors[3:4]]))
    again = split(folder, tmp_path / "shards", 4)
    assert again.written
    assert again.videos == 50 + 1 + 1 - 1
    with open_index(again.file) as index:
        assert set(index.ids) == {*ids[:50], "late", "mine"} - {"v5"}
        assert {hit.id for hit in index.search(vectors[3:4], 2)[0]} == {"v3", "late"}
    with pytest.raises(UsageError, match="4 shards, expected 3"):
        split(folder, tmp_path / "shards", 3)
    with pytest.raises(UsageError, match="itself"):
        split(folder, folder, 3)


def test_a_shard_that_is_gone_costs_its_own_videos_alone(file, whole):
    gone = file.parent / "shard-1"
    with SearchIndex.open(whole) as own, SearchIndex.open(gone) as part:
        lost = set(part.ids)
        query = own.vectors_of(["v100"])
        rest = [hit for hit in own.search(query, 600)[0] if hit.id not in lost]
    shutil.rmtree(gone)
    with ShardedIndex.open(file, writable=True) as index:
        found = index.search(query, 600)
        assert found == [rest]
        [shard] = found.missing.shards
        assert (shard.name, shard.reason, found.missing.of) == ("shard-1", "damaged", 3)
        assert found.missing.share == pytest.approx(len(lost) / (COUNT + len(ODD) - 1))
        assert "1 of 3 shards" in found.missing.sentence()
        assert index.facets().missing is not None
        assert index.words("帆船", 3).missing is not None
        assert len(index) == COUNT + len(ODD) - 1 - len(lost)
        there, away = next(hit.id for hit in rest), min(lost)
        assert there in index
        for ask in (index.vectors_of, index.videos):
            assert len(ask([there])) == 1
            with pytest.raises(ServerError, match="in no shard that answers"):
                ask([away])
        with pytest.raises(ServerError):
            assert away in index
        with pytest.raises(UsageError, match="nowhere"):  # its shard answers
            index.vectors_of(["nowhere0" if "nowhere0" not in lost else "nowhere1"])
        for ask in (index.matrix, lambda: index.ids):
            with pytest.raises(ServerError, match="every shard"):
                ask()


def test_a_write_to_a_shard_that_is_gone_writes_nothing(file):
    shutil.rmtree(file.parent / "shard-2")
    ids = [f"new{number}" for number in range(12)]
    vectors = np.ones((12, WIDTH), "f4")
    with ShardedIndex.open(file, writable=True) as index:
        with pytest.raises(ServerError, match="nothing was written"):
            index.add(ids, vectors, [IndexedVideo(each) for each in ids])
        with pytest.raises(ServerError, match="nothing was written"):
            index.delete([f"v{number}" for number in range(20)])
        assert not {*ids} & {hit.id for hit in index.search(vectors[:1], 500)[0]}
        for each in ids:  # those of the shards that answer
            try:
                index.add([each], vectors[:1], [IndexedVideo(each)])
            except ServerError:
                continue
            assert each in index


def test_without_any_shard_there_is_no_answer(file):
    for number in range(SHARDS):
        shutil.rmtree(file.parent / f"shard-{number}")
    with pytest.raises(ServerError, match="no shard answers"):
        ShardedIndex.open(file)


def test_the_command_splits_and_searches(tmp_path, capsys):
    ids = [f"v{number}" for number in range(30)]
    vectors = clustered(30, WIDTH)
    vectors[3] = np.nan
    folder, out = write_vectors(tmp_path / "vectors", ids, vectors), tmp_path / "out"
    told = run(capsys, "index", folder, out, "--shards", 2, "--json")
    report = json.loads(told.out)
    assert (report["videos"], report["written"], len(report["shards"])) == (29, True, 2)
    assert "unchanged, nothing written" in run(capsys, "index", folder, out, "--shards", 2).out
    file = str(out / "shards.toml")
    found = json.loads(run(capsys, "search", "--index", file, "--id", "v5", "--json").out)
    with SearchIndex.open(build(folder)) as own:
        [wanted] = own.like(["v5"], 10)
    assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in wanted]
    assert found["missing"] is None
    shutil.rmtree(out / "shard-1")
    told = run(capsys, "search", folder, "--index", file, "--id", "v1", "-k", "2", status=3)
    assert "1 of 2 shards did not answer" in told.err
    told = run(capsys, "search", "--index", file, "--id", "v0", status=1)
    assert "in no shard that answers" in told.err
    for wrong in (["--shards", 2], [out], [out, "--shards", 0], [out, "--shards", 2, "--restart"]):
        assert "error:" in run(capsys, "index", folder, *wrong, status=1).err


def build(folder: Path) -> Path:
    build_index(folder)
    return folder


def run(capsys, *words: object, status: int = 0):
    capsys.readouterr()
    code: object = 0
    try:
        main([str(word) for word in words])
    except SystemExit as left:
        code = left.code
    assert code == status
    return capsys.readouterr()
