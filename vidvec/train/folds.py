"""Models that each learn from a part of the pairs: folds, whose vectors or weights are averaged."""

from __future__ import annotations

from collections.abc import Sequence

from vidvec.config import FinetuneConfig
from vidvec.data.splits import Split, folds, training_pairs
from vidvec.errors import UsageError
from vidvec.records import Pair


def in_fold(split: Split, pairs: Sequence[Pair], stage: FinetuneConfig) -> Split:
    """What a fold of a split trains and validates on; the split itself where there are no folds.

    The pairs that the split trains on are cut into folds that share no video. Those that it
    validates on stay out of all folds, to measure on what is made of them together.

    Args:
        split: Of all pairs.
        pairs: All of them.
        stage: Says which fold of how many; all of them are cut alike, whatever the seed.

    Raises:
        UsageError: The fold has no pair to train or to validate on.
    """
    if not stage.folds:
        return split
    learned = [pairs[int(at)] for at in split.train]
    held = folds(learned, stage.folds)
    validation = held[stage.fold - 1] if held else split.train[:0]
    train = training_pairs(learned, validation)
    if not len(train) or not len(validation):
        raise UsageError(
            f"fold {stage.fold} of {stage.folds} has {len(train)} pairs to train on and "
            f"{len(validation)} to validate on, of the {len(learned)} that the {split.name} split "
            "trains on: take fewer folds, or add pairs"
        )
    dropped = len(learned) - len(train) - len(validation)
    name = f"{split.name}, fold {stage.fold} of {stage.folds}"
    return Split(split.train[train], split.train[validation], split.dropped + dropped, name)
