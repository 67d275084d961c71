"""Parts of a job, each a file, made by several processes.

What a part makes is one file, there whole or not at all. So a worker that dies costs the part it
was at, a job that is killed and run again makes only what is missing, and it does not matter which
process, on which machine, makes which part. ``LocalWorkers`` are processes of this machine;
``vidvec.pipeline.bulk.parts.RayWorkers`` are those of a Ray cluster.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from vidvec.errors import FormatError, UsageError

ATTEMPTS = 4
# Parts handed out a worker: one that it is at, and one for when that is done.
AHEAD = 2
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_WHY = (
    "killed, or out of memory, of which each has more with fewer --workers; or started by a script "
    'that lacks if __name__ == "__main__"'
)

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Part:
    """One file to be made.

    Attributes:
        output: The file; where it is there, the part is done.
        make: Function of a module, called as ``make(*arguments, output)``; it writes the file
            atomically (``vidvec.storage.atomic_path``).
        arguments: What can be sent to another process, and does not need to be unpickled from disk.
    """

    output: Path
    make: Callable[..., None]
    arguments: tuple[Any, ...] = ()


class Workers(Protocol):
    """Makes parts; closed by ``with``."""

    def run(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Makes all of them, in any order, and yields each when its file is there."""
        ...


def make_missing(
    workers: Workers, parts: Iterable[Part], count: int, note: str, progress: Progress
) -> None:
    """Has workers make those parts whose file is not there.

    Args:
        workers: Who makes them.
        parts: Taken one after the other, when a worker is free.
        count: How many there are, those that are done included.
        note: What is said of them.
        progress: Called with parts done, all, and the note.

    Raises:
        VidvecError, OSError: A part cannot be made.
    """
    left = count

    def missing() -> Iterator[Part]:
        nonlocal left
        for part in parts:
            if part.output.exists():
                left -= 1
            else:
                yield part

    progress(0, count, note)
    for _ in workers.run(missing()):
        left -= 1
        progress(count - left, count, note)
    progress(count - left, count, note)


def make(part: Part) -> None:
    """Makes a part, unless its file is there: who made it may have died just after.

    Raises:
        FormatError: It made no file.
    """
    if part.output.exists():
        return
    part.make(*part.arguments, part.output)
    if not part.output.exists():
        raise FormatError(
            f"a worker made {part.output}, which is not to be seen from here: on several machines "
            "folders must be on a file system that all of them have under the same path"
        )


class Here:
    """This very process as the only worker."""

    def run(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Makes one part after the other."""
        for part in parts:
            make(part)
            yield part


class LocalWorkers:
    """Processes of this machine, which share its cores.

    They are started anew (``spawn``), so that a script that uses them needs a main guard, and end
    when this process does, however that comes about.

    Args:
        count: Processes.

    Raises:
        UsageError: Fewer than one is asked for.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise UsageError(f"--workers {count}: expected 1 or more processes")
        self._count = count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> LocalWorkers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)
            self._pool = None

    def run(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Makes all parts; those of a worker that died, and that cannot be read or written, again.

        Raises:
            UsageError: A part was tried ``ATTEMPTS`` times, and each time a worker died.
            VidvecError, OSError: What a part ended with; an ``OSError`` the last time of several.
        """
        waiting, again = iter(parts), deque[Part]()
        tried: Counter[Path] = Counter()
        running: dict[Future[None], Part] = {}
        while True:
            while len(running) < AHEAD * self._count:
                part = again.popleft() if again else next(waiting, None)
                if part is None:
                    break
                running[self._submit(part)] = part
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                part = running.pop(future)
                error = future.exception()
                if error is None:
                    yield part
                    continue
                tried[part.output] += 1
                _check_retry(part, error, tried[part.output])
                again.append(part)

    def _submit(self, part: Part) -> Future[None]:
        """Hands a part to a worker; after one has died, to a new one.

        Raises:
            UsageError: New ones die at once, too.
        """
        for _ in range(ATTEMPTS):
            try:
                return self._started().submit(make, part)
            except BrokenProcessPool:
                self._pool = None
        raise UsageError(f"worker processes end as soon as they are started: {_WHY}")

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._count,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_end_with_parent,
            )
            with _threads_each(max(1, (os.cpu_count() or 1) // self._count)):
                for _ in range(self._count):  # processes start with what they are handed
                    self._pool.submit(os.getpid)
        return self._pool


def _check_retry(part: Part, error: BaseException, tried: int) -> None:
    """Raises what a part ended with, where trying it again does not help."""
    if not isinstance(error, BrokenProcessPool | OSError):
        raise error
    if tried < ATTEMPTS:
        return
    if isinstance(error, OSError):
        raise error
    raise UsageError(
        f"worker processes ended {tried} times while {part.output.name} or a part beside it was "
        f"made: {_WHY}. What is done is kept: run the command again"
    )


@contextmanager
def _threads_each(count: int) -> Iterator[None]:
    """Processes started inside use so many threads each for their arithmetic."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update({name: before[name] or str(count) for name in _THREADS})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]


def _end_with_parent() -> None:
    """In a worker: ends it when the process that started it is gone; Ctrl-C is that one's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait_for([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
