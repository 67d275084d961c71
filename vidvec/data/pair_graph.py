"""The graph of scored pairs: videos are its nodes, pairs its edges; cut in two with few pairs lost.

Multilevel bisection as of Karypis and Kumar (1998): nodes are matched along heavy edges and merged
until few are left, those are cut by growing and hill-climbing, and the cut is taken back to ever
finer graphs and bettered at its boundary. What is minimised is ``Aim.cost``: pairs lost, how far
the share of pairs is from what is wanted, and how unlike the two sides' scores are.

Letters: n nodes, m edges (each two nodes once), B bins of scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from vidvec.records import Pair

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

BINS = 8
FREE, LEFT, RIGHT = 0, 1, 2  # what side a node is held on


@dataclass(frozen=True, slots=True)
class PairGraph:
    """Nodes, and how many pairs of each bin of scores are between them and within them.

    Attributes:
        ends: (m, 2) int64, the lower node first; each two once, in order.
        pairs: (m, B) int64, pairs between the two by bin.
        inner: (n, B) int64, pairs within a node that was merged.
        held: (n,) int64, ``FREE``, or the side that the node has to be on.
    """

    ends: Ints
    pairs: Ints
    inner: Ints
    held: Ints

    def __len__(self) -> int:
        return len(self.inner)

    @property
    def counts(self) -> Ints:
        """(B,) all pairs by bin."""
        return self.pairs.sum(axis=0) + self.inner.sum(axis=0)

    def volumes(self) -> Doubles:
        """(n,) pairs within each node, and half of those that leave it."""
        weights = self.pairs.sum(axis=1)
        both = np.bincount(self.ends.reshape(-1), np.repeat(weights, 2), len(self))
        return self.inner.sum(axis=1) + both / 2

    def merged(self, labels: Ints) -> PairGraph:
        """The graph whose node l is all nodes of (n,) label l; held where one of them is."""
        count = int(labels.max(initial=-1)) + 1
        inner = np.zeros((count, self.inner.shape[1]), np.int64)
        np.add.at(inner, labels, self.inner)
        held = np.zeros(count, np.int64)
        np.maximum.at(held, labels, self.held)
        ends = np.sort(labels[self.ends], axis=1)
        within = ends[:, 0] == ends[:, 1]
        np.add.at(inner, ends[within, 0], self.pairs[within])
        return PairGraph(*_summed(ends[~within], self.pairs[~within], count), inner, held)


def pair_graph(pairs: Sequence[Pair], held: dict[str, int] | None = None) -> tuple[PairGraph, Ints]:
    """The graph of scored pairs, whatever order they and their two videos come in.

    Args:
        pairs: Scored pairs.
        held: Sides of some videos.

    Returns:
        The graph, whose nodes are the videos in the order of their ids; and (P, 2) the nodes of
        each pair.
    """
    ids = sorted({video for pair in pairs for video in (pair.id_1, pair.id_2)})
    node = {video: place for place, video in enumerate(ids)}
    nodes = np.array([(node[pair.id_1], node[pair.id_2]) for pair in pairs], np.int64)
    nodes = nodes.reshape(-1, 2)
    bins = score_bins(np.array([pair.score for pair in pairs], np.float64))
    one = np.zeros((len(pairs), BINS), np.int64)
    one[np.arange(len(pairs)), bins] = 1
    inner = np.zeros((len(ids), BINS), np.int64)
    within = nodes[:, 0] == nodes[:, 1]
    np.add.at(inner, nodes[within, 0], one[within])
    ends = np.sort(nodes, axis=1)[~within]
    sides = np.array([(held or {}).get(video, FREE) for video in ids], np.int64)
    return PairGraph(*_summed(ends, one[~within], len(ids)), inner, sides), nodes


def score_bins(scores: Doubles) -> Ints:
    """(P,) bin of each score, 0 … B − 1: eighths of the average ranks, equal scores together."""
    if not len(scores):
        return np.zeros(0, np.int64)
    ranks = rankdata(scores, "average") - 0.5
    return np.minimum(BINS - 1, ranks * BINS / len(scores)).astype(np.int64)


def _summed(ends: Ints, pairs: Ints, count: int) -> tuple[Ints, Ints]:
    """Edges with each two nodes once."""
    keys = ends[:, 0] * count + ends[:, 1]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    if not len(first):
        return np.zeros((0, 2), np.int64), np.zeros((0, pairs.shape[1]), np.int64)
    return ends[order[first]], np.add.reduceat(pairs[order], first, axis=0)


def matched(graph: PairGraph, most: float, random: np.random.Generator) -> Ints:
    """(n,) labels 0, 1, … that merge nodes two by two, those along heavy edges first.

    An edge counts by its pairs, over the product of its ends' volumes. What finds no partner among
    its neighbours takes one with the same best neighbour, as the leaves of a star have; and what
    has no neighbour takes another such.

    Args:
        graph: Nodes that are held are left alone.
        most: Volume at most of two together.
        random: Decides between equals.
    """
    volumes = graph.volumes()
    partner = np.full(len(graph), -1, np.int64)
    free = graph.held == FREE
    a, b = graph.ends.T
    rating = graph.pairs.sum(axis=1) / (volumes[a] * volumes[b])
    rank = np.empty(len(a), np.int64)
    rank[np.lexsort((random.random(len(a)), rating))] = np.arange(len(a))
    fits = free[a] & free[b] & (volumes[a] + volumes[b] <= most)
    for _ in range(8):
        open_ = fits & (partner[a] < 0) & (partner[b] < 0)
        best = np.full(len(graph), -1, np.int64)
        np.maximum.at(best, a[open_], rank[open_])
        np.maximum.at(best, b[open_], rank[open_])
        chosen = open_ & (best[a] == rank) & (best[b] == rank)
        partner[a[chosen]], partner[b[chosen]] = b[chosen], a[chosen]
        if not chosen.any():
            break
    one, other = _with_the_same_neighbour(graph, rank, partner, random)
    good = volumes[one] + volumes[other] <= most
    partner[one[good]], partner[other[good]] = other[good], one[good]
    lower = np.where(
        partner >= 0, np.minimum(partner, np.arange(len(graph))), np.arange(len(graph))
    )
    return np.unique(lower, return_inverse=True)[1].astype(np.int64)


def _with_the_same_neighbour(
    graph: PairGraph, rank: Ints, partner: Ints, random: np.random.Generator
) -> tuple[Ints, Ints]:
    """Two (k,) lists of nodes without a partner whose best neighbour is the same, or none."""
    favourite = np.full(len(graph), -1, np.int64)
    best = np.full(len(graph), -1, np.int64)
    sides = (graph.ends.T, graph.ends.T[::-1])
    for here, _ in sides:
        np.maximum.at(best, here, rank)
    for here, there in sides:
        mine = best[here] == rank
        favourite[here[mine]] = there[mine]
    left = np.flatnonzero((partner < 0) & (graph.held == FREE))
    left = left[np.lexsort((random.random(len(left)), favourite[left]))]
    if len(left) < 2:
        return left[:0], left[:0]
    starts = np.flatnonzero(np.diff(favourite[left], prepend=-2))
    within = np.arange(len(left)) - np.repeat(starts, np.diff(np.append(starts, len(left))))
    first = np.flatnonzero(within[:-1] % 2 == 0)
    same = favourite[left[first]] == favourite[left[first + 1]]
    return left[first[same]], left[first[same] + 1]
