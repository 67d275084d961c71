"""Lists of ids beside vectors that have none of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidvec import storage
from vidvec.embed.npy_files import map_npy
from vidvec.errors import FormatError, UsageError


def read_ids(path: Path) -> Sequence[Any]:
    """Ids in order, as they are in the file.

    Args:
        path: ``.txt`` with one a line, ``.json`` with a list, or ``.npy`` with text or whole
            numbers.

    Raises:
        UsageError: There is no such file, or its name ends otherwise.
        FormatError: It is damaged, or holds something else.
    """
    if not path.is_file():
        raise UsageError(f"no file of ids at {path}")
    suffix = path.suffix.lower()
    if suffix == ".json":
        ids = storage.read_json(path)
        if not isinstance(ids, list):
            raise FormatError(f"{path} holds {type(ids).__name__}, expected a list of ids")
        return ids
    if suffix == ".npy":
        return ids_of_array(map_npy(path), str(path))
    if suffix != ".txt":
        raise UsageError(f"{path}: ids are read from .txt (one a line), .json (a list) and .npy")
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8 at byte {error.start}") from None
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def ids_of_array(array: Any, where: str) -> Sequence[Any]:
    """Ids of an array (videos,) of text or whole numbers.

    Raises:
        FormatError: It is something else.
    """
    if array.ndim != 1 or array.dtype.kind not in "UiuS":
        raise FormatError(f"{where} is {array.dtype} {array.shape}, expected a row of ids")
    return list(array.tolist())


def clean_id(value: Any) -> tuple[str, str]:
    """An id as text, and what is wrong with it (a reason of rejects; empty: nothing).

    Whole numbers become their digits.
    """
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            return "", "bad-id"
    if value is None or value == "":
        return "", "no-id"
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return "", "bad-id"
    text = str(value)
    try:
        text.encode("utf-8")  # half of a surrogate pair is no character
    except UnicodeEncodeError:
        return "", "bad-id"
    return text, ""
