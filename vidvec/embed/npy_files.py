"""NumPy's own files, mapped instead of loaded, and never unpickled."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import FormatError, UsageError

# A header longer than this is none that NumPy writes of numbers or text.
_HEAD_BYTES = 64 * 1024
_DAMAGE = (OSError, ValueError, EOFError, SyntaxError, TypeError, OverflowError)


def map_npy(path: Path, what: str = "") -> NDArray[Any]:
    """An array of a ``.npy`` file, mapped read-only.

    Args:
        path: The file.
        what: Its name in messages; empty: its path.

    Raises:
        FormatError: It is none, is damaged, or holds Python objects, which are pickled.
    """
    what = what or str(path)
    try:
        with path.open("rb") as file:
            _bytes_of(file.read(_HEAD_BYTES), what)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except _DAMAGE as error:
        raise FormatError(f"{what} is no array of NumPy, or is damaged: {error}") from None


def extract_npy(archive: zipfile.ZipFile, key: str, folder: Path) -> NDArray[Any]:
    """An array of an ``.npz`` archive, written to a file in ``folder`` and mapped.

    No more is unpacked than its header says that it has, however much the archive holds.

    Raises:
        FormatError: It is none, is damaged, or holds Python objects, which are pickled.
        UsageError: The disk is too small.
    """
    what = f"{archive.filename}: {key}"
    file = folder / f"{len(list(folder.iterdir()))}.npy"
    with archive.open(f"{key}.npy") as packed, file.open("wb") as plain:
        head = packed.read(_HEAD_BYTES)
        size = _bytes_of(head, what)
        if size > shutil.disk_usage(folder).free:
            raise UsageError(f"{what} takes {size:,} bytes, {folder} has less: set TMPDIR")
        plain.write(head[:size])
        _copy(packed, plain, size - len(head))
    return map_npy(file, what)


def _bytes_of(head: bytes, what: str) -> int:
    """How long an array's file is, by its header."""
    file = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        size = file.tell() + int(np.prod(shape, dtype=np.float64)) * dtype.itemsize
    except _DAMAGE as error:
        raise FormatError(f"{what} is no array of NumPy, or is damaged: {error}") from None
    if dtype.hasobject:
        raise FormatError(
            f"{what} holds Python objects, which are pickled and can run anything when they are "
            "read: save it again as numbers, array.astype('float32'), or text, array.astype(str)"
        )
    return size


def _copy(source: IO[bytes], target: IO[bytes], left: int) -> None:
    while left > 0 and (some := source.read(min(left, 2**20))):
        target.write(some)
        left -= len(some)
