"""Where the live vectors of several folders lie, and their ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vidvec import storage
from vidvec.errors import FormatError, UsageError
from vidvec.search.dedup_blocks import ROWS_AT_ONCE, Shard, save
from vidvec.search.engine import SearchIndex
from vidvec.search.folding import INDEX
from vidvec.search.groups import LiveVectors
from vidvec.search.source import KEPT
from vidvec.search.store import FILE as RECORDS
from vidvec.search.store import Store

Ints = NDArray[np.int64]


class Ids(Sequence[str]):
    """Ids of all rows, in 30 bytes or so each.

    Args:
        array: Arrow large strings.
    """

    def __init__(self, array: pa.Array) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, row: int) -> str:  # type: ignore[override]
        return str(self._array[row].as_py())

    def only(self, rows: Ints) -> Ids:
        """Those of some rows."""
        return Ids(self._array.take(pa.array(rows)))

    def repeated(self) -> tuple[str, list[int]] | None:
        """An id that several rows have, and these; ``None``: there is none."""
        counts = pc.value_counts(self._array)
        twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
        if not len(twice):
            return None
        rows = np.flatnonzero(pc.equal(self._array, twice[0]).to_numpy(zero_copy_only=False))
        return str(twice[0].as_py()), rows.tolist()


def place(live: LiveVectors, folder: Path, number: int, start: int) -> tuple[Shard, pa.Array, int]:
    """Finds out where the live vectors of a folder lie, and writes it down for workers.

    Args:
        live: The folder of vectors.
        folder: Where to write.
        number: Of the folder among all.
        start: Rows of those before it.

    Returns:
        The shard, its ids as large strings, and how many vectors are left out as gone.
    """
    path = live.vectors.path
    added = folder / f"added-{number:03d}.npy"
    found = _indexed(live, added)
    ids, places = found or (live.vectors.ids, np.arange(len(live.vectors)))
    keep = np.array([video not in live.gone for video in ids], np.bool_)
    kept = [video for video, there in zip(ids, keep.tolist(), strict=True) if there]
    written = folder / f"places-{number:03d}.npy"
    save(written, places[keep])
    shard = Shard(
        str(path),
        str(written),
        str(added) if added.is_file() else "",
        found is not None,
        start,
        start + len(kept),
    )
    return shard, pa.array(kept, pa.large_string()), len(ids) - len(kept)


def _indexed(live: LiveVectors, added: Path) -> tuple[list[str], Ints] | None:
    """Ids and places of what a folder's index has; ``None`` without one that can be used."""
    path = live.vectors.path
    if not (path / INDEX / storage.MANIFEST).is_file():
        return None
    try:
        with SearchIndex.open(path):  # checks that it is of these vectors
            pass
    except (FormatError, UsageError):
        return None
    store = Store(path / INDEX / RECORDS)
    try:
        with store.snapshot():
            rows, places = store.places()
            order = np.argsort(rows)
            rows, places = rows[order], places[order]
            names = store.all_ids()
            kept = np.flatnonzero(places == KEPT)
            places[kept] = -1 - np.arange(len(kept))
            if len(kept):
                _save_added(store, rows[kept], added, live.vectors.dimension)
    finally:
        store.close()
    return [names[row] for row in rows.tolist()], places


def _save_added(store: Store, rows: Ints, path: Path, dimension: int) -> None:
    """Writes what only the records have, some at a time."""
    with storage.atomic_path(path) as temporary, temporary.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), dimension)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[start : start + ROWS_AT_ONCE].tolist()
            blobs = store.blobs(some)
            for row in some:
                file.write(blobs[row])
