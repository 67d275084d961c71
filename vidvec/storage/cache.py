"""Parts of objects on this disk: blocks, and whole objects, up to a limit.

    FOLDER/objects/KK/KEY/N.block   bytes N·256 KiB …, and their CRC-32C (4 bytes, little-endian)
    FOLDER/objects/KK/KEY/whole     a whole object
    FOLDER/lock                     held by the process that makes room

KEY is a digest of endpoint, bucket, key, ETag and size, so that what is there never is of another
object; KK its first two digits. A block is written under a temporary name and renamed, and its
checksum is compared when a process first reads it. Several processes share the folder. When it is
full, what was not used for longest goes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from vidvec.errors import UsageError

FOLDER_VARIABLE, BYTES_VARIABLE = "VIDVEC_CACHE", "VIDVEC_CACHE_BYTES"
DEFAULT_BYTES = 10 * 2**30
BLOCK_BYTES = 256 * 2**10
CHECKSUM_BYTES = 4
# When full, so much of the limit is left, and what is looked at again after so much was written.
KEPT_SHARE, LOOK_SHARE = 0.9, 0.05
# A temporary that is older was left by a killed process.
LEFTOVER_SECONDS = 3600.0


def cache_folder() -> Path:
    """``VIDVEC_CACHE``, else ``vidvec`` in the user's cache folder."""
    told = os.environ.get(FOLDER_VARIABLE)
    if told:
        return Path(told)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidvec"


def cache_limit() -> int:
    """``VIDVEC_CACHE_BYTES``, else 10 GiB.

    Raises:
        UsageError: It is no number of bytes.
    """
    told = os.environ.get(BYTES_VARIABLE)
    if not told:
        return DEFAULT_BYTES
    try:
        limit = int(float(told))
    except (ValueError, OverflowError):
        limit = -1
    if limit < 0:
        raise UsageError(f"{BYTES_VARIABLE}={told}: expected a number of bytes, such as 2e10")
    return limit


def open_cache() -> BlockCache:
    """The cache that the environment names; the same one in a process."""
    return _opened(cache_folder(), cache_limit())


@lru_cache(maxsize=8)
def _opened(folder: Path, limit: int) -> BlockCache:
    return BlockCache(folder, limit)


class BlockCache:
    """A cache in a folder.

    Args:
        folder: Made when first written to.
        limit: Bytes that it holds. Files that a process has open stay on the disk until it closes
            them, though they no longer count.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._objects = folder / "objects"
        self._unseen = 0  # bytes written since this process last looked at the whole
        self._held: int | None = None  # what the whole was then

    def object_folder(self, *identity: object) -> Path:
        """The folder of what is kept of one version of an object."""
        digest = hashlib.sha256("\0".join(map(str, identity)).encode()).hexdigest()[:40]
        return self._objects / digest[:2] / digest

    def get(self, folder: Path, number: int, start: int, end: int, *, check: bool) -> bytes | None:
        """Bytes of a block from ``start`` to ``end`` in it; ``None`` where it is not there.

        Args:
            folder: Of the object.
            number: Of the block.
            start, end: In the block.
            check: Read all of it and compare its checksum; a damaged one is removed.
        """
        path = folder / f"{number}.block"
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            return None
        try:
            _touch(descriptor)
            if not check:
                found = os.pread(descriptor, end - start, start)
                return found if len(found) == end - start else None
            whole = os.pread(descriptor, BLOCK_BYTES + CHECKSUM_BYTES, 0)
        finally:
            os.close(descriptor)
        data, crc = whole[:-CHECKSUM_BYTES], whole[-CHECKSUM_BYTES:]
        if crc != _checksum(data) or len(data) < end:
            path.unlink(missing_ok=True)
            return None
        return data[start:end]

    def has(self, folder: Path, number: int) -> bool:
        """Whether a block is there."""
        return (folder / f"{number}.block").is_file()

    def put(self, folder: Path, number: int, data: bytes) -> None:
        """Keeps a block, where the disk can take it: a cache is never needed."""
        with contextlib.suppress(OSError), self._replacing(folder / f"{number}.block") as temporary:
            temporary.write_bytes(data + _checksum(data))

    @contextlib.contextmanager
    def _replacing(self, path: Path) -> Iterator[Path]:
        """Yields a temporary that is renamed on success, and makes room."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            yield temporary
            size = temporary.stat().st_size
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        self._count(size, path)

    @contextlib.contextmanager
    def whole(self, folder: Path) -> Iterator[Path]:
        """Yields where to write a whole object to; see ``held_whole``."""
        with self._replacing(folder / "whole") as temporary:
            yield temporary

    def held_whole(self, folder: Path, size: int) -> Path | None:
        """The file of a whole object, marked as used; ``None`` where it is not there."""
        path = folder / "whole"
        try:
            if path.stat().st_size != size:
                return None
            os.utime(path)
        except OSError:
            return None
        return path

    def _count(self, size: int, written: Path) -> None:
        self._unseen += size
        due = self._held is None or self._unseen >= self.limit * LOOK_SHARE
        if due or (self._held or 0) + self._unseen > self.limit:
            self.make_room(keep=written)

    def make_room(self, keep: Path | None = None) -> None:
        """Removes what was not used for longest, where there is more than the limit.

        Where another process is at it, nothing.

        Args:
            keep: A file that stays.
        """
        with contextlib.suppress(OSError), (self.folder / "lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._unseen = 0
                return
            files = sorted(self._files())
            held = sum(size for _, size, _ in files)
            if held > self.limit:
                for _, size, path in files:
                    if held <= self.limit * KEPT_SHARE:
                        break
                    if keep is None or path != str(keep):
                        with contextlib.suppress(OSError):
                            os.unlink(path)
                            held -= size
            self._held, self._unseen = held, 0

    def _files(self) -> Iterator[tuple[int, int, str]]:
        """Time of last use, size and path of every file; what killed processes left goes."""
        now = time.time()
        for kept in _scan(self._objects):
            for folder in _scan(kept.path):
                empty = True
                for file in _scan(folder.path):
                    empty = False
                    try:
                        facts = file.stat()
                    except OSError:
                        continue
                    if not file.name.endswith(".tmp"):
                        yield facts.st_mtime_ns, facts.st_size, file.path
                    elif now - facts.st_mtime > LEFTOVER_SECONDS:
                        with contextlib.suppress(OSError):
                            os.unlink(file.path)
                if empty:
                    with contextlib.suppress(OSError):
                        os.rmdir(folder.path)


def _scan(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _touch(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # someone else's, on a shared disk
        os.utime(descriptor)


def _checksum(data: bytes) -> bytes:
    import google_crc32c

    return int(google_crc32c.value(data)).to_bytes(CHECKSUM_BYTES, "little")
