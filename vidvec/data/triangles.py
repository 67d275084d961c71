"""Scores against those of neighbours: a–b and b–c alike, but a–c not.

Letters: m scored pairs of videos, n videos, t triangles of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]

MOST_WEDGES = 4_000_000


@dataclass(frozen=True, slots=True)
class Triangles:
    """Three videos of which all three pairs are scored.

    Attributes:
        edges: (t, 3) int64 places of the three pairs.
        complete: Whether these are all there are.
    """

    edges: Ints
    complete: bool


def find_triangles(ends: Ints, count: int, seed: int = 0) -> Triangles:
    """All triangles of a graph, or where there are very many, those of a sample of pairs of edges.

    Every node's edges to nodes of higher degree are combined two by two, and kept where the third
    is there (the "forward" algorithm of Schank and Wagner 2005): no node has many such edges.

    Args:
        ends: (m, 2) int64 two different nodes each, no two twice.
        count: n.
        seed: Of the sample.
    """
    degree = np.bincount(ends.reshape(-1), minlength=count)
    rank = np.empty(count, np.int64)
    rank[np.lexsort((np.arange(count), degree))] = np.arange(count)
    ranked = np.sort(rank[ends], axis=1)
    order = np.lexsort((ranked[:, 1], ranked[:, 0]))
    low, high = ranked[order].T if len(order) else np.zeros((2, 0), np.int64)
    counts = np.bincount(low, minlength=count)
    behind = np.repeat(np.cumsum(counts), counts) - np.arange(len(low)) - 1  # edges after this one
    total = int(behind.sum())
    firsts = np.repeat(np.arange(len(low)), behind)
    if total > MOST_WEDGES:
        share = MOST_WEDGES / total
        kept = np.random.default_rng(seed).random(len(low)) < share
        firsts = np.repeat(np.arange(len(low))[kept], behind[kept])
        behind = np.where(kept, behind, 0)
    starts = np.repeat(np.cumsum(behind) - behind, behind)
    seconds = firsts + 1 + np.arange(len(firsts)) - starts
    keys = low * count + high
    wanted = high[firsts] * count + high[seconds]
    at = np.searchsorted(keys, wanted)
    there = at < len(keys)
    there[there] = keys[at[there]] == wanted[there]
    edges = np.stack([firsts[there], seconds[there], at[there]], axis=1)
    return Triangles(order[edges] if len(order) else edges, total <= MOST_WEDGES)


def excesses(triangles: Triangles, scores: Doubles) -> Doubles:
    """(t,) by how much each triangle's longest side exceeds the other two together.

    A side is as long as its score is below 1. Above 0, the three scores cannot all be those of a
    metric: two pairs are rated so alike that the third cannot be as different as it is rated.

    Args:
        triangles: Of the pairs.
        scores: (m,) 0…1.
    """
    sides = 1 - scores[triangles.edges]
    return 2 * sides.max(axis=1, initial=0) - sides.sum(axis=1)


def strains(triangles: Triangles, scores: Doubles) -> tuple[Doubles, Ints]:
    """For each pair, how far its score would have to go for its triangles, and how many there are.

    Of a triangle that is none, any of the three scores may be wrong; one that is wrong is so in
    most of its triangles, one that is right in those of wrong neighbours only. The strain of a pair
    is the mean of its triangles' excesses, those without counted as 0.

    Returns:
        (m,) strains, 0 where a pair is in no triangle; and (m,) triangles of each.
    """
    excess = np.maximum(0, excesses(triangles, scores))
    flat = triangles.edges.reshape(-1)
    counts = np.bincount(flat, minlength=len(scores))
    sums = np.bincount(flat, np.repeat(excess, 3), len(scores))
    return sums / np.maximum(1, counts), counts
