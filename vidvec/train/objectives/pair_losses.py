"""The losses of scored pairs by the names that recipes know them by, and their weighted sum."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vidvec.config import FinetuneConfig
from vidvec.train.objectives.angle import angle_loss
from vidvec.train.objectives.contrast import graded_contrast
from vidvec.train.objectives.cosent import cosent
from vidvec.train.objectives.cosine_mse import cosine_mse
from vidvec.train.objectives.pairs import ScoredPairs
from vidvec.train.objectives.pearson import pearson_loss
from vidvec.train.objectives.soft_rank import soft_rank_loss


def pair_losses(pairs: ScoredPairs, config: FinetuneConfig) -> dict[str, Tensor]:
    """The losses that have a weight, unweighted, and their weighted sum as ``loss``.

    Each is the mean of the whole vectors' and those of ``config.prefixes``.

    Args:
        pairs: Of the batch.
        config: Weights and what the losses take.
    """
    each = [_of(some, config) for some in (pairs, *map(pairs.cut, config.prefixes))]
    if len(each) == 1:
        return each[0]
    return {name: torch.stack([some[name] for some in each]).mean() for name in each[0]}


def _of(pairs: ScoredPairs, config: FinetuneConfig) -> dict[str, Tensor]:
    losses: dict[str, Callable[[], Tensor]] = {
        "mse": lambda: cosine_mse(pairs),
        "pearson": lambda: pearson_loss(pairs),
        "cosent": lambda: cosent(pairs, config.cosent_scale),
        "angle": lambda: angle_loss(pairs, config.angle_scale),
        "soft_rank": lambda: soft_rank_loss(pairs, config.soft_rank_temperature),
        "contrast": lambda: graded_contrast(pairs, config.contrast_temperature),
    }
    found = {name: loss() for name, loss in losses.items() if getattr(config, f"{name}_weight")}
    total = pairs.cosines.new_zeros(())
    for name, loss in found.items():
        total = total + getattr(config, f"{name}_weight") * loss
    return {**found, "loss": total}
