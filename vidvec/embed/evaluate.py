"""How well cosines of vectors rank pairs like people did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vidvec import metrics
from vidvec.config import SplitName
from vidvec.data.corpus import Corpus
from vidvec.data.splits import Split, corpus_split, rank_normalise, split_pairs
from vidvec.errors import UsageError
from vidvec.metrics import Interval
from vidvec.records import Pair


class VectorTable(Protocol):
    """Vectors of videos by id: a folder of them (``Vectors``), or some in memory."""

    @property
    def matrix(self) -> NDArray[np.float32]:
        """(videos, E)."""

    def __contains__(self, video_id: object) -> bool: ...

    def row(self, video_id: str) -> int:
        """The row of a video."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures on the validation pairs of a split.

    Attributes:
        split: ``clean``, ``balanced``, ``published`` or ``all``.
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
    vectors: VectorTable,
    pairs: Sequence[Pair],
    split: SplitName | str | Split = "clean",
    seed: int = 0,
) -> Evaluation:
    """Compares cosines with scores on the validation pairs of a split.

    Args:
        vectors: Of the videos.
        pairs: All scored pairs; rank normalisation is over all of them, before the split.
        split: ``clean``, ``published``, or ``all`` for every pair (where nothing was trained); or
            what ``split_of`` gives, as ``balanced`` needs it.
        seed: Of the bootstrap.

    Raises:
        UsageError: No pair is left to measure on.
    """
    chosen, training = chosen_pairs(pairs, split)
    name = split.name if isinstance(split, Split) else split
    there = np.array([pair.id_1 in vectors and pair.id_2 in vectors for pair in pairs], np.bool_)
    kept = chosen[there[chosen]]
    if not len(kept):
        raise UsageError(
            f"no pair to measure on: {len(pairs)} pairs, {len(chosen)} in the {name} validation "
            f"split, {len(kept)} of them with vectors"
        )
    measured = [pairs[int(i)] for i in kept]
    trained = {video for i in training for video in _videos(pairs[int(i)])}
    shared = np.array([not trained.isdisjoint(_videos(pair)) for pair in measured], np.bool_)
    cosine = pair_cosines(vectors, measured)
    scores = np.array([pair.score for pair in measured])
    targets = rank_normalise([pair.score for pair in pairs])[kept]
    clean_spearman = None
    if shared.any() and not shared.all():
        clean = np.flatnonzero(~shared)
        clean_spearman = metrics.bootstrap(
            metrics.spearman, cosine[clean], scores[clean], seed=seed
        )
    return Evaluation(
        split=name,
        pairs=len(kept),
        missing=len(chosen) - len(kept),
        shared=int(shared.sum()),
        spearman=metrics.bootstrap(metrics.spearman, cosine, scores, seed=seed),
        pearson=metrics.bootstrap(metrics.pearson, cosine, scores, seed=seed),
        mse=metrics.bootstrap(metrics.mse, cosine, targets, seed=seed),
        clean_spearman=clean_spearman,
    )


def chosen_pairs(
    pairs: Sequence[Pair], split: SplitName | str | Split
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the pairs that a split measures on, and of those that it trains on.

    Raises:
        UsageError: There is no such split.
    """
    if isinstance(split, Split):
        return split.validation, split.train
    if split == "all":
        return np.arange(len(pairs)), np.zeros(0, np.int64)
    if split not in ("clean", "published"):
        # That of a corpus may be older than some of the pairs: split_of gives it.
        expected = "clean, published or all" if split != "balanced" else "that of a corpus"
        raise UsageError(f"split {split!r}: expected {expected}")
    parts = split_pairs(pairs, "clean" if split == "clean" else "published")
    return parts.validation, parts.train


def split_of(corpus: Corpus, split: SplitName | str) -> Split | str:
    """A split as ``chosen_pairs`` takes it: ``balanced`` as written down in the corpus."""
    return corpus_split(corpus, "balanced") if split == "balanced" else split


def _videos(pair: Pair) -> tuple[str, str]:
    return pair.id_1, pair.id_2


def pair_cosines(vectors: VectorTable, pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """(P,) cosine of the two videos of each pair."""
    rows = np.array([(vectors.row(pair.id_1), vectors.row(pair.id_2)) for pair in pairs], np.int64)
    rows = rows.reshape(-1, 2)
    return metrics.cosines(vectors.matrix[rows[:, 0]], vectors.matrix[rows[:, 1]])
