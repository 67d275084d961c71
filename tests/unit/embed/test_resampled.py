"""Resamples all at once, against the bootstrap that takes them one by one."""

from __future__ import annotations

import numpy as np
import pytest

from vidvec import metrics
from vidvec.embed import resampled as module
from vidvec.embed.resampled import Resampled


@pytest.mark.parametrize("count", [2, 3, 40])
@pytest.mark.parametrize("block", [1, 100, 10_000])
def test_it_is_the_bootstrap(monkeypatch, count, block):
    monkeypatch.setattr(module, "BLOCK", block)
    random = np.random.default_rng(count)
    scores = random.integers(0, 4, count).astype(float)
    one, other = scores + random.normal(size=count), random.normal(size=count)
    fast = Resampled(scores, seed=3, resamples=60)
    expected = metrics.bootstrap(metrics.spearman, one, scores, seed=3, resamples=60)
    assert same(fast.spearman(one), expected)
    difference = metrics.bootstrap_difference(
        metrics.spearman, one, other, scores, seed=3, resamples=60
    )
    assert same(fast.interval(fast.draw(one) - fast.draw(other)), difference)


def same(one: metrics.Interval, other: metrics.Interval) -> bool:
    ours, theirs = ((each.value, each.low, each.high) for each in (one, other))
    return ours == pytest.approx(theirs, abs=1e-12, nan_ok=True)


def test_where_there_is_nothing_to_measure():
    flat = Resampled(np.arange(5.0)).spearman(np.full(5, 0.1))
    assert np.isnan([flat.value, flat.low, flat.high]).all()
    for count in (0, 1):
        none = Resampled(np.zeros(count)).spearman(np.zeros(count))
        assert np.isnan([none.value, none.low, none.high]).all()
