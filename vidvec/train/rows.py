"""Which videos of a corpus a stage learns from, and which it holds out."""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidvec.data.corpus import Corpus
from vidvec.data.splits import fold


def learned_and_held(
    corpus: Corpus, videos: Literal["train", "all"], validation_share: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to learn from and rows held out; the latter by a hash of the id, on any machine.

    Args:
        corpus: Rows that are gone are in neither.
        videos: ``train``: without the videos that finetuning validates on.
        validation_share: Of the videos, held out.
    """
    rows = corpus.live
    if videos == "train":
        scored = {video for pair in corpus.pairs() for video in (pair.id_1, pair.id_2)}
        ids = [corpus.ids[row] for row in rows]
        keep = [not (video in scored and fold(video) == 0) for video in ids]
        rows = rows[np.array(keep, bool)]
    keys = [hashlib.sha256(f"held {corpus.ids[row]}".encode()).digest() for row in rows]
    held = sorted(range(len(rows)), key=keys.__getitem__)[: round(validation_share * len(rows))]
    return np.delete(rows, held), rows[np.sort(np.array(held, np.int64))]
