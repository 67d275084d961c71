"""Rows of several folders of vectors that are of the same videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError


class Aligned:
    """Folders of vectors, seen through the videos that are in all of them.

    Args:
        members: At least one.

    Raises:
        UsageError: No video is in all of them.

    Attributes:
        ids: Of these videos, in the order of the first folder.
        left_out: How many vectors of each folder are of other videos.
        rows: (n,) int64 rows of these videos in each folder; ``None``: all of each, in order.
    """

    def __init__(self, members: Sequence[Vectors]) -> None:
        self.members = list(members)
        first, *others = self.members
        self.ids = first.ids
        self.rows: list[NDArray[np.int64]] | None = None
        if any(other.ids != first.ids for other in others):
            self.ids = [each for each in first.ids if all(each in other for other in others)]
            rows = [[member.row(each) for each in self.ids] for member in self.members]
            self.rows = [np.array(some, np.int64) for some in rows]
        self.left_out = [len(member) - len(self.ids) for member in self.members]
        if not self.ids and len(first):
            self._refuse()

    def _refuse(self) -> None:
        """Says of folders without a common video what their ids look like."""
        named = ", ".join(
            f"{member.path} holds {member.ids[0]!r}, …" if len(member) else f"{member.path} nothing"
            for member in self.members
        )
        raise UsageError(
            f"no video is in all of them: {named}. Ids must be the same; import vectors with those "
            "of the corpus"
        )

    def blocks(self, rows: int) -> Iterator[tuple[NDArray[np.float32], ...]]:
        """Blocks of so many videos, the last may be smaller, each as one (n, E) array a folder."""
        if self.rows is None:
            yield from zip(*(_pieces(member, rows) for member in self.members), strict=True)
            return
        gathered = [_Gatherer(member) for member in self.members]
        for start in range(0, len(self.ids), rows):
            some = [each[start : start + rows] for each in self.rows]
            yield tuple(member.take(each) for member, each in zip(gathered, some, strict=True))


class _Gatherer:
    """Reads any rows of a folder of vectors from its mapped shards."""

    def __init__(self, vectors: Vectors) -> None:
        self._shards = [matrix for _, matrix in vectors.shards()]
        counts = [len(matrix) for matrix in self._shards]
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self._dimension = vectors.dimension

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, E) vectors of these rows."""
        found = np.empty((len(rows), self._dimension), np.float32)
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        for shard in np.unique(shards).tolist():
            mine = shards == shard
            found[mine] = self._shards[shard][rows[mine] - self._starts[shard]]
        return found


def _pieces(vectors: Vectors, rows: int) -> Iterator[NDArray[np.float32]]:
    """Vectors, so many rows at a time, whatever the size of the shards; never all in memory."""
    held: list[NDArray[np.float32]] = []
    for _, shard in vectors.shards():
        start = 0
        while start < len(shard):
            some = shard[start : start + rows - sum(map(len, held))]
            held.append(some)
            start += len(some)
            if sum(map(len, held)) == rows:
                yield np.concatenate(held)
                held = []
    if held:
        yield np.concatenate(held)
