"""Which videos of a corpus a stage learns from, and which it holds out."""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidvec.config import SplitName
from vidvec.data.corpus import Corpus
from vidvec.data.splits import validation_videos


def learned_and_held(
    corpus: Corpus,
    videos: Literal["train", "all"],
    validation_share: float,
    split: SplitName = "clean",
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to learn from and rows held out; the latter by a hash of the id, on any machine.

    Args:
        corpus: Rows that are gone are in neither.
        videos: ``train``: without the videos that finetuning validates on.
        validation_share: Of the videos, held out.
        split: What finetuning validates on.
    """
    rows = corpus.live
    if videos == "train":
        without = validation_videos(corpus, split)
        rows = rows[np.array([corpus.ids[row] not in without for row in rows], bool)]
    keys = [hashlib.sha256(f"held {corpus.ids[row]}".encode()).digest() for row in rows]
    held = sorted(range(len(rows)), key=keys.__getitem__)[: round(validation_share * len(rows))]
    return np.delete(rows, held), rows[np.sort(np.array(held, np.int64))]


def split_facts(split: SplitName) -> dict[str, str]:
    """What tells apart runs of a stage that leaves out the videos of one split or of another.

    Empty for those that leave out the videos of fold 0.
    """
    return {"split": split} if split == "balanced" else {}
