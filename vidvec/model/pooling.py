"""From the hidden states of a video's positions to one hidden vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidvec.config import ModelConfig
from vidvec.model.layout import FlatLayout


def _weighted_sum(hidden: Tensor, weights: Tensor, layout: FlatLayout) -> Tensor:
    videos = len(layout.lengths)
    pooled = hidden.new_zeros(videos, hidden.shape[1])
    return pooled.index_add(0, layout.video_of, hidden * weights[:, None])


class MeanPool(nn.Module):
    """The plain mean over positions (system.md, section 2)."""

    def forward(self, hidden: Tensor, layout: FlatLayout, counted: Tensor | None) -> Tensor:
        """Pools hidden (N, H) to (B, H); positions where ``counted`` is false are left out."""
        weights = hidden.new_ones(len(hidden)) if counted is None else counted.to(hidden.dtype)
        totals = hidden.new_zeros(len(layout.lengths)).index_add(0, layout.video_of, weights)
        return _weighted_sum(hidden, weights / totals[layout.video_of], layout)


class ClsPool(nn.Module):
    """What ``[CLS]`` has become, as BERT pools; a baseline that the published system left."""

    def forward(self, hidden: Tensor, layout: FlatLayout, counted: Tensor | None) -> Tensor:
        """Pools hidden (N, H) to (B, H); ``counted`` makes no difference."""
        return hidden.index_select(0, layout.cls_rows)


class AttentionPool(nn.Module):
    """Softmax over positions of Linear(tanh(Linear(x))) (system.md, section 2)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.inner = nn.Linear(hidden_size, hidden_size)
        self.score = nn.Linear(hidden_size, 1)

    def forward(self, hidden: Tensor, layout: FlatLayout, counted: Tensor | None) -> Tensor:
        """Pools hidden (N, H) to (B, H); positions where ``counted`` is false are left out."""
        scores = self.score(torch.tanh(self.inner(hidden))).squeeze(1).float()
        if counted is not None:
            scores = scores.masked_fill(~counted, -torch.inf)
        videos = len(layout.lengths)
        highest = scores.new_full((videos,), -torch.inf)
        highest = highest.scatter_reduce(0, layout.video_of, scores.detach(), "amax")
        weights = torch.exp(scores - highest[layout.video_of])
        totals = weights.new_zeros(videos).index_add(0, layout.video_of, weights)
        return _weighted_sum(hidden, (weights / totals[layout.video_of]).to(hidden.dtype), layout)


def make_pool(config: ModelConfig) -> nn.Module:
    """The pool that a model's settings name."""
    if config.pool == "attention":
        return AttentionPool(config.hidden_size)
    return ClsPool() if config.pool == "cls" else MeanPool()
