"""Tables of videos (CSV, JSON lines, Parquet, Arrow), and folders of videos without a table.

Columns; one of ``id`` and ``file`` is required, unknown ones are ignored:

    id                   where it is missing, the file's path without suffix, relative to the table
    file                 the video file, relative to the table
    title, category      strings
    speech_text          what is said in the video; also called asr_text
    screen_text          what is written in the picture; also called ocr_text
    tags                 a list; in CSV, tags separated by , or ; or |. Empty: nobody tagged it
    language             also called lang
    duration_seconds     a number
    frames               Parquet and Arrow: features already computed, a list of equally long
                         lists of numbers; a single number, as a count of frames, is ignored
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
_TEXTS = ("title", "speech_text", "screen_text", "language")
_COLUMNS = frozenset(
    ("id", "file", "tags", "category", "duration_seconds", "frames", "frame_times_seconds", *_TEXTS)
)
_READ_AHEAD = 256

Cells = dict[str, Any]
NumberedCells = Iterator[tuple[int, Cells | BadRecord]]  # lines or rows, counted from 1


def find_tables(source: Path) -> list[Path]:
    """The tables that describe a source, sorted; none where there are none.

    A table is its own source. In a folder they are called meta, metadata, videos or index; where
    the folder has none itself, those of all folders below count.
    """
    if source.is_file():
        return [source] if source.suffix.lower() in _READERS else []
    for files in (source.glob("*"), source.rglob("*")):
        tables = [file for file in files if file.stem.lower() in TABLE_NAMES and file.is_file()]
        if found := sorted(file for file in tables if file.suffix.lower() in _READERS):
            return found
    return []


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
        Rows with ``where`` as in ``meta.jsonl:12`` (the line) or ``meta.parquet#12`` (the row), and
        ``frames`` (F, expected_width); or rejects: ``bad-record``, ``no-id``, ``not-utf8``,
        ``missing-file``, ``frame-width``, ``nan``.

    Raises:
        FormatError: The file is no such table, or has neither an id nor a file column.
    """
    (read, mark), width = _READERS[path.suffix.lower()], expected_width
    for number, cells in read(path):
        where, found = f"{path.name}{mark}{number}", ""
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
        **{column: _text(cells, column) for column in _TEXTS},  # type: ignore[arg-type]
        tags=_tags(cells.get("tags")),
        category=_text(cells, "category", numbers=True),
        duration_seconds=_seconds(cells.get("duration_seconds")),
        frame_times_seconds=_times(cells.get("frame_times_seconds"), len(frames)),
        frames=frames,
    )
    return SourceRow(where, video, path)


def _id(cells: Cells, folder: Path) -> str:
    name, file = _text(cells, "id", numbers=True).strip(), _text(cells, "file")
    if not name and not file:
        raise BadRecord("no-id", "neither id nor file is given")
    return name or Path(os.path.relpath(folder / file, folder)).with_suffix("").as_posix()


def _is_missing(value: Any) -> bool:
    """Whether a cell is empty; data frames write NaN there."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


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
    if _is_missing(value):
        return None
    if isinstance(value, str):
        value = [tag.strip() for tag in re.split("[,;|]", value) if tag.strip()]
    if not isinstance(value, list):
        raise BadRecord("bad-record", f"tags are {value!r:.40}, expected a list of strings")
    # Tables write an empty list for "no tags known"; were it taken for "no tag fits", the tag
    # objective would learn that from every untagged video.
    return tuple(_text({"a tag": tag}, "a tag", numbers=True) for tag in value) or None


def _seconds(value: Any) -> float | None:
    if _is_missing(value):
        return None
    seconds = _floats(value)
    if seconds.shape != () or not 0 <= seconds < math.inf:
        raise BadRecord("bad-record", f"duration_seconds is {value!r:.40}, expected a number")
    return float(seconds)


def _times(value: Any, count: int) -> NDArray[np.float32]:
    """(count,) float32."""
    if count == 0 or _is_missing(value):
        return np.arange(count, dtype=np.float32)
    times = _floats(value)
    if times.shape != (count,) or not np.isfinite(times).all():
        found = f"frame_times_seconds is {value!r:.60}, expected {count} numbers, one a frame"
        raise BadRecord("bad-record", found)
    return times.astype(np.float32)


def _floats(value: Any) -> NDArray[np.float64]:
    """Numbers in the shape they come in; a lone NaN where they are none."""
    try:
        return np.array(value, np.float64)
    except (TypeError, ValueError):
        return np.array(math.nan)


def _frames(rows: Any, width: int | None) -> NDArray[np.float16]:
    """(F, width) float16 from an Arrow array of lists."""
    if isinstance(rows, list):
        raise BadRecord("bad-record", "frames are read from Parquet and Arrow tables only")
    if rows is None or isinstance(rows, int | float | str) or len(rows) == 0:
        return np.zeros((0, width or 0), np.float16)
    widths = {length.as_py() or 0 for length in rows.value_lengths().unique()}
    found = width or max(widths)
    if widths != {found} or found == 0:
        sizes = ", ".join(str(one) for one in sorted(widths)[:5])
        raise BadRecord("frame-width", f"frames of {sizes} numbers, expected {width or 'one size'}")
    numbers = rows.flatten().to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        frames: NDArray[np.float16] = numbers.astype(np.float16).reshape(len(rows), found)
    if len(bad := np.flatnonzero(~np.isfinite(frames))):
        value = f"frame {bad[0] // found} holds {numbers[bad[0]]}"
        raise BadRecord("nan", f"{value}, expected numbers that float16 can hold")
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
            yield number, _named(zip(names, cells, strict=True))


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
            yield number, _named(row.items())
        else:
            wrong = BadRecord("bad-record", f"the line holds {row!r:.40}, expected a JSON object")
            yield number, row if isinstance(row, BadRecord) else wrong


def _read_parquet(path: Path) -> NumberedCells:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{path} is no Parquet file: {error}") from None
    with file:
        names = _known(path, file.schema_arrow)
        yield from read_batches(file.iter_batches(_READ_AHEAD, columns=names))


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
    names = [name for name in schema.names if not _COLUMNS.isdisjoint(_named([(name, None)]))]
    for name in names:
        kind = schema.field(name).type
        if name.strip().lower() == "frames" and pa.types.is_nested(kind):
            number = getattr(getattr(kind, "value_type", None), "value_type", None)
            if number is None or not (pa.types.is_floating(number) or pa.types.is_integer(number)):
                found = f"column {name!r} is {kind}, expected a list of lists of numbers"
                raise FormatError(f"{path}: {found}")
    return names


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
                    row = _named(zip(names, map(_value, scalars), strict=True))
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
