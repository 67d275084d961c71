"""How vectors are best rounded: what is compared in docs/decisions.md.

    python -m benchmarks.small_codes BASE.npy

BASE.npy has (n, 256) unit vectors; ``benchmarks.small_vectors --save-base`` writes those of real
clips. Of noisy copies of them: scales of int8, and one bit a number with and without the rotation
(``vidvec/embed/rotation.py``) where the n-th number is divided by n, as SVD orders them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import faiss as faiss_module
import numpy as np
from numpy.typing import NDArray

from benchmarks.search import copies
from vidvec.embed.dtypes import decode, encode, unit_rows
from vidvec.embed.rotation import rotate
from vidvec.search.brute import nearest

faiss = faiss_module
Floats = NDArray[np.float32]
COUNT, QUERIES, FOUND = 100_000, 256, 160


def main() -> None:
    """Measures and prints."""
    faiss.omp_set_num_threads(1)
    base = np.load(sys.argv[1], allow_pickle=False)
    vectors, queries = copies(base, COUNT, 1), copies(base, QUERIES, 0)
    truth = _nearest(queries, vectors, 10)
    exact = queries @ vectors.T
    for name, rounded in SCALES.items():
        made = rounded(vectors)
        error = float(np.sqrt(np.square(queries @ made.T - exact).mean()))
        found = share(truth, _nearest(queries, unit_rows(made), 10))
        print(f"int8, one scale for {name}: error {error:.5f}, recall@10 {found:.3f}", flush=True)
    scale = 1 / np.arange(1, base.shape[1] + 1, dtype=np.float32)
    vectors, queries = unit_rows(vectors * scale), unit_rows(queries * scale)
    truth = _nearest(queries, vectors, 10)
    turns: dict[str, Callable[[Floats], Floats]] = {"as they are": lambda v: v, "turned": rotate}
    for name, turn in turns.items():
        for kind, search in (("signs", by_signs), ("RaBitQ", by_rabitq)):
            found = search(turn(vectors), turn(queries))
            shares = [f"{share(truth, found[:, : 10 * k]):.3f} of {k}" for k in (1, 4, 16)]
            print(f"{kind} of vectors {name}: recall@10 {', '.join(shares)}", flush=True)


def _per_vector(vectors: Floats) -> Floats:
    return decode(encode(vectors, "int8"), "int8", vectors.shape[1])


def _per_number(vectors: Floats) -> Floats:
    scale = 127 / np.abs(vectors).max(axis=0)
    return np.rint(vectors * scale) / scale


def _for_all(vectors: Floats) -> Floats:
    scale = 127 / np.abs(vectors).max()
    return np.rint(vectors * scale) / scale


def _between_extremes(vectors: Floats) -> Floats:
    low, high = vectors.min(axis=0), vectors.max(axis=0)
    step = (high - low) / 255
    return (np.clip(np.floor((vectors - low) / step), 0, 255) + 0.5) * step + low


SCALES: dict[str, Callable[[Floats], Floats]] = {
    "a vector": _per_vector,
    "256 steps between each number's extremes": _between_extremes,
    "a number": _per_number,
    "all": _for_all,
}


def by_signs(vectors: Floats, queries: Floats) -> NDArray[np.int64]:
    """(Q, FOUND) rows with the fewest signs that differ."""
    index = faiss.IndexBinaryFlat(vectors.shape[1])
    index.add(np.packbits(vectors > 0, axis=1))
    return np.asarray(index.search(np.packbits(queries > 0, axis=1), FOUND)[1])


def by_rabitq(vectors: Floats, queries: Floats) -> NDArray[np.int64]:
    """(Q, FOUND) rows by RaBitQ, from 16 of 256 lists."""
    index = faiss.index_factory(vectors.shape[1], "IVF256,RaBitQ", faiss.METRIC_L2)
    index.qb = 8
    index.train(vectors[:20_000])
    index.add(vectors)
    index.nprobe = 16
    return np.asarray(index.search(queries, FOUND)[1])


def _nearest(queries: Floats, vectors: Floats, k: int) -> NDArray[np.int64]:
    return nearest(queries, [(np.arange(len(vectors)), vectors)], k)


def share(truth: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """Share of the true neighbours that are among those found."""
    return float((truth[:, :, None] == found[:, None, :]).any(axis=2).mean())


if __name__ == "__main__":
    main()
