"""Bootstraps by weights: how often each pair is drawn, and correlations of pairs so weighted.

Which things are drawn decides what an interval speaks of. Pairs that share a video are no
independent observations; drawing pairs as if they were gives intervals that are too narrow. So
either whole components of the graph of pairs are drawn (Cameron & Miller, "A practitioner's guide
to cluster-robust inference", 2015), or, where one component has too much of it, videos, each pair
being weighted by the product of its two videos' draws (Owen & Eckles, "Bootstrapping data arrays of
arbitrary order", 2012). That counts what is a pair's own three times, so that the resamples are
drawn together until their variance is that of all products of pairs that share a video, each once
(Aronow, Samii & Assenova, "Cluster-robust variance estimation for dyadic data", 2015): the variance
over videos less twice that over pairs. docs/experiments.md has how often each of these intervals
holds the truth.

Resamples come as (R, P) weights. A correlation of R resamples is then a few sums, without a sort
for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidvec.metrics import Interval
from vidvec.records import Pair

Doubles = NDArray[np.float64]
Weighted = Callable[[Doubles, Doubles, Doubles], Doubles]

RESAMPLES = 1000
# Weights of so many resamples times pairs are held at once: 32 MB.
_BLOCK = 4_000_000
# So many components, had they all as many pairs, are enough for an interval.
FEWEST_COMPONENTS = 20


@dataclass(frozen=True, slots=True)
class Units:
    """What is drawn.

    Attributes:
        name: ``pairs``, ``components``, ``videos``, ``queries``.
        count: How many there are.
        of: (P, n) int64 the units that each row belongs to; its weight is the product of theirs.
    """

    name: str
    count: int
    of: NDArray[np.int64]

    def weights(self, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[Doubles]:
        """(r, P) float64 weights of some resamples at a time; the same for the same seed."""
        generator = np.random.default_rng(seed)
        step = max(1, _BLOCK // max(1, len(self.of), self.count))
        even = np.full(self.count, 1 / max(1, self.count))
        for start in range(0, resamples if self.count else 0, step):
            draws = generator.multinomial(self.count, even, min(step, resamples - start))
            yield draws[:, self.of].prod(axis=2).astype(np.float64)


def single(count: int, name: str = "pairs") -> Units:
    """Every row is drawn by itself."""
    return Units(name, count, np.arange(count)[:, None])


def components(pairs: Sequence[Pair]) -> Units:
    """Whole components of the graph whose edges are the pairs."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends, count = _ends(pairs)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    found, labels = connected_components(graph, directed=False)
    return Units("components", int(found), labels[ends[:, 0]].astype(np.int64)[:, None])


def videos(pairs: Sequence[Pair]) -> Units:
    """Videos: a pair's weight is the product of its two videos' draws."""
    ends, count = _ends(pairs)
    return Units("videos", count, ends)


def clusters(pairs: Sequence[Pair]) -> Units | None:
    """What is to be drawn where pairs share videos; ``None`` where no two of them do.

    Components, where they are at least ``FEWEST_COMPONENTS`` by their effective number, the
    inverse of the sum of squared shares of pairs; else videos.
    """
    found = components(pairs)
    sizes = np.bincount(found.of[:, 0], minlength=found.count)
    if not len(pairs) or sizes.max() == 1:
        return None
    shares = sizes / sizes.sum()
    effective = 1 / float(shares @ shares) + 1e-9  # of equal shares it is whole but for rounding
    return found if effective >= FEWEST_COMPONENTS else videos(pairs)


def _ends(pairs: Sequence[Pair]) -> tuple[NDArray[np.int64], int]:
    """(P, 2) numbers of the pairs' videos, and how many videos there are."""
    numbers: dict[str, int] = {}
    flat = [
        numbers.setdefault(video, len(numbers))
        for pair in pairs
        for video in (pair.id_1, pair.id_2)
    ]
    return np.array(flat, np.int64).reshape(-1, 2), len(numbers)


