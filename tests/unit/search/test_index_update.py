"""An index made again takes in what the vectors and the corpus have by now."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.search.indexed import (
    assert_nearest,
    clustered,
    corpus_with,
    known,
    videos,
    write_vectors,
)
from tests.unit.search.test_gone import mark
from vidvec.cli import app
from vidvec.embed.vectors import Vectors
from vidvec.search.engine import SearchIndex, build_index
from vidvec.search.types import Filter, IndexedVideo

COUNT, WIDTH = 120, 8
VECTORS = clustered(COUNT + 20, WIDTH)
VIDEOS = videos(COUNT + 20)


@pytest.fixture
def made(tmp_path) -> tuple[Path, Path]:
    """A folder of vectors with an index, and its corpus."""
    corpus = corpus_with(tmp_path / "corpus", VIDEOS[:COUNT])
    ids = [video.id for video in VIDEOS[:COUNT]]
    folder = write_vectors(tmp_path / "vectors", ids, VECTORS[:COUNT], corpus.path)
    assert build_index(folder).difference.added == COUNT
    return folder, corpus.path


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.name: (path.stat().st_mtime_ns, path.read_bytes())
        for path in (folder / "index").iterdir()
        if path.suffix in (".json", ".faiss", ".sqlite")
    }


def test_unchanged_nothing_is_written(made):
    folder, _ = made
    before = files(folder)
    report = build_index(folder)
    assert not report.written
    assert not report.difference
    assert files(folder) == before


def test_the_difference_is_taken_in(made):
    folder, corpus_path = made
    # The first five are gone, the last ten are new, three have other vectors, two other words,
    # and all are elsewhere in the folder.
    some = [replace(one, title="other words") if one.id in ("v8", "v9") else one for one in VIDEOS]
    order = np.random.default_rng(0).permutation(np.arange(5, COUNT + 10))
    vectors = VECTORS.copy()
    vectors[[20, 21, 22]] = clustered(3, WIDTH, seed=5)
    corpus_with(corpus_path, some[5 : COUNT + 10])
    ids = [VIDEOS[row].id for row in order]
    with SearchIndex.open(folder) as reader:
        write_vectors(folder, ids, vectors[order], corpus_path, shards=3)
        found = build_index(folder).difference
        assert (found.added, found.replaced, found.removed, found.changed) == (10, 3, 5, 2)
        for index in (reader, SearchIndex.open(folder)):
            for query, hits in zip(vectors, index.search(vectors, 9), strict=True):
                assert_nearest(hits, ids, vectors[order], query, 9)
            assert {hit.id for hit in index.words("other words", 9)} == {"v8", "v9"}
            assert sorted(index.ids) == sorted(ids)
            assert index.videos(ids) == [known(some[row]) for row in order]
            assert index.facets().videos == COUNT + 5
    assert not build_index(folder).written


def test_writes_stay_until_the_folder_has_another_vector(made):
    folder, corpus_path = made
    added = clustered(2, WIDTH, seed=7)
    with SearchIndex.open(folder, writable=True) as index:
        index.add(["x", "v3"], added, [IndexedVideo("x", "mine"), IndexedVideo("v3", "mine")])
        index.delete(["v4", "v5"])
    build_index(folder)
    ids = [video.id for video in VIDEOS[:COUNT]]
    vectors = VECTORS[:COUNT].copy()
    vectors[5] = added[0] * 2
    write_vectors(folder, ids, vectors, corpus_path)
    found = build_index(folder).difference
    assert (found.added, found.replaced, found.removed) == (1, 0, 0)
    with SearchIndex.open(folder) as index:
        assert {"v4", "v5", "x"} & set(index.ids) == {"v5", "x"}
        assert {hit.id for hit in index.words("mine", 9)} == {"x", "v3"}
        assert [hit.id for hit in index.search(added[1:], 1)[0]] == ["v3"]
    vectors[[3, 4]] = clustered(2, WIDTH, seed=8)
    write_vectors(folder, ids, vectors, corpus_path)
    found = build_index(folder).difference
    assert (found.added, found.replaced, found.removed) == (1, 1, 0)
    with SearchIndex.open(folder) as index:
        assert [hit.id for hit in index.search(vectors[[3]], 1)[0]] == ["v3"]
        assert {hit.id for hit in index.words("mine", 9)} == {"x"}


def test_videos_that_are_gone_from_the_corpus_are_left_out(made):
    folder, corpus_path = made
    mark(corpus_path, [2, 7])
    report = build_index(folder)
    assert (report.difference.removed, report.difference.gone) == (2, 2)
    with SearchIndex.open(folder) as index:
        assert {"v2", "v7"}.isdisjoint(index.ids)
        assert len(index.search(VECTORS[:1], COUNT)[0]) == COUNT - 2
    mark(corpus_path, [7])
    assert build_index(folder).difference.added == 1


def test_a_corpus_that_is_given_is_remembered(made, tmp_path):
    folder, _ = made
    other = corpus_with(tmp_path / "other", [replace(VIDEOS[0], title="elsewhere")])
    report = build_index(folder, corpus=other.path)
    assert report.difference.changed >= COUNT - 1
    assert not build_index(folder).written
    with SearchIndex.open(folder) as index:
        assert [hit.id for hit in index.words("elsewhere", 9)] == ["v0"]
        assert index.videos(["v1"]) == [IndexedVideo("v1")]


def test_a_kind_that_was_asked_for_stays(made):
    folder, _ = made
    assert build_index(folder, kind="float16").kind == "float16"
    report = build_index(folder)
    assert (report.kind, report.written) == ("float16", False)
    # Too few to learn lists from: exact until there are more.
    assert build_index(folder, kind="ivf-sq8").kind == "exact"
    vectors = clustered(1_200, WIDTH)
    write_vectors(folder, [f"n{number}" for number in range(1_200)], vectors)
    report = build_index(folder)
    assert (report.kind, report.difference.removed) == ("ivf-sq8", COUNT)
    assert report.recall is not None
    assert report.recall >= 0.95
    with SearchIndex.open(folder) as index:
        assert index.kind == "ivf-sq8"


def test_the_command(made, capsys):
    folder, corpus_path = made

    def said(*options: str) -> str:
        app(["index", str(folder), *options], result_action="return_value")
        return capsys.readouterr().out

    assert "120 videos indexed, exact" in said()
    assert "unchanged, nothing written" in said()
    mark(corpus_path, [2])
    shown = said()
    assert "119 videos" in shown
    assert ": 1 removed" in shown
    assert "1 videos that are gone from the source are left out" in shown
    report = json.loads(said("--kind", "int8", "--json"))
    assert (report["kind"], report["videos"], report["written"]) == ("int8", 119, True)
    with SearchIndex.open(folder) as index:
        assert {hit.id for hit in index.words("帆船", 200, filter=Filter(tags=("sea",)))}


def test_vectors_are_mapped_and_not_copied(made):
    folder, _ = made
    before = pa.total_allocated_bytes()
    matrices = [matrix for _, matrix in Vectors(folder).shards()]
    assert sum(map(len, matrices)) == COUNT
    assert pa.total_allocated_bytes() - before < VECTORS[:COUNT].nbytes
