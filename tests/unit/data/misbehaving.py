"""What a library may do to a worker process, by the name of the file that it reads."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np

from vidvec.data import wire
from vidvec.data.media import Media, MediaRequest
from vidvec.errors import BadRecord, MissingExtraError

TASK = f"{__name__}:read"
_calls = 0


def read(path: Path, request: MediaRequest) -> Media:
    """Does what the file's stem says."""
    global _calls  # noqa: PLW0603 - tells how long this process has been at work
    _calls += 1
    deeds = {
        "hang": _hang,
        "spin": _spin,
        "segfault": lambda: ctypes.string_at(0),
        "abort": os.abort,
        "exit": lambda: os._exit(3),
        "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "eats": _eat,
        "eats-at-once": lambda: np.ones(3 << 30, np.uint8),
        "bad": lambda: _bad(path),
        "raises": lambda: {}["key"],
        "needs": _needs,
        "slow": lambda: time.sleep(0.3),
        "babbles": _babble,
        "prints": lambda: os.write(1, b"noise"),
        "second": lambda: os.abort() if _calls > 1 else None,
    }
    deed = deeds.get(path.stem.partition("_")[0])
    if deed is not None:
        deed()
    return Media(
        pictures=[np.full((request.short_side, 3, 3), _calls, np.uint8)],
        notes=(str(path), str(os.getpid()), str("torch" in sys.modules), *_limits()),
    )


def _limits() -> list[str]:
    """Megabytes of data, bytes of a core dump."""
    data, core = resource.RLIMIT_DATA, resource.RLIMIT_CORE
    return [str(resource.getrlimit(data)[0] >> 20), str(resource.getrlimit(core)[0])]


def _hang() -> None:
    while True:
        time.sleep(60)


def _spin() -> None:
    """Never comes back from C, and keeps the interpreter's lock."""
    libc = ctypes.PyDLL(None)
    while True:
        libc.sleep(60)


def _eat() -> None:
    held = []
    while True:
        held.append(np.ones(4 << 20, np.uint8))
        time.sleep(0.001)


def _babble() -> None:
    """Writes over the answer's beginning, as a library that has lost its way might."""
    os.write(int(sys.argv[3]), wire.HEAD.pack(7) + b"{nonsen")


def _bad(path: Path) -> None:
    raise BadRecord("truncated-video", f"{path.name} is cut")


def _needs() -> None:
    raise MissingExtraError("rapidocr", "ocr")
