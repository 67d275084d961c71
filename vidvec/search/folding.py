"""The FAISS file of an index: made from the vectors, extended, replaced by rename.

Only one process makes it at a time; others read and write the records meanwhile. Rows that come
while it is made are searched beside it, as all rows are that it lacks.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vidvec import storage
from vidvec.errors import FormatError, UsageError
from vidvec.search.neighbours import KINDS, Neighbours, add, choose, drop, fits, train, write
from vidvec.search.source import GONE, Source
from vidvec.search.store import FILE, State, Store, remedy
from vidvec.search.tuning import sample_rows, tune
from vidvec.search.view import open_neighbours

INDEX = "index"
KIND = "index"
# Of what lies in the folder; ``storage.FORMAT_VERSION`` is that of manifests.
INDEX_VERSION = 1
LOCK_SECONDS = 10.0
# A damaged FAISS file is made anew by one reader, for which the others wait.
REFIT_SECONDS = 1_800.0
LOG = logging.getLogger("vidvec.search")

Progress = Callable[[int, int, str], None]


@contextmanager
def locked(vectors: Path, wait: float = LOCK_SECONDS) -> Iterator[None]:
    """Keeps others from making the FAISS file; the lock goes with the process that has it.

    Raises:
        UsageError: Another process has it for longer than ``wait`` seconds.
    """
    with (vectors / ".index.lock").open("w") as file:
        until = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise UsageError(
                        f"another process is making the index of {vectors}: try again when it is "
                        "done"
                    ) from None
                time.sleep(0.05)
        yield


def read_index_manifest(vectors: Path) -> dict[str, Any]:
    """The manifest of an index.

    Raises:
        FormatError: There is none, or the index is of a version this vidvec cannot read.
    """
    folder = vectors / INDEX
    try:
        manifest = storage.read_manifest(folder, KIND)
    except FormatError as error:
        raise FormatError(f"{error}: {remedy(folder / FILE)}") from None
    version = manifest.get("index_version")
    if version != INDEX_VERSION:
        raise FormatError(
            f"{folder} has index version {version}; this vidvec reads version {INDEX_VERSION}: "
            f"{remedy(folder / FILE)}"
        )
    return manifest


def fold(vectors: Path, store: Store, source: Source) -> None:
    """Takes rows that the FAISS file lacks into a new one; not where someone else is at it."""
    try:
        with locked(vectors, wait=0):
            fit(vectors / INDEX, store, source, threads=1)
    except UsageError:
        return


def refit(vectors: Path, why: str) -> None:
    """Makes a FAISS file that is lost or damaged anew, from the vectors.

    Args:
        vectors: The folder of vectors.
        why: What is said of it.
    """
    with locked(vectors, wait=REFIT_SECONDS):
        store = Store(vectors / INDEX / FILE, writable=True)
        try:
            if not usable(vectors / INDEX, store.state(), why):
                fit(vectors / INDEX, store, Source(vectors, store))
        finally:
            store.close()


def usable(folder: Path, state: State, why: str = "") -> bool:
    """Whether the FAISS file can be opened; where not, it is said that it is made anew."""
    try:
        return open_neighbours(folder, state) is not None
    except FormatError as error:
        LOG.warning("%s; it is made anew", why or error)
        return False


def wanted_kind(store: Store, state: State) -> str:
    """The kind that the number of videos and what was asked for lead to."""
    count = int(store.value("SELECT count(*) FROM videos"))
    return fits(choose(state.made_of["asked"], count, state.dimension), count)


def fit(
    folder: Path,
    store: Store,
    source: Source,
    *,
    progress: Progress | None = None,
    threads: int | None = None,
) -> None:
    """Writes a FAISS file of all rows that are there, and has the records name it.

    Args:
        folder: Of the index; the caller has its lock.
        store: Its records.
        source: Its vectors.
        progress: Called with vectors done, all, and what is being done.
        threads: CPU threads; ``None``: all.
    """
    with store.snapshot():
        state = store.state()
        rows, at = store.places()
        zeros = store.zeros()
    places = np.full(state.next_row, GONE, np.int64)
    places[rows] = at
    todo = places != GONE
    todo[zeros] = False
    every = np.flatnonzero(todo)
    kind = wanted_kind(store, state)
    say = progress or (lambda done, total, note: None)
    extended = _extended(folder, state, kind, len(every))
    if extended is None:
        say(0, len(every), "learning")
        chosen = sample_rows(every, kind)
        sample = source.gather(chosen, places[chosen])
        threads = threads or os.cpu_count() or 1
        neighbours = train(kind, source.dimension, len(every), sample, threads=threads)
        settings: dict[str, Any] = {"trained_on": len(every)}
        del sample
    else:
        neighbours, settings = extended, dict(state.settings)
        drop(neighbours, np.flatnonzero(~todo[: state.covered]))
        todo[: state.covered] = False
    wanted = np.flatnonzero(todo)
    done = 0
    for some, vectors in source.blocks(wanted, places[wanted]):
        add(neighbours, some, vectors)
        done += len(some)
        say(done, len(wanted), "adding")
    if extended is None and KINDS[kind].tuned:
        say(0, len(every), "measuring")
        settings |= tune(neighbours, source, every, places)
    _swap(folder, store, neighbours, settings, state.next_row)


def _extended(folder: Path, state: State, kind: str, count: int) -> Neighbours | None:
    """The FAISS index that is there, in memory, where it is good for so many vectors."""
    if state.kind != kind or not state.file or count > 2 * state.settings.get("trained_on", 0):
        return None
    try:
        return open_neighbours(folder, state, mapped=False)
    except FormatError:
        return None


def _swap(
    folder: Path, store: Store, neighbours: Neighbours, settings: dict[str, Any], covered: int
) -> None:
    """Puts a FAISS file in the place of the one that is there; it has the rows below ``covered``.

    Each file has a name of its own, and which one counts is in the records, so that a reader never
    has the rows of one moment with the file of another.
    """
    name = f"neighbours-{uuid.uuid4().hex[:12]}.faiss"
    with storage.atomic_path(folder / name) as temporary:
        crc = write(neighbours, temporary)
    with store.transaction() as connection:
        connection.execute("DELETE FROM removed WHERE row < ?", [covered])
        store.update_state(
            epoch=store.state().epoch + 1,
            file=name,
            checksum=crc,
            covered=covered,
            kind=neighbours.kind,
            settings=settings,
        )
    tidy(folder, name)


def tidy(folder: Path, kept: str) -> None:
    """Removes FAISS files that do not count, such as a killed process left; with the lock."""
    storage.remove_leftovers(folder)
    for old in folder.glob("neighbours-*.faiss"):
        if old.name != kept:
            old.unlink(missing_ok=True)
