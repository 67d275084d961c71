"""Search of an index against plain NumPy: kinds, filters, ties, edges, bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.search.indexed import (
    DATES,
    LANGUAGES,
    TAGS,
    assert_nearest,
    clustered,
    corpus_with,
    known,
    nearest,
    passes,
    videos,
    write_vectors,
)
from vidvec.errors import UsageError
from vidvec.search.brute import nearest as brute
from vidvec.search.engine import SearchIndex, build_index
from vidvec.search.neighbours import KINDS
from vidvec.search.types import Filter, IndexedVideo

COUNT, WIDTH = 2_000, 32
IDS = [f"v{number}" for number in range(COUNT)]
VECTORS = clustered(COUNT, WIDTH)
QUERIES = clustered(40, WIDTH, seed=0)[:40] + 0.1
# 2,000 vectors are below what auto would keep in lists, and enough to learn some.
APPROXIMATE = [kind for kind in KINDS if KINDS[kind].tuned]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("engine")
    corpus = corpus_with(place / "corpus", videos(COUNT))
    path = write_vectors(place / "vectors", IDS, VECTORS, corpus.path)
    build_index(path)
    return path


@pytest.fixture(scope="module")
def index(folder):
    with SearchIndex.open(folder) as opened:
        yield opened


def of_kind(tmp_path, kind, vectors=VECTORS, ids=IDS) -> SearchIndex:
    path = write_vectors(tmp_path / "vectors", ids, vectors)
    report = build_index(path, kind=kind)
    assert report.kind == kind
    return SearchIndex.open(path, writable=True)


@pytest.mark.parametrize("queries", [3, 40])  # one by one, and as one product
@pytest.mark.parametrize("kind", ["exact", "float16", "int8"])
def test_kinds_without_lists_find_what_is_nearest(tmp_path, kind, queries):
    with of_kind(tmp_path, kind) as index:
        for k in (1, 10, 300):
            found = index.search(QUERIES[:queries], k)
            for query, hits in zip(QUERIES, found, strict=False):
                wanted = nearest(IDS, VECTORS, query, k)
                if kind == "exact":
                    assert_nearest(hits, IDS, VECTORS, query, k)
                assert len({hit.id for hit in hits} & set(wanted)) >= (1 if k == 1 else 0.98 * k)


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_kinds_that_are_tuned_find_nearly_all(tmp_path, kind):
    with of_kind(tmp_path, kind) as index:
        found = index.search(QUERIES, 10)
        shares = [
            len({hit.id for hit in hits} & set(nearest(IDS, VECTORS, query, 10))) / 10
            for query, hits in zip(QUERIES, found, strict=True)
        ]
        assert np.mean(shares) >= 0.95
        # As many as there are, however few lists are looked into.
        assert [len(hits) for hits in index.search(QUERIES[:2], COUNT + 5)] == [COUNT, COUNT]
        exact = index.search(QUERIES, 10, exact=True)
        for query, hits in zip(QUERIES, exact, strict=True):
            assert_nearest(hits, IDS, VECTORS, query, 10)


@pytest.mark.parametrize("kind", ["exact", *APPROXIMATE])
def test_filters_of_any_share_find_nearly_all(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("vidvec.search.ranking.FEW", 50)
    corpus = corpus_with(tmp_path / "corpus", videos(COUNT))
    path = write_vectors(tmp_path / "vectors", IDS, VECTORS, corpus.path)
    build_index(path, kind=kind)
    with SearchIndex.open(path) as index:
        for most in (1, 10, 60):
            asked = Filter(max_seconds=most)
            allowed = {one.id for one in videos(COUNT) if passes(one, asked)}
            found = index.search(QUERIES, 10, filter=asked)
            shares = []
            for query, hits in zip(QUERIES, found, strict=True):
                wanted = nearest(IDS, VECTORS, query, 10, allowed)
                assert {hit.id for hit in hits} <= allowed
                shares.append(len({hit.id for hit in hits} & set(wanted)) / len(wanted))
            assert np.mean(shares) >= (1 if kind == "exact" else 0.95)


asked_filters = st.builds(
    Filter,
    tags=st.lists(st.sampled_from(["sea", "dog", "夜", "none"]), max_size=2).map(tuple),
    categories=st.lists(st.sampled_from(["nature", "city", "x"]), max_size=2).map(tuple),
    languages=st.lists(st.sampled_from(["zh", "EN", "z", "z%"]), max_size=2).map(tuple),
    min_seconds=st.none() | st.floats(0, 90),
    max_seconds=st.none() | st.integers(0, 90),
    after=st.sampled_from(["", *DATES[1:], "2021-05-03T00:00:00+00:00"]),
    before=st.sampled_from(["", *DATES[1:], "2021-05-03T10:00:01+00:00"]),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=asked_filters)
def test_filters_are_those_of_a_plain_scan(index, asked):
    some = videos(COUNT)
    allowed = {one.id for one in some if passes(one, asked)}
    hits = index.search(QUERIES[:1], 5, filter=asked)[0]
    assert_nearest(hits, IDS, VECTORS, QUERIES[0], 5, allowed=allowed)
    facets = index.facets(asked, top=100)
    assert facets.videos == len(allowed)
    tags: dict[str, int] = {}
    for one in some:
        for tag in (one.tags or ()) if one.id in allowed else ():
            tags[tag] = tags.get(tag, 0) + 1
    assert facets.tags == tuple(sorted(tags.items(), key=lambda pair: (-pair[1], pair[0])))
    with_category = sum(one.category != "" for one in some if one.id in allowed)
    assert sum(count for _, count in facets.categories) == with_category


def test_facets_are_cut(index):
    assert len(index.facets(top=2).tags) == 2
    assert {name for name, _ in index.facets().languages} == set(LANGUAGES) - {""}
    assert sum(n for _, n in index.facets().tags) == COUNT // 5 * sum(map(len, TAGS))


def test_equally_near_ones_come_by_id(tmp_path):
    vectors = np.repeat(clustered(20, WIDTH), 30, axis=0)
    ids = [f"v{number}" for number in np.random.default_rng(1).permutation(len(vectors))]
    for number, queries in enumerate((vectors[:1], vectors[::20])):
        with of_kind(tmp_path / str(number), "exact", vectors, ids) as index:
            for k in (1, 7, 31):
                for query, hits in zip(queries, index.search(queries, k), strict=True):
                    assert [hit.id for hit in hits] == nearest(ids, vectors, query, k)


def test_like_leaves_out_the_video_and_without_others(index):
    for video, hits in zip(("v3", "v4"), index.like(["v3", "v4"], 5), strict=True):
        ranked = nearest(IDS, VECTORS, VECTORS[IDS.index(video)], 12)
        assert ranked[0] == video
        assert [hit.id for hit in hits] == ranked[1:6]
    ranked = nearest(IDS, VECTORS, QUERIES[0], 12)
    hits = index.search(QUERIES[:1], 4, without=[(*ranked[:3], "unknown")])[0]
    assert [hit.id for hit in hits] == ranked[3:7]


def test_what_is_known_of_videos(index, folder):
    assert len(index) == COUNT
    assert index.ids == IDS
    assert "v7" in index
    assert "w7" not in index
    assert 7 not in index
    wanted = [known(videos(COUNT)[number]) for number in (1999, 0, 7)]
    assert index.videos(["v1999", "v0", "v7"]) == wanted
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    assert np.abs(index.vectors_of(["v1999", "v0"]) - unit[[1999, 0]]).max() < 1e-6
    ids, matrix = index.matrix()
    assert ids == IDS
    assert np.abs(matrix - unit).max() < 1e-6
    assert index.path == folder


def test_an_empty_index_and_more_hits_than_videos(tmp_path):
    empty = write_vectors(tmp_path / "none", [], np.zeros((0, 4), np.float32))
    for kind in KINDS:
        assert build_index(empty, kind=kind).videos == 0
        with SearchIndex.open(empty, writable=True) as index:
            assert index.search(np.ones((2, 4)), 3) == [[], []]
            assert (len(index), index.ids, index.words("word", 3)) == (0, [], [])
            assert index.matrix()[1].shape == (0, 4)
            assert index.facets().videos == 0
            assert index.search(np.zeros((0, 4)), 3) == []
            index.add(["a"], np.ones((1, 4)), [IndexedVideo("a")])
            assert [hit.id for hit in index.search(np.ones((1, 4)), 3)[0]] == ["a"]
            index.delete(["a"])


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_without_length_are_kept_and_never_found(tmp_path, kind):
    vectors = VECTORS.copy()
    vectors[[3, 1500]] = 0
    path = write_vectors(tmp_path / "vectors", IDS, vectors)
    report = build_index(path, kind=kind)
    assert report.difference.zero == 2
    with SearchIndex.open(path, writable=True) as index:
        index.add(["new"], np.zeros((1, WIDTH)), [IndexedVideo("new")])
        assert len(index) == COUNT + 1
        assert not index.vectors_of(["v3", "new"]).any()
        for exact in (False, True):
            found = index.search(-VECTORS[[3, 8]], COUNT + 1, exact=exact)
            assert [len(hits) for hits in found] == [COUNT - 2] * 2
            assert not {"v3", "v1500", "new"} & {hit.id for hit in found[0]}
        assert index.search(np.zeros((1, WIDTH)), 5) == [[]]


def test_bad_vectors_of_a_folder_are_left_out_and_named(tmp_path):
    vectors = VECTORS[:100].copy()
    vectors[4, 3], vectors[5, 0] = np.nan, np.inf
    ids = [*IDS[:99], "v0"]
    report = build_index(write_vectors(tmp_path / "vectors", ids, vectors))
    found = report.difference
    assert (found.added, found.not_finite, found.duplicates) == (97, 2, 1)
    assert found.named == ["v4", "v5", "v0"]
    with SearchIndex.open(tmp_path / "vectors") as index:
        assert index.vectors_of(["v0"])[0] @ VECTORS[0] > 0.999 * np.linalg.norm(VECTORS[0])
        assert "v4" not in index


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (np.ones((1, 5)), 3, "have 5 numbers, .* holds vectors of 32"),
        (np.ones(WIDTH), 3, r"have shape \(32,\), expected \(n, 32\)"),
        (np.full((2, WIDTH), np.nan), 3, "NaN or infinity in row 0"),
        (np.full((2, WIDTH), np.inf), 3, "NaN or infinity in row 0"),
        (np.ones((1, WIDTH)), 0, "k is 0"),
    ],
)
def test_bad_queries(index, queries, k, message):
    with pytest.raises(UsageError, match=message):
        index.search(queries, k)


def test_other_bad_input(index, tmp_path):
    with pytest.raises(UsageError, match="no video 'nobody'"):
        index.like(["v1", "nobody"], 3)
    with pytest.raises(UsageError, match="no video 'nobody'"):
        index.videos(["nobody"])
    with pytest.raises(UsageError, match="1 queries, but 2 lists"):
        index.search(QUERIES[:1], 3, without=[[], []])
    with pytest.raises(UsageError, match="filter after: date is 'yesterday'"):
        index.search(QUERIES[:1], 3, filter=Filter(after="yesterday"))
    with pytest.raises(UsageError, match="1001 values"):
        index.search(QUERIES[:1], 3, filter=Filter(categories=("a",) * 1001))
    with pytest.raises(UsageError, match="opened for reading only"):
        index.delete(["v1"])
    path = write_vectors(tmp_path / "vectors", IDS, VECTORS)
    with pytest.raises(UsageError, match="make one with vidvec index"):
        SearchIndex.open(path)
    with pytest.raises(UsageError, match="no kind 'best'"):
        build_index(path, kind="best")


@settings(max_examples=60)
@given(st.data())
def test_blocks_give_what_sorting_gives(data):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    count, k = data.draw(st.integers(0, 400)), data.draw(st.integers(1, 30))
    queries = random.standard_normal((data.draw(st.sampled_from([1, 15, 16, 33])), 4))
    # Few different numbers, so that many are equally near.
    vectors = random.integers(-2, 3, (count, 4)).astype(np.float32)
    queries = queries.round(data.draw(st.sampled_from([0, 3]))).astype(np.float32)
    step = data.draw(st.integers(1, 200))
    rows = np.arange(count) * 3
    blocks = [(rows[at : at + step], vectors[at : at + step]) for at in range(0, count, step)]
    found = brute(queries, blocks, k)
    cosines = queries @ vectors.T
    for place, row in enumerate(found):
        assert len(set(row.tolist())) == len(row) == min(k, count)
        best = np.sort(cosines[place])[::-1][: len(row)]
        assert cosines[place][row // 3] == pytest.approx(best, abs=1e-5)
