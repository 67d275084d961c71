"""Tables of videos (CSV, JSON lines, Parquet, Arrow), and folders of videos without a table.

Columns; one of ``id`` and ``file`` is required, unknown ones are ignored:

    id                   where it is missing, the file's path without suffix, relative to the table
    file                 the video file, relative to the table
    title, category      strings
    speech_text          what is said in the video; also called asr_text
    screen_text          what is written in the picture; also called ocr_text
    tags                 a list; in CSV, tags separated by , or ; or | (empty: nobody tagged it)
    language             also called lang
    duration_seconds     a number
    frames               features already computed, a list of equally long lists of numbers; a
                         single number, such as a count of frames, is ignored
    frame_times_seconds  a number for each frame; where missing, frames come one a second
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import BadRecord, FormatError
from vidvec.records import Reject, SourceRow, Video

TABLE_NAMES = frozenset({"meta", "metadata", "videos", "index"})
_VIDEO_SUFFIXES = (
    ".3gp .asf .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .vob .webm .wmv"
)
_ALIASES = {"asr_text": "speech_text", "ocr_text": "screen_text", "lang": "language"}
_READ_AHEAD = 256

Cells = dict[str, Any]
# Rows or lines with their numbers, counted from 1.
NumberedCells = Iterator[tuple[int, Cells | BadRecord]]


def find_tables(source: Path) -> list[Path]:
    """The tables that describe a source.

    Args:
        source: A table, or a folder. In a folder: tables called meta, metadata, videos or index;
            where it has none itself, those of all folders below.

    Returns:
        Sorted; empty where there are none.
    """
    if source.is_file():
        return [source] if source.suffix.lower() in _READERS else []
    return _named_tables(source.glob("*")) or _named_tables(source.rglob("*"))


def _named_tables(files: Iterable[Path]) -> list[Path]:
    return sorted(
        file
        for file in files
        if file.stem.lower() in TABLE_NAMES and file.suffix.lower() in _READERS and file.is_file()
    )


def read_folder(folder: Path) -> Iterator[SourceRow]:
    """Yields the video files in and below a folder, sorted; ids are their paths without suffix."""
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in path.parts)
        if path.suffix.lower() in _VIDEO_SUFFIXES.split() and not hidden and file.is_file():
            # Names of files are bytes; those that are not UTF-8 are spelt out.
            where = os.fsencode(path).decode("utf-8", "backslashreplace")
            yield SourceRow(where, Video(id=where.removesuffix(path.suffix)), file)


def read_table(path: Path, *, expected_width: int | None = None) -> Iterator[SourceRow | Reject]:
    """Yields the videos of one table in order, and a ``Reject`` for each row that cannot be used.

    Args:
        path: A table; its suffix says of which kind.
        expected_width: Numbers in a frame feature; ``None``: as in the table's first good row.

    Yields:
        Rows with ``where`` as in ``meta.jsonl:12`` (the line) or ``meta.parquet#12`` (the row),
        counted from 1, and ``frames`` (F, expected_width); or rejects: ``bad-record``, ``no-id``,
        ``not-utf8``, ``missing-file``, ``frame-width``, ``nan``.

    Raises:
        FormatError: The file is no such table, or has neither an id nor a file column.
    """
    read, mark = _READERS[path.suffix.lower()]
    width = expected_width
    for number, cells in read(path):
        where = f"{path.name}{mark}{number}"
        found = ""
        try:
            if isinstance(cells, BadRecord):
                raise cells
            found = _id(cells, path.parent)
            row = _source_row(cells, found, where, path.parent, width)
        except BadRecord as error:
            yield Reject(where, found, error.reason, error.detail)
            continue
        if width is None and len(row.video.frames):
            width = row.video.frames.shape[1]
        yield row


def _source_row(cells: Cells, name: str, where: str, folder: Path, width: int | None) -> SourceRow:
    frames = _frames(cells.get("frames"), width)
    file = _text(cells, "file")
    # Features that are there are taken as they are; the video file is then not needed.
    path = folder / file if file and not len(frames) else None
    if path is not None and not os.path.isfile(path):
        raise BadRecord("missing-file", f"there is no file {file} in {folder}")
    video = Video(
        id=name,
        title=_text(cells, "title"),
        speech_text=_text(cells, "speech_text"),
        screen_text=_text(cells, "screen_text"),
        tags=_tags(cells.get("tags")),
        category=_text(cells, "category", numbers=True),
        language=_text(cells, "language"),
        duration_seconds=_seconds(cells.get("duration_seconds")),
        frame_times_seconds=_times(cells.get("frame_times_seconds"), len(frames)),
        frames=frames,
    )
    return SourceRow(where, video, path)


def _id(cells: Cells, folder: Path) -> str:
    name = _text(cells, "id", numbers=True).strip()
    if name:
        return name
    file = _text(cells, "file")
    if not file:
        raise BadRecord("no-id", "neither id nor file is given")
    path = folder / file
    relative = path.relative_to(folder) if path.is_relative_to(folder) else path
    return relative.with_suffix("").as_posix()


def _is_missing(value: Any) -> bool:
    """Whether a cell is empty; data frames write NaN there."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _text(cells: Cells, name: str, *, numbers: bool = False) -> str:
    value = cells.get(name)
    if _is_missing(value):
        return ""
    if numbers and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        found = f"{name} is {value!r:.40}, expected text"
        raise BadRecord("bad-record", found + " or a whole number" * numbers)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRecord("not-utf8", f"{name} is not UTF-8: {value!r:.60}") from None
    return value


