"""Which pairs train and which validate, and the rank normalisation of their scores."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from vidvec.config import SplitName
from vidvec.data.balanced import balanced_videos, kept_videos
from vidvec.data.bisection import bisect
from vidvec.data.corpus import Corpus
from vidvec.data.pair_graph import pair_graph
from vidvec.errors import UsageError
from vidvec.records import Pair

FOLDS = 5


def fold(video_id: str) -> int:
    """A video's fold, 0 … 4: ``id % 5`` for whole numbers, else a stable hash of the id.

    The hash is the first eight bytes of the id's SHA-256, modulo 5: the same on every machine.
    """
    if video_id.isascii() and video_id.isdigit():
        return int(video_id[-1]) % FOLDS  # 5 divides 10, and int() refuses very long numbers
    digest = hashlib.sha256(video_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") % FOLDS


@dataclass(frozen=True, slots=True)
class Split:
    """Indices into the list of pairs.

    Attributes:
        train: Pairs to learn from, (train,) int64.
        validation: Pairs to measure on, (validation,) int64.
        dropped: Pairs on neither side, because their videos are on both.
        name: Of the split.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    dropped: int
    name: str = ""


def split_pairs(pairs: Sequence[Pair], name: SplitName) -> Split:
    """Splits pairs by the folds of their videos (system.md, section 4).

    ``clean``: validation where both videos are in fold 0, training where neither is; pairs across
    are dropped, so no video is on both sides. ``published``: validation where both are in fold 0,
    training everywhere else, which shares videos. ``balanced``: as clean, with
    ``balanced_videos`` in the place of fold 0; of a corpus, ``corpus_split`` is to be asked.
    """
    if name == "balanced":
        return split_by(pairs, balanced_videos(pairs), name)
    return split_by(pairs, _in_fold_zero(pairs), name)


def corpus_split(corpus: Corpus, name: SplitName) -> Split:
    """Splits a corpus's pairs; ``balanced`` keeps to what is written down there.

    Raises:
        FormatError: What is written down is damaged.
    """
    pairs = corpus.pairs()
    if name == "balanced":
        return split_by(pairs, kept_videos(corpus.path, pairs), name)
    return split_pairs(pairs, name)


def validation_videos(corpus: Corpus, name: SplitName) -> frozenset[str]:
    """The scored videos of a corpus that a split validates on, or leaves out for them."""
    pairs = corpus.pairs()
    if name == "balanced":
        return kept_videos(corpus.path, pairs)
    return _in_fold_zero(pairs)


def _in_fold_zero(pairs: Sequence[Pair]) -> frozenset[str]:
    videos = {video for pair in pairs for video in (pair.id_1, pair.id_2)}
    return frozenset(video for video in videos if fold(video) == 0)


def split_by(pairs: Sequence[Pair], held: Set[str], name: SplitName) -> Split:
    """Validation where both videos are held out, training where neither is, or all others."""
    zero = np.array([[pair.id_1 in held, pair.id_2 in held] for pair in pairs], bool)
    zero = zero.reshape(-1, 2)
    validation = zero.all(axis=1)
    train = ~validation if name == "published" else ~zero.any(axis=1)
    return Split(
        train=np.flatnonzero(train),
        validation=np.flatnonzero(validation),
        dropped=int((~train & ~validation).sum()),
        name=name,
    )


def folds(pairs: Sequence[Pair], k: int, seed: int = 0) -> list[NDArray[np.int64]]:
    """Validation pairs of k clean folds, alike in number and in scores.

    The graph of the pairs is cut in two again and again, each time with few pairs lost
    (``bisect``). A pair whose videos come apart is in no fold's validation. To learn from, a fold
    has the ``training_pairs`` of its validation: those that share no video with it, pairs that came
    apart elsewhere among them.

    Args:
        pairs: Scored pairs; in another order they are cut the same way.
        k: How many folds, 2 or more.
        seed: Decides between equals.

    Returns:
        Of each fold (validation,) int64 ascending positions in ``pairs``; no pair is in two, and no
        two folds share a video. Empty where there are too few pairs.

    Raises:
        UsageError: k is below 2.
    """
    if k < 2:
        raise UsageError(f"{k} folds: expected 2 or more")
    whole = np.arange(len(pairs), dtype=np.int64)
    return _folds(pairs, whole, k, seed)


def _folds(
    pairs: Sequence[Pair], rows: NDArray[np.int64], k: int, seed: int
) -> list[NDArray[np.int64]]:
    """The folds of some of the pairs."""
    if k == 1:
        return [rows]
    graph, nodes = pair_graph([pairs[row] for row in rows.tolist()])
    few = k // 2
    sides = bisect(graph, few / k, seed)[nodes]
    left, right = rows[sides.all(axis=1)], rows[~sides.any(axis=1)]
    return _folds(pairs, left, few, seed) + _folds(pairs, right, k - few, seed)


def training_pairs(pairs: Sequence[Pair], validation: NDArray[np.int64]) -> NDArray[np.int64]:
    """(training,) int64 positions of the pairs that share no video with the validation pairs."""
    held = {v for row in validation.tolist() for v in (pairs[row].id_1, pairs[row].id_2)}
    clean = [pair.id_1 not in held and pair.id_2 not in held for pair in pairs]
    return np.flatnonzero(np.array(clean, np.bool_))


def rank_normalise(scores: ArrayLike) -> NDArray[np.float64]:
    """Average ranks of the scores, min–max scaled to 0…1 (system.md, section 4).

    All-equal scores, which have no range, become 0.
    """
    ranks = rankdata(np.asarray(scores, np.float64), "average")
    if len(ranks) == 0 or ranks.max() == ranks.min():
        return np.zeros(len(ranks))
    return np.asarray((ranks - ranks.min()) / (ranks.max() - ranks.min()), np.float64)
