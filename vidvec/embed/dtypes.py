"""Vectors of fewer numbers and of fewer bits a number.

What is kept of a vector of length 1, as sentence-transformers calls it ``precision``:

    float32   as it is
    float16   rounded
    int8      round(127 · v / max|v|): the vector's own greatest number is 127 or −127; the length
              is lost, which a vector of length 1 needs not say
    binary    the vector is turned by a fixed rotation (``rotation``); then a bit a number, set
              where it is above 0, eight in a byte, the first one highest (NumPy's ``packbits``,
              as ``ubinary`` there, which does not turn); bits beyond the last number are 0

Letters: n vectors, E numbers in a vector, W numbers that are kept of it.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidvec.embed.rotation import rotate, rotate_back
from vidvec.errors import UsageError

Dtype = Literal["float32", "float16", "int8", "binary"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
_NUMBERS: dict[Dtype, pa.DataType] = {
    "float32": pa.float32(),
    "float16": pa.float16(),
    "int8": pa.int8(),
    "binary": pa.uint8(),
}
INT8_MOST = 127


def check_dtype(dtype: str) -> Dtype:
    """The dtype itself.

    Raises:
        UsageError: There is no such.
    """
    for known in DTYPES:
        if dtype == known:
            return known
    raise UsageError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")


def check_size(size: int, dimension: int, what: object) -> int:
    """The size itself.

    Args:
        size: How many numbers are wanted.
        dimension: How many there are.
        what: Has them, for the message.

    Raises:
        UsageError: It is below 1 or above ``dimension``.
    """
    if not 1 <= size <= dimension:
        raise UsageError(f"size {size}: {what} has vectors of {dimension} numbers, give 1 to that")
    return size


def cut(vectors: NDArray[np.floating], size: int) -> NDArray[np.float32]:
    """(n, size) float32: the first numbers of (n, E) vectors, brought to length 1.

    What is all zeros stays so. Of a model trained with ``finetune.prefixes`` (Matryoshka
    representation learning, Kusupati and others 2022) the first numbers are good vectors, too.
    """
    return unit_rows(vectors[:, :size])


def unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """(n, E) float32 of length 1; zeros stay zeros."""
    rows = np.asarray(vectors, np.float32)
    lengths = np.sqrt(np.einsum("ne,ne->n", rows, rows, dtype=np.float64))[:, None]
    return np.divide(rows, lengths, out=np.zeros(rows.shape, np.float32), where=lengths > 0)


def kept_numbers(dimension: int, dtype: Dtype) -> int:
    """W: how many numbers are kept of a vector of E, bytes of eight bits for ``binary``."""
    return -(-dimension // 8) if dtype == "binary" else dimension


def vector_bytes(dimension: int, dtype: Dtype) -> int:
    """Bytes that a vector takes."""
    return kept_numbers(dimension, dtype) * _NUMBERS[dtype].bit_width // 8


def column_type(dimension: int, dtype: Dtype) -> pa.DataType:
    """Arrow's type of the vectors: a fixed-size list of W numbers."""
    return pa.list_(_NUMBERS[dtype], kept_numbers(dimension, dtype))


def encode(vectors: NDArray[np.floating], dtype: Dtype) -> NDArray[Any]:
    """(n, W) what is kept of (n, E) vectors, in C order.

    ``float32`` and ``float16`` keep lengths, the others only directions. Zeros have no direction:
    ``int8`` keeps zeros, and ``binary`` cannot.
    """
    rows = np.ascontiguousarray(vectors, np.float32)
    if dtype == "float32":
        return rows
    if dtype == "float16":
        return rows.astype(np.float16)
    if dtype == "binary":
        return np.packbits(rotate(rows) > 0, axis=1)
    most = np.abs(rows).max(axis=1, keepdims=True, initial=0).astype(np.float64)
    scaled = np.divide(rows, most, out=np.zeros(rows.shape), where=most > 0)
    return np.rint(scaled * INT8_MOST).astype(np.int8)


def decode(kept: NDArray[Any], dtype: Dtype, dimension: int) -> NDArray[np.float32]:
    """(n, E) float32 vectors from (n, W) of what was kept; of ``float32`` the very same array.

    Of ``int8`` and ``binary`` they are of length 1, the latter to within 1e-4: a bit is 1/√E or
    −1/√E, and turned back.
    """
    if dtype == "float32":
        return np.asarray(kept, np.float32)
    if dtype == "float16":
        return kept.astype(np.float32)
    if dtype == "int8":
        return unit_rows(kept)
    bits = np.unpackbits(kept, axis=1, count=dimension).astype(np.float32)
    return rotate_back(2 * bits - 1) * np.float32(dimension**-0.5)
