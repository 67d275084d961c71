"""Tags of a video, from its vector or its ``[CLS]`` (system.md, section 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vidvec.model.layout import owners


def tag_loss(
    logits: Tensor, tag_positions: Tensor, tag_counts: Tensor, total: Tensor | None = None
) -> Tensor:
    """Binary cross entropy, averaged over the videos that were tagged and over all classes.

    Args:
        logits: (B, C).
        tag_positions: (Σtags,) classes, video after video.
        tag_counts: (B,); −1 where nobody tagged the video, which then has no say.
        total: () tagged videos to average over, where these are but a part; ``None``: those here.

    Returns:
        A scalar, 0 where no video was tagged.
    """
    tagged = tag_counts >= 0
    targets = torch.zeros_like(logits)
    video = owners(tag_counts.clamp(min=0), len(tag_positions))
    targets[video, tag_positions] = 1
    each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
    total = tagged.sum() if total is None else total
    return (each * tagged).sum() / total.clamp(min=1)
