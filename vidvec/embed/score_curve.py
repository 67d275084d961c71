"""Which score to expect of a cosine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidvec.errors import UsageError

PARTS = 5
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScoreCurve:
    """Mean score by cosine, which never falls: isotonic regression, straight between its knots.

    Barlow, Bartholomew, Bremner and Brunk (1972), "Statistical inference under order restrictions".

    Attributes:
        cosines: (knots,) ascending.
        scores: (knots,) not descending.
    """

    cosines: Doubles
    scores: Doubles

    @classmethod
    def fit(cls, cosines: ArrayLike, scores: ArrayLike) -> ScoreCurve:
        """The curve with the least squared error.

        Args:
            cosines: (P,).
            scores: (P,).

        Raises:
            UsageError: There is no pair.
        """
        from scipy.optimize import isotonic_regression

        x, y = np.asarray(cosines, np.float64), np.asarray(scores, np.float64)
        if not len(x):
            raise UsageError("no scored pairs with vectors, to learn what cosines mean")
        # Equal cosines are one observation, as they have one expected score.
        knots, place = np.unique(x, return_inverse=True)
        counts = np.bincount(place)
        means = np.bincount(place, y) / counts
        return cls(knots, np.asarray(isotonic_regression(means, weights=counts).x))

    def __call__(self, cosines: ArrayLike) -> Doubles:
        """Expected scores, of the shape of ``cosines``; flat outside of the knots."""
        return np.interp(np.asarray(cosines, np.float64), self.cosines, self.scores)


def cross_fitted(cosines: Doubles, scores: Doubles, seed: int = 0) -> Doubles:
    """(P,) expected scores, each by a curve that was fitted without that pair.

    Args:
        cosines: (P,).
        scores: (P,).
        seed: Of the five parts, each foretold by the four others.
    """
    part = np.random.default_rng(seed).permutation(len(cosines)) % PARTS
    expected = np.full(len(cosines), scores.mean() if len(scores) else np.nan)
    for one in range(PARTS):
        mine = part == one
        if mine.any() and not mine.all():
            expected[mine] = ScoreCurve.fit(cosines[~mine], scores[~mine])(cosines[mine])
    return expected
