"""Tar shards as WebDataset has them: files that belong together, one after the other.

Files of one sample have the same path up to the first dot of the name, and lie side by side:

    000017.mp4           the video, with any suffix of one
    000017.json          metadata: an object with the columns of a table (``data/tables.py``)
    000017.txt           the title, where the object has none
    000017.cls           the category, likewise

Others are ignored. Nothing is extracted by the names in the archive: they only say what belongs
together. A shard may be compressed; it is then read from front to end only.
"""

from __future__ import annotations

import gzip
import json
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tarfile import HeaderError
from typing import Any, BinaryIO, cast

from vidvec.data.access import Access, Lend, video_suffix
from vidvec.data.cells import Cells, named
from vidvec.data.tables import video_of_cells
from vidvec.errors import BadRecord
from vidvec.records import Reject, SourceRow

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_TEXT_BYTES = 16 * 2**20
# The archive's own fields; a larger one is an attack on memory, as a header may claim any size.
_FIELD_BYTES = 1 << 20
# What tarfile and zlib raise on damage; of the latter five, where a number in a header is none.
_DAMAGE = (
    tarfile.TarError,
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    ValueError,
    IndexError,
    KeyError,
    OverflowError,
    TypeError,
)


def is_tar(name: str) -> bool:
    """Whether a file of this name is a tar."""
    return name.lower().endswith(TAR_SUFFIXES)


@dataclass(slots=True)
class _Sample:
    """What was found of one video.

    Attributes:
        key: What its files have in common.
        where: Of the first of them.
        texts: The small files, by suffix.
        lease: How the video is lent; ``None``: there is none.
        version: See ``SourceRow``.
        problem: Why it is to be left out.
        drop: Removes the video where nobody borrowed it.
    """

    key: str
    where: str
    texts: dict[str, bytes] = field(default_factory=dict)
    lease: Lend | None = None
    version: str = ""
    problem: BadRecord | None = None
    drop: Callable[[], None] | None = None


def read_tar(path: Path, access: Access, name: str) -> Iterator[SourceRow | Reject]:
    """Yields the videos of a shard in order, and a ``Reject`` for each that cannot be used.

    A video in a compressed shard must be borrowed before the next row is asked for.

    Args:
        path: The shard.
        access: Lends the videos.
        name: What the shard is called in messages.

    Yields:
        Rows with ``where`` as in ``shard-00.tar:a/000017``; or rejects: ``damaged-tar`` (what comes
        behind that place is lost), ``unsafe-name``, ``not-a-file``, ``too-large``, ``bad-record``,
        ``not-utf8``, ``no-video``.
    """
    shard = _Shard(path, access)
    sample: _Sample | None = None
    for member in shard.members():
        problem, key, suffix = _named(member)
        if not key and problem is None:
            continue  # a folder, or a note of WebDataset on itself
        if sample is not None and (problem is not None or sample.key != key):
            yield from _finished(sample)
            sample = None
        if problem is not None:
            yield Reject(f"{name}:{_shown(member.name)}", "", problem.reason, problem.detail)
            continue
        if sample is None:
            sample = _Sample(key, f"{name}:{key}")
        shard.take(sample, member, suffix)
    if sample is not None:
        yield from _finished(sample)
    if shard.problem:
        after = f" behind {_shown(shard.last)}" if shard.last else ""
        detail = f"{shard.problem}; what comes{after} could not be read"
        yield Reject(name, "", "damaged-tar", detail)


def _shown(name: str) -> str:
    """A member's name for messages: no line breaks, no half letters, not too long."""
    return ascii(name)[1:-1][:200] if not name.isprintable() else name[:200]


def _named(member: tarfile.TarInfo) -> tuple[BadRecord | None, str, str]:
    """What is wrong with a member, else the key and suffix that its name gives."""
    path = PurePosixPath(member.name)
    if member.isdir():
        return None, "", ""
    if path.is_absolute() or ".." in path.parts or not member.name.isprintable():
        detail = "expected a plain path below the archive, without .. and control characters"
        return BadRecord("unsafe-name", detail), "", ""
    if not member.isreg() or member.issparse():
        kind = "a link" if member.islnk() or member.issym() else "a device or the like"
        return BadRecord("not-a-file", f"it is {kind}, expected a plain file"), "", ""
    stem, _, suffix = path.name.partition(".")
    if not stem or not suffix or (stem.startswith("__") and stem.endswith("__")):
        return None, "", ""
    return None, (path.parent / stem).as_posix(), suffix.lower()


