"""Pseudo-labels beside scored pairs in finetuning: ``finetune.pseudo_pairs``.

Letters: P scored pairs, Q pseudo-labelled ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec.config import FinetuneConfig
from vidvec.data.corpus import Corpus
from vidvec.data.pairs import read_pairs
from vidvec.data.splits import Split, validation_videos
from vidvec.errors import FormatError, UsageError
from vidvec.records import Pair

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PseudoPairs:
    """Pairs that a model scored.

    Attributes:
        rows: (Q, 2) int64 rows of the corpus.
        targets: (Q,) what is learned.
        left_out: Pairs of the file with a video that is validated on, or that is not there.
    """

    rows: Ints
    targets: Doubles
    left_out: int

    def __len__(self) -> int:
        return len(self.targets)


def read_pseudo_pairs(
    corpus: Corpus, stage: FinetuneConfig, split: Split, pairs: Sequence[Pair], targets: Doubles
) -> PseudoPairs:
    """The pairs of ``stage.pseudo_pairs`` that no validation pair shares a video with.

    A score is brought to the scored pairs' targets as theirs are: by the straight lines from score
    to target, such as ranks, flat outside of them.

    Args:
        corpus: With the videos.
        stage: Its ``pseudo_pairs`` may be empty; then there are none.
        split: What is validated on.
        pairs: The corpus's scored pairs.
        targets: (P,) theirs.

    Raises:
        UsageError: None of the file's pairs is left.
        FormatError: The file is missing or no file of pairs.
    """
    if not stage.pseudo_pairs:
        return PseudoPairs(np.zeros((0, 2), np.int64), np.zeros(0), 0)
    file = Path(stage.pseudo_pairs)
    found, rejects = read_pairs(file)
    held = set(validation_videos(corpus, stage.split))
    held.update(v for row in split.validation.tolist() for v in (pairs[row].id_1, pairs[row].id_2))
    live = {corpus.ids[row] for row in corpus.live.tolist()} - held
    kept = [pair for pair in found if pair.id_1 in live and pair.id_2 in live]
    left_out = len(found) + len(rejects) - len(kept)
    if not kept:
        raise UsageError(
            f"none of the {left_out} rows of {file} is a pair of videos of {corpus.path} that are "
            f"not validated on: give other finetune.pseudo_pairs"
        )
    scores = np.array([pair.score for pair in pairs])
    known, place = np.unique(scores, return_index=True)
    learned = np.interp([pair.score for pair in kept], known, targets[place])
    rows = [(corpus.row(pair.id_1), corpus.row(pair.id_2)) for pair in kept]
    return PseudoPairs(np.array(rows, np.int64), np.asarray(learned, np.float64), left_out)


def with_pseudo_pairs(
    batches: list[Ints], chosen: Ints, ratio: float, seed: Sequence[int]
) -> list[Ints]:
    """An epoch's batches with pseudo-labelled pairs behind the scored ones of each.

    Args:
        batches: Positions of scored pairs.
        chosen: (Q,) positions of pseudo-labelled ones, which take turns in a random order.
        ratio: How many there are for each scored one.
        seed: Of the order.
    """
    if not len(chosen) or not ratio:
        return batches
    order = chosen[np.random.default_rng([*seed, 1]).permutation(len(chosen))]
    ends = np.round(ratio * np.cumsum([len(batch) for batch in batches])).astype(np.int64)
    starts = np.concatenate([[0], ends[:-1]])
    return [
        np.concatenate([batch, order[np.arange(start, end) % len(order)]])
        for batch, start, end in zip(batches, starts, ends, strict=True)
    ]


def pseudo_facts(stage: FinetuneConfig) -> dict[str, str]:
    """What tells apart runs with one file of pseudo-labels or another; empty without.

    Raises:
        FormatError: The file cannot be read.
    """
    if not stage.pseudo_pairs:
        return {}
    try:
        content = Path(stage.pseudo_pairs).read_bytes()
    except OSError as error:
        raise FormatError(f"finetune.pseudo_pairs cannot be read: {error}") from None
    return {"pseudo_pairs": hashlib.sha256(content).hexdigest()[:12]}
