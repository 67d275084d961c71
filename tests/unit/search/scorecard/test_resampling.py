"""Weighted correlations against SciPy on repeated rows, and what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, rankdata, spearmanr

from vidvec import metrics
from vidvec.records import Pair
from vidvec.search.scorecard import resampling
from vidvec.search.scorecard.figures import Figure
from vidvec.search.scorecard.resampling import (
    averaged,
    clusters,
    components,
    correlated,
    single,
    videos,
    weighted_pearson,
    weighted_ranks,
    weighted_spearman,
)

ROWS = st.lists(
    st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 3)), min_size=2, max_size=30
)


@given(ROWS)
def test_weights_are_rows_that_are_there_more_than_once(rows):
    x, y, times = (np.array(column, float) for column in zip(*rows, strict=True))
    counts = times.astype(int)
    one, two = np.repeat(x, counts), np.repeat(y, counts)
    ranks = weighted_ranks(x, times[None])[0]
    assert np.repeat(ranks, counts).tolist() == rankdata(one).tolist()
    found = weighted_spearman(x, y, times[None])[0], weighted_pearson(x, y, times[None])[0]
    if len(set(one)) < 2 or len(set(two)) < 2:
        assert np.isnan(found).all()
    else:
        assert found[0] == pytest.approx(spearmanr(one, two).statistic, abs=1e-9)
        assert found[1] == pytest.approx(pearsonr(one, two).statistic, abs=1e-9)


def chain(*ends: str) -> list[Pair]:
    return [Pair(each[0], each[1], 0.5) for each in ends]


def test_pairs_that_share_a_video_are_one_component():
    found = components(chain("ab", "cd", "be", "fg", "dh"))
    assert found.count == 3
    a, b, c, d, e = found.of[:, 0]
    assert a == c
    assert b == e
    assert len({a, b, d}) == 3


def test_nothing_is_drawn_together_where_no_two_pairs_share_a_video():
    assert clusters(chain("ab", "cd", "ef")) is None
    assert clusters([]) is None


def test_many_components_are_drawn_and_else_videos():
    triples = [
        pair
        for n in range(20)
        for pair in (Pair(f"a{n}", f"b{n}", 0.1), Pair(f"b{n}", f"c{n}", 0.2))
    ]
    found = clusters(triples)
    assert found is not None
    assert (found.name, found.count) == ("components", 20)
    few = clusters(triples[:20])
    assert few is not None
    assert (few.name, few.count) == ("videos", 30)
    weights = np.concatenate(list(few.weights(50, seed=3)))
    # What a pair weighs is the product of how often its two videos were drawn.
    draws = np.random.default_rng(3).multinomial(30, np.full(30, 1 / 30), 50)
    assert np.array_equal(weights, draws[:, few.of[:, 0]] * draws[:, few.of[:, 1]])


def test_the_pairs_of_a_component_are_drawn_together():
    units = components(chain("ab", "bc", "de"))
    weights = np.concatenate(list(units.weights(40)))
    assert np.array_equal(weights[:, 0], weights[:, 1])
    assert (weights[:, 0] + weights[:, 2] == 2).all()  # two components, drawn twice


def test_resamples_do_not_depend_on_how_they_are_cut_into_blocks(monkeypatch):
    units = videos(chain("ab", "bc", "de"))
    whole = np.concatenate(list(units.weights(30, seed=1)))
    monkeypatch.setattr(resampling, "_BLOCK", 20)
    assert np.array_equal(np.concatenate(list(units.weights(30, seed=1))), whole)
    assert len(whole) == 30


def test_the_interval_over_pairs_is_that_of_a_plain_bootstrap():
    random = np.random.default_rng(5)
    x = random.normal(size=150)
    y = x + random.normal(size=150)
    figure = Figure.of(correlated(weighted_spearman, x, y, single(150), resamples=1000))
    plain = metrics.bootstrap(metrics.spearman, x, y, resamples=1000)
    assert figure.value == pytest.approx(plain.value)
    assert figure.low == pytest.approx(plain.low, abs=0.02)
    assert figure.high == pytest.approx(plain.high, abs=0.02)


def test_what_is_alike_within_clusters_is_known_less_well():
    # Each component's ten pairs are the same pair ten times over.
    random = np.random.default_rng(7)
    x = np.repeat(random.normal(size=40), 10)
    y = np.repeat(random.normal(size=40), 10) + 0.5 * x
    pairs = [Pair(f"hub{n // 10}", f"v{n}", 0.0) for n in range(400)]
    over = {}
    for units in (single(400), components(pairs)):
        figure = Figure.of(correlated(weighted_pearson, x, y, units))
        over[units.name] = figure.high - figure.low
    assert over["components"] > 2.5 * over["pairs"]  # √10 times


def test_a_paired_difference_is_narrower_than_the_two_intervals():
    random = np.random.default_rng(9)
    y = random.normal(size=200)
    one = y + random.normal(size=200)
    two = one + 0.1 * random.normal(size=200)
    drawn = [correlated(weighted_spearman, each, y, single(200)) for each in (one, two)]
    figure = Figure.of(*drawn)
    assert figure.difference is not None
    assert figure.other is not None
    assert figure.difference.value == pytest.approx(figure.value - figure.other.value)
    width = figure.difference.high - figure.difference.low
    assert width < 0.4 * (figure.high - figure.low)
    assert not Figure.of(drawn[0], drawn[0]).differs


def test_a_mean_over_queries():
    drawn = averaged(np.array([0.0, 1.0, 1.0, 0.0]), resamples=500)
    assert drawn.value == 0.5
    assert drawn.samples.mean() == pytest.approx(0.5, abs=0.05)
    assert set(np.round(drawn.samples * 4)) <= {0, 1, 2, 3, 4}
    assert np.isnan(averaged(np.zeros(0)).value)
    assert np.isnan(averaged(np.zeros(0)).interval().low)


def test_over_videos_the_interval_is_that_of_the_dyadic_variance():
    # Of a plain mean of pairs, Aronow et al.'s estimate can be written down: the sum, over pairs
    # that share a video, of the products of what they are off the mean.
    random = np.random.default_rng(11)
    ends = [tuple(random.choice(60, 2, replace=False)) for _ in range(150)]
    effects = random.normal(size=60)
    values = np.array([effects[a] + effects[b] for a, b in ends]) + random.normal(size=150)
    off = values - values.mean()
    shared = np.array([[bool(set(one) & set(two)) for two in ends] for one in ends])
    expected = np.sqrt(off @ shared @ off) / 150

    def mean(x, _, weights):
        return weights @ x / weights.sum(axis=1)

    pairs = [Pair(str(a), str(b), 0.0) for a, b in ends]
    found = correlated(mean, values, values, videos(pairs), resamples=4000).interval()
    assert (found.high - found.low) / 2 / 1.96 == pytest.approx(expected, rel=0.1)
    alone = correlated(mean, values, values, single(150), resamples=4000).interval()
    assert found.high - found.low > 1.3 * (alone.high - alone.low)
