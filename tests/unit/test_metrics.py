"""Metrics against SciPy and against cases worked by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vidvec.metrics import Interval, bootstrap, cosines, mse, pearson, recall_at_k, spearman


def graded(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines, and scores as people gave them: steps of 0.05, 36 % of them 0, 14 % of them 1."""
    random = np.random.default_rng(seed)
    scores = np.round(random.random(count) * 20) / 20
    kind = random.random(count)
    scores[kind < 0.36] = 0
    scores[kind > 0.86] = 1
    return scores + random.normal(0, 0.4, count), scores


@pytest.mark.parametrize("seed", range(8))
def test_correlations_are_scipys_on_scores_with_many_ties(seed):
    x, y = graded(500, seed)
    assert (y == 0).mean() == pytest.approx(0.36, abs=0.06)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    rounded = np.round(x, 1)  # ties on both sides
    assert spearman(rounded, y) == pytest.approx(stats.spearmanr(rounded, y).statistic, abs=1e-12)


numbers = st.floats(-1e3, 1e3, width=32)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=30))
def test_correlations_are_scipys_on_anything(rows):
    x, y = np.array(rows).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = stats.spearmanr(x, y).statistic
    if np.isnan(expected):
        assert np.isnan(spearman(x, y))
    else:
        assert spearman(x, y) == pytest.approx(expected, abs=1e-9)
        assert -1 <= pearson(x, y) <= 1


def test_spearman_by_hand():
    # Ranks of the scores 0 0 0 1: 2 2 2 4. Differences from the mean 2.5: −½ −½ −½ 1½; those of
    # the ranks 1 2 3 4: −1½ −½ ½ 1½. Products ¾ + ¼ − ¼ + 2¼ = 3; squares 3 and 5.
    assert spearman([0.1, 0.2, 0.3, 0.9], [0, 0, 0, 1]) == pytest.approx(3 / np.sqrt(15))
    assert spearman([1, 2, 3], [10, 100, 1000]) == 1
    assert spearman([1, 2, 3], [3, 2, 1]) == -1
    assert spearman([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)  # 1 − 6·2/(4·15)


def test_pearson_by_hand():
    # Differences −1 0 1 and −1 −1 2: products 3, squares 2 and 6.
    assert pearson([1, 2, 3], [1, 1, 4]) == pytest.approx(3 / np.sqrt(12))


def test_mse_by_hand():
    assert mse([0, 1, 2], [0, 3, 1]) == pytest.approx(5 / 3)
    assert mse([0.5], [0.5]) == 0


@pytest.mark.parametrize("metric", [pearson, spearman])
@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([], []),
        ([1], [2]),
        ([1, 1, 1], [1, 2, 3]),
        ([1, 2, 3], [0, 0, 0]),
        ([0.1] * 10, range(10)),  # the mean of ten 0.1 is not 0.1
        ([1, np.nan, 3], [1, 2, 3]),
    ],
)
def test_a_correlation_that_is_not_defined_is_nan(metric, x, y):
    assert np.isnan(metric(x, y))


def test_pearson_of_very_large_and_very_small_numbers():
    assert pearson([1e200, 2e200, 4e200], [1, 2, 4]) == pytest.approx(1)
    assert pearson([1e-200, 2e-200, 4e-200], [4, 2, 1]) == pytest.approx(
        stats.pearsonr([1, 2, 4], [4, 2, 1]).statistic
    )
    assert pearson([1e8 + 1, 1e8 + 2, 1e8 + 4], [1, 2, 4]) == pytest.approx(1)


def test_a_correlation_never_leaves_its_range():
    random = np.random.default_rng(0)
    for _ in range(200):
        x = random.normal(size=7)
        assert pearson(x, 3 * x + 1) <= 1
        assert pearson(x, 1 - 3 * x) >= -1


def test_the_interval_covers_the_true_value_about_as_often_as_it_says():
    random = np.random.default_rng(1)
    true, covered, rounds = 0.6, 0, 200
    for number in range(rounds):
        x = random.normal(size=80)
        y = true * x + np.sqrt(1 - true**2) * random.normal(size=80)
        interval = bootstrap(pearson, x, y, resamples=200, confidence=0.9, seed=number)
        assert interval.low <= interval.value <= interval.high
        covered += interval.low <= true <= interval.high
    # 90 % wanted; three standard deviations of 200 rounds are 6 %, and the method is a little low.
    assert 0.81 <= covered / rounds <= 0.97


def test_the_interval_is_that_of_the_resampled_figures():
    x, y = graded(120, 3)
    found = bootstrap(spearman, x, y, resamples=400, confidence=0.8, seed=5)
    other = stats.bootstrap(
        (x, y),
        lambda a, b: stats.spearmanr(a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=400,
        confidence_level=0.8,
        method="percentile",
        rng=np.random.default_rng(9),
    )
    assert found.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.low == pytest.approx(other.confidence_interval.low, abs=0.02)
    assert found.high == pytest.approx(other.confidence_interval.high, abs=0.02)


def test_the_seed_fixes_the_interval():
    x, y = graded(60, 0)
    one = bootstrap(spearman, x, y, resamples=50, seed=1)
    assert bootstrap(spearman, x, y, resamples=50, seed=1) == one
    two = bootstrap(spearman, x, y, resamples=50, seed=2)
    assert two.value == one.value
    assert (two.low, two.high) != (one.low, one.high)


def test_more_rows_give_a_narrower_interval():
    few, many = (bootstrap(spearman, *graded(n, 0), resamples=200) for n in (50, 5000))
    assert many.high - many.low < 0.3 * (few.high - few.low)


def test_resamples_without_a_figure_are_left_out():
    # A resample of the two rows that draws one of them twice has no correlation.
    found = bootstrap(pearson, [1, 2], [3, 5], resamples=40)
    assert [found.value, found.low, found.high] == pytest.approx([1, 1, 1])


def test_intervals_of_nothing():
    nothing = bootstrap(mse, [], [])
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
    constant = bootstrap(spearman, [1, 1, 1], [1, 2, 3], resamples=10)
    assert np.isnan([constant.value, constant.low, constant.high]).all()


def test_an_interval_as_text():
    assert str(Interval(0.88603, 0.8, 0.91239)) == "0.8860 [0.8000, 0.9124]"


def test_cosines_by_hand():
    x = np.array([[3, 4], [1, 0], [2, 0], [0, 0], [0, 0], [1, 1]], np.float32)
    y = np.array([[3, 4], [0, 5], [-7, 0], [1, 1], [0, 0], [1, 0]], np.float32)
    expected = [1, 0, -1, 0, 0, np.sqrt(0.5)]
    assert cosines(x, y) == pytest.approx(expected)
    assert cosines(x, y).dtype == np.float64
    assert cosines(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0,)


def test_cosines_of_small_half_precision_vectors():
    tiny = np.full((1, 8), 6e-8, np.float16)  # its square is not a float16 any more
    assert cosines(tiny, tiny) == pytest.approx([1])


@pytest.mark.parametrize(("k", "share"), [(1, 0.25), (2, 0.5), (3, 0.75), (9, 0.75)])
def test_recall_by_hand(k, share):
    relevant = [[1, 0, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]]
    assert recall_at_k(relevant, k) == share


def test_recall_without_queries_is_nan():
    assert np.isnan(recall_at_k(np.zeros((0, 5), bool), 1))
