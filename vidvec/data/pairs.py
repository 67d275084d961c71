"""Scored pairs: which two videos people compared, and how similar they found them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from vidvec.data.cells import read_batches, read_delimited, read_json_lines
from vidvec.data.competition import is_number
from vidvec.errors import BadRecord, FormatError
from vidvec.records import Pair, Reject

_NAMES = (("id_1", "id1"), ("id_2", "id2"), ("score", "grade", "similarity", "label"))
_RATERS = ("rater", "rater_id", "annotator", "annotator_id", "worker", "worker_id")

# Three cells, that of the rater behind where there is one, and where they stand, lines or rows
# counted from 1.
Rows = Iterator[tuple[int, Sequence[Any] | BadRecord]]


def read_pairs(path: Path) -> tuple[list[Pair], list[Reject]]:
    """Reads a file of scored pairs; see ``iterate_pairs``.

    Returns:
        The pairs in the file's order, and the rows that are none.
    """
    rows = [row for _, row in iterate_pairs(path)]
    pairs = [row for row in rows if isinstance(row, Pair)]
    return pairs, [row for row in rows if isinstance(row, Reject)]


def iterate_pairs(
    path: Path, *, labels: bool = False, name: str = ""
) -> Iterator[tuple[str, Pair | Reject]]:
    """Yields the rows of a file of scored pairs and where each stands, such as ``label.tsv:12``.

    Columns are found by name: ``id_1`` (``id1``), ``id_2`` (``id2``), ``score`` (``grade``,
    ``similarity``, ``label``); those that go by other names are taken in order from the left, as
    are all columns of a text file without a header. A text file has a header where the third field
    of its first row is no number. More columns are ignored.

    Args:
        path: ``.tsv``, ``.csv``, ``.txt`` (separated by tabs, commas, semicolons or blanks),
            ``.jsonl``, ``.ndjson`` or ``.parquet``.
        labels: Hold it to the competition's label.tsv: ids are whole numbers, scores from 0 to 1,
            and a first row with an id in it is no header.
        name: What the file is called in messages; by default its name.

    Yields:
        The pairs in the file's order, blanks around ids stripped; and the rows that are none:
        ``bad-pair`` (fewer than three fields, or not readable), ``no-id``, ``not-utf8``,
        ``bad-score`` (no finite number), ``same-video`` (one id twice), ``bad-id`` (of labels).

    Raises:
        FormatError: The file is missing or of no such kind, or its columns cannot be told.
    """
    for where, row, _ in _iterate(path, labels, name):
        yield where, row


def read_ratings(path: Path) -> tuple[list[tuple[Pair, str]], list[Reject]]:
    """Reads a file of scored pairs with who scored each; see ``iterate_pairs``.

    Returns:
        The pairs in the file's order, each with the cell of its column ``rater`` (``annotator``,
        ``worker``, or one of these with ``_id``), empty where there is none; and the rows that are
        no pairs.
    """
    rows = [(row, rater) for _, row, rater in _iterate(path)]
    rated = [(row, rater) for row, rater in rows if isinstance(row, Pair)]
    return rated, [row for row, _ in rows if isinstance(row, Reject)]


def _iterate(
    path: Path, labels: bool = False, name: str = ""
) -> Iterator[tuple[str, Pair | Reject, str]]:
    """The rows, where each stands, and its rater."""
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise FormatError(f"{path} is no file of pairs: expected {', '.join(_READERS)}")
    if not path.is_file():
        raise FormatError(f"file of pairs {path} does not exist")
    rows = _read_text(path, labels=True) if labels else _READERS[suffix](path)
    for number, cells in rows:
        where = f"{name or path.name}{'#' if suffix == '.parquet' else ':'}{number}"
        try:
            if isinstance(cells, BadRecord):
                raise cells
            pair = _pair(cells)
            if labels:
                _check_label(pair)
            rater = "" if len(cells) < 4 or cells[3] is None else str(cells[3]).strip()
            yield where, pair, rater
        except BadRecord as error:
            reason = "bad-pair" if error.reason == "bad-record" else error.reason
            yield where, Reject(where, "", reason, error.detail), ""


def _check_label(pair: Pair) -> None:
    for video in (pair.id_1, pair.id_2):
        if not is_number(video):
            raise BadRecord("bad-id", f"an id is {video!r:.40}, expected a whole number")
    if not 0 <= pair.score <= 1:
        found = f"the score of {pair.id_1} and {pair.id_2} is {pair.score:g}"
        raise BadRecord("bad-score", f"{found}, expected a number from 0 to 1")


def _pair(cells: Sequence[Any]) -> Pair:
    first, second = (_id(cell) for cell in cells[:2])
    if first == second:
        raise BadRecord("same-video", f"the pair has the id {first!r} twice")
    odd = isinstance(cells[2], bool) or "_" in str(cells[2])  # Python reads 0_1 as 1
    try:
        score = math.nan if odd else float(cells[2])
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        found = f"the score of {first} and {second} is {cells[2]!r:.40}"
        raise BadRecord("bad-score", f"{found}, expected a finite number")
    return Pair(first, second, score)


def _id(cell: Any) -> str:
    whole = isinstance(cell, int) and not isinstance(cell, bool)
    text = str(cell).strip() if whole or isinstance(cell, str) else ""
    if not text:
        raise BadRecord("no-id", f"an id is {cell!r:.40}, expected text or a whole number")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRecord("not-utf8", f"an id is not UTF-8: {text!r:.60}") from None
    return text


def _positions(names: Sequence[str]) -> list[int]:
    """Where the two ids and the score stand; and the rater, where there is such a column besides.

    Raises:
        BadRecord: There are fewer than three columns, or one id has its name and the other none.
    """
    plain = [name.strip().lower() for name in names]
    found = [next((plain.index(one) for one in known if one in plain), None) for known in _NAMES]
    others = iter(at for at in range(len(names)) if at not in found)
    positions = [next(others, None) if at is None else at for at in found]
    if (found[0] is None) != (found[1] is None) or None in positions:
        columns = ", ".join(map(repr, names)) or "none"
        raise BadRecord("bad-pair", f"columns are {columns}, expected 'id_1', 'id_2' and 'score'")
    known = [at for at in positions if at is not None]
    rater = next((plain.index(one) for one in _RATERS if one in plain), None)
    return known if rater is None or rater in known else [*known, rater]


def _header_positions(path: Path, names: Sequence[str]) -> list[int]:
    try:
        return _positions(names)
    except BadRecord as error:
        raise FormatError(f"{path}: {error.detail}") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_text(path: Path, labels: bool = False) -> Rows:
    with path.open(encoding="utf-8", errors="replace") as file:
        line = file.readline()
    allowed = {".tsv": "\t", ".csv": ",;"}.get(path.suffix.lower(), "\t,; ")
    delimiter = max(allowed, key=line.count)
    rows = read_delimited(path, delimiter, same_length=False)
    if delimiter == " ":  # any number of them separates two fields
        rows = (
            (at, row if isinstance(row, BadRecord) else [cell for cell in row if cell])
            for at, row in rows
        )
    first = next(rows, None)
    if first is None:
        return
    positions, start = [0, 1, 2], [first]
    cells = first[1]
    if not isinstance(cells, BadRecord) and _is_header(cells, labels):
        try:
            positions, start = _positions(cells), []
        except BadRecord as error:
            if not labels:
                raise FormatError(f"{path}: {error.detail}") from None
            start = [(first[0], error)]
    for number, row in chain(start, rows):
        if isinstance(row, BadRecord):
            yield number, row
            continue
        if len(row) > max(positions[:3]):
            yield number, [row[at] for at in positions if at < len(row)]
        else:
            detail = f"the row has {len(row)} fields, expected at least {max(positions[:3]) + 1}"
            yield number, BadRecord("bad-pair", detail)


def _is_header(cells: Sequence[str], labels: bool) -> bool:
    if len(cells) < 3 or _is_number(cells[2]):
        return False
    return not (labels and any(is_number(cell.strip()) for cell in cells[:2]))


def _read_json(path: Path) -> Rows:
    for number, row in read_json_lines(path):
        values = list(row.values()) if isinstance(row, dict) else row
        if isinstance(row, BadRecord):
            yield number, row
        elif not isinstance(values, list):
            yield number, BadRecord("bad-pair", f"the line is {row!r:.40}, expected an object")
        else:
            names = (
                list(row)
                if isinstance(row, dict)
                else [f"field {at}" for at in range(1, len(values) + 1)]
            )
            try:
                yield number, [values[at] for at in _positions(names)]
            except BadRecord as error:
                yield number, error


def _read_parquet(path: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{path} is no Parquet file: {error}") from None
    with file:
        names = file.schema_arrow.names
        columns = [names[at] for at in _header_positions(path, names)]
        for number, row in read_batches(file.iter_batches(columns=columns)):
            if isinstance(row, BadRecord):
                yield number, row
            else:
                yield number, [row[name.strip().lower()] for name in columns]


_READERS: dict[str, Callable[[Path], Rows]] = {
    ".tsv": _read_text,
    ".csv": _read_text,
    ".txt": _read_text,
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".parquet": _read_parquet,
}
