"""What can be ingested: videos in folders, patterns, lists, tables, tars, datasets, TFRecords."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

from vidvec.data import competition
from vidvec.data.access import VIDEO_SUFFIXES, Access, video_suffix
from vidvec.data.addresses import is_url
from vidvec.data.cells import LIST_SUFFIX, read_list
from vidvec.data.dataset_folders import find_dataset
from vidvec.data.stamps import stamped
from vidvec.data.tables import file_row, find_tables, is_table, read_table
from vidvec.data.tars import is_tar, read_tar
from vidvec.data.tfrecord import read_tfrecords
from vidvec.data.walk import Found, expand, fingerprint, fingerprint_of, is_pattern, list_folder
from vidvec.errors import UsageError
from vidvec.records import Reject, SourceRow

Row = SourceRow | Reject


@dataclass(frozen=True, slots=True)
class Source:
    """A source of videos, read in an order that only depends on its files.

    Attributes:
        path: Where it is.
        kind: ``competition``, ``tfrecord``, ``dataset``, ``table``, ``list``, ``tar``, ``pattern``
            or ``folder``.
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


def open_source(path: Path, access: Access | None = None) -> Source:
    """Finds out what ``path`` is.

    A file is a table, a list of paths (.txt), a tar, or TFRecords. In a folder these are looked
    for in this order: TFRecords (with ``tag_list.txt`` and ``label.tsv`` from it or from one folder
    below, where they are there), a dataset of Hugging Face, tables named meta, metadata, videos or
    index, video files, tars. What is no file and no folder is a pattern, with ``*``, ``?``, ``**``
    or braces as in ``{000..012}``.

    Args:
        path: Of the source.
        access: Lends videos that are no files on this disk; ``None``: with its default options.

    Raises:
        UsageError: There is nothing to ingest at ``path``.
        FormatError: A dataset's description is damaged.
    """
    access = access or Access()
    if path.is_dir():
        source = _folder_source(path, access)
    elif path.exists():
        source = _file_source(path, access)
    elif is_pattern(str(path)):
        source = _pattern_source(path, access)
    else:
        raise UsageError(f"source {path} does not exist")
    return replace(source, read=lambda: stamped(source.read()))


def _file_source(path: Path, access: Access) -> Source:
    if ".tfrecord" in path.name:
        return _tfrecord_source(path, [path])
    is_text = path.suffix.lower() == LIST_SUFFIX
    if is_text:
        _check_list(path)
    if is_table(path.name) or is_text:
        kind = "list" if is_text else "table"
        read = partial(read_table, path, access=access)
        return Source(path, kind, fingerprint_of([path]), read)
    if is_tar(path.name):
        read = partial(read_tar, path, access, path.name)
        return Source(path, "tar", fingerprint_of([path]), read)
    raise UsageError(
        f"source {path} is no table: expected .csv, .tsv, .jsonl, .parquet, .arrow, .tfrecords, "
        ".tar, .tar.gz, a .txt with a path or URL a line, or a folder"
    )


def _check_list(path: Path) -> None:
    """Refuses a text that is none of paths and URLs: no line near its beginning looks like one."""
    lines = [str(cells["file"]) for _, cells in islice(read_list(path), 100)]
    if not any(
        is_url(line) or video_suffix(line) or _is_file(path.parent / line) for line in lines
    ):
        first = f", the first is {lines[0]!r:.60}" if lines else ""
        raise UsageError(
            f"{path} is no list of videos: expected a path or a URL a line, found {len(lines)} "
            f"lines, none of them a file, a URL or a video's name{first}"
        )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a sentence that is too long for a name
        return False


def _folder_source(path: Path, access: Access) -> Source:
    files = list_folder(path)
    if any(".tfrecord" in file.name for file in files):
        records = competition.record_files(path)
        # Part by part: the manifest of a corpus counts the videos of each, and no more.
        return _tfrecord_source(path, sorted(records, key=lambda file: (_part(file, path), file)))
    dataset = find_dataset(path, files)
    if dataset:
        mark = fingerprint(path, [file for _, file in dataset])
        return Source(path, "dataset", mark, partial(_split_rows, path, dataset, access))
    tables = find_tables(files)
    if tables:
        read = partial(_table_rows, path, tables, access)
        return Source(path, "table", fingerprint(path, tables), read)
    source = _files_source(path, path, files, access)
    if source is None:
        raise UsageError(
            f"nothing to ingest in {path}: no TFRecords, no table (meta.csv, meta.jsonl, "
            "meta.parquet), no video files, no tars"
        )
    return source


def _pattern_source(path: Path, access: Access) -> Source:
    folder, files = expand(str(path))
    tables = [file for file in files if is_table(file.name)]
    if tables and len(tables) == len(files):
        read = partial(_table_rows, folder, tables, access)
        return Source(path, "table", fingerprint(folder, tables), read)
    source = _files_source(path, folder, files, access)
    if source is None:
        raise UsageError(
            f"nothing to ingest: no video file, tar or table matches {path} ({len(files)} files)"
        )
    return source if source.kind == "tar" else replace(source, kind="pattern")


def _files_source(
    path: Path, folder: Path, files: Sequence[Found], access: Access
) -> Source | None:
    """The videos among files or, where there are none, the tars."""
    videos = [file for file in files if file.suffix in VIDEO_SUFFIXES]
    if videos:
        mark = fingerprint(folder, videos)
        return Source(path, "folder", mark, partial(_file_rows, folder, videos))
    tars = [file for file in files if is_tar(file.name)]
    if not tars:
        return None
    return Source(path, "tar", fingerprint(folder, tars), partial(_tar_rows, folder, tars, access))


def _file_rows(folder: Path, files: Sequence[Found]) -> Iterator[Row]:
    return (file_row(folder, file.path, file.version) for file in files)


def _table_rows(folder: Path, tables: Sequence[Found], access: Access) -> Iterator[Row]:
    for table in tables:
        yield from read_table(folder / table.path, access=access, name=table.path)


def _split_rows(folder: Path, tables: Sequence[tuple[str, Found]], access: Access) -> Iterator[Row]:
    seen: set[str] = set()
    for split, table in tables:
        for row in read_table(folder / table.path, access=access, name=table.path, seen=seen):
            yield row if isinstance(row, Reject) else replace(row, part=split)


def _tar_rows(folder: Path, tars: Sequence[Found], access: Access) -> Iterator[Row]:
    for tar in tars:
        yield from read_tar(folder / tar.path, access, tar.path)


def _tfrecord_source(path: Path, records: list[Path]) -> Source:
    folder = path if path.is_dir() else path.parent
    tag_list = competition.find_beside(folder, competition.TAG_LIST)
    if not competition.is_competition(path):
        return Source(
            path,
            "tfrecord",
            fingerprint_of(records),
            lambda: _located(records, path),
            tag_list,
            competition.find_beside(folder, competition.LABELS),
        )
    lists = [competition.find_id_lists(path, part) for part in competition.TEST_PARTS]
    return Source(
        path,
        "competition",
        fingerprint_of(records),
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
