"""What a training run notes as it goes: losses and validations, for people and for curves."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import torch

from vidvec.errors import VidvecError
from vidvec.train.checkpoint import Progress
from vidvec.train.distributed import Processes
from vidvec.train.task import Task

LOG_EVERY = 10


def require_finite(task: Task, step: int, figures: dict[str, float]) -> None:
    """Stops a run whose figures are not finite.

    Raises:
        VidvecError: Says which, where, and what to try.
    """
    bad = [f"{name} is {value}" for name, value in figures.items() if not math.isfinite(value)]
    if bad:
        raise VidvecError(
            f"{task.name}: {', '.join(bad)} at step {step}: lower {task.name}.learning_rate and "
            f"{task.name}.high_learning_rate, or set {task.name}.clip_norm=1"
        )


class _Sinks:
    """``metrics.jsonl`` and TensorBoard, from where a run goes on."""

    def __init__(self, run: Path, progress: Progress) -> None:
        from torch.utils.tensorboard import SummaryWriter

        run.mkdir(parents=True, exist_ok=True)
        self._file = (run / "metrics.jsonl").open("ab")
        # What a killed run wrote after its last checkpoint is done again.
        self._file.truncate(min(progress.metrics_bytes, self.position()))
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=progress.step + 1)

    def close(self) -> None:
        self._file.close()
        self._board.close()

    def position(self) -> int:
        self._file.flush()
        return self._file.seek(0, 2)

    def write(self, step: int, kind: str, figures: dict[str, float]) -> None:
        # JSON knows no NaN, which a correlation without variance is.
        known = {name: v if math.isfinite(v) else None for name, v in figures.items()}
        record = {"step": step, "kind": kind, **known}
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        for name, value in figures.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)


class RunLog:
    """Figures to ``metrics.jsonl`` and TensorBoard, every ``LOG_EVERY`` steps.

    Of several processes rank 0 writes; the others add their shares of the losses.
    """

    def __init__(self, run: Path, progress: Progress, processes: Processes) -> None:
        self._processes = processes
        self._sinks = _Sinks(run, progress) if processes.main else None
        self._losses: list[dict[str, torch.Tensor]] = []
        self._since, self._step = time.monotonic(), progress.step
        self.latest: dict[str, float] = {}

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self._sinks is not None:
            self._sinks.close()

    def position(self) -> int:
        """Bytes written so far."""
        return 0 if self._sinks is None else self._sinks.position()

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
        names = list(self._losses[0]) if self._losses else []
        means = [torch.stack([item[name] for item in self._losses]).mean() for name in names]
        if means and self._processes.several:
            means = list(self._processes.total(torch.stack([each.double() for each in means])))
        figures = {name: float(mean) for name, mean in zip(names, means, strict=True)}
        require_finite(task, step, figures)
        return figures

    def validation(self, step: int, figures: dict[str, float]) -> None:
        """Writes a validation's figures."""
        self._write(step, "validation", figures)
        self.latest = {**self.latest, "validation": figures["score"]}
        self._since = time.monotonic()

    def _write(self, step: int, kind: str, figures: dict[str, float]) -> None:
        if self._sinks is not None:
            self._sinks.write(step, kind, figures)
