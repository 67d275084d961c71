"""What is read from files, and read again when the files are others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from vidvec.errors import VidvecError

LOG = logging.getLogger("vidvec.server")
Value = TypeVar("Value")
Stamp = tuple[int, int, int] | None


def stamp(path: Path) -> Stamp:
    """Differs where a file was replaced; ``None`` where it is missing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Watched(Generic[Value]):
    """Something read from a file, and read again when the file is another.

    Args:
        path: The file; ``None``: there is none.
        read: Reads it; ``None`` from it, or a ``VidvecError``, means that there is nothing.
    """

    def __init__(self, path: Path | None, read: Callable[[], Value | None]) -> None:
        self._path, self._read = path, read
        self._stamp: Stamp = None
        self.value: Value | None = None
        self.why_not = ""
        self.refresh()

    def forget(self) -> None:
        """Reads it again next time, whatever the file says."""
        self._stamp = None

    def refresh(self) -> None:
        """Reads it again where the file has changed."""
        found = None if self._path is None else stamp(self._path)
        if found == self._stamp:
            return
        self._stamp = found
        try:
            self.value, self.why_not = (self._read() if found else None), ""
        except VidvecError as error:
            LOG.warning("%s", error)
            self.value, self.why_not = None, str(error)
