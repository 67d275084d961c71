"""Parts of a job that fail, for worker processes: a module that is imported quickly."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def die(output: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hesitate(before: int, marks: Path, output: Path) -> None:
    """Fails as a file system does that is away for a while."""
    if len(list(marks.iterdir())) < before:
        (marks / f"{time.monotonic_ns()}").touch()
        raise OSError("the server does not answer")
    output.touch()
