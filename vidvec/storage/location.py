"""Where things lie: folders on disk, and ``s3://BUCKET/KEY`` on object storage.

``S3Path`` is a path with the part of pathlib that vidvec's readers and writers use. What it has not
(and whatever opens files itself) is refused by ``__fspath__`` in one line, rather than taken for a
local folder called ``s3:``.
"""

from __future__ import annotations

import fnmatch
import io
import os
from collections.abc import Generator
from pathlib import Path, PosixPath
from typing import IO, Any

from vidvec.errors import UsageError

SCHEME = "s3://"
_REGULAR, _FOLDER = 0o100644, 0o040755


class S3Path(PosixPath):
    """An object, or the objects under a prefix, as a path; ``str`` gives ``s3://BUCKET/KEY``.

    Made by ``located``. There are no folders on object storage: ``mkdir`` does nothing, and a
    folder is there as long as an object is in it.
    """

    __slots__ = ()

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.parts[1]

    @property
    def key(self) -> str:
        """The key in the bucket; empty for the bucket itself."""
        return "/".join(self.parts[2:])

    @property
    def object_name(self) -> str:
        """``BUCKET/KEY``."""
        return "/".join(self.parts[1:])

    def __str__(self) -> str:
        return SCHEME + self.object_name

    def __fspath__(self) -> str:
        raise UsageError(
            f"{self} is on object storage, where this cannot be done: copy it to this machine with "
            f"vidvec pull {self} FOLDER and give that folder"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, S3Path) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash((SCHEME, self.parts))

    def resolve(self, strict: bool = False) -> S3Path:
        """Itself: a URL is absolute."""
        return self

    def absolute(self) -> S3Path:
        """Itself."""
        return self

    def is_absolute(self) -> bool:
        """True."""
        return True

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Size and time of the object.

        Raises:
            FileNotFoundError: There is none.
        """
        from vidvec.storage import objects

        found = objects.info(self)
        if found is None:
            raise FileNotFoundError(f"{self} is missing")
        mode = _FOLDER if found.is_folder else _REGULAR
        when = found.modified_seconds
        facts = (mode, 0, 0, 1, 0, 0, found.size, when, when, when)
        return os.stat_result(facts, {"st_mtime_ns": when * 10**9})

    def exists(self) -> bool:
        """Whether there is such an object, or one under it."""
        from vidvec.storage import objects

        return objects.info(self) is not None

    def is_file(self) -> bool:
        """Whether there is such an object."""
        from vidvec.storage import objects

        found = objects.info(self)
        return found is not None and not found.is_folder

    def is_dir(self) -> bool:
        """Whether there are objects under it."""
        from vidvec.storage import objects

        found = objects.info(self)
        return found is not None and found.is_folder

    def iterdir(self) -> Generator[S3Path, None, None]:
        """What is directly under it, sorted; nothing where it is not there."""
        from vidvec.storage import objects

        yield from [self / name for name in sorted(objects.names(self))]

    def glob(self, pattern: str) -> Generator[S3Path, None, None]:
        """Objects under it whose path matches, ``*`` standing for one part or some of it."""
        first, _, rest = pattern.partition("/")
        if not any(sign in first for sign in "*?["):
            found = [self / first]
        else:
            found = [path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, first)]
        for path in found:
            if rest:
                yield from path.glob(rest)
            elif path.is_file():
                yield path

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: there are no folders."""

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the object; no error where there is none."""
        from vidvec.storage import objects

        objects.remove(self)

    def read_bytes(self) -> bytes:
        """The whole object.

        Raises:
            FileNotFoundError: There is none.
        """
        from vidvec.storage import objects

        return objects.read_whole(self)

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """The whole object as text."""
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def open(  # type: ignore[override]
        self, mode: str = "r", buffering: int = -1, encoding: str | None = None, **_: Any
    ) -> IO[Any]:
        """The whole object, to read; to write, see ``storage.atomic_path``."""
        if mode not in ("r", "rb", "rt"):
            raise UsageError(f"{self} cannot be opened to write: an object is written whole")
        held = io.BytesIO(self.read_bytes())
        return held if "b" in mode else io.TextIOWrapper(held, encoding or "utf-8")


def located(where: str | Path) -> Path:
    """A path on this disk, or an ``S3Path`` where ``s3://…`` is written.

    Raises:
        UsageError: A URL without a bucket, with ``..`` or with options, or of another scheme.
    """
    if isinstance(where, S3Path):
        return where
    text = str(where)
    scheme, sign, rest = text.partition("://")
    if not sign or not scheme.isalnum():
        if text.startswith("s3:/"):  # ``Path`` has taken a slash away
            return located(SCHEME + text.removeprefix("s3:/"))
        return Path(where)
    if scheme != "s3":
        raise UsageError(f"{text}: expected a folder or s3://BUCKET/KEY")
    if "?" in rest or "#" in rest:
        raise UsageError(
            f"{text}: expected s3://BUCKET/KEY alone; endpoint, region and credentials come from "
            "AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and the other variables of AWS"
        )
    parts = [part for part in rest.split("/") if part]
    if not parts or rest.startswith("/") or ".." in parts or "." in parts:
        raise UsageError(f"{text}: expected s3://BUCKET/KEY")
    return S3Path("s3:", *parts)


def is_remote(path: Path) -> bool:
    """Whether a path is on object storage."""
    return isinstance(path, S3Path)
