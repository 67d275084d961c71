"""How far people agree on pairs that were scored more than once, and what that leaves to a model.

Letters: R ratings, U pairs that were rated at least twice, S resamples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from vidvec.metrics import Interval
from vidvec.records import Pair

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]

RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Rating:
    """A score that somebody gave a pair.

    Attributes:
        pair: The two videos, in any order, and the score.
        rater: Who; the file where that is not known.
    """

    pair: Pair
    rater: str = ""

    @property
    def videos(self) -> tuple[str, str]:
        """The two videos, the lower id first."""
        one, other = self.pair.id_1, self.pair.id_2
        return (one, other) if one <= other else (other, one)


@dataclass(frozen=True, slots=True)
class Rater:
    """How one rater's scores stand to the others' of the same pairs.

    Attributes:
        name: Of the rater.
        ratings: All that they gave.
        shared: Of pairs that others rated, too.
        bias: Mean of their score less the mean of the others'.
        difference: Mean of the absolute difference.
    """

    name: str
    ratings: int
    shared: int
    bias: float
    difference: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """What ratings of the same pairs say about all.

    Attributes:
        ratings: All of them.
        pairs: Different pairs.
        repeated: Pairs rated at least twice.
        alpha: Krippendorff's alpha for interval data: 1 where all agree, 0 where they agree no more
            than by chance; with a 95 % bootstrap interval over the pairs, as all others.
        rank_alpha: The same of the scores' average ranks: the reliability of one rating where
            ranks are what counts.
        difference: Mean absolute difference of two ratings of a pair.
        ratings_a_pair: How many ratings the mean score of a pair is of, on average.
        ceiling: Spearman's correlation that cosines which rank as the true scores do would have
            with one rating: the square root of ``rank_alpha`` (Spearman 1904, "The proof and
            measurement of association between two things": noise in the scores multiplies a
            correlation by the root of their reliability).
        mean_ceiling: The same with the mean of ``ratings_a_pair`` ratings, whose reliability is
            k·r / (1 + (k − 1)·r) (Spearman 1910, Brown 1910).
        raters: By falling difference from the others; without those who share no pair.
    """

    ratings: int
    pairs: int
    repeated: int
    alpha: Interval
    rank_alpha: Interval
    difference: Interval
    ratings_a_pair: float
    ceiling: Interval
    mean_ceiling: Interval
    raters: tuple[Rater, ...]


def agreement(ratings: Sequence[Rating], *, seed: int = 0) -> Agreement | None:
    """How far ratings of the same pairs agree; ``None`` where no pair was rated twice.

    Args:
        ratings: Of any pairs.
        seed: Of the bootstrap.
    """
    numbers: dict[tuple[str, str], int] = {}
    places = [numbers.setdefault(rating.videos, len(numbers)) for rating in ratings]
    units, values = np.array(places, np.int64), np.array([r.pair.score for r in ratings])
    counts = np.bincount(units) if len(units) else np.zeros(0, np.int64)
    repeated = int((counts > 1).sum())
    if not repeated:
        return None
    weights = np.random.default_rng(seed).multinomial(
        repeated, np.full(repeated, 1 / repeated), RESAMPLES
    )
    sampled = np.concatenate([np.ones((1, repeated)), weights])
    ranks = rankdata(values)
    rank_alphas = _alphas(units, ranks, sampled)
    mean_count = len(ratings) / len(numbers)
    means = mean_count * rank_alphas / (1 + (mean_count - 1) * rank_alphas)
    return Agreement(
        ratings=len(ratings),
        pairs=len(numbers),
        repeated=repeated,
        alpha=_interval(_alphas(units, values, sampled)),
        rank_alpha=_interval(rank_alphas),
        difference=_interval(_differences(units, values, sampled)),
        ratings_a_pair=mean_count,
        ceiling=_interval(np.sqrt(np.maximum(0, rank_alphas))),
        mean_ceiling=_interval(np.sqrt(np.maximum(0, means))),
        raters=_raters(ratings, units, values),
    )


def krippendorff_alpha(units: ArrayLike, values: ArrayLike) -> float:
    """Krippendorff's alpha for interval data ("Computing Krippendorff's alpha-reliability", 2011).

    1 less observed over expected disagreement, both mean squared differences: of two values of one
    unit, and of any two.

    Args:
        units: (R,) whole numbers from 0: what each value is of.
        values: (R,).

    Returns:
        Alpha; NaN where no unit has two values or all values are equal.
    """
    some, numbers = np.asarray(units, np.int64), np.asarray(values, np.float64)
    counts = np.bincount(some) if len(some) else np.zeros(0, np.int64)
    return float(_alphas(some, numbers, np.ones((1, int((counts > 1).sum()))))[0])


def _alphas(units: Ints, values: Doubles, weights: Doubles) -> Doubles:
    """(S,) alphas, in each of which the repeated units count (S, U) times."""
    counts = np.bincount(units)
    many = counts > 1
    k = counts[many].astype(np.float64)
    centred = values - values.mean()  # squares of small numbers lose nothing
    sums = np.bincount(units, centred, len(counts))[many]
    squares = np.bincount(units, centred**2, len(counts))[many]
    # Of ordered pairs of values of a unit, Σ (x − y)² = 2·k·Σx² − 2·(Σx)².
    within = weights @ (2 * (k * squares - sums**2) / (k - 1))
    n, total, square = weights @ k, weights @ sums, weights @ squares
    between = 2 * (n * square - total**2)
    good = between > 1e-12 * np.maximum(1e-300, n * square)
    observed = np.divide(within, n, out=np.full(len(n), np.nan), where=n > 0)
    expected = np.divide(between, n * (n - 1), out=np.full(len(n), np.nan), where=good & (n > 1))
    return 1 - observed / expected


def _differences(units: Ints, values: Doubles, weights: Doubles) -> Doubles:
    """(S,) mean absolute differences of two ratings of a pair, all pairs alike."""
    order = np.lexsort((values, units))
    counts = np.bincount(units)
    starts = np.cumsum(counts) - counts
    place = np.arange(len(units)) - np.repeat(starts, counts)
    k = np.repeat(counts, counts)
    # Σ over i < j of |x_i − x_j| is Σ (2·place − k + 1)·x in ascending order.
    parts = np.bincount(units[order], (2 * place - k + 1) * values[order], len(counts))
    many = counts > 1
    means = parts[many] / (counts[many] * (counts[many] - 1) / 2)
    return (weights @ means) / weights.sum(axis=1)


def _interval(values: Doubles) -> Interval:
    """The first value, with the middle 95 % of the others."""
    others = values[1:][np.isfinite(values[1:])]
    if not len(others):
        return Interval(float(values[0]), float("nan"), float("nan"))
    low, high = np.quantile(others, [0.025, 0.975])
    return Interval(float(values[0]), float(low), float(high))


def _raters(ratings: Sequence[Rating], units: Ints, values: Doubles) -> tuple[Rater, ...]:
    """Each rater against the others; one who rated a pair twice counts as two there."""
    counts, sums = np.bincount(units), np.bincount(units, values)
    others = counts[units] - 1
    rest = np.divide(sums[units] - values, others, out=np.zeros(len(values)), where=others > 0)
    gaps = values - rest
    names = np.array([rating.rater for rating in ratings])
    total = Counter(names.tolist())
    found = []
    for name in sorted(total):
        mine = gaps[(names == name) & (others > 0)]
        if len(mine):
            mean, spread = float(mine.mean()), float(np.abs(mine).mean())
            found.append(Rater(name, total[name], len(mine), mean, spread))
    return tuple(sorted(found, key=lambda rater: (-rater.difference, rater.name)))
