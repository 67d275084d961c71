"""A corpus at a URL is made in a folder of the cache, and copied: full shards as they come.

CACHE/staging/DIGEST/corpus/   the corpus, while an ingest into its URL runs or is interrupted
CACHE/staging/DIGEST/seen      digest of the URL's manifest that the folder is based on
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from vidvec import storage
from vidvec.errors import StorageError, UsageError
from vidvec.storage.folders import CopyReport, pull, push

Report = TypeVar("Report")
Progress = Callable[[int, int], None]

LOOK_SECONDS = 5.0
THUMBNAILS, SHARDS = "thumbnails", "shards"


def staged(
    url: storage.S3Path,
    make: Callable[[Path, Progress], Report],
    shard_bytes: int,
    progress: Progress | None = None,
) -> Report:
    """Makes or extends the corpus at a URL in a folder on this disk, and copies it there.

    The folder has room for the whole corpus and is removed when all is copied. A run that is killed
    leaves it, and the next one goes on with it. Readers of the URL find the corpus as it was until
    the new manifest is there, which is copied last.

    Args:
        url: Of the corpus.
        make: Called with the folder and what to tell its progress to.
        shard_bytes: Shards of at least so many bytes are not joined with others later, and are
            copied while more are made.
        progress: Called with what ``make`` tells.

    Raises:
        UsageError: Another process is at it, or the URL's corpus changed since a run was killed.
        StorageError: The storage refuses, or fails after all retries; the next run goes on.
    """
    place = storage.staging(url)
    place.mkdir(parents=True, exist_ok=True)
    folder = place / "corpus"
    with (place / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another process of this machine is writing to {url}") from None
        _settle(url, place, folder)
        with _Uploads(folder, url, shard_bytes) as uploads:

            def say(done: int, rejected: int) -> None:
                uploads.look()
                if progress is not None:
                    progress(done, rejected)

            report = make(folder, say)
        push(folder, url)
        shutil.rmtree(place, ignore_errors=True)
    return report


def _settle(url: storage.S3Path, place: Path, folder: Path) -> None:
    """Has the folder hold what the URL has, and what a killed run made on top of it."""
    manifest = url / storage.MANIFEST
    found = hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else ""
    seen = place / "seen"
    if seen.is_file():
        if seen.read_text("utf-8") == found:
            return
        made = folder / storage.MANIFEST
        if made.is_file() and hashlib.sha256(made.read_bytes()).hexdigest() == found:
            return  # killed after the last object, before the folder was removed
        raise UsageError(
            f"{url} changed since an ingest into it was interrupted here: remove {place} to begin "
            "with what is there"
        )
    shutil.rmtree(folder, ignore_errors=True)
    if found:
        pull(url, folder)
    with storage.atomic_path(seen) as temporary:
        temporary.write_text(found, "utf-8")


class _Uploads:
    """Copies full shards in a thread of its own, as they appear; closing waits for the last.

    A failure is no end: what is missing is copied again at the end, which says what is wrong.
    """

    def __init__(self, folder: Path, url: storage.S3Path, shard_bytes: int) -> None:
        self._folder, self._url, self._bytes = folder, url, shard_bytes
        self._pool = ThreadPoolExecutor(1)
        self._running: Future[CopyReport] | None = None
        self._looked = time.monotonic()
        self._sent: set[str] = set()

    def __enter__(self) -> _Uploads:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def look(self) -> None:
        """Starts to copy what has come, where nothing is being copied."""
        busy = self._running is not None and not self._running.done()
        if busy or time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        full = {
            path.name
            for path in (self._folder / SHARDS).glob("[0-9]*.arrow")
            if path.stat().st_size >= self._bytes
        }
        new = frozenset(full - self._sent)
        if new:
            self._running = self._pool.submit(self._send, new)

    def _send(self, names: frozenset[str]) -> CopyReport:
        wanted = {f"{each}/{name}" for each in (SHARDS, THUMBNAILS) for name in names}
        with suppress(StorageError):
            report = push(self._folder, self._url, only=wanted.__contains__)
            self._sent |= names
            return report
        return CopyReport(0, 0, 0)
