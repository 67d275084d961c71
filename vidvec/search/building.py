"""Makes the index of a folder of vectors, and brings it up to date.

A first index is made beside and renamed. Later the difference goes into the records in one
transaction, and then a new FAISS file takes the old one's place; killed in between, the same
command carries on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vidvec import storage
from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError
from vidvec.search.difference import Difference, digest_of, fingerprint, take_difference
from vidvec.search.folding import (
    INDEX,
    INDEX_VERSION,
    KIND,
    Progress,
    fit,
    locked,
    read_index_manifest,
    tidy,
    usable,
    wanted_kind,
)
from vidvec.search.neighbours import choose
from vidvec.search.source import Source
from vidvec.search.store import FILE, Store, remedy


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What ``build_index`` did.

    Attributes:
        videos: How many the index has.
        dimension: Numbers in a vector.
        kind: How candidates are found.
        difference: What was taken in.
        written: Whether anything was.
        recall: Share of the ten nearest that are found, on a sample, when the FAISS file was made;
            ``None`` where all are.
        settings: How the FAISS file is searched, and what was measured.
        bytes_per_vector: Of the FAISS file.
        seconds: How long it took.
    """

    videos: int
    dimension: int
    kind: str
    difference: Difference
    written: bool
    recall: float | None
    settings: dict[str, Any] = field(default_factory=dict)
    bytes_per_vector: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class _Order:
    """What ``build_index`` was asked for."""

    vectors: Vectors
    corpus: Path | None
    kind: str
    progress: Progress | None
    threads: int | None


def build_index(
    vectors: Path,
    *,
    corpus: Path | None = None,
    kind: str = "auto",
    progress: Progress | None = None,
    restart: bool = False,
    threads: int | None = None,
) -> IndexReport:
    """Makes the index of a folder of vectors, or takes in what has changed since.

    Videos that are gone from the corpus are left out. What was added, replaced or deleted while
    searching stays so until the folder has another vector for the video.

    Args:
        vectors: The folder, made by ``embed`` or ``fuse``.
        corpus: Where titles, tags and such are; ``None``: the corpus that was embedded, or the one
            that was given before.
        kind: One of ``vidvec.search.neighbours.KINDS``; ``auto``: what was asked for before, or
            else what fits the number of vectors.
        progress: Called with vectors done, all, and what is being done.
        restart: Make the index anew; writes are lost.
        threads: CPU threads; ``None``: all.

    Raises:
        FormatError: The folder is none, or the index is damaged or of another version.
        UsageError: There is no such kind, or another process is at it.
    """
    began = time.monotonic()
    vectors = Path(vectors)
    order = _Order(Vectors(vectors), corpus, kind, progress, threads)
    choose(kind, 0, 1)
    with locked(vectors):
        storage.remove_leftovers(vectors)
        if restart or not (vectors / INDEX).is_dir():
            with storage.atomic_path(vectors / INDEX) as temporary:
                temporary.mkdir()
                report = _create(temporary, order)
        else:
            read_index_manifest(vectors)
            report = _update(vectors / INDEX, order)
    return replace(report, seconds=time.monotonic() - began)


def _create(folder: Path, order: _Order) -> IndexReport:
    """A whole index in a new folder."""
    store = Store.create(folder / FILE, order.vectors.dimension)
    try:
        difference = _take(store, order)
        store.settle()
        source = Source(order.vectors.path, store)
        fit(folder, store, source, progress=order.progress, threads=order.threads)
        return _report(folder, store, difference, written=True)
    finally:
        store.close()


def _update(folder: Path, order: _Order) -> IndexReport:
    """Takes what has changed into an index that is there."""
    store = Store(folder / FILE, writable=True)
    try:
        before = store.state()
        if before.dimension != order.vectors.dimension:
            raise UsageError(
                f"{order.vectors.path} holds vectors of {order.vectors.dimension} numbers, its "
                f"index those of {before.dimension}: {remedy(folder / FILE)}"
            )
        difference = _take(store, order)
        state = store.state()
        behind = state.covered < state.next_row or bool(store.removed(0)[0])
        if behind or wanted_kind(store, state) != state.kind or not usable(folder, state):
            source = Source(order.vectors.path, store)
            fit(folder, store, source, progress=order.progress, threads=order.threads)
        tidy(folder, store.state().file)
        written = store.generation() != before.generation
        return _report(folder, store, difference, written=written)
    finally:
        store.close()


def _take(store: Store, order: _Order) -> Difference:
    """Takes vectors and corpus into the records, where they are others than before."""
    # Brings PyTorch along, which opening an index is to do without.
    from vidvec.search.index import corpus_of, gone_ids

    made_of = store.state().made_of
    given = order.corpus
    if given is None and made_of.get("given"):
        given = storage.located(made_of["corpus"])
    corpus = corpus_of(order.vectors.path, given)
    facts = {
        "vectors": fingerprint(order.vectors),
        "corpus": str(corpus.path.resolve()) if corpus is not None else "",
        "content": digest_of([corpus.content, corpus.edition]) if corpus is not None else "",
        "given": given is not None,
        "asked": made_of.get("asked", "auto") if order.kind == "auto" else order.kind,
    }
    if facts == made_of:
        return Difference()
    if {**facts, "asked": ""} == {**made_of, "asked": ""}:
        with store.transaction():
            store.update_state(made_of=facts)
        return Difference()
    gone = gone_ids(corpus, order.vectors, own=given is None)
    with store.transaction():
        difference = take_difference(store, order.vectors, corpus, gone, order.progress)
        # A new epoch has readers open the folder of vectors anew.
        store.update_state(made_of=facts, epoch=store.state().epoch + 1)
    return difference


def _report(folder: Path, store: Store, difference: Difference, *, written: bool) -> IndexReport:
    """What there is; where something was written, the manifest says it for people to read."""
    state = store.state()
    videos = int(store.value("SELECT count(*) FROM videos"))
    if written or not (folder / storage.MANIFEST).is_file():
        storage.write_manifest(
            folder,
            KIND,
            index_version=INDEX_VERSION,
            index_kind=state.kind,
            dimension=state.dimension,
            videos=videos,
            settings=state.settings,
            made_of=state.made_of,
        )
    return IndexReport(
        videos=videos,
        dimension=state.dimension,
        kind=state.kind,
        difference=difference,
        written=written,
        recall=state.settings.get("recall"),
        settings=state.settings,
        bytes_per_vector=(folder / state.file).stat().st_size / max(1, videos),
    )
