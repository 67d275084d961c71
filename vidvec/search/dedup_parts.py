"""Pairs of high cosine among blocks of vectors, found part by part: what a worker does.

What a part finds is a forest: for each vector that it joins with others, one of them that stands
for all (m, 2). That is as much as the groups need to know, and never more than the vectors are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from vidvec.search.dedup_blocks import Blocks, Layout, save
from vidvec.search.joining import BLOCK, MOST_AT_ONCE, MOST_WAITING, PROBES, QUERIES_AT_ONCE

# Vectors of a list that are held at once.
HELD = 8192

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Pairs = tuple[Ints, Ints]


def forest(pairs: Iterator[Pairs]) -> Ints:
    """(m, 2) int64 rows that are joined, each but one of a component once on the left.

    Args:
        pairs: Rows one[i] and other[i], in portions.
    """
    held: list[Ints] = []
    size = 0
    for one, other in pairs:
        different = one != other
        held.append(np.stack([one[different], other[different]], axis=1))
        size += len(held[-1])
        if size > MOST_WAITING:
            held = [_reduced(held)]
            size = len(held[0])
    return _reduced(held)


def _reduced(held: list[Ints]) -> Ints:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([np.zeros((0, 2), np.int64), *held])
    rows, places = np.unique(edges, return_inverse=True)
    one, other = places.reshape(-1, 2).T
    shape = (len(rows), len(rows))
    graph = coo_matrix((np.ones(len(one), np.bool_), (one, other)), shape=shape)
    count, labels = connected_components(graph, directed=False)
    first = np.full(count, len(rows))
    np.minimum.at(first, labels, np.arange(len(rows)))
    roots = rows[first[labels]] if len(rows) else rows
    return np.stack([rows, roots], axis=1)[rows != roots]


def pair_part(layout: Layout, one: int, other: int, least: float, output: Path) -> None:
    """In a worker: compares each vector of a block with each of another, or of the same.

    Args:
        layout: The blocks.
        one, other: Their numbers.
        least: Cosine.
        output: The forest.
    """
    blocks = Blocks(layout)
    left = blocks.block(one)
    right = left if one == other else blocks.block(other)

    def pairs() -> Iterator[Pairs]:
        for start in range(0, len(left), BLOCK):
            for first in range(start if one == other else 0, len(right), BLOCK):
                cosines = left[start : start + BLOCK] @ right[first : first + BLOCK].T
                low, high = np.nonzero(cosines >= least)
                yield low + (start + layout.bounds[one]), high + (first + layout.bounds[other])

    save(output, forest(pairs()))


def probe_part(
    layout: Layout,
    number: int,
    centres: str,
    sample: tuple[str, float, str] | None,
    output: Path,
) -> None:
    """In a worker: puts the vectors of a block into the lists of their nearest centres.

    Args:
        layout: The blocks.
        number: Of the block.
        centres: File of (lists, E) float32.
        sample: File of (s,) rows that are compared with all of the block, the cosine of a pair, and
            the file for the pairs (p, 2); ``None``: no such.
        output: (lists + 1 + lists + n × probes,) int32: where each list begins in what follows and
            the end, how many vectors are nearest to it, and place × probes + probe by list.
    """
    blocks, index = Blocks(layout), faiss.IndexFlatIP(layout.dimension)
    index.add(np.load(centres))
    vectors = blocks.block(number)
    probed = np.empty((len(vectors), min(PROBES, index.ntotal)), np.int32)
    for start in range(0, len(vectors), QUERIES_AT_ONCE):
        some = vectors[start : start + QUERIES_AT_ONCE]
        probed[start : start + len(some)] = index.search(some, probed.shape[1])[1]
    if sample is not None:
        rows, least, pairs = sample
        found = _sampled(blocks, np.load(rows), vectors, layout.bounds[number], least)
        save(Path(pairs), found)
    order = np.argsort(probed, axis=None, kind="stable")
    lists = np.arange(index.ntotal + 1)
    bounds = np.searchsorted(probed.reshape(-1)[order], lists)
    own = np.bincount(probed[:, 0], minlength=index.ntotal)
    save(output, np.concatenate([bounds, own, order]).astype(np.int32))


def _sampled(blocks: Blocks, sample: Ints, vectors: Floats, start: int, least: float) -> Ints:
    """(p, 2) rows of the sample and of others whose cosine is at least this."""
    queries = blocks[sample]
    found = [np.zeros((0, 2), np.int64)]
    at_once = max(1, MOST_AT_ONCE // max(1, len(sample)))
    for first in range(0, len(vectors), at_once):
        one, other = np.nonzero(queries @ vectors[first : first + at_once].T >= least)
        rows = np.stack([sample[one], other + (start + first)], axis=1)
        found.append(rows[rows[:, 0] != rows[:, 1]])
    return np.concatenate(found)


def counts(probes: Path, lists: int) -> tuple[Ints, Ints]:
    """How many vectors of a block are nearest to each list, and how many are put into it."""
    head = np.load(probes, mmap_mode="r")[: 2 * lists + 1].astype(np.int64)
    return head[lists + 1 :], np.diff(head[: lists + 1])


def lists_part(
    layout: Layout, lists: int, some: tuple[int, int], least: float, output: Path
) -> None:
    """In a worker: compares what is nearest to some lists with all that is put into them.

    Args:
        layout: The blocks.
        lists: How many there are, which ``probe_part`` wrote of each block.
        some: The first of these lists, and the end.
        least: Cosine.
        output: The forest.
    """
    blocks = Blocks(layout)
    visits = _visits(layout, lists, some)
    width = min(PROBES, lists)

    def pairs() -> Iterator[Pairs]:
        for entries in visits:
            visiting, probe = np.divmod(entries, width)
            yield from _list_pairs(blocks, visiting, probe == 0, least)

    save(output, forest(pairs()))


def _visits(layout: Layout, lists: int, some: tuple[int, int]) -> Iterator[Ints]:
    """Of each of some lists: row × probes + probe of all that is put into it."""
    first, stop = some
    width = min(PROBES, lists)
    read: list[tuple[Ints, Ints]] = []
    for number, start in enumerate(layout.bounds[:-1]):
        found = np.load(layout.probes(number), mmap_mode="r")
        bounds = found[first : stop + 1].astype(np.int64)
        after = 2 * lists + 1
        entries = found[after + bounds[0] : after + bounds[-1]].astype(np.int64)
        read.append((bounds - bounds[0], entries + start * width))
    for place in range(stop - first):
        yield np.concatenate([each[at[place] : at[place + 1]] for at, each in read])


def _list_pairs(
    blocks: Blocks, visiting: Ints, nearest: NDArray[np.bool_], least: float
) -> Iterator[Pairs]:
    """Pairs of the vectors that are nearest to a list and all that are put into it."""
    own = visiting[nearest]
    if not len(own):
        return
    if len(visiting) <= HELD:
        vectors = blocks[visiting]
        one, other = np.nonzero(vectors[nearest] @ vectors.T >= least)
        yield own[one], visiting[other]
        return
    for start in range(0, len(own), HELD):
        mine = own[start : start + HELD]
        held = blocks[mine]
        at_once = min(HELD, MOST_AT_ONCE // len(mine))
        for first in range(0, len(visiting), at_once):
            others = visiting[first : first + at_once]
            one, other = np.nonzero(held @ blocks[others].T >= least)
            yield mine[one], others[other]
