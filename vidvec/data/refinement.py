"""Bettering a cut of the graph of scored pairs at its boundary (Fiduccia and Mattheyses 1982)."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

from vidvec.data.pair_graph import FREE, PairGraph

# What a wrong share of pairs costs beside the share of pairs that is lost.
SHARE_COST = 10.0
SHARE_SLACK = 0.01  # of the smaller side's share, which costs nothing
PASSES = 4
# Moves that may make it worse before a pass ends: so many, and a share of the nodes.
PATIENCE, PATIENCE_SHARE, MOST_PATIENCE = 60, 0.01, 1000


def refined(graph: PairGraph, left: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """(n,) the left after passes of single moves, each kept as far as fewest pairs are lost.

    A pass moves the node that loses fewest pairs, each once, from the side that has too large a
    share, and goes back to the best that it came by: on the way there it may lose more.

    Args:
        graph: Nodes that are held stay.
        left: (n,) the cut.
        share: Of the pairs kept, those wanted on the left.
    """
    passes = _Passes(graph, left, share)
    for _ in range(PASSES):
        if not passes.go():
            break
    return np.array(passes.left, np.bool_)


class _Passes:
    """A cut in plain lists, of which single numbers are read and written fastest.

    Args:
        graph: The graph.
        left: (n,) its nodes on the left.
        share: Of the pairs kept, those wanted on the left.
    """

    def __init__(self, graph: PairGraph, left: NDArray[np.bool_], share: float) -> None:
        ends, weights = graph.ends, graph.pairs.sum(axis=1)
        order = np.argsort(ends.T.reshape(-1), kind="stable")
        edges = order % max(1, len(ends))
        self._others = ends[:, ::-1].T.reshape(-1)[order].tolist()
        self._weights = weights[edges].tolist()
        counts = np.bincount(ends.reshape(-1), minlength=len(graph))
        self._starts = np.concatenate([[0], np.cumsum(counts)]).tolist()
        degrees, to_left = np.zeros((2, len(graph)))
        for here, there in ((0, 1), (1, 0)):
            a, b = ends[:, here], ends[:, there]
            degrees += np.bincount(a, weights, len(graph))
            to_left += np.bincount(a, weights * left[b], len(graph))
        inner = graph.inner.sum(axis=1)
        self._degrees, self._to_left = degrees.tolist(), to_left.tolist()
        self._inner = inner.tolist()
        self._free = (graph.held == FREE).tolist()
        self.left: list[bool] = left.tolist()
        self._share, self._total = share, max(1, int(inner.sum() + weights.sum()))
        both, none = left[ends].all(axis=1), ~left[ends].any(axis=1)
        self._lefts = float(inner[left].sum() + weights[both].sum())
        self._rights = float(inner[~left].sum() + weights[none].sum())
        across = to_left * (degrees - to_left) > 0
        across |= np.where(left, degrees - to_left, to_left) > 0
        self._boundary: set[int] = set(np.flatnonzero(across).tolist())
        patience = max(PATIENCE, min(MOST_PATIENCE, int(PATIENCE_SHARE * len(graph))))
        self._patience = patience

    def _cost(self) -> float:
        """As ``Aim.cut_cost``."""
        kept = self._lefts + self._rights
        wrong = abs((self._lefts / kept if kept else 0.0) - self._share)
        slack = SHARE_SLACK * min(self._share, 1 - self._share)
        return 1 - kept / self._total + SHARE_COST * max(0.0, wrong - slack)

    def _gain(self, node: int) -> float:
        """Pairs that are lost now, and would not be after the move, less the other way round."""
        gain = 2 * self._to_left[node] - self._degrees[node]
        return -gain if self.left[node] else gain

    def _move(self, node: int) -> range:
        """Moves a node to the other side; gives the places of its neighbours."""
        sign = -1 if self.left[node] else 1
        inner, lefts = self._inner[node], self._to_left[node]
        self._lefts += sign * (inner + lefts)
        self._rights -= sign * (inner + self._degrees[node] - lefts)
        self.left[node] = not self.left[node]
        places = range(self._starts[node], self._starts[node + 1])
        for place in places:
            self._to_left[self._others[place]] += sign * self._weights[place]
        return places

    def go(self) -> bool:
        """One pass; whether it made the cut better."""
        heaps: tuple[list[tuple[float, int]], list[tuple[float, int]]] = ([], [])
        for node in sorted(self._boundary):
            if self._free[node]:
                heaps[self.left[node]].append((-self._gain(node), node))
        for heap in heaps:
            heapify(heap)
        start = best = self._cost()
        moved: list[int] = []
        kept = 0
        done: set[int] = set()
        while len(moved) - kept < self._patience:
            large = self._lefts > self._share * (self._lefts + self._rights)
            found = (self._next(heaps[side], done, side) for side in (large, not large))
            best_node = next((each for each in found if each is not None), None)
            if best_node is None:
                break
            done.add(best_node)
            moved.append(best_node)
            for place in self._move(best_node):
                other = self._others[place]
                if other not in done and self._free[other]:
                    heappush(heaps[self.left[other]], (-self._gain(other), other))
                    self._boundary.add(other)
            cost = self._cost()
            if cost < best - 1e-12:
                best, kept = cost, len(moved)
        for node in reversed(moved[kept:]):
            self._move(node)
        return best < start - 1e-12

    def _next(self, heap: list[tuple[float, int]], done: set[int], left: bool) -> int | None:
        """The node of a side that loses fewest pairs by its move; old entries are passed over."""
        while heap:
            gain, node = heappop(heap)
            if node not in done and self.left[node] == left and -gain == self._gain(node):
                return node
        return None
