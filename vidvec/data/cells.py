"""Rows of table files as cells by column: CSV, JSON lines, Parquet, Arrow, lists of paths."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

from vidvec.errors import BadRecord, FormatError

Cells = dict[str, Any]
NumberedCells = Iterator[tuple[int, Cells | BadRecord]]  # lines or rows, counted from 1

TEXTS = ("title", "speech_text", "screen_text", "language")
LIST_SUFFIX = ".txt"
_ALIASES = {
    "asr_text": "speech_text",
    "caption": "title",
    "published_at": "date",
    "upload_date": "date",
    "file_name": "file",
    "lang": "language",
    "ocr_text": "screen_text",
    "video_url": "url",
}
_NAMING = ("id", "file", "url", "video")  # one of these says which video a row is
_FEATURES = ("frames", "frame_times_seconds", "audio", "audio_times_seconds")
_COLUMNS = frozenset((*_NAMING, *TEXTS, "tags", "category", "duration_seconds", "date", *_FEATURES))
_READ_AHEAD = 256
# A row with a video in it may take some hundred megabytes.
_READ_AHEAD_VIDEOS = 2


def named(pairs: Iterable[tuple[str, Any]]) -> Cells:
    """Cells by their canonical column names; an alias gives way to the name itself."""
    cells: Cells = {}
    for name, value in pairs:
        plain = name.strip().lower()
        column = _ALIASES.get(plain, plain)
        if column == plain or column not in cells:
            cells[column] = value
    return cells


def _check_columns(path: Path, names: Iterable[str]) -> None:
    found = list(dict.fromkeys(names))
    if set(_NAMING).isdisjoint(named((name, None) for name in found)):
        near = [*get_close_matches("id", found, 1, 0.3), *get_close_matches("file", found, 1, 0.4)]
        hint = f"; nearest: {', '.join(map(repr, near))}" if near else ""
        columns = ", ".join(map(repr, found[:20])) or "none"
        raise FormatError(f"{path} has no column 'id' or 'file', its columns are {columns}{hint}")


def read_delimited(
    path: Path, delimiter: str, *, same_length: bool
) -> Iterator[tuple[int, list[str] | BadRecord]]:
    """Yields the rows of a CSV file with the numbers of their first lines.

    Fields may be quoted and then hold line breaks. Where a row over several lines is no good, as
    behind a quotation mark that nothing closes, only its first line is given up. Bytes that are
    not UTF-8 come as lone surrogates (PEP 383). ``same_length``: all rows must be like the first.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        window: deque[str] = deque()  # from the next row's first line on, what was read so far
        number, columns = 1, 0
        while True:
            rows = csv.reader(_remembered(file, window), delimiter=delimiter, strict=True)
            problem, cells = "", []
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                problem = str(error)
            used, columns = rows.line_num, columns or len(cells)
            if same_length and cells and len(cells) != columns:
                problem = f"the row has {len(cells)} cells, expected {columns}"
            if problem:
                hint = f"; a quotation mark holds {used} lines together" if used > 1 else ""
                yield number, BadRecord("bad-record", problem + hint)
                used = 1
            elif cells:
                yield number, cells
            number += used
            for _ in range(used):
                window.popleft()


def _remembered(file: Iterator[str], window: deque[str]) -> Iterator[str]:
    yield from list(window)
    for line in file:
        window.append(line)
        yield line


def _read_csv(path: Path) -> NumberedCells:
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline()
    comma = ";" if first.count(";") > first.count(",") else ","
    delimiter = "\t" if path.suffix.lower() == ".tsv" else comma
    rows = read_delimited(path, delimiter, same_length=True)
    _, header = next(rows, (1, []))
    names = [] if isinstance(header, BadRecord) else header
    _check_columns(path, names)
    for number, cells in rows:
        if isinstance(cells, BadRecord):
            yield number, cells
        else:
            yield number, named(zip(names, cells, strict=True))


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields the values of a file of JSON lines, or a ``BadRecord``, with their line numbers."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                value = BadRecord("not-utf8", f"the line is not UTF-8: its byte {error.start}")
            except (ValueError, RecursionError) as error:
                value = BadRecord("bad-record", f"the line is not JSON: {error}")
            yield number, value


