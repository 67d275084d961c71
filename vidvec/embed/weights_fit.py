"""Weights of a fusion's members, fitted on scored pairs.

Cosines of the weighted concatenation are the weighted mean of the members' cosines (see
``vidvec.embed.fusion``). Weights that are not negative and make this mean correlate most with the
scores' ranks are those of a least-squares fit under that bound, up to their sum: it projects the
ranks onto the cone of all such means (Lawson and Hanson 1974; stacking as Breiman 1996 does it).
They are then moved back towards equal weights, as far as pairs left out do not clearly speak
against it (the rule of one standard error, Breiman et al. 1984): few pairs tell little, and equal
weights are hard to beat.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from vidvec.data.corpus import Corpus
from vidvec.data.splits import Split, folds, rank_normalise, training_pairs
from vidvec.embed.evaluate import VectorTable, chosen_pairs, pair_cosines, split_of
from vidvec.embed.resampled import Resampled
from vidvec.errors import UsageError
from vidvec.metrics import Interval
from vidvec.records import Pair

FOLDS = 5
# Of the way from equal to fitted weights.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
# Of the bootstrap that tells how far shares are apart by chance.
SHARE_RESAMPLES = 60
# Below, a correlation of ranks is a matter of chance.
FEWEST_PAIRS = 20
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FittedWeights:
    """Weights, and how they do on pairs that they were not fitted on.

    Attributes:
        weights: One a member, not negative, summing to 1.
        fitted: Whether they were fitted; otherwise they are equal, and ``reason`` says why.
        reason: Why equal weights are kept.
        share: Of the way from equal to the best fit of all pairs; 0 where equal ones are kept.
        split, pairs: What was fitted on.
        missing: Pairs of the split with a video that not all members have; left out.
        held_out: Of the pairs, those that the figures below are of. Each was left out with every
            pair that has one of its videos when the weights that it is measured with were fitted.
        spearman, equal: Of weights so fitted and of equal weights, with 95 % intervals; ``None``
            where there are too few pairs to leave some out.
        difference: Of the two, over the same resampled pairs.
    """

    weights: tuple[float, ...]
    fitted: bool
    reason: str
    share: float
    split: str
    pairs: int
    missing: int
    held_out: int
    spearman: Interval | None
    equal: Interval | None
    difference: Interval | None

    def facts(self) -> dict[str, Any]:
        """What a manifest says of it."""
        facts: dict[str, Any] = {"split": self.split, "pairs": self.pairs, "fitted": self.fitted}
        if self.reason:
            facts["reason"] = self.reason
        if self.spearman is not None and self.equal is not None:
            facts |= {"share": self.share, "held_out": self.held_out}
            for name, figure in (("spearman", self.spearman), ("equal_spearman", self.equal)):
                # NaN would be another figure each time that the manifest is read.
                facts[name] = figure.value if math.isfinite(figure.value) else None
        return facts


@dataclass(frozen=True, slots=True)
class FittedHere:
    """That a fusion's weights were fitted on pairs that it is measured on.

    Attributes:
        split: Whose validation pairs the weights were fitted on.
        shared: Of the pairs measured on, those among them.
        spearman: On pairs left out in turn when the weights were fitted; ``None`` where there were
            none.
    """

    split: str
    shared: int
    spearman: float | None


def fitted_here(made_by: Mapping[str, Any], corpus: Corpus, split: str) -> FittedHere | None:
    """Whether vectors are of a fusion whose weights were fitted on the pairs of a split.

    Args:
        made_by: Of the vectors' manifest; of compressed vectors what was compressed counts.
        corpus: With the pairs, which is taken to be the one that was fitted on.
        split: Whose validation pairs are measured on.

    Returns:
        ``None`` where nothing was fitted, or on other pairs.
    """
    facts = made_by.get("weights_from")
    if facts is None or not facts["fitted"]:
        source = made_by.get("made_of")
        return fitted_here(source, corpus, split) if isinstance(source, Mapping) else None
    pairs = corpus.pairs()
    fitted, measured = (
        chosen_pairs(pairs, split_of(corpus, name))[0] for name in (facts["split"], split)
    )
    shared = len(np.intersect1d(fitted, measured))
    return FittedHere(facts["split"], shared, facts.get("spearman")) if shared else None


def best_weights(cosines: Floats, scores: Floats) -> Floats:
    """Weights whose mean of cosines correlates most with the ranks of the scores.

    Args:
        cosines: (pairs, members).
        scores: (pairs,).

    Returns:
        (members,) not negative, summing to 1; equal ones where no mean correlates positively.
    """
    members = cosines.shape[1]
    if not len(cosines):
        return np.full(members, 1 / members)
    centred, ranks = cosines - cosines.mean(0), rank_normalise(scores)
    found, _ = nnls(centred, ranks - ranks.mean())
    # A member whose cosines are all equal has a column of rounding errors.
    found[np.ptp(cosines, axis=0) < 1e-12] = 0
    total = float(found.sum())
    return found / total if total > 0 else np.full(members, 1 / members)


def fit_weights(
    members: Sequence[VectorTable],
    pairs: Sequence[Pair],
    split: str | Split = "clean",
    *,
    seed: int = 0,
    names: Sequence[str | Path] = (),
    resamples: int = 1000,
) -> FittedWeights:
    """Fits weights on the validation pairs of a split, and measures them on pairs left out.

    Equal weights are kept where fitted ones do not do better on the pairs left out.

    Args:
        members: Each model's vectors.
        pairs: All scored pairs.
        split: Whose validation pairs are taken; see ``chosen_pairs``. Pairs that the members were
            trained on favour those that learned them by heart.
        seed: Of the folds and the bootstrap.
        names: Of the members, for messages.
        resamples: Of the bootstrap.

    Raises:
        UsageError: No pair has vectors of all members; names those without any.
    """
    chosen = [pairs[int(at)] for at in chosen_pairs(pairs, split)[0]]
    name = split.name if isinstance(split, Split) else split
    kept = scored_by_all(members, chosen, name, names)
    scores = np.array([pair.score for pair in kept])
    cosines = np.stack([pair_cosines(member, kept) for member in members], axis=1)
    facts: dict[str, Any] = {"split": name, "pairs": len(kept)}
    facts["missing"] = len(chosen) - len(kept)
    equal = tuple([1 / len(members)] * len(members))
    reason = _nothing_to_fit(cosines, scores)
    held = [] if reason else _folds(kept, seed)
    if not held:
        reason = reason or f"{len(kept)} pairs are too few to leave some out"
        return FittedWeights(equal, False, reason, 0.0, **facts, **_NOT_MEASURED)
    measured, means = _left_out(kept, cosines, scores, held)
    left, plain, truth = means[measured], cosines[measured].mean(1), scores[measured]
    resampled = Resampled(truth, seed, resamples)
    mine, theirs = resampled.draw(left), resampled.draw(plain)
    difference = resampled.interval(mine - theirs)
    share, weights = _shrunk(kept, cosines, scores, held, _joined([]))
    better = difference.value > 0 and share > 0
    return FittedWeights(
        tuple(weights.tolist()) if better else equal,
        better,
        "" if better else (_NO_BETTER if share else _NOT_ASKED_FOR),
        share if better else 0.0,
        **facts,
        held_out=len(measured),
        spearman=resampled.interval(mine),
        equal=resampled.interval(theirs),
        difference=difference,
    )


_NO_BETTER = "fitted ones do no better on pairs left out"
_NOT_ASKED_FOR = "pairs left out do not clearly ask for others"
_NOT_MEASURED: dict[str, Any] = {
    "held_out": 0,
    "spearman": None,
    "equal": None,
    "difference": None,
}


def scored_by_all(
    members: Sequence[VectorTable],
    pairs: Sequence[Pair],
    split: str,
    names: Sequence[str | Path] = (),
) -> list[Pair]:
    """The pairs whose two videos all members have.

    Raises:
        UsageError: There is none.
    """
    there = [[p.id_1 in member and p.id_2 in member for member in members] for p in pairs]
    kept = [pair for pair, having in zip(pairs, there, strict=True) if all(having)]
    if kept:
        return kept
    counts = [sum(column) for column in zip(*there, strict=True)] or [0] * len(members)
    named = [str(name) for name in names] or [f"member {at + 1}" for at in range(len(members))]
    said = ", ".join(f"{name} of {count}" for name, count in zip(named, counts, strict=True))
    raise UsageError(
        f"no pair to measure on: {len(pairs)} pairs in the {split} validation split, none of them "
        f"with vectors of all members; there are vectors of {said}"
    )


def _nothing_to_fit(cosines: Floats, scores: Floats) -> str:
    """Why weights cannot be fitted; empty: they can."""
    if cosines.shape[1] == 1:
        return "there is one member"
    if len(scores) < FEWEST_PAIRS:
        return f"{len(scores)} pairs are too few (fewer than {FEWEST_PAIRS})"
    if np.ptp(scores) == 0:
        return "all scores are the same"
    if (np.ptp(cosines, axis=0) < 1e-12).all():
        return "every member gives all pairs the same cosine"
    return ""


def _folds(pairs: Sequence[Pair], seed: int) -> list[Rows]:
    """Pairs to leave out, fold by fold; none where they would be too few, or leave too few.

    Folds share no video, and pairs that lie across are in none. As many folds as leave most pairs
    in one of them, else as leave the most.
    """
    best: list[Rows] = []
    for count in range(FOLDS, 2, -1):
        found = [rows for rows in folds(pairs, count, seed) if len(rows)]
        if len(found) < count or len(_joined(found)) < max(FEWEST_PAIRS, len(_joined(best)) + 1):
            continue
        left = [len(training_pairs(pairs, _joined(two))) for two in combinations(found, 2)]
        if min(left) >= FEWEST_PAIRS // 2:
            best = found
        if len(_joined(best)) * 2 >= len(pairs):
            break
    return best


def _joined(parts: Sequence[Rows]) -> Rows:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _left_out(
    pairs: Sequence[Pair], cosines: Floats, scores: Floats, held: Sequence[Rows]
) -> tuple[Rows, Floats]:
    """Positions of the pairs left out in turn, and every pair's mean of cosines (pairs,)."""
    means = cosines.mean(1)
    for place, rows in enumerate(held):
        others = [*held[:place], *held[place + 1 :]]
        _, weights = _shrunk(pairs, cosines, scores, others, rows)
        means[rows] = cosines[rows] @ weights
    return np.sort(_joined(held)), means


