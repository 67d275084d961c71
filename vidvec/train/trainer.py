"""The training loop: fetch, step, maybe log, maybe evaluate, maybe save."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vidvec import storage
from vidvec.data.batches import prefetch
from vidvec.errors import VidvecError
from vidvec.model.precision import autocast, tensor_float_32
from vidvec.train.adversarial import moved_up
from vidvec.train.averaging import WeightAverage
from vidvec.train.checkpoint import Progress, restore_checkpoint, save_checkpoint
from vidvec.train.optimizer import make_optimizer, schedule, set_learning_rates
from vidvec.train.task import Task

LOG_EVERY = 10
OnStep = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a run came to.

    Attributes:
        steps: Steps done, those before a resumption included.
        resumed_at: Where this process began.
        best: Lowest validation score, ``None`` where nothing was held out.
        best_step: When that was.
        seconds: Of this process.
        note: A sentence where there is something to know.
    """

    steps: int
    resumed_at: int
    best: float | None
    best_step: int
    seconds: float
    note: str = ""


def train(
    task: Task,
    run: Path,
    facts: dict[str, Any],
    on_step: OnStep | None = None,
) -> TrainReport:
    """Trains until the stage's epochs are done, from the run's last checkpoint where it has one.

    Args:
        task: The stage.
        run: The run's folder, new or to be continued.
        facts: What the run's settings and corpus are; a run is only continued with the same.
        on_step: Called with steps done, all steps, and the latest figures.

    Raises:
        VidvecError: The loss became NaN or infinite; says where and what to try.
        FormatError: The run was made with other settings, or its last checkpoint is damaged.
    """
    started = time.monotonic()
    steps = task.order.steps
    optimizer = make_optimizer(task.model, task.stage)
    for folder in (run, run / "checkpoints"):
        storage.remove_leftovers(folder)
    average = WeightAverage(task.model, task.stage.ema_decay) if task.stage.ema_decay else None
    progress = (
        restore_checkpoint(run, task.model, optimizer, facts, average=average, restore=task.restore)
        or Progress()
    )
    resumed_at = progress.step
    if resumed_at == steps:
        return TrainReport(steps, steps, progress.best, progress.best_step, 0.0)
    with _Log(run, progress) as log, tensor_float_32(task.device):
        for batch in prefetch(range(progress.step, steps), task.batch, device=task.device):
            losses = train_step(task, optimizer, batch, progress.step)
            progress.step += 1
            if average is not None:
                average.update(progress.step)
            log.step(progress.step, task, losses, optimizer)
            evaluate = _due(progress.step, task.stage.evaluate_every, task)
            save = _due(
                progress.step, task.stage.checkpoint_every or task.stage.evaluate_every, task
            )
            if evaluate or save:
                log.check(progress.step, task)
            # A new best is saved at once: its weights are gone with the next step.
            if evaluate and _evaluate(task, progress, log, average):
                save = True
            if save:
                progress.metrics_bytes = log.position()
                state: dict[str, Any] = {"average": average, "more": task.tensors()}
                save_checkpoint(run, task.model, optimizer, progress, facts, **state)
            if on_step is not None:
                on_step(progress.step, steps, log.latest)
    return TrainReport(
        progress.step, resumed_at, progress.best, progress.best_step, time.monotonic() - started
    )


def train_step(
    task: Task, optimizer: torch.optim.Optimizer, batch: Any, step: int
) -> dict[str, torch.Tensor]:
    """One step of pure compute: forward, backward, clip, update."""
    step_in_phase, phase_steps = task.order.in_phase(step)
    set_learning_rates(optimizer, schedule(step_in_phase, phase_steps, task.stage.warmup_share))
    _set_mode(task, training=True)
    optimizer.zero_grad(set_to_none=True)
    losses = _forward_backward(task, batch, step)
    if task.stage.adversarial:
        with moved_up(task.model, task.stage.adversarial):
            losses["adversarial"] = _forward_backward(task, batch, step)["loss"]
    if task.stage.clip_norm:
        parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, task.stage.clip_norm)
    optimizer.step()
    return losses


