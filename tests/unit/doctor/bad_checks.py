"""Checks that go wrong, each in its own way."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator

from vidvec.doctor.findings import Finding


def good(*words: str) -> Iterator[Finding]:
    print("printed by a library")  # noqa: T201
    os.write(1, b"and by one that does not ask Python")
    yield Finding("good", "ok", " ".join(words) or "nothing given")


def raises() -> Iterator[Finding]:
    yield Finding("before", "ok", "海")
    raise ValueError("it is broken")


def leaves() -> Iterator[Finding]:
    yield Finding("before", "ok", "kept")
    sys.exit(3)


def crashes() -> Iterator[Finding]:
    yield Finding("before", "ok", "kept")
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs() -> Iterator[Finding]:
    yield Finding("before", "ok", "kept")
    time.sleep(600)
