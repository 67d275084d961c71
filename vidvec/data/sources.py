"""What can be ingested: the competition's TFRecords, metadata tables, plain folders of videos."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from vidvec.data import competition
from vidvec.data.tables import find_tables, read_folder, read_table
from vidvec.data.tfrecord import read_tfrecords
from vidvec.errors import UsageError
from vidvec.records import Reject, SourceRow

Row = SourceRow | Reject


@dataclass(frozen=True, slots=True)
class Source:
    """A source of videos, read in an order that only depends on its files.

    Attributes:
        path: Where it is.
        kind: ``competition``, ``tfrecord``, ``table`` or ``folder``.
        fingerprint: Changes when a file that fixes the rows does (by name, size and time).
        read: Yields every row, each time anew.
        tag_list: File with the tag vocabulary that came along, or ``None``.
        labels: File with scored pairs that came along, or ``None``.
        id_lists: Files with the ids of test videos that came along.
        missing: What a competition's folder lacks.
    """

    path: Path
    kind: str
    fingerprint: str
    read: Callable[[], Iterator[Row]]
    tag_list: Path | None = None
    labels: Path | None = None
    id_lists: tuple[Path, ...] = ()
    missing: tuple[Reject, ...] = ()

    def name_of(self, file: Path) -> str:
        """What a file is called in messages: its path below the source."""
        folder, path = self.path.resolve(), file.resolve()
        inside = folder.is_dir() and path.is_relative_to(folder)
        return path.relative_to(folder).as_posix() if inside else file.name


def open_source(path: Path) -> Source:
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
        return _tfrecord_source(path, records)
    tables = find_tables(path)
    if tables:
        return Source(path, "table", _fingerprint(tables), lambda: _chain(tables, read_table))
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
    return Source(path, "folder", _fingerprint(files), lambda: read_folder(path))


def _tfrecords(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if ".tfrecord" in path.name else []
    # Part by part: the manifest of a corpus counts the videos of each, and no more.
    return sorted(competition.record_files(path), key=lambda file: (_part(file, path), file))


def _tfrecord_source(path: Path, records: list[Path]) -> Source:
    folder = path if path.is_dir() else path.parent
    tag_list = competition.find_beside(folder, competition.TAG_LIST)
    if not competition.is_competition(path):
        return Source(
            path,
            "tfrecord",
            _fingerprint(records),
            lambda: _located(records, path),
            tag_list,
            competition.find_beside(folder, competition.LABELS),
        )
    lists = [competition.find_id_lists(path, part) for part in competition.TEST_PARTS]
    return Source(
        path,
        "competition",
        _fingerprint(records),
        lambda: map(_numbered, _located(records, path)),
        tag_list,
        competition.find_labels(path),
        tuple(chain.from_iterable(lists)),
        tuple(competition.missing(path)),
    )


def _numbered(row: Row) -> Row:
    """The row, or a reject where its id is none of the competition's."""
    if isinstance(row, Reject) or competition.is_number(row.video.id):
        return row
    detail = f"the id is {row.video.id!r:.60}, expected a whole number"
    return Reject(row.where, row.video.id, "bad-id", detail)


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
        if not file.stat().st_size:
            yield Reject(f"{folder}{file.name}", "", "empty-file", "the file has no byte")
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
