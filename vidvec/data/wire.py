"""Messages between processes: JSON, with arrays and bytes behind it as they lie in memory.

A message is a head of 8 bytes, the little-endian length of the JSON, then the JSON and the buffers.
JSON holds scalars as they are, everything else as a list that begins with its kind:

    ["list", …]   ["tuple", …]   ["dict", [key, value], …]   ["bytes", length]
    ["array", dtype, [shape, …]]

Pictures of a video, ten megabytes, cost one copy each way and no serialisation. Nothing that a
message says is executed, as unpickling would: a worker reads files that nobody vouches for.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

HEAD = struct.Struct("<Q")
# Kinds of NumPy arrays that a message may hold: bool, integers, floats.
_KINDS = "biuf"

Fill = Callable[[memoryview], None]


def pack(value: Any) -> list[memoryview]:
    """A message as parts to be written one behind the other.

    Args:
        value: ``None``, bool, int, float, str, bytes, NumPy array, or list, tuple, dict of these.
    """
    buffers: list[memoryview] = []
    tree = json.dumps(_pack(value, buffers)).encode("ascii")
    head = HEAD.pack(len(tree))
    return [memoryview(head + tree), *buffers]


def _pack(value: Any, buffers: list[memoryview]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, *(_pack(each, buffers) for each in value)]
    if isinstance(value, dict):
        return ["dict", *([str(key), _pack(each, buffers)] for key, each in value.items())]
    if isinstance(value, bytes):
        buffers.append(memoryview(value))
        return ["bytes", len(value)]
    if isinstance(value, np.ndarray) and value.dtype.kind in _KINDS:
        plain = np.ascontiguousarray(value)
        buffers.append(memoryview(plain.reshape(-1).view(np.uint8).data))
        return ["array", plain.dtype.str, list(value.shape)]
    raise TypeError(f"cannot be sent: {type(value).__name__}")


def write(descriptor: int, value: Any) -> None:
    """Writes a message, all of it."""
    for part in pack(value):
        rest = part
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def fill(descriptor: int, buffer: memoryview) -> None:
    """Fills a buffer with what a pipe brings next.

    Raises:
        EOFError: It is closed before.
    """
    while buffer:
        count = os.readv(descriptor, [buffer])
        if count == 0:
            raise EOFError
        buffer = buffer[count:]


def receive(fill: Fill) -> Any:
    """The next message.

    Each array is read into memory of its own, so that a small one which is kept does not keep the
    pictures that came with it.

    Args:
        fill: Fills a buffer with what comes next.
    """
    [size] = HEAD.unpack(_next(fill, HEAD.size))
    return _unpack(json.loads(bytes(_next(fill, size))), fill)


def _next(fill: Fill, size: int) -> memoryview:
    buffer = memoryview(np.empty(size, np.uint8).data)
    if size:
        fill(buffer)
    return buffer


def _unpack(tree: Any, fill: Fill) -> Any:
    """A value, its buffers read in their order."""
    if not isinstance(tree, list):
        return tree
    kind, *rest = tree
    if kind == "bytes":
        return bytes(_next(fill, rest[0]))
    if kind == "array":
        dtype, shape = np.dtype(rest[0]), tuple(rest[1])
        if dtype.kind not in _KINDS:
            raise ValueError(f"a message holds an array of {dtype}")
        buffer = _next(fill, dtype.itemsize * math.prod(shape))
        return np.frombuffer(buffer, dtype).reshape(shape)
    if kind == "dict":
        return {key: _unpack(each, fill) for key, each in rest}
    values = [_unpack(each, fill) for each in rest]
    return values if kind == "list" else tuple(values)
