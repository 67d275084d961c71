"""FAISS: the kinds of index, how they are built, searched, and kept in a file.

A FAISS file is a cache. It gives candidates by row; what is told to the user is computed from the
vectors themselves, so that kinds differ in which videos they find and never in the cosine.

Letters: Q queries, E width of a vector, n vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss as faiss_module
import google_crc32c
import numpy as np
from numpy.typing import NDArray

from vidvec.embed.rotation import rotate
from vidvec.errors import FormatError, UsageError
from vidvec.search.brute import MANY, nearest
from vidvec.search.signs import SignIndex

# Its stubs do not know what it adds to its classes in Python.
faiss: Any = faiss_module
# At most so many vectors of this many numbers are searched exactly by ``auto``: see docs/search.md.
EXACT_NUMBERS = 50_000 * 256
# FAISS takes k-means centroids for good from 39 vectors each on.
TRAIN_EACH = 40
# Bits a number of a query, for RaBitQ: 8 find what all 32 do, at a sixtieth of the time.
QUERY_BITS = 8
# Vectors of an exact index that are compared at a time.
BLOCK = 32_768


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of index.

    Attributes:
        factory: FAISS's description, with ``{lists}``; empty for signs alone (``SignIndex``).
        lists: Whether vectors are kept in lists, of which a search looks into some.
        rerank: Candidates a hit, of which the nearest are taken by their own vectors.
        turned: Vectors and queries are turned by a fixed rotation first, as one bit a number needs.
    """

    factory: str
    lists: bool
    rerank: tuple[int, ...]
    turned: bool = False

    @property
    def tuned(self) -> bool:
        """Whether it is measured how much has to be looked at."""
        return self.lists or len(self.rerank) > 1


KINDS = {
    "exact": Kind("IDMap,Flat", False, (1,)),
    "float16": Kind("IDMap,SQfp16", False, (1,)),
    "int8": Kind("IDMap,SQ8", False, (2,)),
    "binary": Kind("", False, (4, 8, 16, 32, 64, 128)),
    "ivf-float16": Kind("IVF{lists},SQfp16", True, (1,)),
    "ivf-sq8": Kind("IVF{lists},SQ8", True, (2,)),
    "ivf-sq4": Kind("IVF{lists},SQ4", True, (2, 4, 8, 16)),
    "ivf-rabitq": Kind("IVF{lists},RaBitQ", True, (2, 4, 8, 16, 32), turned=True),
}


def choose(kind: str, count: int, dimension: int) -> str:
    """The kind that is asked for, or for ``auto`` the one that fits.

    Raises:
        UsageError: There is no such kind.
    """
    if kind == "auto":
        return "exact" if count * dimension <= EXACT_NUMBERS else "ivf-sq8"
    if kind not in KINDS:
        raise UsageError(f"no kind {kind!r} of index; there are auto, {', '.join(KINDS)}")
    return kind


def fits(kind: str, count: int) -> str:
    """The kind itself, or where there are too few vectors to learn from, its like without."""
    return "exact" if count < (1_000 if KINDS[kind].lists else 1) else kind


def list_count(count: int) -> int:
    """How many lists n vectors are kept in: the power of two nearest to 4·√n."""
    return max(1, 2 ** round(math.log2(4 * math.sqrt(max(1, count)))))


