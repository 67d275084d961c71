"""Vectors as points on a plane, so that near vectors are near points.

t-SNE (van der Maaten and Hinton 2008, with the interpolation of Linderman et al. 2019, by
openTSNE) on neighbours by cosine; where openTSNE is not installed, or videos are few, the two
directions in which vectors differ most (PCA). A map of very many is laid out on a sample; each of
the others lies in the middle of its nearest neighbours there.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import MissingExtraError

Method = Literal["auto", "tsne", "pca"]
# Below so many different vectors, neighbourhoods say no more than a projection.
FEWEST = 16
PERPLEXITY = 30.0
EARLY_ROUNDS, ROUNDS = 250, 500
SEVERAL_THREADS = 5000
# From so many on, forces are interpolated on a grid (FIt-SNE) rather than summed in a tree.
INTERPOLATED = 10_000
NEIGHBOURS = 5
BLOCK = 16_384


def chosen_method(method: Method, vectors: int) -> Method:
    """``tsne`` or ``pca``, whichever ``auto`` stands for.

    Args:
        method: As asked for.
        vectors: How many different ones there are.

    Raises:
        MissingExtraError: ``tsne`` was asked for and openTSNE is not installed.
    """
    there = find_spec("openTSNE") is not None
    if method == "tsne" and not there:
        raise MissingExtraError("openTSNE", "map")
    if method == "pca" or not there or vectors < FEWEST:
        return "pca"
    return "tsne"


def lay_out(
    vectors: NDArray[np.float32], method: Method = "auto", seed: int = 0
) -> NDArray[np.float32]:
    """Points of unit vectors; equal vectors have the same point.

    Args:
        vectors: (n, E) of length 1.
        method: See ``chosen_method``.
        seed: The same gives the same points, on the same machine.

    Returns:
        (n, 2) float32, from −1 to 1; all 0 where the vectors are alike.
    """
    distinct, where = np.unique(vectors, axis=0, return_inverse=True)
    points = _principal(distinct)
    if chosen_method(method, len(distinct)) == "tsne":
        points = _tsne(distinct, points, seed)
    return _framed(points)[where.reshape(-1)]


def _principal(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, 2) coordinates along the two directions of most variance, zeros where there is none.

    The sign of each direction is the one in which its largest entry is positive.
    """
    centred = vectors - vectors.mean(0, dtype=np.float64)
    values, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    largest = np.abs(axes).argmax(0)
    axes *= np.sign(axes[largest, np.arange(axes.shape[1])])
    found = centred @ axes
    scale = np.sqrt(max(float(values[-1]), 0.0))
    if scale <= 1e-9 * len(vectors):
        found[:] = 0  # all alike: what is left is rounding
    return np.pad(found, ((0, 0), (0, max(0, 2 - found.shape[1]))))


def _tsne(
    vectors: NDArray[np.float32], start: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """(n, 2) points, moved from where they start until neighbours are neighbours."""
    from openTSNE import TSNEEmbedding, affinity, initialization, nearest_neighbors

    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    # Neighbours are given: openTSNE's own search for them, Annoy, differs with the threads.
    rows, distances = _neighbours(vectors, int(3 * perplexity))
    known = nearest_neighbors.PrecomputedNeighbors(rows, distances)
    # Threads that wait for one another cost more than they save where videos are few.
    threads = -1 if len(vectors) >= SEVERAL_THREADS else 1
    weights = affinity.PerplexityBasedNN(knn_index=known, perplexity=perplexity, n_jobs=threads)
    first = initialization.rescale(start)
    points = TSNEEmbedding(
        first,
        weights,
        negative_gradient_method="bh" if len(vectors) < INTERPOLATED else "fft",
        n_jobs=threads,
        random_state=seed,
    )
    points = points.optimize(n_iter=EARLY_ROUNDS, exaggeration=12, momentum=0.8)
    return np.asarray(points.optimize(n_iter=ROUNDS, momentum=0.8), np.float64)


def _neighbours(
    vectors: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows (n, count) of the nearest others of each, and their distances, nearest first."""
    import faiss

    single = np.ascontiguousarray(vectors)
    index = faiss.IndexFlatL2(single.shape[1])
    index.add(single)
    squares, rows = index.search(single, count + 1)
    # Each is its own nearest one, but for vectors that rounding makes equal.
    itself = rows == np.arange(len(rows))[:, None]
    itself[~itself.any(1), -1] = True
    shape = (len(rows), count)
    return rows[~itself].reshape(shape), np.sqrt(np.maximum(squares[~itself], 0)).reshape(shape)


def _framed(points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Points moved and scaled so that their longer side reaches from −1 to 1."""
    low, high = points.min(0), points.max(0)
    reach = float((high - low).max()) / 2
    centred = points - (low + high) / 2
    return np.asarray(centred / reach if reach > 0 else centred, np.float32)


def place(
    vectors: NDArray[np.float32],
    laid_out: NDArray[np.float32],
    points: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Points of more vectors on a plane that is there.

    Args:
        vectors: (n, E) of length 1.
        laid_out: (m, E) of length 1, which have points.
        points: (m, 2), theirs.

    Returns:
        (n, 2) float32: the median, by coordinate, of the points of the nearest ``NEIGHBOURS``; a
        mean would lie between two regions where they are in both.
    """
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(laid_out))
    found = np.empty((len(vectors), 2), np.float32)
    for start in range(0, len(vectors), BLOCK):
        some = np.ascontiguousarray(vectors[start : start + BLOCK])
        _, rows = index.search(some, min(NEIGHBOURS, len(laid_out)))
        around = points[rows]
        found[start : start + BLOCK] = np.median(around, axis=1)
    return found
