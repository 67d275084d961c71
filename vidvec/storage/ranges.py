"""An object read by ranges, of which blocks are kept in the cache."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property, lru_cache
from pathlib import Path

from vidvec.errors import FormatError
from vidvec.storage import objects
from vidvec.storage.cache import BLOCK_BYTES, BlockCache, open_cache
from vidvec.storage.location import S3Path

# Neighbouring blocks are asked for together, up to so many.
RUN_BLOCKS = 32
AHEAD_BLOCKS = 16 * RUN_BLOCKS  # that are in memory at once, on their way to the cache
THREADS = 8


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads that wait for ranges, of this process."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="vidvec-ranges")


class RemoteFile:
    """An object that is read by ranges; nothing is asked for before the first one.

    Args:
        path: The object.
        size: That it should have.
        cache: Where blocks are kept; by default the one that the environment names.

    Raises, when read:
        FormatError: It is missing, of another size, or changed while it was read.
        StorageError: The server refuses, or fails.
    """

    def __init__(self, path: S3Path, size: int, cache: BlockCache | None = None) -> None:
        self.path, self.size = path, size
        self._cache = open_cache() if cache is None else cache
        self._checked: set[int] = set()
        self._coming: dict[int, Future[dict[int, bytes]]] = {}
        self._lock = threading.RLock()

    @cached_property
    def _open(self) -> objects.OpenObject:
        try:
            opened = objects.OpenObject(self.path)
        except FileNotFoundError:
            raise FormatError(f"{self.path} is missing") from None
        if opened.size != self.size:
            raise FormatError(
                f"{self.path} has {opened.size} bytes, the manifest says {self.size}: it is "
                "damaged, or was changed since"
            )
        return opened

    @cached_property
    def _folder(self) -> Path:
        return folder_of(self._cache, self._open)

    def read(self, start: int, end: int) -> bytes:
        """Bytes from ``start`` to ``end``, from the cache where they are there."""
        if start >= end:
            return b""
        with self._lock:
            folder = self._folder
        wanted = range(start // BLOCK_BYTES, (end - 1) // BLOCK_BYTES + 1)
        parts: dict[int, bytes] = {}
        for number in wanted:
            base = number * BLOCK_BYTES
            span = max(start - base, 0), min(end - base, BLOCK_BYTES, self.size - base)
            found = self._cache.get(folder, number, *span, check=number not in self._checked)
            if found is not None:
                self._checked.add(number)
                parts[number] = found
        missing = [number for number in wanted if number not in parts]
        for fetched in self._fetch_runs(missing):
            for number in fetched.keys() & set(missing):
                base = number * BLOCK_BYTES
                parts[number] = fetched[number][max(start - base, 0) : end - base]
        return b"".join([parts[number] for number in wanted])

    def fetch(self, spans: Iterable[tuple[int, int]]) -> None:
        """Brings ranges into the cache, side by side, unless they would fill much of it."""
        with self._lock:
            folder = self._folder
        numbers: set[int] = set()
        for start, end in spans:
            if start < end:
                numbers.update(range(start // BLOCK_BYTES, (end - 1) // BLOCK_BYTES + 1))
        room = self._cache.limit // 4 // BLOCK_BYTES
        missing = [n for n in sorted(numbers)[:room] if not self._cache.has(folder, n)]
        for start in range(0, len(missing), AHEAD_BLOCKS):
            self._fetch_runs(missing[start : start + AHEAD_BLOCKS])

    def _fetch_runs(self, numbers: Sequence[int]) -> list[dict[int, bytes]]:
        """Blocks from the server, which the cache has from then on.

        Of those that another thread has asked for, what that gets. Nothing is kept or given back
        before the object was found to be as it was when all had come.
        """
        if not numbers:
            return []
        coming, mine = self._ask_for(numbers)
        try:
            found = [each.result() for each in coming]
            self._open.check()
            for blocks in found:
                for number in blocks.keys() & mine:
                    self._cache.put(self._folder, number, blocks[number])
                    self._checked.add(number)
        finally:
            with self._lock:
                for number in mine:
                    del self._coming[number]
        return found

    def _ask_for(
        self, numbers: Sequence[int]
    ) -> tuple[list[Future[dict[int, bytes]]], frozenset[int]]:
        """What brings these blocks, and those of them that nobody had asked for before."""
        with self._lock:
            coming = {id(self._coming[n]): self._coming[n] for n in numbers if n in self._coming}
            mine = [number for number in numbers if number not in self._coming]
            for first, count in _runs(mine):
                asked = _pool(os.getpid()).submit(self._read, first, count)
                coming[id(asked)] = asked
                self._coming.update(dict.fromkeys(range(first, first + count), asked))
        return list(coming.values()), frozenset(mine)

    def _read(self, first: int, count: int) -> dict[int, bytes]:
        """So many blocks from the server."""
        start = first * BLOCK_BYTES
        data = self._open.read(start, min(count * BLOCK_BYTES, self.size - start))
        return {first + at: data[at * BLOCK_BYTES : (at + 1) * BLOCK_BYTES] for at in range(count)}


def folder_of(cache: BlockCache, opened: objects.OpenObject) -> Path:
    """Where a cache keeps this version of an object."""
    return cache.object_folder(objects.endpoint(), opened.path.object_name, opened.version)


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First and count of neighbouring numbers, ascending ones, in runs of ``RUN_BLOCKS`` at most.

    >>> _runs([1, 2, 3, 7])
    [(1, 3), (7, 1)]
    """
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == sum(runs[-1]) and runs[-1][1] < RUN_BLOCKS:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return runs


class RangeReader(io.RawIOBase):
    """A ``RemoteFile`` as a file, for readers that seek."""

    def __init__(self, file: RemoteFile) -> None:
        super().__init__()
        self._file, self._at = file, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a place; see ``io``."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes, or all that are left."""
        left = max(self._file.size - self._at, 0)
        count = left if size is None or size < 0 else min(size, left)
        found = self._file.read(self._at, self._at + count)
        self._at += count
        return found
