"""Pairs against the other videos of the batch, by how similar people found them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vidvec.train.objectives.pairs import ScoredPairs


def graded_contrast(pairs: ScoredPairs, temperature: float) -> Tensor:
    """Cross entropy of each video's partner among all partners, weighted by the pair's target.

    In both directions: ``−log(exp(cos(i, i)/τ) / Σ over j of exp(cos(i, j)/τ))`` of pair i, where j
    runs over the other sides of all pairs. A pair with target 1 is a positive, one with 0 has no
    say but lends its videos as negatives. Pairs that share a video with pair i lend it none, as it
    is scored how similar those are. 0 where all targets are.

    Source: InfoNCE (van den Oord, Li and Vinyals 2018) with negatives of the batch (Henderson et
    al. 2017); the weights by target are ours.

    Args:
        pairs: Of the batch.
        temperature: τ.
    """
    cosines = pairs.first @ pairs.second.T / temperature
    if pairs.rows is not None:
        first, second = pairs.rows
        known = (first[:, None] == first[None, :]) | (second[:, None] == second[None, :])
        known |= (first[:, None] == second[None, :]) | (second[:, None] == first[None, :])
        own = torch.eye(len(first), dtype=torch.bool, device=first.device)
        cosines = cosines.masked_fill(known & ~own, -torch.inf)
    place = torch.arange(len(cosines), device=cosines.device)
    each = [F.cross_entropy(sides, place, reduction="none") for sides in (cosines, cosines.T)]
    weights = pairs.targets.clamp(min=0)
    return ((each[0] + each[1]) / 2 * weights).sum() / weights.sum().clamp(min=1e-12)
