"""Scored pairs of a batch, as the losses in ``pair_losses`` read them.

Letters: P pairs, E numbers in a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class ScoredPairs:
    """Vectors of the two videos of each pair, and how similar people found them.

    Attributes:
        first, second: (P, E), of length 1; a video without any content has a vector of zeros.
        targets: (P,) scores, or their ranks, in 0…1; higher is more similar.
        rows: (2, P) int64, which video each is; ``None``: all are different.
    """

    first: Tensor
    second: Tensor
    targets: Tensor
    rows: Tensor | None = None

    @classmethod
    def of(cls, vectors: Tensor, targets: Tensor, rows: Tensor | None = None) -> ScoredPairs:
        """From (2P, E) vectors and (2P,) rows: all first videos, then all second ones."""
        exact = vectors if vectors.dtype == torch.float64 else vectors.float()
        first, second = exact.chunk(2)
        sides = None if rows is None else torch.stack(rows.chunk(2))
        return cls(first, second, targets.to(first), sides)

    @cached_property
    def cosines(self) -> Tensor:
        """(P,) cosine of each pair."""
        return (self.first * self.second).sum(-1)

    def cut(self, size: int) -> ScoredPairs:
        """The pairs by the first so many numbers of their vectors, brought to length 1 again."""
        first, second = (F.normalize(side[:, :size], dim=-1) for side in (self.first, self.second))
        return ScoredPairs(first, second, self.targets, self.rows)

    def order_loss(self, values: Tensor, scale: float) -> Tensor:
        """CoSENT's loss of the pairs' order by some value of each (see ``cosent``).

        Args:
            values: (P,), meant to be higher where the target is.
            scale: That differences are multiplied with.
        """
        above = self.targets[:, None] > self.targets[None, :]
        wrong = (values[None, :] - values[:, None]) * scale
        each = wrong.masked_fill(~above, -torch.inf).flatten()
        return torch.logsumexp(torch.cat([each, each.new_zeros(1)]), 0)
