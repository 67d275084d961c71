"""Tags of a video, from its vector or its ``[CLS]`` (system.md, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vidvec.model.layout import owners


@dataclass(frozen=True, slots=True)
class Focus:
    """How little of the tag loss classes have that are told well already.

    The loss of a tag that is there is ``−(1 − p)^positive · log p``, of one that is not
    ``−q^negative · log(1 − q)`` with ``q = max(p − margin, 0)``. All 0: binary cross entropy, as
    published. Both exponents the same: the focal loss (Lin et al. 2017). Different, with a margin:
    the asymmetric loss (Ridnik et al. 2021), for the many tags that nobody thought of giving.
    """

    positive: float = 0.0
    negative: float = 0.0
    margin: float = 0.0


def tag_loss(
    logits: Tensor,
    tag_positions: Tensor,
    tag_counts: Tensor,
    total: Tensor | None = None,
    focus: Focus = Focus(),
    *,
    targets: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Binary cross entropy, averaged over the videos that were tagged and over all classes.

    Args:
        logits: (B, C).
        tag_positions: (Σtags,) classes, video after video.
        tag_counts: (B,); −1 where nobody tagged the video, which then has no say.
        total: () tagged videos to average over, where these are but a part; ``None``: those here.
        focus: Changes what a class counts.
        targets: (B, C) in 0…1 instead of the tags, such as softened ones.
        weights: (B, C) of each class of each video; ``None``: all are 1.

    Returns:
        A scalar, 0 where no video was tagged.
    """
    tagged = tag_counts >= 0
    if targets is None:
        targets = tag_targets(logits, tag_positions, tag_counts)
    losses = class_losses(logits, targets, focus)
    each = (losses if weights is None else losses * weights).mean(1)
    total = tagged.sum() if total is None else total
    return (each * tagged).sum() / total.clamp(min=1)


def tag_targets(like: Tensor, tag_positions: Tensor, tag_counts: Tensor) -> Tensor:
    """(B, C) 1 for each tag that a video has, else 0; shaped and typed like some logits."""
    targets = torch.zeros_like(like)
    video = owners(tag_counts.clamp(min=0), len(tag_positions))
    targets[video, tag_positions] = 1
    return targets


def class_losses(logits: Tensor, targets: Tensor, focus: Focus) -> Tensor:
    """(B, C) loss of each class; of a target between 0 and 1 by that share of each side."""
    if focus == Focus():
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    there = -F.logsigmoid(logits) * torch.sigmoid(-logits) ** focus.positive
    given = torch.sigmoid(logits)
    if focus.margin:
        given = (given - focus.margin).clamp(min=0)
        absent = -torch.log1p(-given) * given**focus.negative
    else:
        absent = -F.logsigmoid(-logits) * given**focus.negative
    return targets * there + (1 - targets) * absent
