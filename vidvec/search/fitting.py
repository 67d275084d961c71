"""From cosines and yes-or-no outcomes to probabilities: monotone fits, and how good they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidvec.metrics import Interval

FOLDS = 5
REPEATS = 4
BINS = 10
ROUNDS = 100

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]
Probability = Callable[[Doubles], Doubles]


@dataclass(frozen=True, slots=True)
class Logistic:
    """Probability 1 / (1 + exp(−(slope · cosine + intercept)))."""

    slope: float
    intercept: float

    def __call__(self, cosines: Doubles) -> Doubles:
        """Probabilities, of the shape of ``cosines``."""
        return _sigmoid(self.slope * np.asarray(cosines, np.float64) + self.intercept)


@dataclass(frozen=True, slots=True)
class Isotonic:
    """Probability that rises from knot to knot on straight lines, and is flat outside of them.

    Attributes:
        cosines: (knots,) ascending.
        probabilities: (knots,) not descending.
    """

    cosines: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __call__(self, cosines: Doubles) -> Doubles:
        """Probabilities, of the shape of ``cosines``."""
        return np.interp(np.asarray(cosines, np.float64), self.cosines, self.probabilities)


def _sigmoid(values: Doubles) -> Doubles:
    from scipy.special import expit

    return np.asarray(expit(values), np.float64)


def fit_logistic(cosines: Doubles, similar: Bools) -> Logistic:
    """Platt's fit ("Probabilistic outputs for support vector machines", 1999).

    Maximum likelihood of targets that are drawn in a little, (n₊+1)/(n₊+2) and 1/(n₋+2), so that it
    is finite where a cosine parts the two without mistake. Where a higher cosine would mean less
    probable, the slope is 0: cosines then say nothing.

    Args:
        cosines: (P,).
        similar: (P,) the outcomes; both occur.
    """
    x = np.asarray(cosines, np.float64)
    middle, spread = float(x.mean()), float(x.std()) or 1.0
    positives = int(similar.sum())
    targets = np.where(
        similar, (positives + 1) / (positives + 2), 1 / (len(similar) - positives + 2)
    )
    design = np.stack([(x - middle) / spread, np.ones_like(x)], axis=1)
    base = float(targets.mean())
    weights = np.array([0.0, np.log(base / (1 - base))])
    loss = _soft_loss(design @ weights, targets)
    for _ in range(ROUNDS):  # Newton's method, halved where a step would go too far
        chances = _sigmoid(design @ weights)
        gradient = design.T @ (chances - targets)
        hessian = (design * (chances * (1 - chances))[:, None]).T @ design + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        while (better := _soft_loss(design @ (weights - step), targets)) > loss + 1e-12:
            step /= 2
        weights, improved, loss = weights - step, loss - better, better
        if improved < 1e-12:
            break
    slope = float(weights[0]) / spread
    if slope <= 0:
        return Logistic(0.0, float(np.log(base / (1 - base))))
    return Logistic(slope, float(weights[1]) - slope * middle)


def _soft_loss(logits: Doubles, targets: Doubles) -> float:
    return float((np.logaddexp(0, logits) - targets * logits).mean())


def fit_isotonic(cosines: Doubles, similar: Bools) -> Isotonic:
    """Isotonic least squares (pool adjacent violators), after Zadrozny and Elkan (2002).

    Probabilities are kept within 1/(P+2) and (P+1)/(P+2): P pairs can never show that something is
    certain.

    Args:
        cosines: (P,).
        similar: (P,) the outcomes.
    """
    from scipy.optimize import isotonic_regression

    x, where, counts = np.unique(
        np.asarray(cosines, np.float64), return_inverse=True, return_counts=True
    )
    means = np.bincount(where, weights=similar.astype(np.float64)) / counts
    fitted = isotonic_regression(means, weights=counts.astype(np.float64)).x
    least = 1 / (len(similar) + 2)
    fitted = np.clip(fitted, least, 1 - least)
    # Inside a level the straight line between its ends is the level itself.
    inner = np.zeros(len(x), np.bool_)
    inner[1:-1] = (fitted[1:-1] == fitted[:-2]) & (fitted[1:-1] == fitted[2:])
    return Isotonic(tuple(x[~inner].tolist()), tuple(fitted[~inner].tolist()))


FITS: dict[str, Callable[[Doubles, Bools], Logistic | Isotonic]] = {
    "logistic": fit_logistic,
    "isotonic": fit_isotonic,
}


@dataclass(frozen=True, slots=True)
class Bin:
    """Pairs of similar probability: what was foretold of them, and what came.

    Attributes:
        pairs: How many.
        foretold: Mean probability.
        similar: Share that is similar.
    """

    pairs: int
    foretold: float
    similar: float


@dataclass(frozen=True, slots=True)
class Quality:
    """How good probabilities are, of pairs that were not fitted on.

    Attributes:
        log_loss: Mean −log of the probability of what came, in nats.
        brier: Mean squared difference of probability and outcome.
        calibration_error: Expected calibration error over ``bins``: the mean difference between
            foretold and come, by pairs.
        base_log_loss, base_brier: Of saying the share of similar pairs to every pair.
        bins: Ten of as many pairs each, by rising probability.
    """

    log_loss: float
    brier: float
    calibration_error: float
    base_log_loss: float
    base_brier: float
    bins: tuple[Bin, ...]


def held_out(method: str, cosines: Doubles, similar: Bools, seed: int = 0) -> Quality:
    """Cross-validates a fit: four times in five folds, with as many similar pairs in each.

    Args:
        method: Name of ``FITS``.
        cosines: (P,).
        similar: (P,) the outcomes; at least five of each.
        seed: Of the folds.
    """
    chances, outcomes, bases = [], [], []
    for folds in _folds(similar, seed):
        for fold in range(FOLDS):
            fitted, measured = folds != fold, folds == fold
            chances.append(FITS[method](cosines[fitted], similar[fitted])(cosines[measured]))
            outcomes.append(similar[measured])
            bases.append(np.full(int(measured.sum()), similar[fitted].mean()))
    return quality(np.concatenate(chances), np.concatenate(outcomes), np.concatenate(bases))


def _folds(similar: Bools, seed: int) -> list[NDArray[np.int64]]:
    """Folds (P,) of each repeat, stratified by outcome."""
    generator = np.random.default_rng(seed)
    repeats = []
    for _ in range(REPEATS):
        order = np.lexsort((generator.random(len(similar)), similar))
        folds = np.empty(len(similar), np.int64)
        folds[order] = np.arange(len(similar)) % FOLDS
        repeats.append(folds)
    return repeats


def quality(chances: Doubles, similar: Bools, base: Doubles) -> Quality:
    """Figures of probabilities against outcomes.

    Args:
        chances: (n,) probabilities, above 0 and below 1.
        similar: (n,) outcomes.
        base: (n,) what knows nothing of the cosine would have said.
    """
    bins = []
    for some in np.array_split(np.argsort(chances, kind="stable"), BINS):
        if len(some):
            bins.append(Bin(len(some), float(chances[some].mean()), float(similar[some].mean())))
    error = sum(each.pairs * abs(each.foretold - each.similar) for each in bins) / len(chances)
    return Quality(
        log_loss=_log_loss(chances, similar),
        brier=float(np.square(chances - similar).mean()),
        calibration_error=float(error),
        base_log_loss=_log_loss(base, similar),
        base_brier=float(np.square(base - similar).mean()),
        bins=tuple(bins),
    )


def _log_loss(chances: Doubles, similar: Bools) -> float:
    return float(-np.log(np.where(similar, chances, 1 - chances)).mean())


def wilson(successes: int, count: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share (1927): two-sided, not simultaneous.

    Args:
        successes: Of ``count``.
        count: Trials; none: anything from 0 to 1.
        confidence: That the interval has the share in it.
    """
    from scipy.special import ndtri

    if count == 0:
        return Interval(float("nan"), 0.0, 1.0)
    z = float(ndtri(0.5 + confidence / 2))
    share = successes / count
    middle = share + z**2 / (2 * count)
    half = z * float(np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)))
    below = 1 + z**2 / count
    return Interval(share, max(0.0, (middle - half) / below), min(1.0, (middle + half) / below))
