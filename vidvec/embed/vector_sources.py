"""Vectors that other programs wrote, read in blocks: NumPy, Parquet, Arrow, FAISS, JSON lines.

Nothing is unpickled. A block is so many rows, so that memory does not grow with the file. What is
wrong with a single row is told beside it; what is wrong with the whole file is an error.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.embed.id_lists import ids_of_array, read_ids
from vidvec.embed.npy_files import extract_npy, map_npy
from vidvec.embed.vector_blocks import (
    BLOCK_ROWS,
    ID_NAMES,
    VECTOR_NAMES,
    Block,
    Format,
    VectorSource,
    check_counts,
    chosen_column,
    common_width,
    single,
    wrong_width,
)
from vidvec.embed.vector_tables import open_tables
from vidvec.errors import FormatError, UsageError

SUFFIXES: dict[str, Format] = {
    ".npy": "npy",
    ".npz": "npz",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".faiss": "faiss",
    ".index": "faiss",
    ".jsonl": "jsonl",
}
_PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".joblib", ".bin", ".ckpt"}
_MATRIX_FILES = ("vectors.npy", "vectors.faiss")
_LINE_BYTES = 16 * 2**20


@contextmanager
def open_source(
    path: Path, ids: Path | None = None, id_column: str = "", vector_column: str = ""
) -> Iterator[VectorSource]:
    """Opens vectors of another program.

    Args:
        path: ``.npy``, ``.npz``, ``.parquet``, ``.arrow``, ``.faiss``, ``.jsonl``, or a folder that
            ``datasets`` saved, or that ``export_vectors`` wrote.
        ids: A file with an id a row (see ``read_ids``); ``None``: from the source itself, or from
            the file beside it that ends in ``.ids.json``, ``.ids.txt`` or ``.ids.npy``.
        id_column: Of a table, or array of an ``.npz``; empty: the first of ``ID_NAMES``.
        vector_column: Likewise; empty: the first of ``VECTOR_NAMES``, else the only one of
            numbers.

    Raises:
        UsageError: There is no such file, its kind is not known, ids are missing, or a column.
        FormatError: It is damaged, or holds something else than vectors.
    """
    path = Path(path)
    held = _inside(path)
    kind = format_of(held)
    if kind in ("parquet", "arrow", "datasets", "jsonl") and ids is not None:
        raise UsageError(f"{path} is a table with ids of its own: give --id-column, not --ids")
    if kind == "npy":
        yield _of_matrix(path, "npy", map_npy(held), _ids_file(ids, held))
    elif kind == "npz":
        with tempfile.TemporaryDirectory(prefix="vidvec-") as folder:
            yield _of_npz(held, Path(folder), ids, id_column, vector_column)
    elif kind == "faiss":
        yield _of_faiss(path, held, ids)
    elif kind == "jsonl":
        yield _of_json_lines(held, id_column, vector_column)
    else:
        yield open_tables(held, kind, id_column, vector_column)


def _inside(path: Path) -> Path:
    """The file with the vectors in a folder of ``export_vectors``; else the path itself."""
    if not path.exists():
        raise UsageError(f"{path} is not there: give a file or a folder of vectors")
    names = _MATRIX_FILES if path.is_dir() else ()
    return next((path / name for name in names if (path / name).is_file()), path)


def format_of(path: Path) -> Format:
    """How vectors are written, by the name's end.

    Raises:
        UsageError: The end is of no kind that is read here.
    """
    if path.is_dir():
        return "datasets"
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if suffix in _PICKLES:
        raise UsageError(
            f"{path} may be written with pickle, which can run anything when it is read, so that "
            "it is not read here: save the vectors with numpy.save, or as Parquet"
        )
    known = ", ".join(SUFFIXES)
    raise UsageError(f"{path}: vectors are read from {known}, or a folder of datasets")


def _ids_file(given: Path | None, path: Path) -> Path:
    """The file of the ids: the one given, or the one beside the vectors."""
    stem = "" if path.name in _MATRIX_FILES else f"{path.stem}."
    beside = [path.parent / f"{stem}ids{end}" for end in (".json", ".txt", ".npy")]
    found = given or next((file for file in beside if file.is_file()), None)
    if found is None:
        raise UsageError(
            f"{path} holds no ids: give --ids FILE with one id a row (.txt, .json, .npy), or put "
            f"it beside as {path.stem}.ids.txt"
        )
    return found


def _of_matrix(
    path: Path, kind: Format, matrix: NDArray[Any], ids: Path | Sequence[Any]
) -> VectorSource:
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise FormatError(f"{path} has shape {matrix.shape}, expected (videos, numbers)")
    if matrix.dtype.kind not in "fiu":
        raise FormatError(f"{path} holds {matrix.dtype}, expected numbers such as float32")
    file = ids if isinstance(ids, Path) else None
    names = read_ids(ids) if isinstance(ids, Path) else ids
    check_counts(len(names), file or f"{path}: ids", len(matrix), path)

    def blocks() -> Iterator[Block]:
        for start in range(0, len(matrix), BLOCK_ROWS):
            some = matrix[start : start + BLOCK_ROWS]
            yield Block(start, names[start : start + BLOCK_ROWS], single(some))

    return VectorSource(path, kind, int(matrix.shape[1]), blocks, file)


def _of_npz(
    path: Path, folder: Path, ids: Path | None, id_name: str, vector_name: str
) -> VectorSource:
    """The archive's arrays, each written to a file of its own, which can be mapped."""
    try:
        with zipfile.ZipFile(path) as archive:
            keys = [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
            id_key = "" if ids is not None else chosen_column(id_name, ID_NAMES, keys, path)
            others = [key for key in keys if key != id_key]
            key = chosen_column(vector_name, VECTOR_NAMES, others, path)
            if not key and len(others) == 1:
                key = others[0]
            if not key:
                held = ", ".join(keys) or "nothing"
                raise UsageError(f"{path} holds {held}: say which with --vector-column")
            matrix = extract_npy(archive, key, folder)
            listed: Path | Sequence[Any]
            if id_key:
                listed = ids_of_array(extract_npy(archive, id_key, folder), f"{path}: {id_key}")
            else:
                listed = _ids_file(ids, path)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, OSError) as error:
        raise FormatError(f"{path} is no archive of NumPy, or is damaged: {error}") from None
    return _of_matrix(path, "npz", matrix, listed)


