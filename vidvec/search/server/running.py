"""Serves an application from one process or several, until it is told to stop."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING

from vidvec.errors import MissingExtraError, UsageError
from vidvec.search.server.config import ServerConfig

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

_NEEDED = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}
METRICS_FOLDER = "metrics"
BACKLOG = 2048
_PREFIX = "vidvec-serve-"
_LOCK = "lock"


def require_libraries() -> None:
    """Makes sure that what serving needs is there.

    Raises:
        MissingExtraError: It is not.
    """
    for module, library in _NEEDED.items():
        if find_spec(module) is None:
            raise MissingExtraError(library, "serve")


def run(config: ServerConfig, started: Callable[[str], None] = lambda _: None) -> None:
    """Serves until SIGTERM or SIGINT; requests in flight are answered first.

    Args:
        config: What to serve, and how.
        started: Called with the URL, once the address is taken.

    Raises:
        UsageError: A setting is out of range, or the address is taken by another.
        MissingExtraError: A library of the extra ``serve`` is missing.
    """
    require_libraries()
    config.check()
    with _scratch() as scratch, _listening(config) as listener, _stoppable():
        config = replace(config, scratch=scratch, port=listener.getsockname()[1])
        host = f"[{config.host}]" if ":" in config.host else config.host
        started(f"http://{host}:{config.port}")
        if config.workers == 1:
            _one(config, listener)
        else:
            _several(config, listener)


def _one(config: ServerConfig, listener: socket.socket) -> None:
    import uvicorn

    server = uvicorn.Server(_uvicorn_config(config))
    server.run(sockets=[listener])
    if not server.started:
        raise UsageError("the server could not be started: its log says why")


def _several(config: ServerConfig, listener: socket.socket) -> None:
    from uvicorn.supervisors import Multiprocess

    from vidvec.search.server import limits, logs
    from vidvec.search.server.metrics import FOLDER_VARIABLE

    logs.configure(config.log_format)
    folder = Path(str(config.scratch))
    (folder / METRICS_FOLDER).mkdir()
    os.environ[FOLDER_VARIABLE] = str(folder / METRICS_FOLDER)
    limits.create_rates(folder)
    listener.listen(BACKLOG)
    Multiprocess(_uvicorn_config(config), sockets=[listener]).run()


def _uvicorn_config(config: ServerConfig) -> uvicorn.Config:
    import uvicorn

    return uvicorn.Config(
        partial(make_app, config, os.getpid()),
        factory=True,
        workers=config.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(config.timeout_seconds + config.upload_seconds) + 5,
        # A worker says nothing while Python loads its libraries on a busy machine.
        timeout_worker_healthcheck=60,
    )


def make_app(config: ServerConfig, parent: int) -> FastAPI:
    """The application in a worker's process.

    Args:
        config: The server's.
        parent: The process that started the workers, and that they do not outlive.
    """
    from vidvec.search.server import logs
    from vidvec.search.server.app import create_app

    logs.configure(config.log_format)
    if os.getpid() != parent:
        _end_with(parent)
    return create_app(config)


def _end_with(parent: int) -> None:
    """Lets this process end when its parent does, however that comes about; Linux's alone."""
    if sys.platform != "linux":
        return
    import ctypes

    death_signal = 1  # PR_SET_PDEATHSIG of linux/prctl.h
    ctypes.CDLL(None).prctl(death_signal, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before that could be wished
        sys.exit(1)


@contextmanager
def _listening(config: ServerConfig) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((config.host.strip("[]"), config.port))
        except OSError as error:
            raise UsageError(
                f"nothing can listen at {config.host} port {config.port} ({error.strerror}): give "
                "another --port, 0 for any"
            ) from None
        listener.set_inheritable(True)
        yield listener


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends this process with status 0: uvicorn raises it once more when it is done."""

    def stop(*_: object) -> None:
        raise SystemExit(0)

    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for what lasts as long as the server; those that killed ones left are removed."""
    for other in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), (other / _LOCK).open("r+") as lock:
            _lock(lock)  # fails where its server is alive
            shutil.rmtree(other, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
        folder = Path(name)
        with (folder / _LOCK).open("w") as lock:
            with contextlib.suppress(OSError):
                _lock(lock)
            yield folder


def _lock(file: IO[str]) -> None:
    """Locks a file until it is closed.

    Raises:
        OSError: Another process has locked it.
    """
    try:
        import fcntl
    except ImportError:
        raise OSError("files are not locked here") from None
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
