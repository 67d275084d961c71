"""Video files that are not on this disk as files: how they come there, for how long, and how many.

Each is borrowed: it is got ready when its row is read, waited for when it is to be decoded, and
removed behind that. How far rows are read ahead bounds how many of them lie on the disk at once.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Protocol

from vidvec.data.addresses import parse_url
from vidvec.data.fetch import Fetcher, FetchOptions
from vidvec.errors import BadRecord

_SUFFIXES = ".3gp .asf .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .vob .webm"
VIDEO_SUFFIXES = frozenset([*_SUFFIXES.split(), ".wmv"])
SCRATCH = ".incoming.tmp"  # in a corpus's folder, where what a killed run left is removed
_BLOCK = 1 << 20

Lease = AbstractContextManager[Path]
Lend = Callable[[], Lease]


@dataclass(frozen=True, slots=True)
class AccessOptions:
    """What may be got, and what is kept.

    Attributes:
        fetch: Download videos at URLs.
        keep: Folder in which downloaded videos stay; those that are there are not fetched again.
        at_once: Downloads side by side.
        limits: Of each download; its ``max_bytes`` also holds for a video in a tar or in a table.
    """

    fetch: bool = False
    keep: Path | None = None
    at_once: int = 4
    limits: FetchOptions = field(default_factory=FetchOptions)


class Readable(Protocol):
    """What bytes can be read from."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most so many; none at the end."""
        ...


