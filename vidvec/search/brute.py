"""Exact search: every vector is compared, in blocks.

Letters: Q queries, n vectors of a block, E width of a vector.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import faiss as faiss_module
import numpy as np
from numpy.typing import NDArray

faiss: Any = faiss_module
# From so many queries on, one matrix product for all is faster than FAISS's loop.
MANY = 16
# Vectors of which only the best is looked at first.
GROUP = 64


def nearest(
    queries: NDArray[np.float32],
    blocks: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]],
    k: int,
) -> NDArray[np.int64]:
    """(Q, ≤k) rows of the nearest vectors, nearest first; −1 where there are fewer.

    Args:
        queries: (Q, E) unit vectors.
        blocks: (n,) rows and (n, E) unit vectors at a time.
        k: How many.
    """
    rows = np.full((len(queries), 0), -1, np.int64)
    cosines = np.zeros((len(queries), 0), np.float32)
    for some, vectors in blocks:
        if not len(some):
            continue
        if len(queries) < MANY:
            found, at = faiss.knn(
                queries, vectors, min(k, len(some)), metric=faiss.METRIC_INNER_PRODUCT
            )
        else:
            least = cosines[:, k - 1] if cosines.shape[1] == k else None
            found, at = _best(queries @ vectors.T, k, least)
        rows = np.concatenate([rows, np.where(at >= 0, some[at], -1)], 1)
        cosines = np.concatenate([cosines, found], 1)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        rows = np.take_along_axis(rows, order, 1)
        cosines = np.take_along_axis(cosines, order, 1)
    return rows


def _best(
    cosines: NDArray[np.float32], k: int, least: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Of (Q, n) cosines those that may be among a query's k best: (Q, m), and where they are.

    The k-th best of the groups' best is a bound that k of them reach, so that nearly all of the
    others need no sorting.

    Args:
        cosines: (Q, n).
        k: How many are wanted.
        least: (Q,) what they have to exceed besides; ``None``: nothing.
    """
    count = cosines.shape[1]
    groups = count // GROUP
    bound = np.full(len(cosines), -np.inf, np.float32) if least is None else least
    if groups > k:
        best = cosines[:, : groups * GROUP].reshape(len(cosines), groups, GROUP).max(axis=2)
        bound = np.maximum(bound, np.partition(best, groups - k, axis=1)[:, groups - k])
    query, at = np.nonzero(cosines >= bound[:, None])
    counts = np.bincount(query, minlength=len(cosines))
    within = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    found = np.full((len(cosines), int(counts.max(initial=0))), -np.inf, np.float32)
    places = np.full(found.shape, -1, np.int64)
    found[query, within] = cosines[query, at]
    places[query, within] = at
    return found, places
