"""The order of a cluster's candidates by the vectors themselves.

Letters: Q queries, E width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import UsageError
from vidvec.search.cluster.reader import MOST_ROWS, Reader
from vidvec.search.types import Hit

# Candidates beyond those that are asked for: see ``ranking.SPARE``; more where the cluster
# compares shortened vectors, or misses some.
SPARE, SPARE_SHORT = 8, 64
# Lists that are looked into, and places of the graph that are kept, for one query.
LISTS, PLACES = 64, 128
# Cosines that differ by less may be in another order there.
_TIE = 1e-6


@dataclass(frozen=True, slots=True)
class Ranking:
    """One query's candidates, ranked.

    Attributes:
        hits: By falling cosine, then id; without those whose vector has no length.
        seen: How many candidates there were.
        least: The smallest cosine among them.
    """

    hits: list[Hit]
    seen: int
    least: float


@dataclass(frozen=True, slots=True)
class ClusterSearch:
    """Finds the k nearest in a cluster.

    Attributes:
        reader: Asks it.
        k: How many.
        condition: Which videos may be found.
        exact: Look everywhere.
    """

    reader: Reader
    k: int
    condition: str
    exact: bool

    def run(self, queries: NDArray[np.float32], without: Sequence[Set[str]]) -> list[list[Hit]]:
        """Hits of (Q, E) unit queries, without some ids for each."""
        sure = self.reader.held.kind == "exact"
        wanted = self.k + max(map(len, without), default=0)
        spare = SPARE if sure else max(SPARE_SHORT, wanted)
        while True:
            count = min(wanted + spare, MOST_ROWS)
            candidates = self._candidates(queries, count)
            ranked = [rank(*each) for each in zip(queries, candidates, strict=True)]
            # Of vectors that are equally near, those with the smallest ids are wanted: all have
            # to be there.
            cut = any(_cut(each, wanted, count) for each in ranked)
            if not (sure and cut) or count == MOST_ROWS:
                pairs = zip(ranked, without, strict=True)
                return [
                    [hit for hit in each.hits if hit.id not in barred][: self.k]
                    for each, barred in pairs
                ]
            spare = max(spare * 8, wanted)

    def _candidates(self, queries: NDArray[np.float32], count: int) -> list[list[Any]]:
        kind = self.reader.held.kind
        settings = {
            "exact": {},
            "ivf-sq8": {"nprobe": 65_536 if self.exact else LISTS},
            "hnsw": {"ef": min(32_768, max(count, MOST_ROWS if self.exact else PLACES))},
        }[kind]

        def ask(collection: str) -> list[list[Any]]:
            found = self.reader.client.search(
                collection,
                queries,
                filter=self.condition,
                limit=count,
                output_fields=["vector"],
                search_params={"params": settings},
                consistency_level=self.reader.level,
            )
            return list(found)

        return self.reader.call(ask)


def rank(query: NDArray[np.float32], found: Sequence[Any]) -> Ranking:
    """Ranks a query's candidates by the cosine with their vectors.

    Args:
        query: (E,) of length 1, or zero: then nothing is found.
        found: The cluster's hits, with their vectors.
    """
    if not len(found) or not query.any():
        return Ranking([], 0, 0.0)
    # They have length 1 there. Equal vectors must give equal bits, for ties, here and in a folder's
    # index: see ``ranking.Search``.
    vectors = np.array([row["entity"]["vector"] for row in found], np.float32)
    [made] = np.einsum("qe,qme->qm", query[None], vectors[None])
    cosines = np.clip(made, -1, 1).tolist()
    there = np.any(vectors != 0, axis=1).tolist()
    rows = zip(found, cosines, there, strict=True)
    hits = [Hit(str(row["id"]), cosine) for row, cosine, findable in rows if findable]
    hits.sort(key=lambda hit: (-hit.cosine, hit.id))
    return Ranking(hits, len(found), min(cosines))


def _cut(ranking: Ranking, wanted: int, count: int) -> bool:
    """Whether more candidates may change which hits are given."""
    if ranking.seen < count:
        return False
    return len(ranking.hits) < wanted or ranking.hits[wanted - 1].cosine - ranking.least < _TIE


def check(
    queries: NDArray[np.float32], k: int, without: Sequence[Set[str]], reader: Reader
) -> None:
    """Refuses what a cluster cannot look for.

    Raises:
        UsageError: The queries are not (Q, E), hold NaN or infinity, k is out of range, or there
            are not as many lists of ids to leave out.
    """
    dimension = reader.held.dimension
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise UsageError(
            f"query vectors have shape {queries.shape}, {reader.address} holds vectors of "
            f"{dimension} numbers"
        )
    if not np.isfinite(queries).all():
        raise UsageError("query vectors hold NaN or infinity")
    if len(without) != len(queries):
        raise UsageError(f"{len(queries)} queries, but {len(without)} lists of ids to leave out")
    most = MOST_ROWS - max(map(len, without), default=0)
    if not 1 <= k <= most:
        raise UsageError(f"k is {k}, expected 1 … {most}: a cluster gives no more at once")
