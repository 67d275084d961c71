"""Correlation of cosines and targets over the batch."""

from __future__ import annotations

from torch import Tensor

from vidvec.train.objectives.pairs import ScoredPairs


def pearson_loss(pairs: ScoredPairs) -> Tensor:
    """One less Pearson's correlation of cosines and targets, 0…2.

    Unlike a squared error it does not ask for any particular cosine. With fewer than two pairs, or
    where one side does not vary, it is 1 and pulls nowhere.
    """
    return 1 - correlation(pairs.cosines, pairs.targets)


def correlation(values: Tensor, targets: Tensor) -> Tensor:
    """Pearson's correlation of two (P,); 0 where it is not defined."""
    x, y = values - values.mean(), targets - targets.mean()
    # Of equal numbers rounding leaves differences of about 1e-7, which are no direction.
    length = x.square().sum().clamp(min=1e-12).sqrt() * y.square().sum().clamp(min=1e-12).sqrt()
    return (x * y).sum() / length
