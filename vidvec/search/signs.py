"""FAISS's index of bits, signs of the turned vectors' numbers, behind the calls of one of numbers.

What lies nearest has the fewest signs that differ (Hamming distance): a shortlist, which the
vectors themselves put in order.

Letters: Q queries, n vectors, E width of a vector, a multiple of 8 when filled up with zeros.
"""

from __future__ import annotations

from typing import Any

import faiss as faiss_module
import numpy as np
from numpy.typing import NDArray

from vidvec.embed.dtypes import encode

faiss: Any = faiss_module


class SignIndex:
    """Rows by the signs of their vectors.

    Args:
        index: FAISS's, of bits.

    Attributes:
        index: It.
    """

    def __init__(self, index: Any) -> None:
        self.index = index

    @classmethod
    def empty(cls, dimension: int) -> SignIndex:
        """One without vectors, for those of E numbers."""
        return cls(faiss.IndexBinaryIDMap(faiss.IndexBinaryFlat(8 * -(-dimension // 8))))

    @property
    def ntotal(self) -> int:
        """How many vectors there are."""
        return int(self.index.ntotal)

    def add_with_ids(self, vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        """Adds (n, E) vectors under (n,) rows."""
        self.index.add_with_ids(encode(vectors, "binary"), rows)

    def remove_ids(self, rows: NDArray[np.int64]) -> None:
        """Takes rows out."""
        self.index.remove_ids(rows)

    def search(
        self, queries: NDArray[np.float32], k: int, *, params: Any = None
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """(Q, k) Hamming distances and rows, nearest first; −1 where there are fewer."""
        distances, rows = self.index.search(encode(queries, "binary"), k, params=params)
        return distances, rows

    def write(self, path: str) -> None:
        """Writes a file."""
        faiss.write_index_binary(self.index, path)

    @classmethod
    def read(cls, path: str, flags: int) -> SignIndex:
        """Opens a file; with FAISS's flags it is mapped.

        Raises:
            RuntimeError: FAISS cannot read it.
        """
        return cls(faiss.read_index_binary(path, flags))
