"""A Spearman's correlation that has gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from vidvec.train.objectives.pairs import ScoredPairs
from vidvec.train.objectives.pearson import correlation


def soft_rank_loss(pairs: ScoredPairs, temperature: float) -> Tensor:
    """One less Pearson's correlation of the cosines' soft ranks and the targets' ranks, 0…2.

    Args:
        pairs: Of the batch.
        temperature: Of ``soft_ranks``.
    """
    # Of targets the steps are as good as hard: they differ by at least one rank of all pairs.
    return 1 - correlation(soft_ranks(pairs.cosines, temperature), hard_ranks(pairs.targets))


def soft_ranks(values: Tensor, temperature: float) -> Tensor:
    """(P,) ranks from 1, where each other value counts by the sigmoid of how far it lies below.

    ``rank of i = ½ + Σ over j of σ((value of i − value of j) / temperature)``, of which the
    temperature 0 gives the average ranks of ``hard_ranks``.

    Source: Qin, Liu and Li, "A general approximation framework for direct optimization of
    information retrieval measures" (2010), section 4.

    Args:
        values: (P,).
        temperature: In units of the values; larger is smoother.
    """
    return 0.5 + torch.sigmoid((values[:, None] - values[None, :]) / temperature).sum(1)


def hard_ranks(values: Tensor) -> Tensor:
    """(P,) ranks from 1, ties by average rank."""
    below = (values[:, None] > values[None, :]).sum(1)
    same = (values[:, None] == values[None, :]).sum(1)
    return (below + (same + 1) / 2).to(values.dtype)
