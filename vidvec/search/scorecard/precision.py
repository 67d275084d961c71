"""Average precision: of one query's ranking, and of all pairs of queries and references together.

Average precision is the mean, over what is relevant, of the precision at its score: of all that
scores as high or higher, the share that is relevant. Equal scores count together, so that it does
not matter in which order they come; without them it is the sum over ranks of precision times gain
of recall. Micro-average precision ranks the pairs of all queries and references in one list, as a
threshold for all of them would cut it (Douze et al., "The 2021 Image Similarity Dataset and
Challenge", 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

# Cosines are told apart to so many decimals; below that, the order of summing decides.
DECIMALS = 6
_BLOCK = 8192
PRECISION = 0.9


def average_precision(scores: Doubles | Floats, relevant: Bools) -> float:
    """Average precision of one ranking; NaN where nothing is relevant.

    Args:
        scores: (n,), higher comes first.
        relevant: (n,).
    """
    hits = np.sort(scores[relevant])
    if not len(hits):
        return float("nan")
    misses = np.sort(scores[~relevant])
    found = len(hits) - np.searchsorted(hits, hits, side="left")
    beside = len(misses) - np.searchsorted(misses, hits, side="left")
    return float((found / (found + beside)).mean())


@dataclass(frozen=True, slots=True)
class PairRanking:
    """Where the right pairs stand among all pairs of queries and references.

    Attributes:
        hits: (Q,) float64 the score of each query with what it is a copy of.
        above: (Q, Q) float64, how many wrong references of the query of the row score as high as
            the hit of the query of the column, or higher.
    """

    hits: Doubles
    above: Doubles

    @property
    def ranks(self) -> NDArray[np.int64]:
        """(Q,) wrong references of each query that score as high as its hit, or higher."""
        return np.diagonal(self.above).astype(np.int64)

    def of(self, queries: NDArray[np.int64]) -> PairRanking:
        """Of some queries alone."""
        return PairRanking(self.hits[queries], self.above[np.ix_(queries, queries)])

    def micro(self, weights: Doubles) -> tuple[Doubles, Doubles]:
        """Micro-average precision, and the recall at a precision of 90 %.

        Args:
            weights: (R, Q) how often each query is there.

        Returns:
            (R,) each; NaN where no query has a weight.
        """
        right = weights @ (self.hits[:, None] >= self.hits[None, :]).astype(np.float64)
        wrong = weights @ self.above
        total = weights.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.where(right > 0, right / (right + wrong), 0)
            mean = (weights * precision).sum(axis=1) / total
            reached = np.where((precision >= PRECISION) & (weights > 0), right, 0)
            recall = reached.max(axis=1, initial=0) / total
        return mean, recall


def rank_pairs(
    queries: Floats,
    references: Floats,
    targets: NDArray[np.int64],
    ignored: list[NDArray[np.int64]] | None = None,
    biases: tuple[Floats, Floats] | None = None,
) -> PairRanking:
    """Compares every query with every reference, block by block.

    Args:
        queries: (Q, E) unit vectors.
        references: (n, E) unit vectors.
        targets: (Q,) the reference that each query is a copy of.
        ignored: For each query references that count neither as right nor as wrong.
        biases: (Q,) and (n,), taken off the cosines; see ``normalise.py``.
    """
    own, theirs = biases or (
        np.zeros(len(queries), np.float32),
        np.zeros(len(references), np.float32),
    )
    hits = np.einsum("qe,qe->q", queries, references[targets]) - own - theirs[targets]
    hits = np.round(hits.astype(np.float64), DECIMALS)
    rising = np.sort(hits)
    counts = np.zeros((len(queries), len(hits) + 1), np.int64)
    for start in range(0, len(references), _BLOCK):
        block = references[start : start + _BLOCK]
        cosines = queries @ block.T - own[:, None] - theirs[None, start : start + _BLOCK]
        scores = np.round(cosines.astype(np.float64), DECIMALS)
        for query, left_out in enumerate([[each] for each in targets.tolist()]):
            more = [] if ignored is None else ignored[query].tolist()
            for place in (*left_out, *more):
                if start <= place < start + len(block):
                    scores[query, place - start] = -np.inf
        passed = np.searchsorted(rising, scores, side="right")
        flat = passed + np.arange(len(queries))[:, None] * (len(hits) + 1)
        size = len(queries) * (len(hits) + 1)
        counts += np.bincount(flat.ravel(), minlength=size).reshape(counts.shape)
    # A score that passes the j lowest hits is at or above each of them.
    at_least = counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    above = at_least[:, np.searchsorted(rising, hits, side="left")]
    return PairRanking(hits, above.astype(np.float64))
