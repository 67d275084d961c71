"""The training loop: fetch, step, maybe log, maybe evaluate, maybe save."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vidvec import storage
from vidvec.data.batches import prefetch
from vidvec.errors import FormatError
from vidvec.model.precision import autocast, tensor_float_32
from vidvec.train.adversarial import moved_up
from vidvec.train.averaging import WeightAverage
from vidvec.train.checkpoint import Progress, restore_checkpoint, save_checkpoint
from vidvec.train.log import RunLog, require_finite
from vidvec.train.optimizer import make_optimizer, schedule, set_learning_rates
from vidvec.train.replica import Replica
from vidvec.train.task import Task

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
        task: The stage; where several processes train it together, all call this, and rank 0
            alone writes into the run's folder.
        run: The run's folder, new or to be continued.
        facts: What the run's settings and corpus are; a run is only continued with the same.
        on_step: Called with steps done, all steps, and the latest figures.

    Raises:
        VidvecError: The loss became NaN or infinite; says where and what to try.
        FormatError: The run was made with other settings, or its last checkpoint is damaged.
    """
    started = time.monotonic()
    steps, processes = task.order.steps, task.processes
    replica = Replica(task.model, processes, task.stage) if processes.several else None
    optimizer = make_optimizer(task.model, task.stage)
    average = WeightAverage(task.model, task.stage.ema_decay) if task.stage.ema_decay else None
    progress = _restored(task, run, optimizer, average, facts)
    resumed_at = progress.step
    if resumed_at == steps:
        return TrainReport(steps, steps, progress.best, progress.best_step, 0.0)
    with RunLog(run, progress, processes) as log, tensor_float_32(task.device):
        kept: dict[str, Any] = {"log": log, "average": average, "replica": replica}
        keep = partial(_keep, task, run, optimizer, progress, facts, **kept)
        unmeasured = task.stage.evaluate_start and not progress.step and progress.best is None
        if unmeasured and _evaluate(task, progress, log, average, replica):
            keep()
        for batch in prefetch(range(progress.step, steps), task.batch, device=task.device):
            losses = train_step(task, optimizer, batch, progress.step, replica)
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
            if evaluate and _evaluate(task, progress, log, average, replica):
                save = True
            if save:
                keep()
            if on_step is not None and processes.main:
                on_step(progress.step, steps, log.latest)
    return TrainReport(
        progress.step, resumed_at, progress.best, progress.best_step, time.monotonic() - started
    )


def _keep(
    task: Task,
    run: Path,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    facts: dict[str, Any],
    *,
    log: RunLog,
    average: WeightAverage | None,
    replica: Replica | None,
) -> None:
    """Saves a checkpoint of the run as it is."""
    progress.metrics_bytes = log.position()
    state: dict[str, Any] = {"average": average, "more": task.tensors()}
    if replica is not None:
        state["together"] = replica.together(optimizer, average)
    if task.processes.main:
        save_checkpoint(run, task.model, optimizer, progress, facts, **state)
    task.processes.wait()


def _restored(
    task: Task,
    run: Path,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    facts: dict[str, Any],
) -> Progress:
    """How far the run is, with what was trained put back.

    Raises:
        FormatError: See ``train``; or processes do not see the same run.
    """
    with task.processes.main_first():
        if task.processes.main:
            for folder in (run, run / "checkpoints"):
                storage.remove_leftovers(folder)
        found = restore_checkpoint(
            run, task.model, optimizer, facts, average=average, restore=task.restore
        )
    progress = found or Progress()
    if not task.processes.same(progress.step):
        raise FormatError(
            f"run {run} is not the same for all processes: this one sees {progress.step} steps; "
            "put it on storage that all machines share"
        )
    return progress


def train_step(
    task: Task,
    optimizer: torch.optim.Optimizer,
    batch: Any,
    step: int,
    replica: Replica | None = None,
) -> dict[str, torch.Tensor]:
    """One step of pure compute: forward, backward, clip, update."""
    step_in_phase, phase_steps = task.order.in_phase(step)
    set_learning_rates(optimizer, schedule(step_in_phase, phase_steps, task.stage.warmup_share))
    _set_mode(task, training=True)
    task.processes.seed(task.model.recipe.seed, step)
    optimizer.zero_grad(set_to_none=True)
    losses = _forward_backward(task, batch, step, replica)
    if task.stage.adversarial:
        with moved_up(task.model, task.stage.adversarial):
            losses["adversarial"] = _forward_backward(task, batch, step, replica)["loss"]
    if task.stage.clip_norm:
        parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, task.stage.clip_norm)
    optimizer.step()
    return losses


def _forward_backward(
    task: Task, batch: Any, step: int, replica: Replica | None
) -> dict[str, torch.Tensor]:
    """A batch's losses, part by part; their gradients add to those that are there."""
    losses: dict[str, torch.Tensor] = {}
    parts = task.parts(batch, step)
    for number, part in enumerate(parts, 1):
        precision = autocast(task.device, task.stage.precision)
        if replica is None:
            with precision:
                found = part()
            found["loss"].backward()  # type: ignore[no-untyped-call]
        else:
            found = replica.backward(part, precision, last=number == len(parts))
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


def _evaluate(
    task: Task,
    progress: Progress,
    log: RunLog,
    average: WeightAverage | None,
    replica: Replica | None,
) -> bool:
    """Validates the mean weights, where there are some; whether the score is the lowest so far."""
    _set_mode(task, training=False)
    mean = nullcontext() if average is None else average.in_place()
    with mean, torch.no_grad(), autocast(task.device, task.stage.precision):
        figures = task.validate() if replica is None else replica.run(task.validate)
    figures = task.processes.from_main(figures)
    if not figures:
        return False
    require_finite(task, progress.step, {"validation": figures["score"]})
    log.validation(progress.step, figures)
    if progress.best is not None and figures["score"] >= progress.best:
        return False
    progress.best, progress.best_step = figures["score"], progress.step
    return True
