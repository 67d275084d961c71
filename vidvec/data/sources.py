"""What can be ingested: the competition's TFRecords, metadata tables, plain folders of videos."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vidvec.data.tables import find_tables, read_folder, read_table
from vidvec.data.tfrecord import read_tag_list, read_tfrecords
from vidvec.errors import UsageError
from vidvec.records import Reject, SourceRow

Row = SourceRow | Reject


@dataclass(frozen=True, slots=True)
class Source:
    """A source of videos, read in an order that only depends on its files.

    Attributes:
        path: Where it is.
        kind: ``tfrecord``, ``table`` or ``folder``.
        fingerprint: Changes when a file that fixes the rows does (by name, size and time).
        read: Yields every row, each time anew.
        tag_list: The tag vocabulary that came along, or ``None``.
        pairs: Files with scored pairs that came along.
    """

    path: Path
    kind: str
    fingerprint: str
    read: Callable[[], Iterator[Row]]
    tag_list: list[str] | None = None
    pairs: tuple[Path, ...] = ()


def open_source(path: Path, tag_list: Path | None = None) -> Source:
    """Finds out what ``path`` is.

    In a folder with TFRecords, ``tag_list.txt`` and ``label.tsv`` are taken from it (or from one
    folder below) where they are there.

    Raises:
        UsageError: There is nothing to ingest at ``path``.
    """
    if not path.exists():
        raise UsageError(f"source {path} does not exist")
    records = _tfrecords(path)
    if records:
        return _tfrecord_source(path, records, tag_list)
    tags = read_tag_list(tag_list) if tag_list else None
    tables = find_tables(path)
    if tables:
        return Source(path, "table", _fingerprint(tables), lambda: _chain(tables, read_table), tags)
    if path.is_file():
        raise UsageError(
            f"source {path} is no table: expected .csv, .tsv, .jsonl, .parquet, .arrow, .tfrecords "
            "or a folder"
        )
    files = [row.file for row in read_folder(path) if row.file is not None]
    if not files:
        raise UsageError(
            f"nothing to ingest in {path}: no TFRecords, no table (meta.csv, meta.jsonl, "
            "meta.parquet), no video files"
        )
    return Source(path, "folder", _fingerprint(files), lambda: read_folder(path), tags)


def _tfrecords(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if ".tfrecord" in path.name else []
    # Part by part: the manifest of a corpus counts the videos of each, and no more.
    files = (file for file in path.rglob("*.tfrecord*") if file.is_file())
    return sorted(files, key=lambda file: (_part(file, path), file))


def _tfrecord_source(path: Path, records: list[Path], tag_list: Path | None) -> Source:
    folder = path if path.is_dir() else path.parent
    found = tag_list or _beside(folder, "tag_list.txt")
    labels = _beside(folder, "label.tsv")
    return Source(
        path,
        "tfrecord",
        _fingerprint(records),
        lambda: _located(records, path),
        read_tag_list(found) if found else None,
        (labels,) if labels else (),
    )


def _beside(folder: Path, name: str) -> Path | None:
    return next(
        (file for file in [folder / name, *sorted(folder.glob(f"*/{name}"))] if file.is_file()),
        None,
    )


def _chain(files: Sequence[Path], read: Callable[[Path], Iterator[Row]]) -> Iterator[Row]:
    for file in files:
        yield from read(file)


def _part(file: Path, source: Path) -> str:
    """The folder right below the source that a file is in; empty where it is in none."""
    inside = file.relative_to(source).parts if source.is_dir() else ()
    return inside[0] if len(inside) > 1 else ""


def _located(files: Sequence[Path], source: Path) -> Iterator[Row]:
    """The rows of TFRecord files, with the part and, in messages, the path below the source."""
    for file in files:
        part = _part(file, source)
        folder = f"{file.parent.relative_to(source).as_posix()}/" if part else ""
        for row in read_tfrecords(file):
            where = f"{folder}{row.where}"
            if isinstance(row, Reject):
                yield replace(row, where=where)
            else:
                yield replace(row, where=where, part=part)


def _fingerprint(files: Sequence[Path]) -> str:
    facts = hashlib.sha256()
    for file in files:
        status = file.stat()
        facts.update(f"{file.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return facts.hexdigest()[:16]
