"""A graph of alike vectors covered by stars, the largest first."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

DECIMALS = 6  # of a cosine; what rounding leaves of float32 vectors
MARGIN = 1e-5  # by which float32 products may be off
BLOCK = 2048
CHECKED_AT_ONCE = 2**14
MOST_EDGES = 2**26  # held as int32, each from both of its ends

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Edges = tuple[Ints, NDArray[np.int32]]


def doubles(unit: Floats) -> Doubles:
    """Vectors in float64, of length 1 as far as that goes."""
    exact = unit.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=-1, keepdims=True)
    return exact


def rounded_cosines(one: Doubles, other: Doubles) -> Doubles:
    """Cosines of all rows of one with all of the other, rounded to ``DECIMALS``."""
    return np.round(one @ other.swapaxes(-1, -2), DECIMALS)


def stars(vectors: Doubles, threshold: float) -> Iterator[tuple[Ints, int]]:
    """Covers vectors by stars: again and again, the one with most others that are left, and them.

    Args:
        vectors: (s, E) of length 1; of several with as many others, the first is taken.
        threshold: Rounded cosine from which two are alike.

    Yields:
        Places of a star, ascending, two or more; and where among them its hub is.
    """
    edges = _edges(vectors, threshold)
    if edges is None:
        yield from _dense(vectors, threshold)
        return
    starts, ends = edges
    degrees = np.diff(starts)
    left = np.ones(len(vectors), np.bool_)
    while degrees.max(initial=0) > 0:
        hub = int(degrees.argmax())
        near = ends[starts[hub] : starts[hub + 1]]
        star = np.sort(np.append(near[left[near]], hub)).astype(np.int64)
        left[star] = False
        touched = np.concatenate([ends[starts[place] : starts[place + 1]] for place in star])
        np.subtract.at(degrees, touched, 1)
        degrees[~left] = 0
        yield star, int(np.searchsorted(star, hub))


def _edges(vectors: Doubles, threshold: float) -> Edges | None:
    """The others that each is alike to, as starts (s + 1,) and their places; ``None``: too many."""
    narrow = vectors.astype(np.float32)
    ones: list[NDArray[np.int32]] = []
    others: list[NDArray[np.int32]] = []
    count = 0
    for start in range(0, len(narrow), BLOCK):
        for first in range(start, len(narrow), BLOCK):
            reach = narrow[start : start + BLOCK] @ narrow[first : first + BLOCK].T
            one, other = np.nonzero(reach >= threshold - MARGIN)
            one, other = one + start, other + first
            one, other = _confirmed(vectors, one[one < other], other[one < other], threshold)
            count += 2 * len(one)
            if count > MOST_EDGES:
                return None
            ones.append(one.astype(np.int32))
            others.append(other.astype(np.int32))
    low, high = np.concatenate(ones), np.concatenate(others)
    one, other = np.concatenate([low, high]), np.concatenate([high, low])
    starts = np.zeros(len(vectors) + 1, np.int64)
    np.cumsum(np.bincount(one, minlength=len(vectors)), out=starts[1:])
    ends = other[np.argsort(one, kind="stable")].astype(np.int32, copy=False)
    return starts, ends


def _confirmed(vectors: Doubles, one: Ints, other: Ints, threshold: float) -> tuple[Ints, Ints]:
    """Of candidate pairs, those that are alike by their exact cosine."""
    alike = np.zeros(len(one), np.bool_)
    for start in range(0, len(one), CHECKED_AT_ONCE):
        some = slice(start, start + CHECKED_AT_ONCE)
        cosines = np.einsum("pe,pe->p", vectors[one[some]], vectors[other[some]])
        alike[some] = np.round(cosines, DECIMALS) >= threshold
    return one[alike], other[alike]


def _dense(vectors: Doubles, threshold: float) -> Iterator[tuple[Ints, int]]:
    """As ``stars`` without holding the edges, where there are many, and so few stars."""
    everyone = np.arange(len(vectors))
    degrees = _alike(vectors, everyone, everyone, threshold) - 1
    left = np.ones(len(vectors), np.bool_)
    while degrees.max(initial=0) > 0:
        hub = int(degrees.argmax())
        near = left & (rounded_cosines(vectors[hub : hub + 1], vectors)[0] >= threshold)
        near[hub] = True
        left &= ~near
        star, rest = np.flatnonzero(near), np.flatnonzero(left)
        degrees[rest] -= _alike(vectors, rest, star, threshold)
        degrees[star] = 0
        # Rounding may differ between a single product and a block; then the hub may be alone.
        if len(star) > 1:
            yield star, int(np.searchsorted(star, hub))


def _alike(vectors: Doubles, rows: Ints, others: Ints, threshold: float) -> Ints:
    """(rows,) how many of the others each is alike to."""
    counts = np.zeros(len(rows), np.int64)
    for start in range(0, len(rows), BLOCK):
        some = vectors[rows[start : start + BLOCK]]
        for first in range(0, len(others), BLOCK):
            reach = rounded_cosines(some, vectors[others[first : first + BLOCK]]) >= threshold
            counts[start : start + BLOCK] += reach.sum(axis=1)
    return counts
