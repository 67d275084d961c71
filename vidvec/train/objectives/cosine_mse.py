"""The published loss: cosines regress on the scores' ranks (system.md, section 4)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vidvec.train.objectives.pairs import ScoredPairs


def cosine_mse(pairs: ScoredPairs) -> Tensor:
    """Mean squared error between the cosine of each pair and its target."""
    return F.mse_loss(pairs.cosines, pairs.targets)