class Neighbours:
    """A FAISS index that gives candidates.

    Args:
        index: Gives rows.
        kind: Its kind.
        nprobe: Into how many lists a search looks.
        rerank: Candidates a hit.
    """

    def __init__(self, index: Any, kind: str, nprobe: int = 1, rerank: int = 1) -> None:
        self.index, self.kind, self.nprobe, self.rerank = index, kind, nprobe, rerank

    @property
    def lists(self) -> int:
        """How many lists there are; 0 without."""
        return int(self.index.nlist) if KINDS[self.kind].lists else 0

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def candidates(
        self,
        queries: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        nprobe: int | None = None,
    ) -> NDArray[np.int64]:
        """(Q, k) rows, nearest first; −1 where there are fewer.

        Args:
            queries: (Q, E) unit vectors.
            k: How many.
            allowed: By row, which may be found; ``None``: all.
            nprobe: Lists to look into, in place of the own number.
        """
        k = min(k, len(self))
        if k == 0:
            return np.full((len(queries), 0), -1, np.int64)
        queries = _turned(queries, self.kind)
        if self.kind == "exact" and len(queries) >= MANY:
            return nearest(queries, self._blocks(allowed), k)
        chosen = {}
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            chosen["sel"] = faiss.IDSelectorBitmap(bits)
        if KINDS[self.kind].lists:
            lists = min(self.lists, nprobe or self.nprobe)
            parameters = faiss.SearchParametersIVF(nprobe=lists, **chosen)
        else:
            parameters = faiss.SearchParameters(**chosen)
        _, rows = self.index.search(queries, k, params=parameters)
        return np.asarray(rows)

    def _blocks(
        self, allowed: NDArray[np.bool_] | None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Rows and vectors of an exact index, of which the vectors are views where all are."""
        flat = faiss.downcast_index(self.index.index)
        count, width = len(self), int(self.index.d)
        rows = faiss.vector_to_array(self.index.id_map)
        matrix = faiss.rev_swig_ptr(flat.get_xb(), count * width).reshape(count, width)
        for start in range(0, count, BLOCK):
            some, vectors = rows[start : start + BLOCK], matrix[start : start + BLOCK]
            if allowed is not None:
                inside = allowed[some]
                some, vectors = some[inside], vectors[inside]
            yield some, vectors


def train(
    kind: str, dimension: int, count: int, sample: NDArray[np.float32], *, threads: int
) -> Neighbours:
    """An empty index of a kind that has learned from a sample.

    Args:
        kind: One of ``KINDS``.
        dimension: E.
        count: How many vectors will be added.
        sample: (some, E) unit vectors.
        threads: CPU threads to take.
    """
    faiss.omp_set_num_threads(threads)
    lists = list_count(count)
    name = KINDS[kind].factory.format(lists=lists)
    if not name:
        return Neighbours(SignIndex.empty(dimension), kind)
    # Of unit vectors, distance and product give the same order; rounded to four bits or one,
    # distances keep it better.
    by_distance = kind in ("ivf-sq4", "ivf-rabitq")
    metric = faiss.METRIC_L2 if by_distance else faiss.METRIC_INNER_PRODUCT
    index = faiss.index_factory(dimension, name, metric)
    if kind == "ivf-rabitq":
        index.qb = QUERY_BITS
    if KINDS[kind].lists:
        index.cp.niter = 10
        index.cp.max_points_per_centroid = TRAIN_EACH
        index.cp.min_points_per_centroid = 1
    index.train(_turned(sample, kind))
    return Neighbours(index, kind)


def _turned(vectors: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    return rotate(vectors) if KINDS[kind].turned else vectors


def add(neighbours: Neighbours, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
    """Adds (n, E) unit vectors under their (n,) rows."""
    turned = _turned(np.ascontiguousarray(vectors, np.float32), neighbours.kind)
    neighbours.index.add_with_ids(turned, np.ascontiguousarray(rows, np.int64))


def drop(neighbours: Neighbours, rows: NDArray[np.int64]) -> None:
    """Takes rows out."""
    if len(rows):
        neighbours.index.remove_ids(np.ascontiguousarray(rows, np.int64))


def write(neighbours: Neighbours, path: Path) -> int:
    """Writes the index to a file; returns the file's checksum."""
    if KINDS[neighbours.kind].factory:
        faiss.write_index(neighbours.index, str(path))
    else:
        neighbours.index.write(str(path))
    return checksum(path)


def checksum(path: Path) -> int:
    """CRC-32C of a file."""
    crc = google_crc32c.Checksum()
    with path.open("rb") as file:
        while block := file.read(2**22):
            crc.update(block)
    return int.from_bytes(crc.digest(), "big")


def read(path: Path, expected: int, kind: str, *, mapped: bool = True) -> Any:
    """Opens a file of an index, mapped, so that several processes share its memory.

    Raises:
        FormatError: It is missing, damaged, or not what was written.
    """
    try:
        found = checksum(path)
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error}") from None
    if found != expected:
        raise FormatError(f"{path} is damaged: its checksum is {found:08x}, not {expected:08x}")
    flags = faiss.IO_FLAG_MMAP_IFC if mapped else 0
    try:
        if not KINDS[kind].factory:
            return SignIndex.read(str(path), flags)
        return faiss.read_index(str(path), flags)
    except RuntimeError as error:
        raise FormatError(f"{path} is no {kind} index that this FAISS reads: {error}") from None


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy of (n, E) vectors at length 1; zeros stay zeros."""
    made = np.array(vectors, np.float32, order="C", copy=True)
    if len(made):
        faiss.normalize_L2(made)
    return made
