"""What a training stage brings to the loop: batches by step, losses, validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidvec.config import StageConfig
from vidvec.model.weights import VideoModel


class Task(Protocol):
    """A training stage over one corpus.

    Attributes:
        model: What is trained, already on its device.
        name: ``pretrain`` or ``finetune``.
        epoch_steps: Steps an epoch.
        unit: What ``batch_size`` counts, for the progress bar.
    """

    model: VideoModel
    name: str
    epoch_steps: int
    unit: str

    @property
    def stage(self) -> StageConfig:
        """The stage's settings."""

    def batch(self, step: int) -> Any:
        """The batch of a step, counted from 0 over all epochs; depends on nothing but the step."""

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """The losses of a batch; ``loss`` is what is minimised."""

    def validate(self) -> dict[str, float]:
        """Figures on held-out data, ``score`` (lower is better) among them; empty: nothing held."""


class EpochOrder:
    """Batches by step: epoch ``step // epoch_steps``, each made when its epoch begins.

    Args:
        make: Gives an epoch's batches, always the same number of them.
    """

    def __init__(self, make: Callable[[int], list[NDArray[np.int64]]]) -> None:
        self._make = make
        self._epoch, self._batches = 0, make(0)
        self.epoch_steps = len(self._batches)

    def __call__(self, step: int) -> NDArray[np.int64]:
        """The rows of the batch of a step."""
        epoch = step // self.epoch_steps
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._make(epoch)
        return self._batches[step % self.epoch_steps]


def default_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
