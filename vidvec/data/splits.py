"""Which pairs train and which validate, and the rank normalisation of their scores."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from vidvec.config import SplitName
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
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    dropped: int


def split_pairs(pairs: Sequence[Pair], name: SplitName) -> Split:
    """Splits pairs by the folds of their videos (system.md, section 4).

    ``clean``: validation where both videos are in fold 0, training where neither is; pairs across
    are dropped, so no video is on both sides. ``published``: validation where both are in fold 0,
    training everywhere else, which shares videos.
    """
    zero = np.array([[fold(pair.id_1) == 0, fold(pair.id_2) == 0] for pair in pairs], bool)
    zero = zero.reshape(-1, 2)
    validation = zero.all(axis=1)
    train = ~validation if name == "published" else ~zero.any(axis=1)
    return Split(
        train=np.flatnonzero(train),
        validation=np.flatnonzero(validation),
        dropped=int((~train & ~validation).sum()),
    )


def rank_normalise(scores: ArrayLike) -> NDArray[np.float64]:
    """Average ranks of the scores, min–max scaled to 0…1 (system.md, section 4).

    All-equal scores, which have no range, become 0.
    """
    ranks = rankdata(np.asarray(scores, np.float64), "average")
    if len(ranks) == 0 or ranks.max() == ranks.min():
        return np.zeros(len(ranks))
    return np.asarray((ranks - ranks.min()) / (ranks.max() - ranks.min()), np.float64)
