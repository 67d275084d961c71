"""Vectors of several folders as one row of blocks, which workers read.

A block is a file of raw float32, a row a video, without those that have no direction. It is read
once from the folders and often from there, so that workers need neither the folders' shards nor
their index, and never hold more than they are at.
"""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec import storage
from vidvec.embed.vectors import Vectors
from vidvec.search.dedup import LENGTH_TOLERANCE
from vidvec.search.neighbours import unit

# What is known of a vector: no direction, of length 1, of another length.
NOWHERE, UNIT, OTHER = 0, 1, 2
ROWS_AT_ONCE = 1024
FILES_OPEN = 128

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shard:
    """Where the live vectors of one folder lie.

    Attributes:
        folder: Of the vectors.
        places: File of (n,) int64: a row of the folder, or −1 − a row of ``added``.
        added: File of (m, E) float32, what only the folder's index has; empty: nothing.
        indexed: They are brought to length 1, as the index has them.
        start, stop: Their rows, where the folders are one after the other.
    """

    folder: str
    places: str
    added: str
    indexed: bool
    start: int
    stop: int

    def read(self, start: int, stop: int) -> Floats:
        """(n, E) vectors of some of its rows, counted from its first."""
        places = np.load(self.places, mmap_mode="r")[start:stop]
        vectors = Vectors(self.folder)
        inside = places >= 0
        found = np.empty((len(places), vectors.dimension), np.float32)
        found[inside] = vectors.take(places[inside])
        if not inside.all():
            found[~inside] = np.load(self.added, mmap_mode="r")[-1 - places[~inside]]
        return unit(found) if self.indexed else found


def save(path: Path, array: NDArray[np.generic]) -> None:
    """Writes an array as .npy, atomically."""
    with storage.atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)


def block_part(shards: Sequence[Shard], start: int, stop: int, block: str, output: Path) -> None:
    """In a worker: reads the vectors of some rows, and writes those that have a direction.

    Args:
        shards: All folders.
        start, stop: Of the rows.
        block: The file for the vectors.
        output: The file for (n,) int8: what is known of each.
    """
    read: list[Floats] = []
    for shard in shards:
        first, end = max(start, shard.start), min(stop, shard.stop)
        if first < end:
            read.append(shard.read(first - shard.start, end - shard.start))
    vectors = np.concatenate(read)
    squares = _squares(vectors)
    known = np.where(np.abs(squares - 1) < LENGTH_TOLERANCE, UNIT, OTHER).astype(np.int8)
    known[~(np.isfinite(squares) & (squares > 0))] = NOWHERE
    with storage.atomic_path(Path(block)) as temporary:
        vectors[known != NOWHERE].tofile(temporary)
    save(output, known)


def _squares(vectors: Floats) -> NDArray[np.float64]:
    return np.einsum("ne,ne->n", vectors, vectors, dtype=np.float64, casting="safe")


@dataclass(frozen=True, slots=True)
class Layout:
    """The blocks of all rows that have a direction.

    Attributes:
        folder: Where they lie.
        bounds: The row that each begins with, and their end.
        dimension: E.
        as_is: All are of length 1 and used as they are.
    """

    folder: str
    bounds: tuple[int, ...]
    dimension: int
    as_is: bool

    def file(self, number: int) -> Path:
        """Of a block."""
        return Path(self.folder) / f"block-{number:06d}.f32"

    def probes(self, number: int) -> Path:
        """Of what is put into each list of a block (``dedup_parts.probe_part``)."""
        return Path(self.folder) / f"probes-{number:06d}.npy"

    def __len__(self) -> int:
        return len(self.bounds) - 1


class Blocks:
    """Unit vectors by row, read from blocks of which little is in memory at any time.

    Args:
        layout: The blocks.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._bounds = np.array(layout.bounds)
        self._open: OrderedDict[int, tuple[mmap.mmap, Floats]] = OrderedDict()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and numbers of each."""
        return self._layout.bounds[-1], self._layout.dimension

    def block(self, number: int) -> Floats:
        """(n, E) of a whole block."""
        read = np.fromfile(self._layout.file(number), np.float32)
        return self._of_length_1(read.reshape(-1, self._layout.dimension))

    def __getitem__(self, rows: Ints) -> Floats:
        """(…, E) of (…) rows."""
        flat = rows.reshape(-1)
        found = np.empty((len(flat), self._layout.dimension), np.float32)
        for start in range(0, len(flat), ROWS_AT_ONCE):
            self._read(flat[start : start + ROWS_AT_ONCE], found[start : start + ROWS_AT_ONCE])
        return self._of_length_1(found).reshape(*rows.shape, -1)

    def _read(self, rows: Ints, into: Floats) -> None:
        numbers = np.searchsorted(self._bounds, rows, side="right") - 1
        order = np.argsort(numbers, kind="stable")
        first = np.flatnonzero(np.diff(numbers[order], prepend=-1))
        for start, stop in zip(first.tolist(), [*first[1:].tolist(), len(rows)], strict=True):
            some = order[start:stop]
            number = int(numbers[some[0]])
            pages, vectors = self._mapped(number)
            into[some] = vectors[rows[some] - self._bounds[number]]
            # Else all that was ever read would count as memory of this process.
            pages.madvise(mmap.MADV_DONTNEED)

    def _mapped(self, number: int) -> tuple[mmap.mmap, Floats]:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        with self._layout.file(number).open("rb") as file:
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        vectors = np.frombuffer(pages, np.float32).reshape(-1, self._layout.dimension)
        self._open[number] = pages, vectors
        if len(self._open) > FILES_OPEN:
            self._open.popitem(last=False)
        return pages, vectors

    def _of_length_1(self, vectors: Floats) -> Floats:
        if not self._layout.as_is:
            vectors /= np.sqrt(_squares(vectors))[:, None].astype(np.float32)
        return vectors