def _forward_backward(task: Task, batch: Any, step: int) -> dict[str, torch.Tensor]:
    """A batch's losses, part by part; their gradients add to those that are there."""
    losses: dict[str, torch.Tensor] = {}
    for part in task.parts(batch, step):
        with autocast(task.device, task.stage.precision):
            found = part()
        found["loss"].backward()  # type: ignore[no-untyped-call]
        for name, loss in found.items():
            losses[name] = losses[name] + loss.detach() if name in losses else loss.detach()
    return losses


def _set_mode(task: Task, training: bool) -> None:
    for module in (task.model.encoder, task.model.heads):
        # Going through hundreds of modules in every step would cost as much as launching a block.
        if module is not None and module.training != training:
            module.train(training)


def _due(done: int, every: int, task: Task) -> bool:
    """Whether something that comes every so many steps (0: every epoch) comes now."""
    if every:
        return done % every == 0 or done == task.order.steps
    return task.order.epochs_done(done).is_integer()


def _evaluate(task: Task, progress: Progress, log: _Log, average: WeightAverage | None) -> bool:
    """Validates the mean weights, where there are some; whether the score is the lowest so far."""
    _set_mode(task, training=False)
    mean = nullcontext() if average is None else average.in_place()
    with mean, torch.no_grad(), autocast(task.device, task.stage.precision):
        figures = task.validate()
    if not figures:
        return False
    _require_finite(task, progress.step, {"validation": figures["score"]})
    log.validation(progress.step, figures)
    if progress.best is not None and figures["score"] >= progress.best:
        return False
    progress.best, progress.best_step = figures["score"], progress.step
    return True


def _require_finite(task: Task, step: int, figures: dict[str, float]) -> None:
    bad = [f"{name} is {value}" for name, value in figures.items() if not math.isfinite(value)]
    if bad:
        raise VidvecError(
            f"{task.name}: {', '.join(bad)} at step {step}: lower {task.name}.learning_rate and "
            f"{task.name}.high_learning_rate, or set {task.name}.clip_norm=1"
        )


class _Log:
    """Figures to ``metrics.jsonl`` and TensorBoard, every ``LOG_EVERY`` steps."""

    def __init__(self, run: Path, progress: Progress) -> None:
        from torch.utils.tensorboard import SummaryWriter

        run.mkdir(parents=True, exist_ok=True)
        self._file = (run / "metrics.jsonl").open("ab")
        # What a killed run wrote after its last checkpoint is done again.
        self._file.truncate(min(progress.metrics_bytes, self.position()))
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=progress.step + 1)
        self._losses: list[dict[str, torch.Tensor]] = []
        self._since, self._step = time.monotonic(), progress.step
        self.latest: dict[str, float] = {}

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._board.close()

    def position(self) -> int:
        """Bytes written so far."""
        self._file.flush()
        return self._file.seek(0, 2)

    def step(
        self,
        step: int,
        task: Task,
        losses: dict[str, torch.Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Notes a step's losses, and writes their means when it is time."""
        self._losses.append(losses)
        epochs = task.order.epochs_done(step)
        if step % LOG_EVERY and not epochs.is_integer():
            return
        figures = self.check(step, task)
        rate = optimizer.param_groups[-1]["lr"]
        seconds = time.monotonic() - self._since
        speed = (step - self._step) * task.stage.batch_size / max(seconds, 1e-9)
        self.latest = {**figures, "learning_rate": rate, f"{task.unit}_per_second": speed}
        self._write(step, "train", {"epoch": epochs, **self.latest})
        self._losses, self._since, self._step = [], time.monotonic(), step

    def check(self, step: int, task: Task) -> dict[str, float]:
        """Mean losses of the steps since the last line; stops the run where they are not finite."""
        names = self._losses[0] if self._losses else {}
        figures = {
            name: float(torch.stack([item[name] for item in self._losses]).mean()) for name in names
        }
        _require_finite(task, step, figures)
        return figures

    def validation(self, step: int, figures: dict[str, float]) -> None:
        """Writes a validation's figures."""
        self._write(step, "validation", figures)
        self.latest = {**self.latest, "validation": figures["score"]}
        self._since = time.monotonic()

    def _write(self, step: int, kind: str, figures: dict[str, float]) -> None:
        # JSON knows no NaN, which a correlation without variance is.
        known = {name: v if math.isfinite(v) else None for name, v in figures.items()}
        record = {"step": step, "kind": kind, **known}
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        for name, value in figures.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)