def _of_faiss(path: Path, file: Path, ids: Path | None) -> VectorSource:
    """What an index gives back of its vectors: of a quantised one, approximations."""
    import faiss

    try:
        index = faiss.read_index(str(file), faiss.IO_FLAG_READ_ONLY)
        own = index if isinstance(index, (faiss.IndexIDMap, faiss.IndexIDMap2)) else None
        numbers = None if own is None else faiss.vector_to_array(own.id_map).tolist()
        base = index if own is None else faiss.downcast_index(own.index)
        if isinstance(base, faiss.IndexIVF):
            base.make_direct_map()
        if base.ntotal:
            base.reconstruct_n(0, 1)
    except (RuntimeError, MemoryError) as error:
        told = " ".join(str(error).split())
        raise FormatError(f"{file}: FAISS cannot read vectors back from it: {told}") from None
    count, dimension = int(base.ntotal), int(base.d)
    listed = None if ids is None and numbers is not None else _ids_file(ids, file)
    names = numbers if listed is None and numbers is not None else read_ids(_ids_file(ids, file))
    check_counts(len(names), listed or f"{file}: ids", count, file)

    def blocks() -> Iterator[Block]:
        owner = index  # of the memory of ``base``
        for start in range(0, owner.ntotal, BLOCK_ROWS):
            some = base.reconstruct_n(start, min(BLOCK_ROWS, count - start))
            yield Block(start, names[start : start + BLOCK_ROWS], single(some))

    return VectorSource(path, "faiss", dimension, blocks, listed)


def _of_json_lines(path: Path, id_name: str, vector_name: str) -> VectorSource:
    """An object a line, with an id and a list of numbers."""
    first = [row for _, row in zip(range(BLOCK_ROWS), _json_rows(path), strict=False)]
    held = list(dict.fromkeys(key for row in first if isinstance(row, dict) for key in row))
    id_key = chosen_column(id_name, ID_NAMES, held, path)
    key = chosen_column(vector_name, VECTOR_NAMES, held, path)
    if not id_key or not key:
        raise UsageError(
            f"{path} has no {'vectors' if id_key else 'ids'} under a name that is known here; it "
            f"has {', '.join(held) or 'nothing'}: give --id-column and --vector-column"
        )
    lists = [row[key] for row in first if isinstance(row, dict) and isinstance(row.get(key), list)]
    dimension = common_width([len(each) for each in lists], path)

    def blocks() -> Iterator[Block]:
        start, rows = 0, []
        for row in _json_rows(path):
            rows.append(row)
            if len(rows) == BLOCK_ROWS:
                yield _json_block(start, rows, id_key, key, dimension)
                start, rows = start + len(rows), []
        if rows:
            yield _json_block(start, rows, id_key, key, dimension)

    return VectorSource(path, "jsonl", dimension, blocks)


def _json_rows(path: Path) -> Iterator[Any]:
    """What each line holds; a string says what is wrong where it is no JSON."""
    with path.open("rb") as file:
        while line := file.readline(_LINE_BYTES):
            if len(line) == _LINE_BYTES and not line.endswith(b"\n"):
                raise FormatError(f"{path} has a line of more than {_LINE_BYTES:,} bytes")
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                yield f"the line is not JSON: {error}"


def _json_block(start: int, rows: list[Any], id_key: str, key: str, dimension: int) -> Block:
    block = Block(start, [], np.zeros((len(rows), dimension), np.float32))
    ids: list[Any] = []
    for place, row in enumerate(rows):
        ids.append(row.get(id_key) if isinstance(row, dict) else None)
        if not isinstance(row, dict):
            told = row if isinstance(row, str) else f"the line holds {type(row).__name__}"
            block.wrong[place] = ("bad-record", told)
            continue
        wrong = _numbers_into(block.vectors[place], row.get(key))
        if wrong is not None:
            block.wrong[place] = wrong
    block.ids = ids
    return block


def _numbers_into(target: NDArray[np.float32], value: Any) -> tuple[str, str] | None:
    """Writes a list of numbers to ``target``, (E,), or says why not."""
    if not isinstance(value, list):
        return ("no-vector", "it has no vector")
    if len(value) != len(target):
        return wrong_width(len(value), len(target))
    if not all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in value):
        return ("bad-record", "its vector holds something else than numbers")
    try:
        with np.errstate(over="ignore"):
            target[:] = np.asarray(value, np.float64)
    except OverflowError:
        return ("nan", "its vector holds a number beyond all bounds")
    return None
