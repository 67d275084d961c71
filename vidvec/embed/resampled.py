"""Spearman of many sets of cosines over the same resampled pairs, all resamples at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from vidvec.metrics import Interval

# Numbers that are ranked at once.
BLOCK = 2_000_000
Floats = NDArray[np.float64]


class Resampled:
    """Gives what ``metrics.bootstrap`` and ``metrics.bootstrap_difference`` give of Spearman.

    Args:
        scores: (P,).
        seed, resamples: Of the bootstrap.
    """

    def __init__(self, scores: Floats, seed: int = 0, resamples: int = 1000) -> None:
        self._scores = np.asarray(scores, np.float64)
        self._seed, self._resamples = seed, resamples

    def draw(self, cosines: Floats) -> Floats:
        """(1 + resamples,) Spearman of all pairs, and of each resample; NaN where not defined."""
        cosines, scores = np.asarray(cosines, np.float64), self._scores
        found = [_spearman(cosines[None], scores[None])]
        found += [_spearman(cosines[rows], scores[rows]) for rows in self._blocks()]
        return np.concatenate(found)

    def _blocks(self) -> Iterator[NDArray[np.int64]]:
        """(some, P) rows of resamples, the same each time."""
        count, generator = len(self._scores), np.random.default_rng(self._seed)
        some = max(1, BLOCK // max(1, count))
        for start in range(0, self._resamples if count else 0, some):
            draws = range(start, min(start + some, self._resamples))
            yield np.stack([generator.integers(0, count, count) for _ in draws])

    @staticmethod
    def interval(drawn: Floats, confidence: float = 0.95) -> Interval:
        """A figure and its percentile interval, from ``draw`` or from a difference of two."""
        value, kept = float(drawn[0]), drawn[1:][np.isfinite(drawn[1:])]
        if not len(kept):
            return Interval(value, float("nan"), float("nan"))
        tail = (1 - confidence) / 2
        low, high = np.quantile(kept, [tail, 1 - tail])
        return Interval(value, float(low), float(high))

    def spearman(self, cosines: Floats) -> Interval:
        """Of some cosines."""
        return self.interval(self.draw(cosines))


def _spearman(x: Floats, y: Floats) -> Floats:
    """(R,) of each row of (R, P)."""
    if x.shape[1] < 2:
        return np.full(len(x), np.nan)
    a, b = (rankdata(side, axis=1) for side in (x, y))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    # Ranks are halves of whole numbers, so that those that are all equal come to exactly 0.
    lengths = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    nan = np.full(len(x), np.nan)
    return np.divide((a * b).sum(axis=1), lengths, out=nan, where=lengths > 0).clip(-1, 1)
