"""What a reader has of an index in memory, as of one generation; never changed, only replaced."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import FormatError
from vidvec.search.neighbours import KINDS, Neighbours, read
from vidvec.search.source import GONE, Source
from vidvec.search.store import State, Store

# So many vectors that the FAISS file lacks are kept in memory; more are read at each search.
KEPT_ROWS = 65_536


@dataclass(frozen=True)
class Selection:
    """Rows that may be found.

    Attributes:
        mask: (next_row,) bool, which.
        covered: The FAISS file has the rows below.
    """

    mask: NDArray[np.bool_]
    covered: int

    @cached_property
    def total(self) -> int:
        """How many there are."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def inside(self) -> int:
        """How many of them the FAISS file has."""
        return int(np.count_nonzero(self.mask[: self.covered]))

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """(total,) which, ascending."""
        return np.flatnonzero(self.mask)


@dataclass(frozen=True)
class View:
    """An index as of one generation.

    Attributes:
        state: The records' state.
        sequence: Up to where removals are taken in.
        places: (next_row,) int64 place of each row in the folder; ``KEPT`` or ``GONE``.
        findable: (next_row,) bool: there, and its vector has a length.
        neighbours: The FAISS index; ``None`` where there is none.
        dead: How many of its vectors are of rows that went.
        fresh: (p,) int64 findable rows that it lacks, ascending.
        fresh_vectors: (p, E) their unit vectors; ``None`` where they are too many to be kept.
    """

    state: State
    sequence: int
    places: NDArray[np.int64]
    findable: NDArray[np.bool_]
    neighbours: Neighbours | None
    dead: int
    fresh: NDArray[np.int64]
    fresh_vectors: NDArray[np.float32] | None

    @cached_property
    def count(self) -> int:
        """How many videos there are."""
        return int((self.places != GONE).sum())

    @cached_property
    def every(self) -> Selection:
        """All rows that may be found."""
        return Selection(self.findable, self.state.covered)

    @property
    def live(self) -> NDArray[np.int64]:
        """(n,) rows that are there, ascending."""
        return np.flatnonzero(self.places != GONE)


def load(folder: Path, store: Store, source: Source) -> View:
    """The index as it is on disk.

    Args:
        folder: Of the index.
        store: Its records.
        source: Its vectors.

    Raises:
        FormatError: Its FAISS file is missing or damaged.
    """
    while True:
        with store.snapshot():
            state = store.state()
            rows, at = store.places()
            zeros = store.zeros()
            _, sequence = store.removed(0)
        places = np.full(state.next_row, GONE, np.int64)
        places[rows] = at
        findable = places != GONE
        findable[zeros] = False
        try:
            neighbours = open_neighbours(folder, state)
        except FormatError:
            # A writer may have replaced the file since its name was read.
            if store.state().epoch == state.epoch:
                raise
            continue
        fresh = np.flatnonzero(findable[state.covered :]) + state.covered
        inside = len(neighbours) if neighbours is not None else 0
        return View(
            state=state,
            sequence=sequence,
            places=places,
            findable=findable,
            neighbours=neighbours,
            dead=inside - int(findable[: state.covered].sum()),
            fresh=fresh,
            fresh_vectors=source.gather(fresh, places[fresh]) if len(fresh) <= KEPT_ROWS else None,
        )


def open_neighbours(folder: Path, state: State, *, mapped: bool = True) -> Neighbours | None:
    """The FAISS index that a state names.

    Raises:
        FormatError: Its file is missing or damaged.
    """
    if not state.file:
        return None
    if state.kind not in KINDS:
        raise FormatError(f"{folder} is of kind {state.kind!r}, which this vidvec does not know")
    index = read(folder / state.file, state.checksum, state.kind, mapped=mapped)
    settings = state.settings
    return Neighbours(index, state.kind, settings.get("nprobe", 1), settings.get("rerank", 1))


def advance(view: View, state: State, store: Store, source: Source) -> View:
    """A view of the same epoch with the writes since taken in.

    Args:
        view: As it was.
        state: As it is; of the view's epoch, read in the same snapshot.
        store: The records, in a snapshot.
        source: The vectors.
    """
    rows, at = store.places(view.state.next_row)
    removed, sequence = store.removed(view.sequence)
    places = np.concatenate(
        [view.places, np.full(state.next_row - len(view.places), GONE, np.int64)]
    )
    places[rows] = at
    places[removed] = GONE
    findable = places != GONE
    findable[store.zeros()] = False
    inside = np.array([row for row in removed if row < state.covered], np.int64)
    was_findable = int(view.findable[inside].sum())
    stays = findable[view.fresh]
    came = rows[findable[rows]]
    fresh = np.concatenate([view.fresh[stays], came])
    vectors = None
    if view.fresh_vectors is not None and len(fresh) <= KEPT_ROWS:
        kept = view.fresh_vectors if stays.all() else view.fresh_vectors[stays]
        vectors = np.concatenate([kept, source.gather(came, places[came])]) if len(came) else kept
    return replace(
        view,
        state=state,
        sequence=sequence,
        places=places,
        findable=findable,
        dead=view.dead + was_findable,
        fresh=fresh,
        fresh_vectors=vectors,
    )
