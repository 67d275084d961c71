"""Messages between processes: JSON, with arrays and bytes behind it as they lie in memory.

A message is a head of 16 bytes, two little-endian 64-bit lengths (JSON, all buffers), the JSON, and
the buffers. JSON holds scalars as they are, everything else as a list that begins with its kind:

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

HEAD = struct.Struct("<QQ")
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
    head = HEAD.pack(len(tree), sum(buffer.nbytes for buffer in buffers))
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

    Args:
        fill: Fills a buffer with what comes next.
    """
    tree_bytes, buffer_bytes = HEAD.unpack(_next(fill, HEAD.size))
    tree = json.loads(bytes(_next(fill, tree_bytes)))
    buffer = _next(fill, buffer_bytes)
    value, end = _unpack(tree, buffer, 0)
    if end != buffer_bytes:
        raise ValueError(f"a message with {buffer_bytes} bytes of buffers describes {end}")
    return value


def _next(fill: Fill, size: int) -> memoryview:
    buffer = np.empty(size, np.uint8).data if size else memoryview(b"")
    if size:
        fill(buffer)
    return buffer


def _unpack(tree: Any, buffer: memoryview, at: int) -> tuple[Any, int]:
    """The value and where the buffers of the next one begin; arrays are views of ``buffer``."""
    if not isinstance(tree, list):
        return tree, at
    kind, *rest = tree
    if kind == "bytes":
        return bytes(buffer[at : at + rest[0]]), at + rest[0]
    if kind == "array":
        dtype, shape = np.dtype(rest[0]), tuple(rest[1])
        if dtype.kind not in _KINDS:
            raise ValueError(f"a message holds an array of {dtype}")
        end = at + dtype.itemsize * math.prod(shape)
        return np.frombuffer(buffer[at:end], dtype).reshape(shape), end
    values = []
    for each in rest:
        value, at = _unpack(each[1] if kind == "dict" else each, buffer, at)
        values.append(value)
    if kind == "dict":
        return {each[0]: value for each, value in zip(rest, values, strict=True)}, at
    return (values if kind == "list" else tuple(values)), at