class _Shard:
    """One tar, read from front to end.

    Attributes:
        problem: What is wrong with it; empty: nothing.
        last: The last member that could be read.
    """

    def __init__(self, path: Path, access: Access) -> None:
        self._path, self._access = path, access
        self._plain = path.suffix.lower() == ".tar"
        self._tar: Any = None  # tarfile's types do not name what it remembers
        self.problem = self.last = ""

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Yields what the archive holds; sets ``problem`` where it breaks off."""
        with self._path.open("rb") as file, gzip.GzipFile(fileobj=file) as unzipped:
            stream: Any = _Guarded(cast(BinaryIO, file if self._plain else unzipped))
            try:
                self._tar = _Tar(fileobj=stream)
                while (member := self._tar.next()) is not None:
                    yield member
                    self.last = member.name
                    self._tar.members.clear()  # else it remembers all of them
                self.problem = self._tar.problem
            except _DAMAGE as error:
                self.problem = f"{type(error).__name__}: {error}"

    def take(self, sample: _Sample, member: tarfile.TarInfo, suffix: str) -> None:
        """Adds a member to its sample: the video, or a small file with metadata."""
        kind = "." + suffix.rpartition(".")[2]
        try:
            if video_suffix(f"x{kind}"):
                if sample.lease is None:
                    self._access.check_size(member.size)
                    sample.version = f"{member.size}:{member.mtime}"
                    self._lend(sample, member, kind)
            elif suffix in ("json", "txt", "cls"):
                if member.size > _TEXT_BYTES:
                    detail = f"its {suffix} has {member.size:,} bytes, expected metadata"
                    raise BadRecord("too-large", detail)
                sample.texts[suffix] = self._stream(member).read(member.size)
        except BadRecord as error:
            sample.problem = sample.problem or error

    def _lend(self, sample: _Sample, member: tarfile.TarInfo, suffix: str) -> None:
        if self._plain:
            end = self._path.stat().st_size
            if member.offset_data + member.size > end:
                detail = f"the archive ends before the video's {member.size:,} bytes do"
                raise BadRecord("damaged-tar", detail)
            sample.lease = self._access.inside(self._path, member.offset_data, member.size, suffix)
        else:
            stream = self._stream(member)
            sample.lease, sample.drop = self._access.spooled(stream, member.size, suffix)

    def _stream(self, member: tarfile.TarInfo) -> _Content:
        stream = self._tar.extractfile(member) if self._tar else None
        if stream is None:
            raise BadRecord("not-a-file", "it has no content")
        return _Content(cast(BinaryIO, stream))


class _Content:
    """A member's bytes; damage in the archive is the member's own problem first."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except _DAMAGE as error:
            detail = f"the archive breaks off inside it: {type(error).__name__}: {error}"
            raise BadRecord("damaged-tar", detail) from None


class _Guarded:
    """A stream of which nobody reads much at once, whatever size a header claims."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _FIELD_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes, expected {_FIELD_BYTES:,}")
        return self._stream.read(size)

    def seek(self, position: int) -> int:
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()


class _Header(tarfile.TarInfo):
    """A header; notes damage behind which ``tarfile`` would take the archive for finished."""

    @classmethod
    def fromtarfile(cls, tarfile: Any) -> _Header:
        try:
            return super().fromtarfile(tarfile)
        except HeaderError as error:
            kind = type(error).__name__
            missing = "the mark of the archive's end is missing: it may have been cut off"
            bad = missing if kind == "EmptyHeaderError" else f"a header is bad: {error}"
            tarfile.problem = "" if kind == "EOFHeaderError" else bad
            raise


class _Tar(tarfile.TarFile):
    """A tar that says why it ended."""

    tarinfo = _Header
    problem = ""


def _finished(sample: _Sample) -> Iterator[SourceRow | Reject]:
    """The row of a sample of which all is read."""
    drop = sample.drop or (lambda: None)
    try:
        row = _row(sample)
    except BadRecord as error:
        drop()
        yield Reject(sample.where, sample.key, error.reason, error.detail)
        return
    try:
        yield row
    finally:
        drop()


def _row(sample: _Sample) -> SourceRow:
    if sample.problem is not None:
        raise sample.problem
    cells: Cells = {}
    for suffix, name in (("txt", "title"), ("cls", "category")):
        if suffix in sample.texts:
            cells[name] = _decoded(sample.texts[suffix], suffix).strip()
    if "json" in sample.texts:
        cells |= named(_object(sample.texts["json"]).items())
    if sample.lease is None and not cells.get("title"):
        raise BadRecord("no-video", "neither a video nor a title lies under this name")
    found = cells.get("id")
    number = isinstance(found, int) and not isinstance(found, bool)
    name = str(found) if number or (isinstance(found, str) and found) else sample.key
    video = video_of_cells(cells, name)
    return SourceRow(sample.where, video, version=sample.version, lease=sample.lease)


def _decoded(text: bytes, suffix: str) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRecord("not-utf8", f"its {suffix} is not UTF-8: byte {error.start}") from None


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(_decoded(text, "json"))
    except (ValueError, RecursionError) as error:
        raise BadRecord("bad-record", f"its json is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRecord("bad-record", f"its json holds {value!r:.40}, expected an object")
    return value
