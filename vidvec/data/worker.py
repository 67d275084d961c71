"""One process that reads video files, with limits on time and memory.

Why it is built like this (figures in docs/decisions.md):

- It is started as a program of its own (``worker_main.py``) and not through ``multiprocessing``,
  whose ``spawn`` runs the main module again, which a script without a main guard or a notebook does
  not survive, and whose ``fork`` hangs under Arrow's threads.
- Results come through a pipe: shared memory is slower here, as its pages must be made first, and
  nothing of a pipe is left when all is killed.
- Memory is watched from outside, 20 times a second, as only then the user is told that it was
  memory: under a hard limit FFmpeg reports damaged packets. A hard limit (``RLIMIT_DATA``) stands
  a little above, for one allocation that is too fast to be watched.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vidvec import errors
from vidvec.data import wire
from vidvec.data.media import Media, MediaRequest
from vidvec.data.worker_main import BOOTSTRAP
from vidvec.errors import BadRecord, UsageError, VidvecError

# A worker that was just started has 60 MB; 8K at 10 bits takes 1.0 GB (docs/decisions.md).
MEMORY_MB = 4096
FILE_SECONDS = 300.0
# Files get time by their size, too: two readings of 50 GB from a slow disk last longer than any
# decoding of the 32 pictures that are wanted.
_BYTES_A_SECOND = 10e6
_START_SECONDS = 120.0
_LOOK_SECONDS = 0.05
# Between two looks no more than this counts, so that a run that was stopped (Ctrl-Z, a laptop that
# slept) does not find all its files too slow when it goes on.
_LONGEST_LOOK_SECONDS = 1.0
_ABOVE_MB = 512
_PIPE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may take.

    Attributes:
        seconds: Besides a second for every 10 MB of the file.
        memory_mb: Of the process that reads it, in MiB; at least 256. Linux only.
    """

    seconds: float = FILE_SECONDS
    memory_mb: int = MEMORY_MB

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise UsageError(f"the time limit of a file must be above 0 s, found {self.seconds:g}")
        if self.memory_mb < 256:
            raise UsageError(
                f"the memory limit of a file must be at least 256 MB, found {self.memory_mb}"
            )

    def seconds_for(self, path: Path) -> float:
        """The time limit of one file."""
        try:
            size = path.stat().st_size
        except OSError:
            size = 0
        return self.seconds + size / _BYTES_A_SECOND


