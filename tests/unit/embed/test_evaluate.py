"""Evaluation by hand, and which pairs it measures on."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats

from vidvec.data.splits import rank_normalise
from vidvec.embed.evaluate import evaluate, pair_cosines
from vidvec.embed.vectors import Vectors, VectorWriter
from vidvec.errors import UsageError
from vidvec.records import Pair


def vectors_of(path, rows: dict[str, list[float]]) -> Vectors:
    matrix = np.array(list(rows.values()), np.float32)
    writer = VectorWriter(path, matrix.shape[1], {"normalised": False, "made_by": {}})
    writer.append(list(rows), matrix)
    writer.finish()
    return Vectors(path)


# Cosines with (1, 0): 1, 0.8, 0.6, 0, −1; of different lengths on purpose.
ROWS = {
    "0": [2, 0],
    "5": [4, 3],
    "10": [0.3, 0.4],
    "15": [0, 9],
    "20": [-1, 0],
    "1": [1, 0],
    "2": [1, 0],
    "25": [0, 0],
}
HELD = [
    Pair("0", "5", 0.9),
    Pair("0", "10", 0.7),
    Pair("0", "15", 0.1),
    Pair("0", "20", 0.2),
]


def test_figures_by_hand(tmp_path):
    found = evaluate(vectors_of(tmp_path, ROWS), HELD)
    assert (found.split, found.pairs, found.missing, found.shared) == ("clean", 4, 0, 0)
    assert found.clean_spearman is None
    # Ranks of the cosines 0.8 0.6 0 −1 are 4 3 2 1, of the scores 4 3 1 2: 1 − 6·2/(4·15).
    assert found.spearman.value == pytest.approx(0.8)
    cosines, scores = [0.8, 0.6, 0, -1], [0.9, 0.7, 0.1, 0.2]
    assert found.pearson.value == pytest.approx(np.corrcoef(cosines, scores)[0, 1])
    # Ranks of the scores on 0…1 are 1 ⅔ 0 ⅓.
    errors = [(0.8 - 1) ** 2, (0.6 - 2 / 3) ** 2, 0, (-1 - 1 / 3) ** 2]
    assert found.mse.value == pytest.approx(np.mean(errors))


def test_cosines_of_pairs(tmp_path):
    vectors = vectors_of(tmp_path, ROWS)
    assert pair_cosines(vectors, HELD) == pytest.approx([0.8, 0.6, 0, -1])
    assert pair_cosines(vectors, [Pair("25", "0", 1), Pair("5", "5", 1)]) == pytest.approx([0, 1])
    assert pair_cosines(vectors, []).shape == (0,)


def test_pairs_of_training_are_not_measured_but_ranked(tmp_path):
    more = [*HELD, Pair("1", "2", 0.5), Pair("0", "1", 0.05)]
    found = evaluate(vectors_of(tmp_path, ROWS), more)
    assert (found.pairs, found.missing, found.shared) == (4, 0, 0)
    assert found.spearman.value == pytest.approx(0.8)
    ranks = rank_normalise([pair.score for pair in more])[:4]
    errors = (np.array([0.8, 0.6, 0, -1]) - ranks) ** 2
    assert found.mse.value == pytest.approx(errors.mean())


def test_shared_videos_of_the_published_split_are_counted(tmp_path):
    # "20" is in a training pair, so the last of the pairs that are held leaks.
    more = [*HELD, Pair("20", "1", 0.5), Pair("1", "2", 0.5)]
    found = evaluate(vectors_of(tmp_path, ROWS), more, "published")
    assert (found.split, found.pairs, found.shared) == ("published", 4, 1)
    assert found.spearman.value == pytest.approx(0.8)
    assert found.clean_spearman is not None
    assert found.clean_spearman.value == pytest.approx(1)  # 0.8 0.6 0 against 0.9 0.7 0.1


def test_no_clean_figure_where_every_pair_leaks(tmp_path):
    more = [*HELD, Pair("0", "1", 0.5)]
    found = evaluate(vectors_of(tmp_path, ROWS), more, "published")
    assert (found.pairs, found.shared, found.clean_spearman) == (4, 4, None)


def test_all_pairs_where_nothing_was_trained(tmp_path):
    more = [*HELD, Pair("1", "2", 0.95), Pair("20", "1", 0.0)]
    found = evaluate(vectors_of(tmp_path, ROWS), more, "all")
    assert (found.split, found.pairs, found.shared, found.clean_spearman) == ("all", 6, 0, None)
    cosines = [0.8, 0.6, 0, -1, 1, -1]
    scores = [pair.score for pair in more]
    assert found.spearman.value == pytest.approx(stats.spearmanr(cosines, scores).statistic)


def test_pairs_without_a_vector_are_counted_and_left_out(tmp_path):
    more = [*HELD, Pair("0", "30", 1.0), Pair("35", "40", 0.0), Pair("7", "8", 0.3)]
    found = evaluate(vectors_of(tmp_path, ROWS), more)
    assert (found.pairs, found.missing) == (4, 2)
    assert found.spearman.value == pytest.approx(0.8)


def test_intervals_hold_the_figures_and_follow_the_seed(tmp_path):
    random = np.random.default_rng(0)
    rows = {str(5 * n): list(random.normal(size=3)) for n in range(40)}
    pairs = [
        Pair(*random.choice(list(rows), 2, replace=False), float(np.round(random.random(), 1)))
        for _ in range(60)
    ]
    vectors = vectors_of(tmp_path, rows)
    found = evaluate(vectors, pairs, seed=1)
    for interval in (found.spearman, found.pearson, found.mse):
        assert interval.low < interval.value < interval.high
    assert asdict(evaluate(vectors, pairs, seed=1)) == asdict(found)
    assert evaluate(vectors, pairs, seed=2).spearman.low != found.spearman.low


@pytest.mark.parametrize("pairs", [[], [Pair("1", "2", 0.5)], [Pair("30", "35", 0.5)]])
def test_nothing_to_measure_on(tmp_path, pairs):
    with pytest.raises(UsageError, match=f"no pair to measure on: {len(pairs)} pairs"):
        evaluate(vectors_of(tmp_path, ROWS), pairs)


def test_an_unknown_split(tmp_path):
    with pytest.raises(UsageError, match="split 'dirty': expected clean, published or all"):
        evaluate(vectors_of(tmp_path, ROWS), HELD, "dirty")


def test_one_pair_has_no_correlation(tmp_path):
    found = evaluate(vectors_of(tmp_path, ROWS), HELD[:1])
    assert np.isnan(found.spearman.value)
    assert found.mse.value == pytest.approx(0.64)  # the rank of a single score is 0