def _tags(value: Any) -> tuple[str, ...] | None:
    if _is_missing(value) or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        value = [tag.strip() for tag in re.split("[,;|]", value) if tag.strip()]
    if not isinstance(value, list):
        raise BadRecord("bad-record", f"tags are {value!r:.40}, expected a list of strings")
    return tuple(_text({"a tag": tag}, "a tag", numbers=True) for tag in value)


def _seconds(value: Any) -> float | None:
    if _is_missing(value) or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        found = f"duration_seconds is {value!r:.40}, expected a number of seconds"
        raise BadRecord("bad-record", found)
    return seconds


def _times(value: Any, count: int) -> NDArray[np.float32]:
    """(count,) float32."""
    if count == 0 or _is_missing(value) or value == "":
        return np.arange(count, dtype=np.float32)
    try:
        times = np.array(value, np.float32)
    except (TypeError, ValueError):
        times = np.zeros(0, np.float32)
    if times.shape != (count,) or not np.isfinite(times).all():
        found = f"frame_times_seconds is {value!r:.60}, expected {count} numbers, one a frame"
        raise BadRecord("bad-record", found)
    return times


def _frames(value: Any, width: int | None) -> NDArray[np.float16]:
    """(F, width) float16 from lists of lists or from an Arrow array of lists."""
    import pyarrow as pa

    if value is None or isinstance(value, int | float | str) or len(value) == 0:
        return np.zeros((0, width or 0), np.float16)
    try:
        rows = pa.array(value, pa.list_(pa.float32())) if isinstance(value, list) else value
    except (pa.ArrowException, TypeError) as error:
        detail = f"frames are no list of lists of numbers: {error}"
        raise BadRecord("bad-record", detail) from None
    widths = {length.as_py() or 0 for length in rows.value_lengths().unique()}
    found = width or max(widths)
    if widths != {found} or found == 0:
        sizes = ", ".join(str(one) for one in sorted(widths)[:5])
        expected = width or "the same in all of them"
        raise BadRecord("frame-width", f"frames have {sizes} numbers, expected {expected}")
    matrix = rows.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), found)
    with np.errstate(over="ignore"):
        frames: NDArray[np.float16] = matrix.astype(np.float16)
    good = np.isfinite(frames).all(axis=1)
    if not good.all():
        first = int(np.argmin(good))
        number = matrix[first][~np.isfinite(frames[first])][0]
        detail = f"frame {first} holds {number}, expected numbers that float16 can hold"
        raise BadRecord("nan", detail)
    return frames


def _named(pairs: Iterable[tuple[str, Any]]) -> Cells:
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
    if {"id", "file"}.isdisjoint(_named((name, None) for name in found)):
        near = [*get_close_matches("id", found, 2, 0.3), *get_close_matches("file", found, 2, 0.4)]
        hint = f"; the nearest are {', '.join(map(repr, dict.fromkeys(near)))}" if near else ""
        raise FormatError(
            f"{path} has neither a column 'id' nor 'file', it has "
            f"{', '.join(map(repr, found[:20])) or 'none'}{hint}: rename one"
        )