def weighted_pearson(x: Doubles, y: Doubles, weights: Doubles) -> Doubles:
    """(R,) Pearson's correlation under (R, P) weights; NaN where a side does not vary.

    Args:
        x, y: (P,), or (R, P) where they differ by resample.
        weights: (R, P), 0 or more.
    """
    total = weights.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        a = x - (weights * x).sum(axis=1, keepdims=True) / total
        b = y - (weights * y).sum(axis=1, keepdims=True) / total
        both = (weights * a * b).sum(axis=1)
        first, second = (weights * a * a).sum(axis=1), (weights * b * b).sum(axis=1)
        found = both / np.sqrt(first * second)
    # Of equal values rounding leaves a little spread; what is drawn of them says whether they are.
    same = _constant(x, weights) | _constant(y, weights)
    return np.asarray(np.where(same, np.nan, np.clip(found, -1, 1)), np.float64)


def _constant(values: Doubles, weights: Doubles) -> NDArray[np.bool_]:
    """(R,) whether all values with a weight are one."""
    drawn = weights > 0
    high = np.where(drawn, values, -np.inf).max(axis=1, initial=-np.inf)
    low = np.where(drawn, values, np.inf).min(axis=1, initial=np.inf)
    return np.asarray(high <= low, np.bool_)


def weighted_ranks(values: Doubles, weights: Doubles) -> Doubles:
    """(R, P) average ranks of (P,) values, each of which is there as often as its weight says."""
    order = np.argsort(values, kind="stable")
    rising = values[order]
    first = np.append(True, rising[1:] != rising[:-1])
    group = np.cumsum(first) - 1
    ends = np.flatnonzero(np.append(first[1:], True))
    upto = np.cumsum(weights[:, order], axis=1)[:, ends]
    before = np.concatenate([np.zeros((len(weights), 1)), upto[:, :-1]], axis=1)
    ranks = np.empty_like(weights)
    ranks[:, order] = ((before + upto + 1) / 2)[:, group]
    return ranks


def weighted_spearman(x: Doubles, y: Doubles, weights: Doubles) -> Doubles:
    """(R,) Spearman's correlation under (R, P) weights: Pearson's of the weighted ranks."""
    if not len(x):
        return np.full(len(weights), np.nan)
    return weighted_pearson(weighted_ranks(x, weights), weighted_ranks(y, weights), weights)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure, and what it is on resamples.

    Attributes:
        value: Of all rows.
        samples: (R,) on resamples of the units; NaN where it is not defined.
        alone: (R,) on resamples of single pairs, where the units are videos.
    """

    value: float
    samples: Doubles
    alone: Doubles | None = None

    def less(self, other: Drawn) -> Drawn:
        """The difference from another figure, on the same resamples."""
        alone = None
        if self.alone is not None and other.alone is not None:
            alone = self.alone - other.alone
        return Drawn(self.value - other.value, self.samples - other.samples, alone)

    def interval(self, confidence: float = 0.95) -> Interval:
        """The percentile interval of the resamples (Efron 1979); NaN where there are none."""
        kept = self.samples[np.isfinite(self.samples)]
        if not len(kept):
            return Interval(self.value, float("nan"), float("nan"))
        tail = (1 - confidence) / 2
        ends = np.quantile(kept, [tail, 1 - tail])
        low, high = self.value + _narrowing(kept, self.alone) * (ends - self.value)
        return Interval(self.value, float(low), float(high))


def _narrowing(samples: Doubles, alone: Doubles | None) -> float:
    """By how much resamples over videos are drawn together; see the top."""
    if alone is None:
        return 1.0
    whole, single = float(samples.var()), float(np.nanvar(alone))
    return min(1.0, (max(whole - 2 * single, single) / whole) ** 0.5) if whole > 0 else 1.0


def correlated(
    metric: Weighted,
    x: Doubles,
    y: Doubles,
    units: Units,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Drawn:
    """A weighted correlation of (P,) x and y, on resamples of units."""

    def sampled(units: Units) -> Doubles:
        parts = [metric(x, y, weights) for weights in units.weights(resamples, seed)]
        return np.concatenate([np.zeros(0), *parts])

    value = float(metric(x, y, np.ones((1, len(x))))[0])
    alone = sampled(single(len(x))) if units.name == "videos" else None
    return Drawn(value, sampled(units), alone)


def averaged(
    values: Doubles, *, resamples: int = RESAMPLES, seed: int = 0, name: str = "queries"
) -> Drawn:
    """The mean of (n,) values, on resamples of them; NaN of none."""
    if not len(values):
        return Drawn(float("nan"), np.zeros(0))
    units = single(len(values), name)
    parts = [weights @ values / len(values) for weights in units.weights(resamples, seed)]
    return Drawn(float(values.mean()), np.concatenate(parts))
