"""The files of a folder or of a pattern: names, sizes and times, by one look at each folder.

A folder of 1,000,000 files is looked at once; sizes and times come with the fingerprint, and with
each file's version.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_BRACES = re.compile(r"\{([^{}]*)\}")
_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Found:
    """A file below a folder.

    Attributes:
        path: Below the folder, with ``/``.
        size: In bytes.
        time_ns: When it was last written.
        is_link: Whether it is a symbolic link.
    """

    path: str
    size: int
    time_ns: int
    is_link: bool = False

    @property
    def name(self) -> str:
        """Without the folders."""
        return self.path.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """In small letters, with the dot."""
        return os.path.splitext(self.path)[1].lower()

    @property
    def version(self) -> str:
        """As ``tables.file_version`` gives it."""
        return f"{self.size}:{self.time_ns}"


def list_folder(folder: Path) -> list[Found]:
    """The files in and below a folder, sorted by the parts of their paths.

    Hidden files and folders, and links to folders, are left out; links to files are followed.
    """
    found: list[Found] = []
    waiting = [(str(folder), "")]
    while waiting:
        place, prefix = waiting.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{prefix}{entry.name}/"))
                elif entry.is_file():
                    status = entry.stat()
                    path = prefix + entry.name
                    link = entry.is_symlink()
                    found.append(Found(path, status.st_size, status.st_mtime_ns, link))
    found.sort(key=lambda file: file.path.split("/"))
    return found


def is_pattern(text: str) -> bool:
    """Whether a path is to be expanded: it holds ``*``, ``?``, ``[…]`` or ``{…}``."""
    return glob.has_magic(text) or _BRACES.search(text) is not None


def expand(pattern: str) -> tuple[Path, list[Found]]:
    """The files that a pattern names, and the folder that their paths are below.

    Args:
        pattern: With ``*``, ``?``, ``[…]``, ``**`` for any folders, and braces as for the shards of
            WebDataset: ``{000..012}`` or ``{a,b}``. Hidden files are left out.
    """
    parts = Path(pattern).parts
    fixed = next((place for place, part in enumerate(parts) if is_pattern(part)), len(parts))
    folder = Path(*parts[: min(fixed, len(parts) - 1)])
    found = {}
    for plain in _braces(pattern):
        for name in glob.iglob(plain, recursive=True):
            if os.path.isfile(name):
                status = os.stat(name)
                path = os.path.relpath(name, folder).replace(os.sep, "/")
                link = os.path.islink(name)
                found[path] = Found(path, status.st_size, status.st_mtime_ns, link)
    return folder, [found[path] for path in sorted(found, key=lambda path: path.split("/"))]


def _braces(pattern: str) -> Iterator[str]:
    """The patterns that one with braces stands for."""
    texts = _BRACES.split(pattern)
    choices = [_choices(text) if place % 2 else [text] for place, text in enumerate(texts)]
    yield from map("".join, product(*choices))


def _choices(inner: str) -> list[str]:
    bounds = _RANGE.fullmatch(inner)
    if bounds is None:
        return inner.split(",")
    first, last = bounds.groups()
    width = len(first) if first.startswith("0") else 0
    numbers = range(int(first), min(int(last), int(first) + _MOST) + 1)
    return [f"{number:0{width}d}" for number in numbers]


def fingerprint(folder: Path, files: Iterable[Found]) -> str:
    """Sixteen hex digits that change with the path, size or time of any of the files.

    Args:
        folder: That the files are below.
        files: In order.
    """
    facts = hashlib.sha256()
    home = os.path.realpath(folder)
    for file in files:
        path = os.path.join(home, file.path)
        path = os.path.realpath(path) if file.is_link else path
        facts.update(os.fsencode(path) + f"\0{file.size}\0{file.time_ns}\n".encode())
    return facts.hexdigest()[:16]


def fingerprint_of(files: Iterable[Path]) -> str:
    """The same of files wherever they are."""
    facts = hashlib.sha256()
    for file in files:
        status = file.stat()
        facts.update(os.fsencode(file.resolve()))
        facts.update(f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return facts.hexdigest()[:16]
