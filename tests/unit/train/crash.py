"""Runs trainings that are killed at chosen moments, each in a process of its own.

    python -m tests.unit.train.crash JOBS.json

A job says what to train, into which folder, and where it dies (see ``DEATHS``); without a death it
runs to its end. Jobs run one after the other. The libraries are imported once and each job is a
fork, made before anything is computed; a killed child dies of SIGKILL, so it cleans nothing up.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset  # noqa: F401 - this and the next two are imported late, at a second or two
import torch
import torch._dynamo
import torch.utils.tensorboard

from vidvec import storage
from vidvec.config import load_recipe
from vidvec.train import checkpoint, finetune, pretrain, trainer

POINTER = "run.json"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _at_call(owner: Any, name: str, number: int, act: Callable[..., None]) -> None:
    """Puts ``act`` in front of the ``number``-th call of ``owner.name``."""
    original, calls = getattr(owner, name), 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            act(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def _in_step(number: int) -> None:
    _at_call(trainer, "train_step", number, lambda *_, **__: die())


def _before_saving(number: int) -> None:
    """A validation may be logged already, its checkpoint is not begun."""
    _at_call(trainer, "save_checkpoint", number, lambda *_, **__: die())


def _half_written(number: int) -> None:
    """In the middle of writing a checkpoint's optimizer state."""

    def torn(_: object, file: Path) -> None:
        file.write_bytes(b"\x10")
        die()

    # Each checkpoint has two such files beside the model's own; the optimizer's is the first.
    _at_call(checkpoint, "save_file", 2 * number - 1, torn)


def _at_pointer(number: int, *, written: bool) -> None:
    """The checkpoint's folder has its name; ``run.json`` does or does not point to it yet."""
    original, seen = storage.write_json, 0

    def write_json(path: Path, value: object) -> None:
        nonlocal seen
        seen += path.name == POINTER
        here = path.name == POINTER and seen == number
        if here and not written:
            die()
        original(path, value)
        if here:
            die()

    storage.write_json = write_json


def _while_pointing(number: int) -> None:
    """``run.json`` is written under its temporary name, and not yet renamed."""
    original, seen = Path.replace, 0

    def replace(self: Path, target: Path) -> Path:
        nonlocal seen
        seen += target.name == POINTER
        if target.name == POINTER and seen == number:
            die()
        return original(self, target)

    Path.replace = replace  # type: ignore[method-assign]


DEATHS: dict[str, Callable[[int], None]] = {
    "step": _in_step,
    "before saving": _before_saving,
    "half written": _half_written,
    "before pointing": lambda number: _at_pointer(number, written=False),
    "while pointing": _while_pointing,
    "after pointing": lambda number: _at_pointer(number, written=True),
    "outside": lambda number: None,  # when run.json points to this step or a later one
}


def _train(job: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    torch.cuda.is_available = lambda: False
    recipe, run, corpus = load_recipe(job["recipe"]), Path(job["run"]), Path(job["corpus"])
    if job["stage"] == "pretrain":
        pretrain.pretrain(corpus, run, recipe)
    else:
        finetune.finetune(corpus, run, recipe, Path(job["start"]))


def _child(job: dict[str, Any]) -> None:
    status = 1
    try:
        if "death" in job:
            kind, number = job["death"]
            DEATHS[kind](number)
        _train(job)
        status = 0
    except BaseException:
        traceback.print_exc()
    os._exit(status)


def _kill_at(child: int, run: Path, step: int) -> None:
    """Kills the child as soon as the run's last checkpoint is that of this step or a later one."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        pointer = run / POINTER
        if pointer.is_file() and int(storage.read_json(pointer)["last"][len("step-") :]) >= step:
            break
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)


def main(jobs: list[dict[str, Any]]) -> None:
    for job in jobs:
        child = os.fork()
        if child == 0:
            _child(job)
        kind, number = job.get("death", ("", 0))
        if kind == "outside":
            _kill_at(child, Path(job["run"]), number)
        status = os.waitpid(child, 0)[1]
        if status != (signal.SIGKILL if kind else 0):
            sys.exit(f"{job} ended with status {status}")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text("utf-8")))