class Access:
    """Lends video files out of URLs, tars and tables.

    Args:
        options: See there.
        scratch: Folder for files that are there for a while, made when the first one comes and
            removed in the end; ``None``: one among the system's temporary files.
    """

    def __init__(self, options: AccessOptions | None = None, scratch: Path | None = None) -> None:
        self.options = options or AccessOptions()
        self._scratch = scratch
        self._folder: Path | None = None
        self._numbers = count()
        self._looked_for_parts = False
        self._lock = threading.Lock()
        self._fetcher = Fetcher(self.options.limits)
        self._pool = ThreadPoolExecutor(max(1, self.options.at_once), "fetch")

    def __enter__(self) -> Access:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cuts downloads that are under way, and removes what is left of files."""
        self._fetcher.close()
        self._pool.shutdown(cancel_futures=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def check_size(self, size: int) -> None:
        """Refuses a video that is larger than a video may be.

        Raises:
            BadRecord: ``too-large``.
        """
        limit = self.options.limits.max_bytes
        if size > limit:
            detail = f"the video has {size:,} bytes, expected at most {limit:,} (--fetch-max-mb)"
            raise BadRecord("too-large", detail)

    def at_url(self, url: str, name: str) -> Lend:
        """Lends a video at a URL; its download begins with the call of what is returned.

        Args:
            url: Where it is.
            name: The video's id, after which it is called where it is kept.

        Raises:
            BadRecord: ``not-fetched``: downloads were not asked for; ``bad-url``.
        """
        parse_url(url)
        if not self.options.fetch:
            detail = f"the video is at a URL, {url:.200}: give --fetch to download it"
            raise BadRecord("not-fetched", detail)
        suffix = url_suffix(url)
        kept = self.kept_path(name, suffix)

        def lend() -> Lease:
            if kept is not None and kept.is_file():
                return nullcontext(kept)
            part = self._new_file(suffix) if kept is None else self._new_part(kept)
            return _downloaded(self._pool.submit(self._fetcher.fetch, url, part), part, kept)

        return lend

    def kept_path(self, name: str, suffix: str) -> Path | None:
        """Where a downloaded video stays; ``None`` where it does not."""
        if self.options.keep is None:
            return None
        plain = re.sub(r"[^\w.-]+", "_", name).strip("._")[:80] or "video"
        if plain != name:  # two ids may be alike when simplified
            plain += "-" + hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
        return self.options.keep / f"{plain}{suffix}"

    def in_memory(self, content: bytes, suffix: str) -> Lend:
        """Lends a video whose bytes are there.

        Raises:
            BadRecord: ``too-large``, or ``empty-file``: there is no byte.
        """
        if not content:
            raise BadRecord("empty-file", "the video has no byte")
        self.check_size(len(content))

        @contextmanager
        def lend() -> Iterator[Path]:
            path = self._new_file(suffix)
            try:
                path.write_bytes(content)
                yield path
            finally:
                _remove(path)

        return lend

    def inside(self, file: Path, offset: int, size: int, suffix: str) -> Lend:
        """Lends ``size`` bytes of a file, from ``offset`` on."""

        @contextmanager
        def lend() -> Iterator[Path]:
            path = self._new_file(suffix)
            try:
                with file.open("rb") as whole:
                    whole.seek(offset)
                    _copy(whole, path, size)
                yield path
            finally:
                _remove(path)

        return lend

    def spooled(self, stream: Readable, size: int, suffix: str) -> tuple[Lend, Callable[[], None]]:
        """Lends the next ``size`` bytes of a stream, which are read now.

        Returns:
            How they are lent, and what removes them where nobody has borrowed them.

        Raises:
            BadRecord: The stream ends before, or what its reading raises.
        """
        path, borrowed = self._new_file(suffix), threading.Event()
        try:
            _copy(stream, path, size)
        except BaseException:
            _remove(path)
            raise

        def lend() -> Lease:
            borrowed.set()
            return _removed_after(path)

        def drop() -> None:
            if not borrowed.is_set():
                _remove(path)

        return lend, drop

    def _new_part(self, kept: Path) -> Path:
        """Where a video to be kept lies until it is whole; what killed runs left there goes."""
        kept.parent.mkdir(parents=True, exist_ok=True)
        oldest = time.time() - self.options.limits.seconds - 60
        with self._lock:
            if not self._looked_for_parts:
                self._looked_for_parts = True
                for part in kept.parent.glob(".*.part"):
                    if part.stat().st_mtime < oldest:
                        part.unlink()
            return kept.with_name(f".{kept.name}.{os.getpid()}-{next(self._numbers)}.part")

    def _new_file(self, suffix: str) -> Path:
        with self._lock:
            if self._folder is None:
                if self._scratch is None:
                    self._folder = Path(tempfile.mkdtemp(prefix="vidvec-"))
                else:
                    shutil.rmtree(self._scratch, ignore_errors=True)
                    self._scratch.mkdir(parents=True)
                    self._folder = self._scratch
            place = self._folder / f"{next(self._numbers):06d}"
        place.mkdir()
        return place / f"video{suffix}"  # the same whenever a message names it


def _remove(path: Path) -> None:
    """Removes a file that was there for a while, with the folder that it had for itself."""
    path.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()


def video_suffix(name: str) -> str:
    """The suffix of a video's name; empty where it is none of a video."""
    suffix = Path(name.replace("\0", "")).suffix.lower()
    return suffix if suffix in VIDEO_SUFFIXES else ""


def url_suffix(url: str) -> str:
    """The same of a URL's path."""
    return video_suffix(url.partition("?")[0].partition("#")[0])


@contextmanager
def _downloaded(coming: Future[None], part: Path, kept: Path | None) -> Iterator[Path]:
    """What a download brings; afterwards it is removed, or stays where it is to be kept."""
    try:
        coming.result()
        if kept is not None:
            part.replace(kept)
        yield kept or part
    finally:
        if kept is None:
            _remove(part)
        else:
            part.unlink(missing_ok=True)


@contextmanager
def _removed_after(path: Path) -> Iterator[Path]:
    try:
        yield path
    finally:
        _remove(path)


def _copy(stream: Readable, path: Path, size: int) -> None:
    """Writes the next ``size`` bytes of a stream to a file.

    Raises:
        BadRecord: ``truncated-video``: the stream ends before.
    """
    left = size
    with path.open("wb") as file:
        while left:
            block = stream.read(min(_BLOCK, left))
            if not block:
                detail = f"the archive ends {left:,} bytes before the end of the video"
                raise BadRecord("truncated-video", detail)
            file.write(block)
            left -= len(block)
