"""What the doctor found, and how checks run: each in a process of its own, with a time limit.

A check is a function that yields findings. It runs in a child process, because what it looks at may
crash the process that looks: a library that was built for another one, a driver, a file. What it
yielded before that is kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Literal

Status = Literal["ok", "note", "problem"]

# What a crashed child said last is shown as far as this.
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What.
        status: ``problem`` where the basic way (ingest with the built-in frame encoder, train,
            embed, search) does not work without it; ``note`` where something could be better.
        found: What was found.
        advice: What to do; empty where nothing need be done.
    """

    name: str
    status: Status
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A check to run.

    Attributes:
        name: Stands for the check where it dies before it found anything.
        target: ``module:function``; the function takes ``arguments`` and yields findings.
        arguments: Texts.
        seconds: Time limit.
        basic: Whether the basic way needs what it looks at: where it dies, that is a problem.
        alone: Runs while no other does, as it measures.
    """

    name: str
    target: str
    arguments: tuple[str, ...] = ()
    seconds: float = 60.0
    basic: bool = False
    alone: bool = False


def run_check(check: Check) -> list[Finding]:
    """Runs a check in a child process; whatever happens there, findings come back."""
    command = [sys.executable, "-m", "vidvec.doctor.child", check.target, *check.arguments]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    bad: Status = "problem" if check.basic else "note"
    try:
        done = subprocess.run(  # noqa: S603 - this Python, a module of ours
            command, capture_output=True, timeout=check.seconds, check=False, env=environment
        )
        out, errors, status = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as late:
        advice = "run it again when the machine is less busy"
        found = f"did not end within {check.seconds:g} s"
        return [*_findings(late.stdout or b""), Finding(check.name, bad, found, advice)]
    except OSError as error:
        return [Finding(check.name, bad, f"could not be run: {error}", "close other programs")]
    findings = _findings(out)
    if status:
        how = f"ended by signal {-status}" if status < 0 else f"exit status {status}"
        lines = errors.decode("utf-8", "replace").strip().splitlines()
        last = lines[-1][:_SHOWN] if lines else "said nothing"
        findings.append(
            Finding(check.name, bad, f"the check failed ({how}): {last}", "see the lines above")
        )
    return findings


def _findings(out: bytes) -> list[Finding]:
    """Findings of a child's output; a line cut short by its end is left out."""
    found = []
    for line in out.split(b"\n"):
        if line.startswith(b'{"name"'):
            try:
                found.append(Finding(**json.loads(line)))
            except (ValueError, TypeError):
                continue
    return found


def to_line(finding: Finding) -> str:
    """A finding as a child writes it."""
    return json.dumps(asdict(finding))


def run_checks(checks: Sequence[Check], workers: int) -> Iterator[list[Finding]]:
    """Runs checks, ``workers`` at a time; their findings in the order of the checks."""
    for alone, some in groupby(checks, key=lambda check: check.alone):
        with ThreadPoolExecutor(1 if alone else max(1, workers)) as pool:
            yield from pool.map(run_check, list(some))
