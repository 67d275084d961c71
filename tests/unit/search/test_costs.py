"""What smaller vectors cost, against plain NumPy and SciPy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.unit.search.indexed import write_vectors
from vidvec.cli import main
from vidvec.data.corpus import Corpus
from vidvec.embed.dtypes import DTYPES
from vidvec.embed.evaluate import evaluate
from vidvec.embed.rotation import rotation
from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError
from vidvec.search import costs
from vidvec.search.costs import Costs, measure_costs

WIDTH = 24
VIDEOS = made_videos(150)
IDS = [video.id for video in VIDEOS]
PAIRS = made_pairs(VIDEOS, 300)
VECTORS = np.random.default_rng(0).standard_normal((150, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def few_vectors():
    """Times are those among few vectors, which is no matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "SEARCHED", 1_000)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("costs")
    write_corpus(root / "corpus", VIDEOS, PAIRS)
    write_vectors(root / "vectors", IDS, VECTORS, root / "corpus")
    return root


@pytest.fixture(scope="module")
def found(root) -> Costs:
    corpus = Corpus(root / "corpus")
    sizes = (WIDTH, 16, 4)
    return measure_costs(
        root / "vectors", corpus, sizes=sizes, dtypes=DTYPES, split="all", candidates=3
    )


def kept(size: int, dtype: str) -> np.ndarray:
    """Small vectors in float64, of any length, from loops of one's own."""
    some = VECTORS[:, :size].astype(np.float64)
    some = some / np.linalg.norm(some, axis=1, keepdims=True)
    if dtype == "float16":
        return some.astype(np.float16).astype(np.float64)
    if dtype == "int8":
        return np.stack([np.round(row / np.abs(row).max() * 127) for row in some])
    return np.sign(some @ rotation(size).T) if dtype == "binary" else some


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_every_size_and_dtype_is_there(found):
    assert [(row.size, row.dtype) for row in found.rows] == [
        (size, dtype) for size in (WIDTH, 16, 4) for dtype in DTYPES
    ]
    by_name = {(row.size, row.dtype): row.bytes_per_vector for row in found.rows}
    assert [by_name[16, dtype] for dtype in DTYPES] == [64, 32, 16, 2]
    assert (found.vectors, found.dimension, found.queries, found.candidates) == (150, WIDTH, 150, 3)
    assert (found.split, found.pairs) == ("all", 300)


def test_spearman_is_scipys(found):
    row = {video: place for place, video in enumerate(IDS)}
    sides = np.array([(row[pair.id_1], row[pair.id_2]) for pair in PAIRS])
    scores = [pair.score for pair in PAIRS]
    for cost in found.rows:
        vectors = unit(kept(cost.size, cost.dtype))
        cosines = (vectors[sides[:, 0]] * vectors[sides[:, 1]]).sum(1)
        # Cosines of a few signs are often the same, but for the rounding of the rotation.
        expected = spearmanr(cosines.round(6), scores).statistic
        tolerance = 0.02 if cost.dtype == "binary" else 3e-3
        assert cost.spearman.value == pytest.approx(expected, abs=tolerance)
        assert cost.spearman.low <= cost.spearman.value <= cost.spearman.high


def test_differences_are_paired_and_from_the_whole(root, found):
    whole = evaluate(Vectors(root / "vectors"), PAIRS, "all").spearman
    first = found.rows[0]
    assert first.spearman.value == pytest.approx(whole.value, abs=1e-6)
    assert (first.spearman.low, first.spearman.high) == pytest.approx((whole.low, whole.high))
    assert (first.difference.low, first.difference.high) == pytest.approx((0, 0), abs=1e-3)
    for cost in found.rows:
        expected = cost.spearman.value - first.spearman.value
        assert cost.difference.value == pytest.approx(expected, abs=1e-6)
    half = next(row for row in found.rows if row.dtype == "float16")
    # Both have the same resamples: the difference varies far less than either.
    assert half.difference.high - half.difference.low < 0.01
    assert half.spearman.high - half.spearman.low > 0.1


