"""The main loop of a worker process: a file and a request come in, what was read goes out.

Not to be run by hand: ``workers.py`` starts it, by ``BOOTSTRAP``. It imports no more than reading
files needs, and nothing of the program that started it, so that a script without a main guard, a
notebook or a server can have workers.

What may go wrong here, while FFmpeg reads a file that nobody vouches for, is the parent's to deal
with: it watches time and memory, and takes the end of this process for a crash.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from vidvec.data import wire
from vidvec.data.media import Media, MediaRequest
from vidvec.errors import BadRecord, VidvecError

# Before any other import: Ctrl-C reaches all processes of a terminal, and is the parent's. Then
# modules are looked for where the parent looks for them, which need not be where Python would.
BOOTSTRAP = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); import sys, json; "
    "sys.path[:] = json.loads(sys.argv[1]); from vidvec.data.worker_main import main; main()"
)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

Task = Callable[[Path, MediaRequest], Media]


def main() -> None:
    """Answers until the parent closes its end.

    Arguments, behind those of ``BOOTSTRAP``: the task as ``module:function``, the file descriptor
    of answers, the parent's process id, and the most bytes of data that this process may have.
    """
    task_name, answers, parent, data_bytes = sys.argv[2:]
    end_with(int(parent))
    bound(int(data_bytes))
    requests = os.dup(0)
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # a library that prints would otherwise write into the answers
        os.dup2(silence, descriptor)
    out = int(answers)
    try:
        module, _, function = task_name.partition(":")
        task: Task = getattr(import_module(module), function)
        warm_up()
    except Exception as error:
        send(out, {"kind": "unable", "detail": f"{type(error).__name__}: {error}"})
        return
    send(out, {"kind": "ready"})
    while (message := _next(requests)) is not None:
        send(out, answer(task, message))


def end_with(parent: int) -> None:
    """Has this process killed when its parent is, even in the middle of a file.

    Only Linux can do that. Elsewhere it ends when it finds the parent's pipe closed, behind the
    file that it is at.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before
            os._exit(1)


def bound(data_bytes: int) -> None:
    """Sets the limits that the system keeps: on data and on core dumps.

    On data (``RLIMIT_DATA``, where Linux counts private writable memory since 4.7), and not on
    addresses, of which threads and libraries reserve hundreds of megabytes that they never touch.
    """
    import resource

    for limit, size in ((resource.RLIMIT_DATA, data_bytes), (resource.RLIMIT_CORE, 0)):
        _, most = resource.getrlimit(limit)
        allowed = size if most == resource.RLIM_INFINITY else min(size, most)
        with suppress(OSError, ValueError):  # systems that know no such limit
            resource.setrlimit(limit, (allowed, most))
    # Where the machine's memory runs out all the same, this process is to go, not the parent.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def warm_up() -> None:
    """Imports what every file needs, before a file's time runs."""
    import av
    import cv2

    cv2.setNumThreads(1)  # files are read side by side
    av.logging.set_level(None)


def answer(task: Task, message: dict[str, Any]) -> dict[str, Any]:
    """What the parent is told about one file."""
    try:
        media = task(Path(message["path"]), MediaRequest(**message["request"]))
    except BadRecord as error:
        return {"kind": "bad", "reason": error.reason, "detail": error.detail}
    except VidvecError as error:  # the user's to mend, such as an extra that is not installed
        return {"kind": "error", "name": type(error).__name__, "detail": str(error)}
    except MemoryError:
        return {"kind": "memory"}
    except Exception as error:
        # A file that a library trips over is a bad file, whatever it is that it trips over with.
        name = os.fsencode(Path(message["path"]).name).decode("utf-8", "backslashreplace")
        detail = f"{name} made a library fail ({type(error).__name__}: {error})"
        return {"kind": "bad", "reason": "undecodable", "detail": detail}
    return {"kind": "media", **{each.name: getattr(media, each.name) for each in fields(Media)}}


def send(out: int, message: dict[str, Any]) -> None:
    """Writes a message; the process ends where nobody reads it any more."""
    try:
        wire.write(out, message)
    except BrokenPipeError:
        os._exit(1)


def _next(requests: int) -> dict[str, Any] | None:
    """The next message; ``None`` where there will be none."""
    try:
        message: dict[str, Any] = wire.receive(lambda buffer: wire.fill(requests, buffer))
    except EOFError:
        return None
    return message
