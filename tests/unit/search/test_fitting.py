"""Monotone fits against scikit-learn, intervals against known figures, quality by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from vidvec.search.fitting import (
    FITS,
    Isotonic,
    fit_isotonic,
    fit_logistic,
    held_out,
    quality,
    wilson,
)


def made(count: int, seed: int = 0, slope: float = 12, digits: int = 9):
    random = np.random.default_rng(seed)
    cosines = np.round(random.uniform(-0.2, 1, count), digits)
    return cosines, random.random(count) < 1 / (1 + np.exp(-slope * (cosines - 0.6)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("digits", [9, 2], ids=["distinct", "ties"])
def test_isotonic_is_scikit_learns(seed, digits):
    cosines, similar = made(300, seed, digits=digits)
    known = IsotonicRegression(out_of_bounds="clip").fit(cosines, similar.astype(float))
    asked = np.linspace(-1, 1, 501)
    wanted = np.clip(known.predict(asked), 1 / 302, 301 / 302)
    # Knots are clipped, not what lies between them.
    fitted = fit_isotonic(cosines, similar)
    ends = (wanted > 0.02) & (wanted < 0.98)
    assert fitted(asked)[ends] == pytest.approx(wanted[ends], abs=0.004)
    assert fitted(cosines) == pytest.approx(
        np.clip(known.predict(cosines), 1 / 302, 301 / 302), abs=1e-12
    )
    assert len(fitted.cosines) < 120  # inner points of a level are not kept


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("slope", [3, 12, 500])
def test_logistic_is_scikit_learns_on_drawn_in_targets(seed, slope):
    cosines, similar = made(120, seed, slope)
    positives, negatives = similar.sum(), (~similar).sum()
    targets = np.where(similar, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    twice = np.concatenate([cosines, cosines])[:, None]
    outcomes = np.repeat([1, 0], len(cosines))
    weights = np.concatenate([targets, 1 - targets])
    known = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
    known.fit(twice, outcomes, sample_weight=weights)
    fitted = fit_logistic(cosines, similar)
    asked = np.linspace(-1, 1, 101)
    wanted = known.predict_proba(asked[:, None])[:, 1]
    assert fitted(asked) == pytest.approx(wanted, abs=2e-4)


def test_a_clean_cut_gives_finite_figures():
    cosines = np.linspace(0, 1, 20)
    fitted = fit_logistic(cosines, cosines > 0.5)
    assert 0 < fitted(np.array([0.0]))[0] < 0.05
    assert 0.95 < fitted(np.array([1.0]))[0] < 1
    assert np.isfinite([fitted.slope, fitted.intercept]).all()


def test_cosines_that_rank_the_wrong_way_say_nothing():
    cosines = np.linspace(0, 1, 20)
    for fit in FITS.values():
        chances = fit(cosines, cosines < 0.3)(np.array([0.0, 0.5, 1.0]))
        assert chances == pytest.approx([0.3, 0.3, 0.3], abs=0.02)


def test_equal_cosines_are_the_share():
    cosines, similar = np.full(10, 0.5), np.arange(10) < 4
    for fit in FITS.values():
        assert fit(cosines, similar)(np.array([0.5, 0.9]))[0] == pytest.approx(0.4, abs=0.03)


@given(st.integers(0, 10**6), st.integers(10, 60), st.sampled_from(sorted(FITS)))
def test_probabilities_never_fall_and_are_never_certain(seed, count, method):
    random = np.random.default_rng(seed)
    cosines = np.round(random.uniform(-1, 1, count), int(random.integers(1, 6)))
    similar = random.random(count) < 0.5
    similar[:2] = True, False
    chances = FITS[method](cosines, similar)(np.linspace(-1.5, 1.5, 200))
    assert (np.diff(chances) >= 0).all()
    assert (chances > 0).all()
    assert (chances < 1).all()


def test_isotonic_by_hand():
    """Outcomes 0 1 0 1 1: the middle two pool to a half. Seven in the denominators: 5 pairs + 2."""
    fitted = fit_isotonic(np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([0, 1, 0, 1, 1], bool))
    assert fitted.cosines == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert fitted.probabilities == pytest.approx((1 / 7, 0.5, 0.5, 6 / 7, 6 / 7))
    assert fitted(np.array([-1, 0.25, 0.35, 2])) == pytest.approx([1 / 7, 0.5, 19 / 28, 6 / 7])


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [
        (15, 148, 0.0624, 0.1605),  # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0000),
    ],
)
def test_wilson_gives_published_intervals(successes, count, low, high):
    found = wilson(successes, count)
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


def test_wilson_of_nothing_knows_nothing():
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0, 1)


def test_quality_by_hand():
    chances = np.array([0.25, 0.25, 0.75, 0.75])
    found = quality(chances, np.array([False, True, True, True]), np.full(4, 0.5))
    assert found.brier == pytest.approx((3 * 0.0625 + 0.5625) / 4)
    assert found.log_loss == pytest.approx(-(3 * np.log(0.75) + np.log(0.25)) / 4)
    assert (found.base_brier, found.base_log_loss) == pytest.approx((0.25, np.log(2)))
    assert found.calibration_error == pytest.approx(0.375)  # one pair a bin
    assert [each.pairs for each in found.bins] == [1, 1, 1, 1]


def test_quality_is_scikit_learns_and_bins_hold_all():
    cosines, similar = made(500)
    chances = fit_logistic(cosines, similar)(cosines)
    found = quality(chances, similar, np.full(500, similar.mean()))
    assert found.log_loss == pytest.approx(log_loss(similar, chances))
    assert found.brier == pytest.approx(brier_score_loss(similar, chances))
    assert sum(each.pairs for each in found.bins) == 500
    assert found.calibration_error < 0.08


def test_held_out_figures_are_of_pairs_that_were_not_fitted_on():
    """Where cosines say nothing, a fit on what it is measured with would look better than none."""
    random = np.random.default_rng(0)
    cosines, similar = random.random(400), random.random(400) < 0.5
    for method, fit in FITS.items():
        found = held_out(method, cosines, similar)
        own = quality(fit(cosines, similar)(cosines), similar, np.full(400, 0.5))
        assert own.log_loss < own.base_log_loss
        assert found.log_loss > found.base_log_loss
    assert isinstance(fit_isotonic(cosines, similar), Isotonic)


def test_few_pairs_take_the_logistic_curve_many_of_another_shape_the_isotonic():
    cosines, similar = made(30)
    assert (
        held_out("logistic", cosines, similar).log_loss
        < held_out("isotonic", cosines, similar).log_loss
    )
    random = np.random.default_rng(1)
    many = random.random(4000)
    stairs = np.select([many < 0.3, many < 0.7], [0.02, 0.5], 0.98)  # no logistic curve
    similar = random.random(4000) < stairs
    assert (
        held_out("isotonic", many, similar).log_loss < held_out("logistic", many, similar).log_loss
    )
