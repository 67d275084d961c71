"""Runs trainings one after the other, by one process or by all that ``torchrun`` started.

    torchrun --nproc-per-node 2 -m tests.e2e.train_jobs JOBS.json

A job says what to train, on what, and into which folder, and where it is halted, if it is. Every
step is logged. What a job was refused with is written beside its run, into ``RUN.RANK.error``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidvec.config import load_recipe
from vidvec.errors import UsageError
from vidvec.train import distill, finetune, log, pretrain, trainer
from vidvec.train.distributed import launched


class Teacher:
    """Vectors in a file of NumPy's."""

    def __init__(self, file: Path) -> None:
        with np.load(file) as held:
            self.matrix, self.ids = held["matrix"], held["ids"].tolist()


class HaltedError(Exception):
    """Raised ahead of a step, by all processes."""


def halt_at(step: int) -> None:
    original = trainer.train_step

    def halting(task: Any, optimizer: Any, batch: Any, at: int, *more: Any) -> Any:
        if at == step:
            trainer.train_step = original
            raise HaltedError
        return original(task, optimizer, batch, at, *more)

    trainer.train_step = halting


def train(job: dict[str, Any]) -> None:
    corpus, run, recipe = Path(job["corpus"]), Path(job["run"]), load_recipe(job["recipe"])
    start = Path(job["start"]) if "start" in job else None
    if job["stage"] == "pretrain":
        pretrain.pretrain(corpus, run, recipe)
    elif job["stage"] == "finetune":
        finetune.finetune(corpus, run, recipe, start)
    else:
        distill.distill(corpus, run, recipe, Teacher(Path(job["vectors"])), start)


def main(jobs: list[dict[str, Any]]) -> None:
    torch.set_num_threads(1)
    log.LOG_EVERY = 1
    with launched() as processes:
        for job in jobs:
            if "halt" in job:
                halt_at(job["halt"])
            try:
                train(job)
            except HaltedError:
                pass
            except UsageError as error:
                Path(f"{job['run']}.{processes.rank}.error").write_text(str(error), "utf-8")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text("utf-8")))
