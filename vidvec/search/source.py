"""Vectors of an index's rows: from the mapped folder, or from the records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError
from vidvec.search.neighbours import unit
from vidvec.search.store import Store
from vidvec.search.writes import digests

BLOCK = 32_768
GONE = -2  # a row's place where it has none any more
KEPT = -1  # its vector is in the records
PROBES = 64


class Source:
    """Reads vectors by place in a folder of vectors, and by row from the records.

    Args:
        folder: The folder of vectors.
        store: The records.

    Raises:
        FormatError: The folder is none, or is damaged.
    """

    def __init__(self, folder: Path, store: Store) -> None:
        self._store, self.folder = store, folder
        self.vectors = Vectors(folder)
        self.dimension = self.vectors.dimension

    def raw(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, E) vectors at places of the folder, as they are there."""
        return self.vectors.take(places)

    def gather(self, rows: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, E) unit vectors of (n,) rows at their (n,) places; NaN where a row is gone."""
        inside = places >= 0
        if inside.all():
            return unit(self.raw(places))
        found = np.full((len(rows), self.dimension), np.nan, np.float32)
        found[inside] = self.raw(places[inside])
        kept = places == KEPT
        blobs = self._store.blobs(rows[kept].tolist())
        for at in np.flatnonzero(kept).tolist():
            blob = blobs.get(int(rows[at]))
            if blob is not None:
                found[at] = np.frombuffer(blob, np.float32)
        return unit(found)

    def blocks(
        self, rows: NDArray[np.int64], places: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Rows and their unit vectors, so many at a time that memory stays bounded."""
        for start in range(0, len(rows), BLOCK):
            some, at = rows[start : start + BLOCK], places[start : start + BLOCK]
            vectors = self.gather(some, at)
            if (at == KEPT).any():  # one may have been deleted since
                there = ~np.isnan(vectors[:, 0])
                some, vectors = some[there], vectors[there]
            yield some, vectors

    def check(self) -> None:
        """Makes sure of a sample that the folder has the vectors that the records say.

        Raises:
            UsageError: The folder holds other vectors than those that were taken in.
        """
        last = self._store.value("SELECT max(place) FROM videos")
        if last is None:
            return
        wanted = sorted(set(np.linspace(0, last, PROBES).astype(np.int64).tolist()))
        asked = ",".join(map(str, wanted))
        sql = f"SELECT place, digest FROM videos WHERE place IN ({asked})"  # noqa: S608 - numbers
        found = list(self._store.read(sql))
        places = np.array([place for place, _ in found], np.int64)
        held = np.array([digest for _, digest in found], np.int64)
        if last < len(self.vectors) and (digests(self.raw(places)) == held).all():
            return
        raise UsageError(
            f"the vectors in {self.folder} have changed since their index was made: run "
            f"vidvec index {self.folder}"
        )


def check_width(vectors: NDArray[np.float32], dimension: int, what: str, where: object) -> None:
    """Refuses arrays that are not (n, E), or hold numbers that are none.

    Raises:
        UsageError: They are of another width, or hold NaN or infinity.
    """
    if vectors.ndim != 2:
        raise UsageError(f"{what} have shape {vectors.shape}, expected (n, {dimension})")
    if vectors.shape[1] != dimension:
        raise UsageError(
            f"{what} have {vectors.shape[1]} numbers, {where} holds vectors of {dimension}"
        )
    bad = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(bad):
        raise UsageError(f"{what} hold NaN or infinity in row {bad[0]} ({len(bad)} such rows)")
