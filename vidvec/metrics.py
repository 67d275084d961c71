"""Agreement between cosines and scores, and retrieval measures. NumPy in, numbers out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

Metric = Callable[[NDArray[np.float64], NDArray[np.float64]], float]


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson's correlation; NaN where one side does not vary or there are under two values."""
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    # Not by the variance: the mean of equal numbers is rounded, which leaves a little of it.
    if len(a) < 2 or (a == a[0]).all() or (b == b[0]).all():
        return float("nan")
    a, b = _direction(a), _direction(b)
    return float(np.clip(a @ b, -1.0, 1.0))


def _direction(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differences from the mean, of length 1; scaled first, so that no square leaves the range."""
    values = values / np.abs(values).max()
    values = values - values.mean()
    values = values / np.abs(values).max()
    return values / np.linalg.norm(values)


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's correlation: Pearson's of the ranks, ties by average rank."""
    return pearson(rankdata(np.asarray(x)), rankdata(np.asarray(y)))


def mse(x: ArrayLike, y: ArrayLike) -> float:
    """Mean squared error."""
    return float(np.mean((np.asarray(x, np.float64) - np.asarray(y, np.float64)) ** 2))


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and the bounds of its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def bootstrap(
    metric: Metric,
    x: ArrayLike,
    y: ArrayLike,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """A metric of (x, y) with its percentile bootstrap interval (Efron 1979) over the rows.

    Resamples on which the metric is undefined are left out.
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return _bootstrap(lambda rows: metric(a[rows], b[rows]), len(a), resamples, confidence, seed)


def bootstrap_difference(
    metric: Metric,
    x: ArrayLike,
    other: ArrayLike,
    y: ArrayLike,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """A metric of (x, y) less that of (other, y), with its paired percentile bootstrap interval.

    Both sides of a difference are of the same resampled rows, so that what is hard in some rows
    for both cancels out. Resamples on which one of them is undefined are left out.
    """
    a, b, c = (np.asarray(values, np.float64) for values in (x, other, y))

    def difference(rows: NDArray[np.int64]) -> float:
        return metric(a[rows], c[rows]) - metric(b[rows], c[rows])

    return _bootstrap(difference, len(a), resamples, confidence, seed)


def _bootstrap(
    figure: Callable[[NDArray[np.int64]], float],
    count: int,
    resamples: int,
    confidence: float,
    seed: int,
) -> Interval:
    """A figure of all rows, with the interval of those of resampled rows."""
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(resamples if count else 0):
        values.append(figure(generator.integers(0, count, count)))
    kept = np.array([value for value in values if np.isfinite(value)])
    value = figure(np.arange(count)) if count else float("nan")
    if not len(kept):
        return Interval(value, float("nan"), float("nan"))
    tail = (1 - confidence) / 2
    low, high = np.quantile(kept, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def cosines(x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """(P,) cosine of each row of x with the same row of y, both (P, E); 0 where a row is zero."""
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    dots = np.einsum("pe,pe->p", a, b)
    return np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)


def recall_at_k(relevant: ArrayLike, k: int) -> float:
    """Share of queries with a relevant item among their first k.

    Args:
        relevant: (queries, ranks) bool, whether the item at each rank is relevant.
        k: How many ranks count.
    """
    hits = np.asarray(relevant, bool)[:, :k]
    return float(hits.any(axis=1).mean()) if len(hits) else float("nan")
