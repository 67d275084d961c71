"""What readers that need a file on this disk are given for what is on object storage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

from vidvec.errors import FormatError
from vidvec.storage import objects
from vidvec.storage.cache import BLOCK_BYTES, cache_folder, open_cache
from vidvec.storage.files import atomic_path
from vidvec.storage.location import S3Path
from vidvec.storage.ranges import RUN_BLOCKS, THREADS, folder_of

if TYPE_CHECKING:
    import pyarrow as pa

Result = TypeVar("Result")

RUN_BYTES = RUN_BLOCKS * BLOCK_BYTES


def local_file(path: Path) -> Path:
    """A file of this disk with the content of ``path``: itself, or a copy in the cache.

    The copy may be removed when the cache is full; one that is open stays readable.

    Raises:
        FileNotFoundError: There is no such object.
        FormatError: It changed while it was read.
        StorageError: The storage refuses, or fails.
    """
    if not isinstance(path, S3Path):
        return path
    opened, cache = objects.OpenObject(path), open_cache()
    folder = folder_of(cache, opened)
    held = cache.held_whole(folder, opened.size)
    if held is not None:
        return held
    with cache.whole(folder) as temporary:
        copy(opened, temporary)
    return folder / "whole"


def copy(opened: objects.OpenObject, to: Path) -> int:
    """Writes an object to a file, ranges of it side by side.

    Returns:
        CRC-32C of its content.

    Raises:
        FormatError: It changed while it was read.
    """
    import google_crc32c

    crc = 0
    starts = range(0, opened.size, RUN_BYTES)
    with ThreadPoolExecutor(min(THREADS, max(1, len(starts)))) as pool, to.open("wb") as file:
        for data in _in_order(pool, opened, starts):
            file.write(data)
            crc = google_crc32c.extend(crc, data)
    opened.check()
    return int(crc)


def _in_order(
    pool: ThreadPoolExecutor, opened: objects.OpenObject, starts: range
) -> Iterator[bytes]:
    """Ranges in order, of which as many as there are threads are asked for ahead."""
    waiting = []
    for start in starts:
        length = min(RUN_BYTES, opened.size - start)
        waiting.append(pool.submit(opened.read, start, length))
        if len(waiting) > THREADS:
            yield waiting.pop(0).result()
    for each in waiting:
        yield each.result()


def local_folder(path: Path) -> Path:
    """The same of a folder of small files, such as a tokenizer's.

    Raises:
        FormatError: There is no such folder.
    """
    if not isinstance(path, S3Path):
        return path
    sizes = objects.sizes(path, recursive=True)
    if not sizes:
        raise FormatError(f"{path} is missing")
    times = [objects.info(path / name) for name in sorted(sizes)]
    held = cache_folder() / "folders" / _digest(objects.endpoint(), str(path), times) / path.name
    if not held.is_dir():
        with atomic_path(held) as temporary:
            for name in sizes:
                target = temporary / name
                target.parent.mkdir(parents=True, exist_ok=True)
                copy(objects.OpenObject(path / name), target)
    return held


def beside(path: Path, content: object = "") -> Path:
    """Where to keep what is derived from a folder: in it, or for one by URL in the cache.

    Args:
        path: The folder.
        content: What tells its versions apart.
    """
    if not isinstance(path, S3Path):
        return path
    return cache_folder() / "beside" / _digest(objects.endpoint(), str(path), content)


def staging(path: S3Path) -> Path:
    """Where a folder for a URL is made before it is copied there."""
    return cache_folder() / "staging" / _digest(objects.endpoint(), str(path))


def mirrored(path: Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """A folder of this disk with what is at a URL, brought up to date; of a folder, itself.

    It is in the cache's folder, beside its limit, and what is made in it stays: an index, say.

    Raises:
        UsageError: There is nothing at the URL.
        FormatError: An object is damaged, or changed meanwhile.
        StorageError: The storage refuses, or fails after all retries.
    """
    from vidvec.storage.folders import pull

    if not isinstance(path, S3Path):
        return path
    folder = cache_folder() / "mirrors" / _digest(objects.endpoint(), str(path)) / path.name
    pull(path, folder, progress)
    return folder


def _digest(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file, or a copy of an object in the cache, open to read."""
    with _tried(path, lambda local: local.open("rb")) as file:
        yield file


def mapped(path: Path) -> pa.MemoryMappedFile:
    """A file, or a copy of an object in the cache, mapped.

    Raises:
        OSError: It cannot be mapped.
        FormatError: The object changed while it was read.
        StorageError: The storage refuses, or fails.
    """
    import pyarrow as pa

    return _tried(path, lambda local: pa.memory_map(str(local)))


def _tried(path: Path, open_it: Callable[[Path], Result]) -> Result:
    """Opens a file; a copy that the cache removes before it is open is made once more."""
    if isinstance(path, S3Path):
        for _ in range(2):
            held = local_file(path)
            with suppress(FileNotFoundError):
                return open_it(held)
    return open_it(local_file(path))
