"""Cutting the graph of scored pairs in two: growing, hill-climbing, bettering the boundary.

Letters: n nodes, m edges, B bins of scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidvec.data.pair_graph import FREE, LEFT, PairGraph, matched
from vidvec.data.refinement import SHARE_COST, SHARE_SLACK, refined

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

SCORE_COST = 0.25  # of unlike scores, beside the share of pairs that is lost
COARSEST = 300  # nodes, of which all moves are tried
STARTS = 8
ROUNDS = 4  # of bettering the scores of one graph
HALVINGS = 5  # of a batch of moves that does not make it better
SCORED_EDGES = 50_000  # of larger graphs the scores are left as the coarser ones have them


@dataclass(frozen=True, slots=True)
class Aim:
    """What a cut is for.

    Attributes:
        share: Of the pairs that are kept, those that are to be on the left, above 0 and below 1.
        counts: (B,) all pairs by bin.
    """

    share: float
    counts: Ints

    def cost(self, left: Doubles, right: Doubles) -> Doubles:
        """(…) costs of cuts with these pairs on the left and on the right, (…, B) by bin.

        The share of pairs lost; ``SHARE_COST`` times by how much the left's share of those kept is
        wrong, beyond the slack; and ``SCORE_COST`` times the total variation distance (half the
        summed differences of the bins' shares) of either side's scores from all, beyond that of a
        random draw of as many pairs.
        """
        total = max(1, int(self.counts.sum()))
        lefts, rights = left.sum(axis=-1), right.sum(axis=-1)
        wanted = self.counts / total
        # The mean of |x| is √(2/π) times the deviation; half of the sum over the bins.
        noise = np.sqrt(wanted * (1 - wanted) / (2 * np.pi)).sum()
        unlike = np.zeros_like(lefts)
        for side, sums in ((left, lefts), (right, rights)):
            shares = side / np.maximum(1, sums)[..., None]
            distance = np.abs(shares - wanted).sum(axis=-1) / 2
            unlike += np.maximum(0, distance - noise / np.sqrt(np.maximum(1, sums)))
        return self.cut_cost(lefts, rights) + SCORE_COST * unlike

    def cut_cost(self, lefts: Doubles, rights: Doubles) -> Doubles:
        """The same, (…), of so many pairs on the left and on the right, whatever their scores."""
        kept = lefts + rights
        share = np.divide(lefts, kept, out=np.zeros_like(lefts), where=kept > 0)
        slack = SHARE_SLACK * min(self.share, 1 - self.share)
        wrong = np.maximum(0, np.abs(share - self.share) - slack)
        return 1 - kept / max(1, int(self.counts.sum())) + SHARE_COST * wrong


def bisect(graph: PairGraph, share: float, seed: int) -> Bools:
    """(n,) which nodes are on the left, so that ``Aim.cost`` is low.

    Args:
        graph: Of the pairs; nodes that are held stay on their side.
        share: Of the pairs kept, those wanted on the left.
        seed: Decides between equals.
    """
    if (graph.held != FREE).any() and (graph.held == FREE).sum() < len(graph) - 2:
        # What is held on one side is one node of all coarser graphs.
        labels = np.where(graph.held == FREE, np.cumsum(graph.held == FREE) + 1, graph.held - 1)
        labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
        return bisect(graph.merged(labels), share, seed)[labels]
    random = np.random.default_rng(seed)
    aim = Aim(share, graph.counts)
    most = max(2.0, aim.counts.sum() * min(share, 1 - share) / 8)
    graphs, steps = [graph], list[Ints]()
    while len(graphs[-1]) > COARSEST:
        some = matched(graphs[-1], most, random)
        if some.max(initial=0) + 1 > 0.95 * len(some):
            break
        steps.append(some)
        graphs.append(graphs[-1].merged(some))
    left = _grown(graphs[-1], aim, random)
    for some, finer in zip(reversed(steps), reversed(graphs[:-1]), strict=True):
        left = refined(finer, left[some], aim.share)
        if len(finer.ends) <= SCORED_EDGES:
            left = _bettered(finer, left, aim)
    return left


class _Cut:
    """A cut of a graph, and what it would be after each possible move of one node.

    Args:
        graph: The graph.
        left: (n,) its nodes on the left.
        aim: What the cut is for.
    """

    def __init__(self, graph: PairGraph, left: Bools, aim: Aim) -> None:
        self.graph, self.left, self.aim = graph, left, aim
        n, bins = graph.inner.shape
        self.to_left, self.to_right = np.zeros((2, n, bins))
        for here, there in ((0, 1), (1, 0)):
            a, b = graph.ends[:, here], graph.ends[:, there]
            for side, table in ((left[b], self.to_left), (~left[b], self.to_right)):
                for at in range(bins):
                    table[:, at] += np.bincount(a[side], graph.pairs[side, at], n)
        between = graph.pairs[left[graph.ends].all(axis=1)].sum(axis=0)
        self.lefts = between + graph.inner[left].sum(axis=0).astype(np.float64)
        between = graph.pairs[~left[graph.ends].any(axis=1)].sum(axis=0)
        self.rights = between + graph.inner[~left].sum(axis=0).astype(np.float64)

    def cost(self) -> float:
        """Of the cut as it is."""
        return float(self.aim.cost(self.lefts, self.rights))

    def after(self, nodes: Ints) -> Doubles:
        """(k,) costs after the move of each of (k,) nodes to the other side."""
        sign = np.where(self.left[nodes], -1.0, 1.0)[:, None]
        inner = self.graph.inner[nodes]
        lefts = self.lefts + sign * (inner + self.to_left[nodes])
        rights = self.rights - sign * (inner + self.to_right[nodes])
        return self.aim.cost(lefts, rights)


class _Walk(_Cut):
    """A cut whose nodes are moved one after the other."""

    def __init__(self, graph: PairGraph, left: Bools, aim: Aim) -> None:
        super().__init__(graph, left.copy(), aim)
        ends = graph.ends
        order = np.argsort(ends.T.reshape(-1), kind="stable")
        self._edges = order % max(1, len(ends))
        self._others = ends[:, ::-1].T.reshape(-1)[order]
        counts = np.bincount(ends.reshape(-1), minlength=len(graph))
        self._starts = np.concatenate([[0], np.cumsum(counts)])

    def move(self, node: int) -> None:
        """Moves a node to the other side."""
        span = slice(self._starts[node], self._starts[node + 1])
        others, pairs = self._others[span], self.graph.pairs[self._edges[span]]
        sign = -1 if self.left[node] else 1
        self.lefts = self.lefts + sign * (self.graph.inner[node] + self.to_left[node])
        self.rights = self.rights - sign * (self.graph.inner[node] + self.to_right[node])
        self.to_left[others] += sign * pairs
        self.to_right[others] -= sign * pairs
        self.left[node] = not self.left[node]

    def share(self) -> float:
        """Of the pairs kept, those on the left."""
        lefts, rights = float(self.lefts.sum()), float(self.rights.sum())
        return lefts / max(1.0, lefts + rights)


def _grown(graph: PairGraph, aim: Aim, random: np.random.Generator) -> Bools:
    """(n,) the left of the best of several cuts, each grown from another node and bettered."""
    free = np.flatnonzero(graph.held == FREE)
    best, best_cost = graph.held == LEFT, np.inf
    for _ in range(max(1, min(STARTS, STARTS * COARSEST // max(1, len(free))))):
        walk = _Walk(graph, graph.held == LEFT, aim)
        if len(free) and walk.share() < aim.share:
            walk.move(int(random.choice(free)))
        _grow(walk, free)
        _climb(walk, free)
        if walk.cost() < best_cost:
            best, best_cost = walk.left, walk.cost()
    return best


def _grow(walk: _Walk, free: Ints) -> None:
    """Moves nodes to the left until its share is reached, those first that lose fewest a gain."""
    while walk.share() < walk.aim.share:
        right = free[~walk.left[free]]
        if not len(right):
            return
        inner = walk.graph.inner[right].sum(axis=1)
        gained = inner + walk.to_left[right].sum(axis=1)
        lost = inner + walk.to_right[right].sum(axis=1) - gained
        # Those that bring nothing come last, where one of them has to make a beginning.
        rates = np.where(gained > 0, lost / np.maximum(1, gained), 1e9 + lost)
        walk.move(int(right[rates.argmin()]))


def _climb(walk: _Walk, free: Ints) -> None:
    """Passes of hill-climbing (Fiduccia and Mattheyses 1982): each node once, the best prefix."""
    for _ in range(4):
        start = best = walk.cost()
        moved: list[int] = []
        kept = 0
        open_ = np.ones(len(walk.graph), np.bool_)
        while len(moved) - kept < 50:
            nodes = free[open_[free]]
            if not len(nodes):
                break
            costs = walk.after(nodes)
            at = int(costs.argmin())
            walk.move(int(nodes[at]))
            open_[nodes[at]] = False
            moved.append(int(nodes[at]))
            if costs[at] < best - 1e-12:
                best, kept = float(costs[at]), len(moved)
        for node in reversed(moved[kept:]):
            walk.move(node)
        if best >= start - 1e-9:
            return


def _bettered(graph: PairGraph, left: Bools, aim: Aim) -> Bools:
    """(n,) the left after moving nodes at the boundary that make the cut better, many at once.

    Of nodes that are neighbours only the better moves; where a batch does not make the whole
    better, as shares and scores depend on all that move, half of it is tried.
    """
    cut = _Cut(graph, left, aim)
    for _ in range(ROUNDS):
        across = cut.left[graph.ends[:, 0]] != cut.left[graph.ends[:, 1]]
        nodes = np.unique(graph.ends[across])
        nodes = nodes[graph.held[nodes] == FREE]
        if not len(nodes):
            break
        cost = cut.cost()
        gains = cost - cut.after(nodes)
        order = np.argsort(-gains, kind="stable")
        chosen = nodes[order][gains[order] > 1e-12]
        chosen = _independent(graph, chosen)
        for _ in range(HALVINGS):
            tried = cut.left.copy()
            tried[chosen] = ~tried[chosen]
            other = _Cut(graph, tried, aim)
            if other.cost() < cost - 1e-12:
                cut = other
                break
            chosen = chosen[: len(chosen) // 2]
        else:
            break
    return cut.left


def _independent(graph: PairGraph, nodes: Ints) -> Ints:
    """Those of (k,) nodes, in order, that have no neighbour before them."""
    rank = np.full(len(graph), len(nodes), np.int64)
    rank[nodes] = np.arange(len(nodes))
    a, b = rank[graph.ends].T
    both = (a < len(nodes)) & (b < len(nodes))
    return np.delete(nodes, np.unique(np.maximum(a, b)[both]))
