"""Shortlists from signs and small numbers, against loops over bits and exact search."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from tests.unit.search.indexed import clustered, write_vectors
from vidvec.embed.compress import compress
from vidvec.embed.dtypes import unit_rows
from vidvec.embed.rotation import rotation
from vidvec.embed.vectors import Vectors
from vidvec.errors import FormatError, UsageError
from vidvec.search.index import ExactIndex
from vidvec.search.neighbours import Neighbours, add, drop, read, train, write
from vidvec.search.signs import SignIndex
from vidvec.search.two_stage import TwoStageIndex

COUNT, WIDTH = 400, 20
VECTORS = clustered(COUNT, WIDTH)
IDS = [f"v{number}" for number in range(COUNT)]
QUERIES = VECTORS[:12] + 0.1


def bits_that_differ(one: np.ndarray, other: np.ndarray) -> int:
    turned = [rotation(WIDTH).astype(np.float64) @ each for each in (one, other)]
    return sum((a > 0) != (b > 0) for a, b in zip(*turned, strict=True))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("two")
    write_vectors(root / "vectors", IDS, VECTORS)
    compress(root / "vectors", root / "bits", dtype="binary")
    compress(root / "vectors", root / "few", size=12)
    return root


def test_the_shortlist_has_the_fewest_signs_that_differ(root):
    index = TwoStageIndex(Vectors(root / "bits"), Vectors(root / "vectors"))
    found = index.shortlist(QUERIES, 30)
    for query, rows in zip(QUERIES, found, strict=True):
        all_distances = [bits_that_differ(query, vector) for vector in VECTORS]
        assert [all_distances[row] for row in rows] == sorted(all_distances)[:30]


@pytest.mark.parametrize("small", ["bits", "few"])
def test_the_shortlist_is_put_in_order_by_the_better_vectors(root, small):
    better = Vectors(root / "vectors")
    index = TwoStageIndex(Vectors(root / small), better)
    exact = ExactIndex(better)
    rows = index.shortlist(QUERIES, 40)
    long = unit_rows(VECTORS) @ unit_rows(QUERIES).T
    for place, hits in enumerate(index.search(QUERIES, 5, candidates=8)):
        listed = sorted(rows[place], key=lambda row: -long[row, place])[:5]
        assert [hit.id for hit in hits] == [f"v{row}" for row in listed]
        cosines = [long[row, place] for row in listed]
        assert [hit.cosine for hit in hits] == pytest.approx(cosines, abs=1e-6)
    # With everything on the list it is exact search.
    for one, other in zip(
        index.search(QUERIES, 10, candidates=COUNT), exact.search(QUERIES, 10), strict=True
    ):
        assert [hit.id for hit in one] == [hit.id for hit in other]


def test_more_candidates_find_more(root):
    index = TwoStageIndex(Vectors(root / "bits"), Vectors(root / "vectors"))
    exact = ExactIndex(Vectors(root / "vectors")).search(QUERIES, 10)
    shares = []
    for candidates in (1, 4, 16):
        found = index.search(QUERIES, 10, candidates=candidates)
        right = [{a.id for a in x} & {b.id for b in y} for x, y in zip(found, exact, strict=True)]
        shares.append(sum(map(len, right)) / 120)
    assert shares[0] < shares[1] < shares[2]
    assert shares[2] > 0.95


def test_small_vectors_alone_are_held_against_a_query_that_is_not_rounded(root):
    bits = Vectors(root / "bits")
    [hits] = TwoStageIndex(bits).search(QUERIES[:1], 3, candidates=COUNT)
    cosines = bits.matrix @ unit_rows(QUERIES[:1])[0]
    assert [hit.cosine for hit in hits] == pytest.approx(sorted(cosines)[::-1][:3], abs=1e-4)


def test_folders_that_do_not_go_together(root, tmp_path):
    write_vectors(tmp_path / "some", IDS[:9], VECTORS[:9])
    write_vectors(tmp_path / "none", [], VECTORS[:0])
    with pytest.raises(UsageError, match=r"video 'v9' of .*bits has no vector in .*some"):
        TwoStageIndex(Vectors(root / "bits"), Vectors(tmp_path / "some"))
    with pytest.raises(UsageError, match=r"vectors of 20 numbers, and .*few only of 12"):
        TwoStageIndex(Vectors(root / "bits"), Vectors(root / "few"))
    index = TwoStageIndex(Vectors(root / "bits"), Vectors(root / "vectors"))
    with pytest.raises(UsageError, match="k is 0"):
        index.search(QUERIES, 0)
    with pytest.raises(UsageError, match="query vectors have 3 numbers"):
        index.search(QUERIES[:, :3], 1)
    with pytest.raises(UsageError, match="hold NaN or infinity in row 1"):
        index.search(np.where(np.arange(12)[:, None] == 1, np.nan, QUERIES).astype("f4"), 1)
    assert index.search(QUERIES[:0], 3) == []
    assert TwoStageIndex(Vectors(tmp_path / "none")).search(QUERIES, 3) == [[]] * 12
    assert len(TwoStageIndex(Vectors(tmp_path / "some"))) == 9


def test_an_index_of_signs_on_disk(tmp_path):
    made = train("binary", WIDTH, COUNT, VECTORS, threads=1)
    add(made, np.arange(COUNT) + 1000, VECTORS)
    drop(made, np.array([1003, 1004]))
    assert len(made) == COUNT - 2
    crc = write(made, tmp_path / "signs.faiss")
    # 20 numbers are 3 bytes, and an id has 8.
    assert (tmp_path / "signs.faiss").stat().st_size == pytest.approx(11 * COUNT, abs=150)
    plain = faiss.read_index_binary(str(tmp_path / "signs.faiss"))
    packed = np.packbits(QUERIES @ rotation(WIDTH).T > 0, axis=1)
    allowed = np.arange(COUNT + 1000) % 3 == 0
    for mapped in (True, False):
        opened = read(tmp_path / "signs.faiss", crc, "binary", mapped=mapped)
        assert isinstance(opened, SignIndex)
        neighbours = Neighbours(opened, "binary")
        rows = neighbours.candidates(QUERIES, 20)
        assert np.array_equal(rows, plain.search(packed, 20)[1])
        assert not {1003, 1004} & set(rows.ravel().tolist())
        chosen = neighbours.candidates(QUERIES, 20, allowed)
        assert (chosen % 3 == 0).all()
    with pytest.raises(FormatError, match="is no int8 index"):
        read(tmp_path / "signs.faiss", crc, "int8")
    index = train("exact", WIDTH, COUNT, VECTORS, threads=1)
    crc = write(index, tmp_path / "exact.faiss")
    with pytest.raises(FormatError, match="is no binary index"):
        read(tmp_path / "exact.faiss", crc, "binary")


def test_signs_are_enough_where_the_first_numbers_vary_most():
    """As those of fused vectors do: without the rotation less than a fifth would be found."""
    random = np.random.default_rng(0)
    vectors = unit_rows(random.standard_normal((3_000, 64)) / np.arange(1, 65) ** 1.5)
    made = train("binary", 64, len(vectors), vectors, threads=1)
    add(made, np.arange(len(vectors)), vectors)
    queries = vectors[:50]
    truth = np.argsort(-queries @ vectors.T, axis=1)[:, :10]
    rows = made.candidates(queries, 80)
    found = (truth[:, :, None] == rows[:, None, :]).any(axis=2).mean()
    assert found > 0.7