def test_recall_is_that_of_a_loop(found):
    exact = unit(VECTORS.astype(np.float64)) @ unit(VECTORS.astype(np.float64)).T
    np.fill_diagonal(exact, -2)
    truth = np.argsort(-exact, axis=1)[:, :10]
    for cost in found.rows:
        small = unit(kept(cost.size, cost.dtype))
        # A query is not rounded, but for its signs where those are all that is compared.
        queries = small if cost.dtype == "binary" else unit(kept(cost.size, "float32"))
        near = queries @ small.T
        np.fill_diagonal(near, -2)
        order = np.argsort(-near, axis=1, kind="stable")
        for count, value in ((10, cost.recall), (30, cost.recall_reranked)):
            shares = [np.isin(truth[row], order[row, :count]).mean() for row in range(150)]
            # Ties at the end of a list of bits may be had either way.
            tolerance = 0.03 if cost.dtype == "binary" else 0.01
            assert value == pytest.approx(np.mean(shares), abs=tolerance)
    assert found.rows[0].recall == found.rows[0].recall_reranked == 1


def test_times_are_times(found):
    for cost in found.rows:
        assert 0 < cost.milliseconds < 100
        assert 0 < cost.milliseconds_reranked < 100


def test_without_pairs_search_alone_is_measured(root):
    found = measure_costs(root / "vectors", dtypes=["int8"])
    assert [(row.size, row.spearman, row.difference) for row in found.rows] == [(WIDTH, None, None)]
    assert (found.split, found.pairs) == ("", 0)


def test_many_vectors_are_sampled(root, monkeypatch):
    monkeypatch.setattr(costs, "SEARCHED", 60)
    found = measure_costs(root / "vectors", dtypes=["float32"])
    assert (found.vectors, found.queries, found.rows[0].recall) == (60, 60, 1)


def test_vectors_that_cannot_be_searched_are_passed_over(tmp_path):
    vectors = VECTORS.copy()
    vectors[3], vectors[5, 2] = 0, np.nan
    write_vectors(tmp_path / "vectors", IDS, vectors)
    assert measure_costs(tmp_path / "vectors", dtypes=["binary"]).vectors == 148
    write_vectors(tmp_path / "one", IDS[:4], vectors[[0, 3, 3, 5]])
    with pytest.raises(UsageError, match="has 1 vectors with a direction"):
        measure_costs(tmp_path / "one")


def test_two_vectors_are_enough(tmp_path):
    write_vectors(tmp_path / "two", IDS[:2], VECTORS[:2], shards=1)
    for row in measure_costs(tmp_path / "two", sizes=[1, 24]).rows:
        assert row.recall == row.recall_reranked == 1


def test_what_cannot_be_measured(root, tmp_path):
    corpus = Corpus(root / "corpus")
    for size in (0, WIDTH + 1):
        with pytest.raises(UsageError, match=rf"size {size}: .* has vectors of 24 numbers"):
            measure_costs(root / "vectors", sizes=[size])
    with pytest.raises(UsageError, match="dtype 'int2'"):
        measure_costs(root / "vectors", dtypes=["int2"])
    with pytest.raises(UsageError, match="0 candidates a hit"):
        measure_costs(root / "vectors", candidates=0)
    write_vectors(tmp_path / "others", [f"x{at}" for at in range(9)], VECTORS[:9])
    with pytest.raises(UsageError, match="no pair to measure on: 300 pairs, 300 in the all"):
        measure_costs(tmp_path / "others", corpus, split="all")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *arguments])
    return int(ended.value.code or 0)


def test_the_command(root, capsys):
    vectors, corpus = str(root / "vectors"), ["--corpus", str(root / "corpus")]
    asked = [vectors, *corpus, "--split=all", "--sizes", "24", "8", "--dtypes", "float32", "binary"]
    assert run(*asked, "--json") == 0
    rows = json.loads(capsys.readouterr().out)[vectors]["rows"]
    assert [(row["size"], row["dtype"]) for row in rows] == [
        *[(24, "float32"), (24, "binary"), (8, "float32"), (8, "binary")]
    ]
    assert run(*asked) == 0
    table = capsys.readouterr().out
    assert all(word in table for word in ("Spearman", "re-ranked", "binary", "recall@10"))
    assert run(vectors, "--sizes", "8") == 0
    assert "Spearman" not in capsys.readouterr().out
    assert run(vectors, *corpus, "--candidates", "3") == 1
    assert "--candidates belongs to --sizes or --dtypes" in capsys.readouterr().err
