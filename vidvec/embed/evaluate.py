"""How well cosines of vectors rank pairs like people did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidvec import metrics
from vidvec.config import SplitName
from vidvec.data.splits import rank_normalise, split_pairs
from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError
from vidvec.metrics import Interval
from vidvec.records import Pair


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures on the validation pairs of a split.

    Attributes:
        split: ``clean``, ``published`` or ``all``.
        pairs: Pairs measured.
        missing: Pairs of the split with a video that has no vector; left out.
        shared: Of the pairs measured, those that share a video with training pairs.
        spearman, pearson, mse: With 95 % bootstrap intervals over the pairs. MSE is between cosine
            and rank-normalised score, as the published system measures it.
        clean_spearman: On the pairs measured that share no video with training; ``None`` where
            that is all of them, or none.
    """

    split: str
    pairs: int
    missing: int
    shared: int
    spearman: Interval
    pearson: Interval
    mse: Interval
    clean_spearman: Interval | None


def evaluate(
    vectors: Vectors, pairs: Sequence[Pair], split: SplitName | str = "clean", seed: int = 0
) -> Evaluation:
    """Compares cosines with scores on the validation pairs of a split.

    Args:
        vectors: Of the videos.
        pairs: All scored pairs; rank normalisation is over all of them, before the split.
        split: ``clean``, ``published``, or ``all`` for every pair (where nothing was trained).
        seed: Of the bootstrap.

    Raises:
        UsageError: No pair is left to measure on.
    """
    if split == "all":
        chosen, training = np.arange(len(pairs)), np.zeros(0, np.int64)
    elif split in ("clean", "published"):
        parts = split_pairs(pairs, "clean" if split == "clean" else "published")
        chosen, training = parts.validation, parts.train
    else:
        raise UsageError(f"split {split!r}: expected clean, published or all")
    there = np.array([pair.id_1 in vectors and pair.id_2 in vectors for pair in pairs], bool)
    kept = chosen[there[chosen]] if len(chosen) else chosen
    if not len(kept):
        raise UsageError(
            f"no pair to measure on: {len(pairs)} pairs, {len(chosen)} in the {split} validation "
            f"split, {len(kept)} of them with vectors"
        )
    trained = {video for i in training for video in (pairs[i].id_1, pairs[i].id_2)}
    shared = np.array([pairs[i].id_1 in trained or pairs[i].id_2 in trained for i in kept], bool)
    cosine = pair_cosines(vectors, [pairs[i] for i in kept])
    scores = np.array([pairs[i].score for i in kept])
    targets = rank_normalise([pair.score for pair in pairs])[kept]
    some_clean = bool(shared.any() and not shared.all())
    return Evaluation(
        split=split,
        pairs=len(kept),
        missing=len(chosen) - len(kept),
        shared=int(shared.sum()),
        spearman=metrics.bootstrap(metrics.spearman, cosine, scores, seed=seed),
        pearson=metrics.bootstrap(metrics.pearson, cosine, scores, seed=seed),
        mse=metrics.bootstrap(metrics.mse, cosine, targets, seed=seed),
        clean_spearman=metrics.bootstrap(
            metrics.spearman, cosine[~shared], scores[~shared], seed=seed
        )
        if some_clean
        else None,
    )


def pair_cosines(
    vectors: Vectors, pairs: Sequence[Pair]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(P,) cosine of the two videos of each pair."""
    rows = np.array([(vectors.row(pair.id_1), vectors.row(pair.id_2)) for pair in pairs], np.int64)
    rows = rows.reshape(-1, 2)
    return metrics.cosines(vectors.matrix[rows[:, 0]], vectors.matrix[rows[:, 1]])
