"""Vectors in tables of Parquet and Arrow, and in the folders that ``datasets`` saves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vidvec.data.dataset_folders import find_dataset
from vidvec.data.walk import list_folder
from vidvec.embed.vector_blocks import (
    BLOCK_ROWS,
    ID_NAMES,
    VECTOR_NAMES,
    Block,
    Format,
    VectorSource,
    chosen_column,
    common_width,
    single,
    wrong_width,
)
from vidvec.errors import FormatError, UsageError


def open_tables(path: Path, kind: Format, id_name: str, vector_name: str) -> VectorSource:
    """Opens a table, or a folder of them in the layout of ``datasets``.

    Args:
        path: File or folder.
        kind: ``parquet``, ``arrow`` or ``datasets``.
        id_name: Column of the ids; empty: one of ``ID_NAMES``.
        vector_name: Column of the vectors; empty: one of ``VECTOR_NAMES``, or the only column that
            holds lists of numbers.

    Raises:
        UsageError: A column cannot be found, or the folder is none of ``datasets``.
        FormatError: A file is damaged.
    """
    files = _files(path) if kind == "datasets" else [path]
    schema = _schema(files[0])
    id_key = chosen_column(id_name, ID_NAMES, schema.names, path)
    listed = [field.name for field in schema if _is_vector(field.type)]
    key = chosen_column(vector_name, VECTOR_NAMES, schema.names if vector_name else listed, path)
    if not key and len(listed) == 1:
        key = listed[0]
    if not id_key or not key:
        lacking, option = ("ids", "--id-column") if key else ("vectors", "--vector-column")
        raise UsageError(
            f"{path} has no column of {lacking} under a name that is known here; it has "
            f"{', '.join(schema.names)}: give {option}"
        )
    if not _is_vector(schema.field(key).type):
        raise UsageError(f"{path}: {key} is {schema.field(key).type}, expected lists of numbers")
    dimension = _dimension(files, id_key, key)

    def blocks() -> Iterator[Block]:
        start = 0
        for file in files:
            for batch in _batches(file, id_key, key):
                yield _block(start, batch, dimension)
                start += len(batch)

    return VectorSource(path, kind, dimension, blocks)


def _files(folder: Path) -> list[Path]:
    found = find_dataset(folder, list_folder(folder))
    if not found:
        raise UsageError(f"{folder} is no folder that datasets saved, nor one of exported vectors")
    return [folder / file.path for _, file in found]


def _storage(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_vector(kind: pa.DataType) -> bool:
    kind = _storage(kind)
    lists = (pa.types.is_fixed_size_list, pa.types.is_list, pa.types.is_large_list)
    if not any(check(kind) for check in lists):
        return False
    return pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)


def _reader(path: Path) -> pa.RecordBatchReader | pa.ipc.RecordBatchFileReader:
    """An Arrow file, which may be of either kind: with an index of its batches, or a stream."""
    try:
        return pa.ipc.open_file(pa.memory_map(str(path)))
    except pa.ArrowInvalid:
        return pa.ipc.open_stream(pa.memory_map(str(path)))


def _schema(path: Path) -> pa.Schema:
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pq.ParquetFile(path).schema_arrow
        return _reader(path).schema
    except (OSError, ValueError, pa.ArrowException) as error:
        raise FormatError(f"{path} cannot be read as a table: {error}") from None


def _batches(path: Path, id_key: str, key: str) -> Iterator[pa.RecordBatch]:
    """Rows of two columns, ids first, at most ``BLOCK_ROWS`` at a time, each proved sound."""
    names = [id_key, key]
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            found = pq.ParquetFile(path).iter_batches(BLOCK_ROWS, columns=names)
        else:
            reader = _reader(path)
            whole = isinstance(reader, pa.ipc.RecordBatchFileReader)
            every = map(reader.get_batch, range(reader.num_record_batches)) if whole else reader
            found = (
                batch.slice(start, BLOCK_ROWS)
                for batch in (each.select(names) for each in every)
                for start in range(0, len(batch), BLOCK_ROWS)
            )
        for batch in found:
            batch.validate(full=True)  # a bad offset would end the process
            yield batch.select(names)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise FormatError(f"{path} cannot be read as a table: {error}") from None


def _dimension(files: list[Path], id_key: str, key: str) -> int:
    kind = _storage(_schema(files[0]).field(key).type)
    if pa.types.is_fixed_size_list(kind):
        if kind.list_size < 1:
            raise FormatError(f"{files[0]}: {key} holds vectors of no numbers")
        return int(kind.list_size)
    for file in files:
        for batch in _batches(file, id_key, key):
            widths = _widths(_plain(batch.column(1)))
            return common_width(widths.tolist(), file)
    raise FormatError(f"{files[0]} holds no vectors")


def _plain(column: pa.Array) -> pa.Array:
    return column.storage if isinstance(column, pa.ExtensionArray) else column


def _widths(column: pa.Array) -> NDArray[np.int64]:
    """(n,) numbers in each list, −1 where there is no list."""
    return pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)


def _block(start: int, batch: pa.RecordBatch, dimension: int) -> Block:
    column = _plain(batch.column(1))
    widths = _widths(column)
    good = widths == dimension
    wrong = {
        place: ("no-vector", "it has no vector")
        if widths[place] < 0
        else wrong_width(int(widths[place]), dimension)
        for place in np.flatnonzero(~good).tolist()
    }
    numbers = column.filter(pa.array(good)).flatten()
    # Missing numbers become NaN, which is named later.
    flat = numbers.cast(pa.float64()) if numbers.null_count else numbers
    vectors = np.zeros((len(batch), dimension), np.float32)
    vectors[good] = single(flat.to_numpy(zero_copy_only=False)).reshape(-1, dimension)
    return Block(start, batch.column(0).to_pylist(), vectors, wrong)
