"""Search in two stages: a shortlist from small vectors, put in order by better ones.

``vidvec index --kind binary`` does so within one folder; here the small vectors are a folder of
their own, such as ``vidvec compress`` writes, and the better ones lie in another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import faiss as faiss_module
import numpy as np
from numpy.typing import NDArray

from vidvec.embed.dtypes import cut, encode, unit_rows
from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError
from vidvec.search.brute import nearest
from vidvec.search.source import check_width
from vidvec.search.types import Hit

faiss: Any = faiss_module
CANDIDATES = 16
BLOCK = 32_768


class TwoStageIndex:
    """Finds a shortlist in one folder of vectors, and orders it by another.

    Binary vectors give the shortlist by Hamming distance, others by cosine. In memory are only
    bits; all else is mapped, and of the better vectors only the shortlist is read.

    Args:
        small: Gives the shortlist: the better vectors, compressed.
        better: Order it; ``None``: the small ones themselves, against a query that is not rounded.

    Raises:
        UsageError: A small vector has no better one, or more numbers than it.
    """

    def __init__(self, small: Vectors, better: Vectors | None = None) -> None:
        self._small, self._better = small, better or small
        if small.dimension > self._better.dimension:
            raise UsageError(
                f"{small.path} has vectors of {small.dimension} numbers, and {self._better.path} "
                f"only of {self._better.dimension}, which are to put them in order"
            )
        missing = next((video for video in small.ids if video not in self._better), None)
        if missing is not None:
            raise UsageError(
                f"video {missing!r} of {small.path} has no vector in {self._better.path}: that one "
                "is to be made of this one"
            )
        self._rows = np.array([self._better.row(video) for video in small.ids], np.int64)
        self._bits: Any = None
        if small.dtype == "binary":
            self._bits = faiss.IndexBinaryFlat(8 * -(-small.dimension // 8))
            for kept in small.kept_shards():
                self._bits.add(np.ascontiguousarray(kept))

    def __len__(self) -> int:
        return len(self._rows)

    def search(
        self, queries: NDArray[np.float32], k: int, *, candidates: int = CANDIDATES
    ) -> list[list[Hit]]:
        """The videos nearest to each query among its shortlist, nearest first, ties by id.

        Args:
            queries: (Q, E) of the better vectors' width.
            k: How many.
            candidates: So many a hit are on the shortlist.

        Returns:
            For each query its hits, with the cosines of the better vectors.

        Raises:
            UsageError: The queries are not (Q, E), hold NaN or infinity, or k or ``candidates`` is
                below 1.
        """
        if k < 1 or candidates < 1:
            raise UsageError(f"k is {k}, with {candidates} candidates a hit: expected 1 or more")
        check_width(queries, self._better.dimension, "query vectors", self._better.path)
        long = unit_rows(queries)
        found = self.shortlist(long, k * candidates)
        return [self._ordered(query, rows, k) for query, rows in zip(long, found, strict=True)]

    def shortlist(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """(Q, ≤count) rows of the small vectors that are nearest, nearest first.

        Args:
            queries: (Q, E) of the better vectors' width.
            count: How many.
        """
        short, count = cut(queries, self._small.dimension), min(count, len(self))
        if count == 0 or not len(queries):
            return np.zeros((len(queries), 0), np.int64)
        if self._bits is not None:
            return np.asarray(self._bits.search(encode(short, "binary"), count)[1])
        return nearest(short, self._blocks(), count)

    def _blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        for start in range(0, len(self), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(self)))
            yield rows, unit_rows(self._small.take(rows))

    def _ordered(self, query: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> list[Hit]:
        rows = rows[rows >= 0]
        vectors = unit_rows(self._better.take(self._rows[rows]))
        cosines = np.einsum("e,ne->n", query, vectors).clip(-1, 1)
        ids = self._small.ids
        hits = [Hit(ids[row], float(c)) for row, c in zip(rows.tolist(), cosines, strict=True)]
        return sorted(hits, key=lambda hit: (-hit.cosine, hit.id))[:k]
