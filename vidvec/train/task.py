"""What a training stage brings to the loop: the order of its steps, batches, losses, validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidvec.config import StageConfig
from vidvec.model.weights import VideoModel
from vidvec.train.distributed import Processes


class Task(Protocol):
    """A training stage over one corpus.

    Attributes:
        model: What is trained, already on its device.
        name: ``pretrain`` or ``finetune``.
        order: Which rows each step takes.
        unit: What ``batch_size`` counts, for the progress bar.
        device: Where the model is.
        processes: That train it together.
    """

    model: VideoModel
    name: str
    order: StepOrder
    unit: str
    device: torch.device
    processes: Processes

    @property
    def stage(self) -> StageConfig:
        """The stage's settings."""

    def batch(self, step: int) -> Any:
        """This process's share of the batch of a step, counted from 0 over all epochs.

        It depends on nothing but the step and which of how many processes this one is.
        """

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """The losses of a batch by itself; ``loss`` is what is minimised."""

    def parts(self, batch: Any, step: int) -> list[Callable[[], dict[str, Tensor]]]:
        """Functions that each give the losses of a part of a batch; they sum up to the batch's.

        With several processes the sum is over all of them, too, and each calls as many.
        """

    def tensors(self) -> dict[str, Tensor]:
        """State of the stage's own that a checkpoint needs besides the model's."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what ``tensors`` gave."""

    def validate(self) -> dict[str, float]:
        """Figures on held-out data, ``score`` (lower is better) among them; empty: nothing held."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of epochs with a learning-rate schedule of its own.

    Attributes:
        epochs: How many.
        make: Gives an epoch's batches, always the same number of them, by the epoch's number,
            counted over all phases.
    """

    epochs: int
    make: Callable[[int], list[NDArray[np.int64]]]


class StepOrder:
    """Batches by step, each epoch made when its first step comes.

    Args:
        phases: In their order.

    Attributes:
        steps: Of all phases.
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        self._phases = phases
        self._first_epochs = np.cumsum([0, *(phase.epochs for phase in phases)])
        lengths = [
            len(phase.make(int(first)))
            for phase, first in zip(phases, self._first_epochs, strict=False)
        ]
        self._epoch_steps = np.array(lengths, np.int64)
        counts = [phase.epochs * length for phase, length in zip(phases, lengths, strict=True)]
        self._first_steps = np.cumsum([0, *counts])
        self.steps = int(self._first_steps[-1])
        self._epoch, self._batches = -1, list[NDArray[np.int64]]()

    def _place(self, step: int) -> tuple[int, int, int]:
        """The phase of a step, the epoch in it, and the step in that epoch."""
        phase = int(np.searchsorted(self._first_steps, step, side="right")) - 1
        epoch, within = divmod(step - int(self._first_steps[phase]), int(self._epoch_steps[phase]))
        return phase, epoch, within

    def __call__(self, step: int) -> NDArray[np.int64]:
        """The rows of the batch of a step."""
        phase, epoch, within = self._place(step)
        number = int(self._first_epochs[phase]) + epoch
        if number != self._epoch:
            self._epoch, self._batches = number, self._phases[phase].make(number)
        return self._batches[within]

    def epoch_steps(self, step: int) -> int:
        """Steps of the epoch that a step belongs to."""
        return int(self._epoch_steps[self._place(step)[0]])

    def in_phase(self, step: int) -> tuple[int, int]:
        """The number of a step within its phase, from 0, and that phase's steps."""
        phase = self._place(step)[0]
        first, end = (int(at) for at in self._first_steps[phase : phase + 2])
        return step - first, end - first

    def epochs_done(self, steps: int) -> float:
        """Epochs that this many steps come to."""
        if steps >= self.steps:
            return float(self._first_epochs[-1])
        phase, epoch, within = self._place(steps)
        return float(self._first_epochs[phase] + epoch + within / self._epoch_steps[phase])


def prepare_model(model: VideoModel, stage: StageConfig) -> torch.device:
    """Sets how a stage runs the encoder; gives the device that it is on."""
    model.encoder.checkpointing = stage.checkpointing
    if stage.compile:
        model.encoder.compile_blocks()
    return next(model.encoder.parameters()).device


def default_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
