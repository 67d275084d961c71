"""Which of many vectors are joined by pairs of high cosine, without looking at every pair.

For few vectors all pairs are computed. For many, vectors are put into lists by their nearest of
√(8 n) spherical k-means centres, and each is compared with the lists of its 8 nearest centres: the
inverted lists of Sivic and Zisserman, "Video Google" (2003), read as matrix products of a list with
all that visit it, so that the work is BLAS's, every cosine is exact, and none is kept. What is kept
is one label a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

EXACT = 50_000  # vectors up to which all pairs are computed: 7 s on two cores at 256 numbers
PROBES = 8
# Points of the sample a centre, as faiss suggests at least; and rounds of k-means.
SAMPLE_A_LIST = 40
ROUNDS = 8
QUERIES_AT_ONCE = 16_384
BLOCK = 2048
MOST_AT_ONCE = 2**24  # cosines held at a time
MOST_WAITING = 2**22  # pairs held until they are merged into the labels

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Joined:
    """What was joined.

    Attributes:
        labels: (n,) int64, equal where a chain of pairs joins two vectors.
        exact: All pairs were computed.
    """

    labels: Ints
    exact: bool


@dataclass(frozen=True, slots=True)
class SampledRecall:
    """How many pairs of a sample were found, against comparing it with everything.

    Attributes:
        sample: Vectors drawn, of which all pairs were computed.
        pairs: Of these, those that reach the cosine.
        found: Of those, how many are joined.
    """

    sample: int
    pairs: int
    found: int


class Labels:
    """Components of a graph whose edges come in portions (union–find by whole arrays)."""

    def __init__(self, count: int) -> None:
        self.values: Ints = np.arange(count)
        self._waiting: list[tuple[Ints, Ints]] = []
        self._size = 0

    def add(self, one: Ints, other: Ints) -> None:
        """Joins one[i] with other[i]."""
        one, other = self.values[one], self.values[other]
        new = one != other
        if new.any():
            self._waiting.append((one[new], other[new]))
            self._size += int(new.sum())
        if self._size > MOST_WAITING:
            self.merge()

    def merge(self) -> None:
        """Brings the labels up to date."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        if not self._waiting:
            return
        one, other = (np.concatenate(side) for side in zip(*self._waiting, strict=True))
        size = len(self.values)
        edges = coo_matrix((np.ones(len(one), np.bool_), (one, other)), shape=(size, size))
        _, found = connected_components(edges, directed=False)
        self.values = found[self.values].astype(np.int64)
        self._waiting, self._size = [], 0


def join(unit: Floats, least: float, progress: Progress, *, exact: bool | None = None) -> Joined:
    """Joins vectors whose cosine is at least ``least``.

    Args:
        unit: (n, E) float32, rows of length 1.
        least: The cosine.
        progress: Called with vectors done, all, and what is done.
        exact: Whether to compute all pairs; ``None``: where there are at most ``EXACT`` vectors.
    """
    if exact is None:
        exact = len(unit) <= EXACT
    labels = Labels(len(unit))
    (_join_all if exact else _join_lists)(unit, least, labels, progress)
    labels.merge()
    return Joined(labels.values, exact)


def _join_all(unit: Floats, least: float, labels: Labels, progress: Progress) -> None:
    for start in range(0, len(unit), BLOCK):
        some = unit[start : start + BLOCK]
        for first in range(start, len(unit), BLOCK):
            one, other = np.nonzero(some @ unit[first : first + BLOCK].T >= least)
            labels.add(one + start, other + first)
        progress(min(start + BLOCK, len(unit)), len(unit), "videos compared")


def _join_lists(unit: Floats, least: float, labels: Labels, progress: Progress) -> None:
    probed = _probe(unit, progress)
    done = 0
    for own, visiting in _by_list(probed):
        at_once = max(1, MOST_AT_ONCE // max(1, len(own)))
        held = unit[own]
        for start in range(0, len(visiting), at_once):
            some = visiting[start : start + at_once]
            one, other = np.nonzero(held @ unit[some].T >= least)
            labels.add(own[one], some[other])
        done += len(own)
        progress(done, len(unit), "videos compared")


def centre_sample(count: int) -> tuple[int, Ints]:
    """How many lists so many vectors have, and the rows that their centres are learnt from."""
    lists = max(1, int(np.sqrt(PROBES * count)))
    size = min(count, SAMPLE_A_LIST * lists)
    return lists, np.sort(np.random.default_rng(0).choice(count, size, replace=False))


def learn_centres(sample: Floats, lists: int) -> Floats:
    """(lists, E) float32 centres of (n, E) vectors."""
    means = faiss.Kmeans(sample.shape[1], lists, niter=ROUNDS, spherical=True, seed=1)
    means.cp.min_points_per_centroid = 1  # no warning where there are few vectors
    means.train(sample)
    return np.asarray(means.centroids, np.float32)


def recall_sample(count: int, size: int = 1000, seed: int = 0) -> Ints:
    """Ascending rows of so many vectors, drawn for ``SampledRecall``."""
    size = min(size, count)
    return np.sort(np.random.default_rng(seed).choice(count, size, replace=False))


def _probe(unit: Floats, progress: Progress) -> NDArray[np.int32]:
    """(n, PROBES) int32, the lists of each vector, nearest first; the first is its own."""
    count, dimension = unit.shape
    lists, sample = centre_sample(count)
    progress(0, count, "centres")
    centres = faiss.IndexFlatIP(dimension)
    centres.add(learn_centres(unit[sample], lists))
    probed = np.empty((count, min(PROBES, lists)), np.int32)
    for start in range(0, count, QUERIES_AT_ONCE):
        some = unit[start : start + QUERIES_AT_ONCE]
        probed[start : start + len(some)] = centres.search(some, probed.shape[1])[1]
        progress(start + len(some), count, "videos put into lists")
    return probed


def _by_list(probed: NDArray[np.int32]) -> Iterator[tuple[Ints, Ints]]:
    """Of each list that holds any: the vectors in it, and those that are compared with them."""
    order = np.argsort(probed, axis=None, kind="stable")
    lists = probed.reshape(-1)[order]
    vectors, places = np.divmod(order, probed.shape[1])
    bounds = np.flatnonzero(np.diff(lists, prepend=-1))
    for first, end in zip(bounds, [*bounds[1:], len(lists)], strict=True):
        visiting = vectors[first:end]
        own = visiting[places[first:end] == 0]
        if len(own):
            yield own, visiting


def sampled_recall(
    unit: Floats, labels: Ints, least: float, progress: Progress, *, size: int = 1000, seed: int = 0
) -> SampledRecall:
    """Compares a sample with every vector, and counts which of its pairs are joined.

    Args:
        unit: (n, E) float32, rows of length 1.
        labels: (n,) of ``Joined``.
        least: Cosine of a pair.
        progress: Called with vectors done, all, and what is done.
        size: Of the sample.
        seed: Of the draw.
    """
    sample = recall_sample(len(unit), size, seed)
    queries = unit[sample]
    pairs = found = 0
    at_once = max(1, MOST_AT_ONCE // max(1, len(sample)))
    for start in range(0, len(unit), at_once):
        one, other = np.nonzero(queries @ unit[start : start + at_once].T >= least)
        other = other + start
        different = sample[one] != other
        one, other = sample[one][different], other[different]
        pairs += len(one)
        found += int((labels[one] == labels[other]).sum())
        progress(min(start + at_once, len(unit)), len(unit), "sample compared with all")
    return SampledRecall(len(sample), pairs, found)