def read_delimited(
    path: Path, delimiter: str, columns: int | None = None
) -> Iterator[tuple[int, list[str] | BadRecord]]:
    """Yields the rows of a CSV file with the numbers of their first lines.

    Fields may be quoted and then hold line breaks. Where a row over several lines is no good, as
    behind a quotation mark that nothing closes, only its first line is given up. Bytes that are
    not UTF-8 come as lone surrogates (PEP 383).

    Args:
        path: The file, with or without a byte order mark.
        delimiter: Between fields.
        columns: Fields in each row; ``None``: as in the first row.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        window: deque[str] = (
            deque()
        )  # lines of the file from the next row on, as far as they were read
        number = 1
        while True:
            rows = csv.reader(_remembered(file, window), delimiter=delimiter)
            problem, cells = "", []
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                problem = str(error)
            columns = columns or len(cells)
            if cells and len(cells) != columns:
                problem = f"the row has {len(cells)} cells, expected {columns}"
            used = rows.line_num
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
    delimiter = "\t"
    if path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8", errors="replace") as file:
            first = file.readline()
        delimiter = ";" if first.count(";") > first.count(",") else ","
    rows = read_delimited(path, delimiter)
    _, header = next(rows, (1, []))
    names = [] if isinstance(header, BadRecord) else header
    _check_columns(path, names)
    for number, cells in rows:
        if isinstance(cells, BadRecord):
            yield number, cells
        else:
            yield number, _named(zip(names, cells, strict=True))


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields the values of a file of JSON lines, or a ``BadRecord``, with their line numbers."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                detail = f"the line is not UTF-8 from its byte {error.start} on"
                yield number, BadRecord("not-utf8", detail)
            except (ValueError, RecursionError) as error:
                yield number, BadRecord("bad-record", f"the line is not JSON: {error}")


def _read_json(path: Path) -> NumberedCells:
    first = [row for _, row in islice(read_json_lines(path), _READ_AHEAD) if isinstance(row, dict)]
    if first:
        _check_columns(path, (name for row in first for name in row))
    for number, row in read_json_lines(path):
        if isinstance(row, dict):
            yield number, _named(row.items())
        elif isinstance(row, BadRecord):
            yield number, row
        else:
            detail = f"the line holds {row!r:.40}, expected a JSON object"
            yield number, BadRecord("bad-record", detail)


def _read_parquet(path: Path) -> NumberedCells:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{path} is no Parquet file: {error}") from None
    with file:
        yield from _read_columns(path, file.schema_arrow, file.iter_batches(_READ_AHEAD))


def _read_arrow(path: Path) -> NumberedCells:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        try:
            try:
                file = pa.ipc.open_file(source)
                batches = (file.get_batch(at) for at in range(file.num_record_batches))
            except pa.ArrowInvalid:
                source.seek(0)
                file = batches = pa.ipc.open_stream(source)
        except (pa.ArrowException, OSError) as error:
            raise FormatError(f"{path} is no Arrow IPC file or stream: {error}") from None
        yield from _read_columns(path, file.schema, batches)


def _read_columns(path: Path, schema: Any, batches: Iterable[Any]) -> NumberedCells:
    import pyarrow as pa

    _check_columns(path, schema.names)
    frames = _frames_column(path, schema)
    number = 1
    try:
        for batch in batches:
            for start in range(0, batch.num_rows, _READ_AHEAD):
                for cells in _batch_cells(batch.slice(start, _READ_AHEAD), frames):
                    yield number, cells
                    number += 1
    except (pa.ArrowException, OSError) as error:
        detail = f"the file is damaged, the rest of it could not be read: {error}"
        yield number, BadRecord("bad-record", detail)


def _frames_column(path: Path, schema: Any) -> int | None:
    """Position of the column with frame features, if there is one."""
    import pyarrow as pa

    positions = [at for at, name in enumerate(schema.names) if name.strip().lower() == "frames"]
    kind = schema.types[positions[-1]] if positions else None
    if kind is None or pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return None
    number = getattr(getattr(kind, "value_type", None), "value_type", None)
    if number is None or not (pa.types.is_floating(number) or pa.types.is_integer(number)):
        raise FormatError(f"{path}: column 'frames' is {kind}, expected a list of lists of numbers")
    return positions[-1]


def _batch_cells(batch: Any, frames: int | None) -> Iterator[Cells | BadRecord]:
    """Rows as Python values, except for frames, which stay Arrow arrays of lists."""
    names = batch.schema.names
    others = [at for at in range(len(names)) if at != frames]
    for row in range(batch.num_rows):
        try:
            pairs = [(names[at], batch.column(at)[row].as_py()) for at in others]
        except UnicodeDecodeError as error:
            yield BadRecord("not-utf8", f"the row holds text that is not UTF-8: {error}")
            continue
        if frames is not None:
            pairs.append(("frames", batch.column(frames)[row].values))
        yield _named(pairs)


_READERS: dict[str, tuple[Callable[[Path], NumberedCells], str]] = {
    ".csv": (_read_csv, ":"),
    ".tsv": (_read_csv, ":"),
    ".jsonl": (_read_json, ":"),
    ".ndjson": (_read_json, ":"),
    ".parquet": (_read_parquet, "#"),
    ".arrow": (_read_arrow, "#"),
    ".feather": (_read_arrow, "#"),
    ".ipc": (_read_arrow, "#"),
}
