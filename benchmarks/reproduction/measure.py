"""Spearman's correlation of every arm and every difference, with intervals and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from vidvec.metrics import Interval

RESAMPLES = 1000
Floats = NDArray[np.float64]
Verdict = Literal["shown", "not shown", "opposite"]


@dataclass(frozen=True, slots=True)
class Contrast:
    """One side of a claim: ``better`` ranks pairs better than ``worse``.

    Attributes:
        claim: Number of the claim.
        what: In words.
        better, worse: Rows of the table.
        published: The published difference; ``None`` where there is no figure.
        margin: How much worse ``better`` may be, where the claim is that it costs little.
    """

    claim: int
    what: str
    better: str
    worse: str
    published: float | None = None
    margin: float = 0.0


@dataclass(frozen=True, slots=True)
class Difference:
    """What came of a contrast.

    Attributes:
        contrast: Which.
        interval: Mean over the seeds, with its 95 % interval.
        by_seed: One a seed.
    """

    contrast: Contrast
    interval: Interval
    by_seed: tuple[float, ...]

    @property
    def verdict(self) -> Verdict:
        """``shown``: all of the interval is above 0 (or −margin); ``opposite``: all is below."""
        if self.interval.low > -self.contrast.margin:
            return "shown"
        return "opposite" if self.interval.high < -self.contrast.margin else "not shown"


class Measured:
    """Rows of a table, each over the same seeds and the same pairs.

    A resample draws pairs and seeds anew, the same for every row, so that differences are paired; a
    row that stands for several models (all fusions of two) is the mean of theirs.

    Args:
        cosines: By model, (seeds, P).
        rows: By row, the models that it is the mean of.
        scores: (P,) of the pairs.
        resamples: How many.
        seed: Of the resamples.
    """

    def __init__(
        self,
        cosines: Mapping[str, Floats],
        rows: Mapping[str, Sequence[str]],
        scores: Floats,
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> None:
        names = list(cosines)
        self._place = {row: place for place, row in enumerate(rows)}
        mixing = np.zeros((len(rows), len(names)))
        for place, models in enumerate(rows.values()):
            mixing[place, [names.index(model) for model in models]] = 1 / len(models)
        stacked = np.stack([cosines[name] for name in names])  # (models, seeds, P)
        seeds, pairs = stacked.shape[1:]
        self._by_seed = mixing @ spearmans(stacked, scores)
        generator = np.random.default_rng(seed)
        drawn = []
        for _ in range(resamples):
            chosen = generator.integers(0, pairs, pairs)
            some = spearmans(stacked[..., chosen], scores[chosen])
            drawn.append(mixing @ some[:, generator.integers(0, seeds, seeds)].mean(axis=1))
        self._drawn = np.array(drawn)  # (resamples, rows)

    def row(self, name: str) -> Interval:
        """A row's correlation: mean over the seeds, and its interval."""
        place = self._place[name]
        return _interval(self._by_seed[place].mean(), self._drawn[:, place])

    def by_seed(self, name: str) -> tuple[float, ...]:
        """A row's correlation, one a seed."""
        return tuple(self._by_seed[self._place[name]].tolist())

    def difference(self, contrast: Contrast) -> Difference:
        """How much better one row is than another."""
        better, worse = self._place[contrast.better], self._place[contrast.worse]
        by_seed = self._by_seed[better] - self._by_seed[worse]
        drawn = self._drawn[:, better] - self._drawn[:, worse]
        return Difference(contrast, _interval(by_seed.mean(), drawn), tuple(by_seed.tolist()))


def _interval(value: float, drawn: Floats) -> Interval:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(value), float(low), float(high))


def spearmans(cosines: Floats, scores: Floats) -> Floats:
    """Spearman's correlation of (..., P) cosines with (P,) scores, (...)."""
    ranks, target = rankdata(cosines, axis=-1), rankdata(scores)
    ranks, target = ranks - ranks.mean(axis=-1, keepdims=True), target - target.mean()
    lengths = np.linalg.norm(ranks, axis=-1) * np.linalg.norm(target)
    return np.asarray(ranks @ target / lengths, np.float64)