def _read_json(path: Path) -> NumberedCells:
    first = [row for _, row in islice(read_json_lines(path), _READ_AHEAD) if isinstance(row, dict)]
    _check_columns(path, (name for row in first for name in row))
    for number, row in read_json_lines(path):
        if isinstance(row, dict):
            yield number, named(row.items())
        else:
            wrong = BadRecord("bad-record", f"the line holds {row!r:.40}, expected a JSON object")
            yield number, row if isinstance(row, BadRecord) else wrong


def read_list(path: Path) -> Iterator[tuple[int, Cells]]:
    """Yields the lines of a text of paths and URLs as cells; blank lines are none."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, {"file": line.strip()}


def _read_parquet(path: Path) -> NumberedCells:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{path} is no Parquet file: {error}") from None
    with file:
        names = _known(path, file.schema_arrow)
        nested = any(_holds_videos(file.schema_arrow.field(name)) for name in names)
        rows = _READ_AHEAD_VIDEOS if nested else _READ_AHEAD
        yield from read_batches(file.iter_batches(rows, columns=names))


def _read_arrow(path: Path) -> NumberedCells:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        try:
            is_file = source.read_at(6, 0) == b"ARROW1"
            reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        except (pa.ArrowException, OSError) as error:
            raise FormatError(f"{path} is no Arrow IPC file or stream: {error}") from None
        names = _known(path, reader.schema)
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        yield from read_batches(batch.select(names) for batch in batches)


def _known(path: Path, schema: Any) -> list[str]:
    """The columns that are of use."""
    import pyarrow as pa

    _check_columns(path, schema.names)
    names = [name for name in schema.names if not _COLUMNS.isdisjoint(named([(name, None)]))]
    taken = []
    for name in names:
        kind, plain = schema.field(name).type, name.strip().lower()
        number = getattr(getattr(kind, "value_type", None), "value_type", None)
        is_features = number is not None and (
            pa.types.is_floating(number) or pa.types.is_integer(number)
        )
        if plain == "frames" and pa.types.is_nested(kind) and not is_features:
            found = f"column {name!r} is {kind}, expected a list of lists of numbers"
            raise FormatError(f"{path}: {found}")
        if plain != "audio" or is_features:  # else a sound itself, as datasets have it, or its path
            taken.append(name)
    return taken


def _holds_videos(field: Any) -> bool:
    """Whether a column holds videos themselves, and not their paths."""
    import pyarrow as pa

    is_text = pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    return field.name.strip().lower() == "video" and not is_text


def read_batches(batches: Iterable[Any]) -> NumberedCells:
    """Rows of Arrow batches as Python values; lists of lists stay Arrow arrays."""
    import pyarrow as pa

    number = 1
    try:
        for batch in batches:
            names = batch.schema.names
            for scalars in zip(*batch.columns, strict=True):
                row: Cells | BadRecord
                try:
                    row = named(zip(names, map(_value, scalars), strict=True))
                except UnicodeDecodeError as error:
                    row = BadRecord("not-utf8", f"the row's text is not UTF-8: {error}")
                yield number, row
                number += 1
    except (pa.ArrowException, OSError) as error:
        detail = f"the file is damaged, the rest of it could not be read: {error}"
        yield number, BadRecord("bad-record", detail)


def _value(scalar: Any) -> Any:
    inner = getattr(scalar.type, "value_type", None)
    return scalar.values if hasattr(inner, "value_type") else scalar.as_py()


READERS: dict[str, tuple[Callable[[Path], NumberedCells], str]] = {
    ".csv": (_read_csv, ":"),
    ".tsv": (_read_csv, ":"),
    ".jsonl": (_read_json, ":"),
    ".ndjson": (_read_json, ":"),
    LIST_SUFFIX: (read_list, ":"),
    ".parquet": (_read_parquet, "#"),
    ".arrow": (_read_arrow, "#"),
    ".feather": (_read_arrow, "#"),
    ".ipc": (_read_arrow, "#"),
}