def _shrunk(
    pairs: Sequence[Pair],
    cosines: Floats,
    scores: Floats,
    held: Sequence[Rows],
    without: Rows,
) -> tuple[float, Floats]:
    """The share that the folds in turn ask for, and the weights so far from equal ones.

    Args:
        pairs, cosines, scores: All of them.
        held: The folds.
        without: Pairs that are left out throughout, with all that share a video with them.
    """
    equal = np.full(cosines.shape[1], 1 / cosines.shape[1])
    means = np.tile(cosines.mean(1), (len(SHARES), 1))
    for rows in held:
        inside = training_pairs(pairs, _joined([without, rows]))
        best = best_weights(cosines[inside], scores[inside])
        for at, share in enumerate(SHARES):
            means[at, rows] = cosines[rows] @ (equal + share * (best - equal))
    measured = _joined(held)
    share = _smallest_good_share(means[:, measured], scores[measured])
    inside = training_pairs(pairs, without)
    return share, equal + share * (best_weights(cosines[inside], scores[inside]) - equal)


def _smallest_good_share(means: Floats, scores: Floats) -> float:
    """The smallest share that is within a standard error of the best one.

    Args:
        means: (shares, pairs) means of cosines that each of ``SHARES`` gives.
        scores: (pairs,).
    """
    resampled = Resampled(scores, resamples=SHARE_RESAMPLES)
    drawn = [resampled.draw(each) for each in means]
    values = [each[0] if np.isfinite(each[0]) else -np.inf for each in drawn]
    best = drawn[int(np.argmax(values))]
    for share, each in zip(SHARES, drawn, strict=True):
        behind = best - each
        spread = behind[1:][np.isfinite(behind[1:])]
        if behind[0] <= (spread.std() if len(spread) else 0.0):
            return share
    return 0.0  # no mean has a Spearman
