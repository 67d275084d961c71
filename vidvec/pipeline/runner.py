"""Runs stages: side by side over devices, each in a process of its own, each skipped when done.

    OUT/
      lock              held while a plan runs here
      stages/*.json     of every stage that was done: its key, seconds, command
      logs/*.log        what each stage printed
      progress/*.json   how far a running stage is

A stage is a command that carries on where it was stopped, so a plan killed at any moment is run
again and loses nothing but what the command itself does.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from vidvec import storage
from vidvec.errors import UsageError
from vidvec.pipeline.child import PARENT_VARIABLE, PROGRESS_VARIABLE
from vidvec.pipeline.plan import Stage

POLL_SECONDS = 0.1
TAIL_LINES = 15
COMMAND = (sys.executable, "-m", "vidvec.cli")


@dataclass(frozen=True, slots=True)
class Failure:
    """A stage that ended with an error.

    Attributes:
        stage: The stage.
        status: Exit status; negative: the signal that ended it.
        tail: The last lines that it printed.
        log: The file with all of them.
    """

    stage: Stage
    status: int
    tail: list[str]
    log: Path

    @property
    def command(self) -> str:
        """What to type to repeat it."""
        return shlex.join(["vidvec", *self.stage.command])


@dataclass(slots=True)
class State:
    """How a plan stands, for whoever shows it.

    Attributes:
        done: Seconds that each finished stage took (now or in an earlier run), by name.
        skipped: Stages that were done before.
        running: Share done, 0…1, of each stage that runs, by name.
        started: When each of these began, in ``time.monotonic()``.
        failed: What went wrong, by name.
        blocked: Stages that wait for one that failed, with its name.
    """

    done: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    running: dict[str, float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    failed: dict[str, Failure] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)


OnChange = Callable[[State, str], None]


@contextmanager
def locked(out: Path) -> Iterator[int]:
    """Holds a plan's folder; yields the descriptor, which stages inherit.

    Raises:
        UsageError: Another process holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise UsageError(
                f"{out} is in use by process {file.read().strip() or 'unknown'} or a stage that it "
                "started: wait for it, stop it, or give another --out"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file.fileno()


def is_done(out: Path, stage: Stage) -> bool:
    """Whether a stage was finished with this key and its output is still there."""
    return stage.output.exists() and (out / "stages" / f"{stage.slug}.json").is_file()


def seconds_of(out: Path, stage: Stage) -> float:
    """What a finished stage took."""
    return float(storage.read_json(out / "stages" / f"{stage.slug}.json")["seconds"])


def wanted(stages: Sequence[Stage], done: Callable[[Stage], bool]) -> list[Stage]:
    """The stages that have to run: not done, and read by one that has to, or by none at all.

    A stage whose output is gone but was used up already is not run again.
    """
    needed_by_later: set[str] = set()
    ends = {stage.name for stage in stages} - {need for stage in stages for need in stage.needs}
    chosen = []
    for stage in reversed(stages):
        if (stage.name in ends or stage.name in needed_by_later) and not done(stage):
            chosen.append(stage)
            needed_by_later.update(stage.needs)
    return chosen[::-1]


class Runner:
    """Runs the stages of one plan's folder.

    Args:
        out: The plan's folder.
        lock: From ``locked``.
        devices: One entry a stage that may run at the same time: what to set in its environment.
        command: In front of each stage's arguments.
    """

    def __init__(
        self,
        out: Path,
        lock: int,
        devices: Sequence[Mapping[str, str]] = ({},),
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._out, self._lock = out, lock
        self._devices, self._command = list(devices), list(command)
        for folder in ("stages", "logs", "progress"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        storage.remove_leftovers(out / "stages")

    def run(self, stages: Sequence[Stage], state: State, on_change: OnChange) -> None:
        """Runs what is not done, in ``state``; a failed stage stops only those that need it.

        Args:
            stages: In an order that they can be run in.
            state: Added to.
            on_change: Called with the state and the stage that began or ended, or with an empty
                name where a running stage came further.
        """
        waiting = wanted(stages, lambda stage: is_done(self._out, stage))
        names = {stage.name for stage in waiting}
        for stage in stages:
            if stage.name not in names and is_done(self._out, stage):
                state.skipped.append(stage.name)
                state.done[stage.name] = seconds_of(self._out, stage)
        free = list(self._devices)
        running: list[_Running] = []
        try:
            while waiting or running:
                waiting = self._block(waiting, state, on_change)
                for stage in [each for each in waiting if not (set(each.needs) & names)]:
                    if not free:
                        break
                    waiting.remove(stage)
                    running.append(self._start(stage, free.pop(0)))
                    state.started[stage.name], state.running[stage.name] = time.monotonic(), 0.0
                    on_change(state, stage.name)
                time.sleep(POLL_SECONDS)
                for each in [one for one in running if one.process.poll() is not None]:
                    running.remove(each)
                    free.append(each.device)
                    if self._end(each, state):
                        names.discard(each.stage.name)
                    on_change(state, each.stage.name)
                for each in running:
                    state.running[each.stage.name] = each.share()
                on_change(state, "")
        finally:
            _stop(running)

    def _block(self, waiting: list[Stage], state: State, on_change: OnChange) -> list[Stage]:
        """Takes out the stages that wait for a failed one, directly or not."""
        left = []
        for stage in waiting:
            cause = next((n for n in stage.needs if n in state.failed or n in state.blocked), None)
            if cause is None:
                left.append(stage)
            else:
                state.blocked[stage.name] = state.blocked.get(cause, cause)
                on_change(state, stage.name)
        return left

    def _start(self, stage: Stage, device: Mapping[str, str]) -> _Running:
        log = (self._out / "logs" / f"{stage.slug}.log").open("wb")
        progress = self._out / "progress" / f"{stage.slug}.json"
        progress.unlink(missing_ok=True)
        environment = {
            **os.environ,
            **device,
            PROGRESS_VARIABLE: str(progress),
            PARENT_VARIABLE: str(os.getpid()),
        }
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*self._command, *stage.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=(self._lock,),
        )
        return _Running(stage, process, device, log, progress)

    def _end(self, ended: _Running, state: State) -> bool:
        """Notes how a stage ended; whether it did well."""
        stage = ended.stage
        ended.log.close()
        ended.progress.unlink(missing_ok=True)
        seconds = time.monotonic() - state.started[stage.name]
        del state.running[stage.name]
        status = ended.process.returncode
        if status == 0 and stage.output.exists():
            facts = {"key": stage.key, "seconds": seconds, "command": list(stage.command)}
            storage.write_json(self._out / "stages" / f"{stage.slug}.json", facts)
            state.done[stage.name] = seconds
            return True
        log = Path(ended.log.name)
        lines = log.read_text("utf-8", errors="replace").splitlines()
        if status == 0:
            lines.append(f"it ended well but did not make {stage.output}")
        state.failed[stage.name] = Failure(stage, status, lines[-TAIL_LINES:], log)
        return False


@dataclass(slots=True)
class _Running:
    stage: Stage
    process: subprocess.Popen[bytes]
    device: Mapping[str, str]
    log: IO[bytes]
    progress: Path

    def share(self) -> float:
        """Of the stage's work, what is done, as its command last said."""
        try:
            said = json.loads(self.progress.read_text())
            return min(1.0, said["done"] / said["total"])
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
            return 0.0  # not said yet, or being written


def _stop(running: Sequence[_Running]) -> None:
    """Ends what still runs, as when the user stops the plan."""
    for each in running:
        each.process.send_signal(signal.SIGTERM)
    for each in running:
        try:
            each.process.wait(10)
        except subprocess.TimeoutExpired:
            each.process.kill()
            each.process.wait()
        each.log.close()
