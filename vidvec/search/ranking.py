"""One search: candidates from wherever they are, then the order by the vectors themselves.

Letters: Q queries, m candidates of a query, E width of a vector.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidvec.search.brute import nearest
from vidvec.search.neighbours import Neighbours
from vidvec.search.source import Source
from vidvec.search.store import Store
from vidvec.search.types import Hit
from vidvec.search.view import Selection, View

# At most so many allowed rows are compared one by one, whatever the kind of index.
FEW = 16_384
# Of allowed rows so many a hit are to be seen in the lists: where those near the query have few of
# them, as with a filter that has to do with what is asked for, more lists are looked into.
SEEN = 8
# Candidates beyond those that are asked for: FAISS's last bits and ours may order them otherwise.
SPARE = 8
# Rows that went are passed over, up to so many; with more of them only the others are selected.
PASSED_OVER = 64
# The number of hits for which the lists and candidates of an index were measured.
MEASURED_HITS = 10


@dataclass
class Search:
    """Finds the k nearest among the rows that are allowed.

    Attributes:
        view: The index.
        source: Its vectors.
        store: Its records.
        k: How many hits.
        allowed: Which rows may be found; ``None``: all of the view.
        exact: Compare with every vector.
    """

    view: View
    source: Source
    store: Store
    k: int
    allowed: Selection | None
    exact: bool

    @property
    def selection(self) -> Selection:
        """Which rows may be found."""
        return self.allowed or self.view.every

    @property
    def brute(self) -> bool:
        """Whether rows are compared one by one."""
        few = self.allowed is not None and self.allowed.total <= FEW
        return self.exact or self.view.neighbours is None or few

    def run(
        self, queries: NDArray[np.float32], without: Sequence[Collection[str]] | None
    ) -> list[list[Hit]]:
        """Hits of each of (Q, E) unit queries."""
        left_out: list[set[int]] = [set()] * len(queries)
        if without is not None:
            known = self.store.rows_of(list({video for some in without for video in some}))
            left_out = [{known[video] for video in some if video in known} for some in without]
        wanted = self.k + max(map(len, left_out), default=0)
        spare = SPARE
        total = self.selection.total
        sure = self.brute or self.view.state.kind == "exact"
        while True:
            count = min(wanted + spare, total)
            rows, cosines = self._rank(queries, self._candidates(queries, count))
            # Of vectors that are equally near, those with the smallest ids are wanted: all have
            # to be there.
            if count == total or not sure or not _cut_ties(cosines, wanted, count):
                return self._hits(rows, cosines, left_out, wanted)
            spare = max(spare * 8, wanted)

    def _candidates(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """(Q, m) rows, −1 for none: the count that are nearest, and perhaps others."""
        view = self.view
        if count == 0:
            return np.full((len(queries), 0), -1, np.int64)
        if self.brute or view.neighbours is None:
            rows = self.selection.rows
            return nearest(queries, self.source.blocks(rows, view.places[rows]), count)
        found = [self._from_faiss(queries, count, view.neighbours)]
        if len(view.fresh):
            inside = self.selection.mask[view.fresh]
            rows = view.fresh[inside]
            if view.fresh_vectors is None:
                blocks = self.source.blocks(rows, view.places[rows])
                found.append(nearest(queries, blocks, count))
            else:
                every = len(rows) == len(inside)
                vectors = view.fresh_vectors if every else view.fresh_vectors[inside]
                found.append(nearest(queries, [(rows, vectors)], count))
        return np.concatenate(found, 1)

    def _from_faiss(
        self, queries: NDArray[np.float32], count: int, neighbours: Neighbours
    ) -> NDArray[np.int64]:
        """(Q, m) rows of the FAISS file, −1 for none."""
        covered = self.selection.mask[: self.view.state.covered]
        inside = self.selection.inside
        enough = min(inside, count * (SEEN if self.allowed is not None else 1))
        wanted = max(enough, min(inside, count * neighbours.rerank))
        lists = self._lists(neighbours, inside, count)
        while True:
            rows = self._selected(queries, wanted, neighbours, covered, lists)
            if lists >= neighbours.lists or ((rows >= 0).sum(1) >= enough).all():
                return rows
            lists *= 4

    def _selected(
        self,
        queries: NDArray[np.float32],
        wanted: int,
        neighbours: Neighbours,
        covered: NDArray[np.bool_],
        lists: int,
    ) -> NDArray[np.int64]:
        dead = self.view.dead
        if self.allowed is None and dead <= PASSED_OVER:
            rows = neighbours.candidates(queries, wanted + dead, nprobe=lists)
            return np.where((rows >= 0) & covered[np.maximum(rows, 0)], rows, -1)
        return neighbours.candidates(queries, wanted, covered, lists)

    def _lists(self, neighbours: Neighbours, inside: int, count: int) -> int:
        """Into how many lists a search looks."""
        if not neighbours.lists:
            return 0
        lists = float(neighbours.nprobe)
        if count > MEASURED_HITS + SPARE:
            lists *= math.sqrt(count / (MEASURED_HITS + SPARE))
        if self.allowed is not None:
            lists *= len(neighbours) / max(1, inside)
        return min(neighbours.lists, math.ceil(lists))

    def _rank(
        self, queries: NDArray[np.float32], rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Candidates by falling cosine: (Q, m) rows and cosines; −1 and −∞ for none."""
        if rows.shape[1] == 0:
            return rows, np.zeros(rows.shape, np.float32)
        unique, inverse = np.unique(np.maximum(rows, 0), return_inverse=True)
        vectors = self.source.gather(unique, self.view.places[unique])
        # Equal vectors must give equal bits, for ties: einsum does that, and BLAS does not.
        cosines = np.einsum("qe,qme->qm", queries, vectors[inverse.reshape(rows.shape)])
        lost = np.isnan(cosines) & (rows >= 0)
        absent = (rows < 0) | lost | ~queries.any(axis=1, keepdims=True)
        cosines = np.where(absent, -np.inf, np.clip(cosines, -1, 1)).astype(np.float32)
        order = np.argsort(-cosines, axis=1, kind="stable")
        return (
            np.take_along_axis(np.where(absent, -1, rows), order, 1),
            np.take_along_axis(cosines, order, 1),
        )

    def _hits(
        self,
        rows: NDArray[np.int64],
        cosines: NDArray[np.float32],
        left_out: Sequence[set[int]],
        wanted: int,
    ) -> list[list[Hit]]:
        if rows.shape[1] == 0:
            return [[] for _ in left_out]
        last = cosines[:, min(wanted, rows.shape[1]) - 1]
        kept = np.where(cosines >= last[:, None], rows, -1)
        found = np.unique(kept[kept >= 0]).tolist()
        ids = self.store.ids_of(found)
        hits = []
        # A row without an id was deleted since the view was taken.
        for place, skipped in enumerate(left_out):
            pairs = zip(kept[place].tolist(), cosines[place].tolist(), strict=True)
            known = [
                Hit(ids[row], cosine) for row, cosine in pairs if row in ids and row not in skipped
            ]
            known.sort(key=lambda hit: (-hit.cosine, hit.id))
            hits.append(known[: self.k])
        return hits


def _cut_ties(cosines: NDArray[np.float32], wanted: int, count: int) -> bool:
    """Whether of the count nearest the last one is as near as the last one that is wanted."""
    if cosines.shape[1] < count or count <= wanted:
        return False
    tied = (cosines[:, wanted - 1] == cosines[:, count - 1]) & np.isfinite(cosines[:, count - 1])
    return bool(tied.any())