class Ended(Exception):  # noqa: N818 - it is about the worker; what is wrong is said in the end
    """A worker that had to be ended or ended by itself, as reason and detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class Worker:
    """One worker process, and the two pipes to it.

    Attributes:
        is_usable: Whether it can be given a file.
    """

    def __init__(self, task: str, limits: Limits) -> None:
        self._limits = limits
        requests, self._requests = os.pipe()
        self._answers, theirs = os.pipe()
        self._released = False
        try:
            _widen(theirs)
            data = (limits.memory_mb + _ABOVE_MB) << 20
            paths = json.dumps([os.path.abspath(entry) for entry in sys.path])
            arguments = [task, str(theirs), str(os.getpid()), str(data)]
            self._process = subprocess.Popen(  # noqa: S603 - this Python, our own code
                [sys.executable, "-P", "-c", BOOTSTRAP, paths, *arguments],
                stdin=requests,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs],
                # One thread each, as files are read side by side; the threads for matrix products
                # alone would reserve 180 MB.
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        except OSError as error:
            os.close(self._requests)
            os.close(self._answers)
            detail = f"cannot start a decode worker with {sys.executable!r}: {error}"
            raise VidvecError(detail) from error
        finally:
            os.close(requests)
            os.close(theirs)
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)
        self._read = 0
        self.is_usable = True

    @property
    def is_new(self) -> bool:
        """Whether no file was read before."""
        return self._read <= 1

    def wait_until_ready(self) -> None:
        """Waits for the worker's first word.

        Raises:
            VidvecError: It cannot work.
        """
        try:
            said = self._receive(_START_SECONDS)
        except Ended as error:
            detail = f"{error.reason}, {error.detail}"
            raise VidvecError(f"a decode worker did not start: {detail}") from None
        if said["kind"] != "ready":
            raise VidvecError(f"a decode worker cannot work: {said['detail']}")

    def read(self, path: Path, request: MediaRequest) -> Media:
        """Has the worker read a file.

        Raises:
            BadRecord: The file cannot be read.
            Ended: Not even tried to the end: the worker is no more.
            VidvecError: What the task raised.
        """
        self._read += 1
        path = path.absolute()
        with suppress(BrokenPipeError):  # then there is no answer, which says why
            wire.write(self._requests, {"path": str(path), "request": asdict(request)})
        said = self._receive(self._limits.seconds_for(path))
        kind = said.pop("kind")
        if kind == "media":
            return Media(**said)
        if kind == "bad":
            raise BadRecord(said["reason"], said["detail"])
        if kind == "memory":
            self.end()
            raise self._out_of_memory()
        error = getattr(errors, said["name"], VidvecError)
        raised: VidvecError = error.__new__(error)
        raised.args = (said["detail"],)
        raise raised

    def end(self) -> None:
        """Kills the process; whoever waits for its answer is told that it is no more."""
        self.is_usable = False
        with suppress(OSError):
            self._process.kill()

    def release(self) -> None:
        """Closes the pipes of a worker that was ended."""
        if self._released:
            return
        self._released = True
        # A process that waits for a dead network disk cannot be killed, nor waited for.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        os.close(self._requests)
        os.close(self._answers)

    def _receive(self, seconds: float) -> dict[str, Any]:
        """The worker's next message, for which it has so many seconds.

        Raises:
            Ended: There will be none.
        """
        waited, last = 0.0, time.monotonic()

        def fill(buffer: memoryview) -> None:
            nonlocal waited, last
            while buffer:
                ready = self._poll.poll(1000 * _LOOK_SECONDS)
                now = time.monotonic()
                waited, last = waited + min(now - last, _LONGEST_LOOK_SECONDS), now
                if waited > seconds:
                    self.end()
                    raise Ended("timeout", f"not read within {seconds:.0f} s (--file-seconds)")
                if ready:
                    count = os.readv(self._answers, [buffer])
                    if count == 0:
                        raise EOFError
                    buffer = buffer[count:]
                elif _resident_bytes(self._process.pid) > self._limits.memory_mb << 20:
                    self.end()
                    raise self._out_of_memory()

        try:
            message: dict[str, Any] = wire.receive(fill)
        except EOFError:
            raise self._gone() from None
        except (ValueError, TypeError, LookupError, MemoryError):
            # What has written over its own memory may say anything.
            self.end()
            raise Ended("crashed", "the decoder answered with nonsense") from None
        return message

    def _out_of_memory(self) -> Ended:
        limit = f"more than {self._limits.memory_mb} MB of memory (--file-memory-mb)"
        return Ended("out-of-memory", f"its decoding needs {limit}")

    def _gone(self) -> Ended:
        """Why the worker has closed its end."""
        self.is_usable = False
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.end()
            return Ended("crashed", "the decoder stopped answering")
        if code == -signal.SIGKILL:
            detail = "the system killed the decoder (signal 9), as it does when memory runs out"
            return Ended("out-of-memory", detail)
        if code < 0:
            known = {each.value: f" ({each.name})" for each in signal.Signals}
            detail = f"the decoder crashed with signal {-code}{known.get(-code, '')}"
            return Ended("crashed", detail)
        return Ended("crashed", f"the decoder ended with code {code}")


def _widen(pipe: int) -> None:
    """Has a pipe hold a megabyte where that can be had; pictures come through it."""
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):  # a user's pipes are limited in all
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _resident_bytes(process: int) -> int:
    """Memory that a process has of its own, libraries left out; 0 where that cannot be seen."""
    try:
        with open(f"/proc/{process}/statm", "rb") as file:
            _, resident, shared, *_ = file.read().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
