"""Worker processes that read video files, several side by side.

A file can make FFmpeg loop, crash or eat memory. Here that costs one process: it is ended and
replaced, and the file is a ``BadRecord`` with the reason ``timeout``, ``crashed`` or
``out-of-memory``. Everything else goes on. ``worker.py`` has the single process.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType

from vidvec.data.media import Media, MediaRequest
from vidvec.data.worker import Ended, Limits, Worker
from vidvec.errors import BadRecord, VidvecError

READ_MEDIA = "vidvec.data.media:read_media"


class WorkerPool:
    """Reads files in worker processes, several side by side.

    Workers are started when there is something to do, and only as many as there is. Usable from any
    thread. When this process is killed its workers end, too (see ``worker_main.end_with``).

    Args:
        workers: Processes at most.
        limits: Of each file.
        task: Function that reads a file in the worker, ``module:name``.
    """

    def __init__(
        self, workers: int = 2, limits: Limits | None = None, *, task: str = READ_MEDIA
    ) -> None:
        self._limits = limits or Limits()
        self._task = task
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._running: set[Worker] = set()
        count = max(1, workers)
        self._idle = _Idle(count)
        # More threads than workers: some wait for files that are being downloaded.
        self._threads = ThreadPoolExecutor(2 * count, "read")

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def submit(
        self, file: Path | AbstractContextManager[Path], request: MediaRequest
    ) -> Future[Media]:
        """Has a file read.

        Args:
            file: Its path, or what gives it when it is entered; left when the file was read.
            request: What is wanted of it.

        Returns:
            What will be read. ``result()`` raises ``BadRecord`` where the file cannot be, and
            another ``VidvecError`` where workers cannot do their work.
        """
        borrowed = nullcontext(file) if isinstance(file, Path) else file
        return self._threads.submit(self._read_borrowed, borrowed, request)

    def close(self) -> None:
        """Ends the workers at once, with what they are at."""
        self._closed.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            running = list(self._running)
        for worker in running:
            worker.end()
        self._threads.shutdown()
        for worker in running:
            worker.release()

    def _read_borrowed(
        self, borrowed: AbstractContextManager[Path], request: MediaRequest
    ) -> Media:
        with borrowed as path:
            worker = self._idle.take()
            try:
                worker = self._fresh() if worker is None else worker
                try:
                    return worker.read(path, request)
                except Ended as error:
                    # What else it died of may be what other files have left behind.
                    if worker.is_new or error.reason == "timeout" or self._closed.is_set():
                        raise
                    self._discard(worker)
                worker = self._fresh()
                return worker.read(path, request)
            except Ended as error:
                if self._closed.is_set():
                    raise _closed() from None
                name = os.fsencode(path.name).decode("utf-8", "backslashreplace")
                raise BadRecord(error.reason, f"{name}: {error.detail}") from None
            finally:
                if worker is not None and not worker.is_usable:
                    self._discard(worker)
                    worker = None
                self._idle.put(worker)

    def _fresh(self) -> Worker:
        """A worker that was just started."""
        if self._closed.is_set():
            raise _closed()
        worker = Worker(self._task, self._limits)
        with self._lock:
            self._running.add(worker)
        try:
            if self._closed.is_set():  # and did not see this one
                raise _closed()
            worker.wait_until_ready()
        except BaseException:
            self._discard(worker)
            raise
        return worker

    def _discard(self, worker: Worker) -> None:
        worker.end()
        worker.release()
        with self._lock:
            self._running.discard(worker)


class _Idle:
    """Workers that have nothing to do; ``None`` is one that has not been started.

    The one that was put back last goes first, so that no more are started than are needed. Who
    waits longest is served first, which a queue does not see to: files are read in their order.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._workers: list[Worker | None] = [None] * count
        self._waiting: deque[Future[Worker | None]] = deque()

    def take(self) -> Worker | None:
        with self._lock:
            if self._workers:
                return self._workers.pop()
            turn: Future[Worker | None] = Future()
            self._waiting.append(turn)
        return turn.result()

    def put(self, worker: Worker | None) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set_result(worker)
            else:
                self._workers.append(worker)


def _closed() -> VidvecError:
    return VidvecError("the pool of decode workers was closed")
