"""A running mean of a model's weights (Polyak and Juditsky 1992; by exponential decay as usual)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from vidvec.model.weights import VideoModel


class WeightAverage:
    """Weights averaged over steps: ``mean ← d · mean + (1 − d) · weights``.

    Step n, from 1, takes ``d = min(decay, (n − 1) / n)``: a plain mean until the decay is reached.

    Args:
        model: Whose weights are averaged, from where they are.
        decay: As in ``StageConfig.ema_decay``.

    Attributes:
        weights: By name, on the model's device.
    """

    def __init__(self, model: VideoModel, decay: float) -> None:
        self._model, self._decay = model, decay
        self.weights = {name: value.detach().clone() for name, value in model.named_parameters()}

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Takes in the weights behind this many steps."""
        own = dict(self._model.named_parameters())
        share = 1 - min(self._decay, (steps - 1) / steps)
        torch._foreach_lerp_(
            list(self.weights.values()), [own[name].detach() for name in self.weights], share
        )

    @contextmanager
    def in_place(self) -> Iterator[dict[str, Tensor]]:
        """The model has the mean weights inside; gives its own, which it has again behind."""
        own = {name: value.detach().clone() for name, value in self._model.named_parameters()}
        self._put(self.weights)
        try:
            yield own
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, value in self._model.named_parameters():
            value.copy_(weights[name])
