"""What a stage's process and the runner that started it say to each other."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path

# Set by the runner: the file in which a command says how far it is, and whom it must not outlive.
PROGRESS_VARIABLE = "VIDVEC_PROGRESS"
PARENT_VARIABLE = "VIDVEC_PARENT"
REPORT_SECONDS = 0.3
_PR_SET_PDEATHSIG = 1


def bind_to_parent() -> None:
    """In a stage's process: dies when the runner does, however that comes about.

    Else a stage would go on unseen after a runner was killed, and a second one would be started
    beside it. Where the system has no such wish (it is Linux's), the runner's lock still refuses
    the second.
    """
    parent = os.environ.pop(PARENT_VARIABLE, "")
    if not parent:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died before that could be wished
        sys.exit(1)


class ProgressFile:
    """Where a command says how far it is; says nothing where no runner started it."""

    def __init__(self) -> None:
        name = os.environ.get(PROGRESS_VARIABLE, "")
        self._path = Path(name) if name else None
        self._said = 0.0

    def say(self, done: int, total: int | None) -> None:
        """Writes how far it is, a few times a second at most."""
        now = time.monotonic()
        if self._path is None or not total or now - self._said < REPORT_SECONDS:
            return
        self._said = now
        self._path.write_text(json.dumps({"done": done, "total": total}))
