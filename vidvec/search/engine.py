"""The index beside a folder of vectors: search by vector and by words, with filters; writes.

    VECTORS/index/
      manifest.json        what it was made of, its kind, what was measured
      records.sqlite       metadata, words, and acknowledged writes
      neighbours-*.faiss   candidates; a cache

Any number of processes and threads read while one writes. Letters: Q queries, E width of a vector.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import count as count_up
from pathlib import Path
from typing import Self

import faiss
import numpy as np
from numpy.typing import NDArray

from vidvec.errors import FormatError, UsageError
from vidvec.search import writes
from vidvec.search.building import IndexReport, build_index
from vidvec.search.filters import Facets, count, where
from vidvec.search.folding import INDEX, fold, read_index_manifest, refit
from vidvec.search.neighbours import unit
from vidvec.search.ranking import Search
from vidvec.search.source import Source, check_width
from vidvec.search.store import FILE, Store
from vidvec.search.text import find_words
from vidvec.search.types import Filter, Hit, IndexedVideo
from vidvec.search.view import Selection, View, advance, load

__all__ = ["Facets", "IndexReport", "SearchIndex", "build_index"]

# So many rows outside the FAISS file are searched one by one; then they are folded into it.
FOLD_AT = 16_384
KEPT_FILTERS = 16
# Queries that are compared with their candidates at a time.
BATCH = 256
# How often a search takes in what was written before it goes on without the last of it.
TRIES = 50


class SearchIndex:
    """An open index. Its methods may be called from several threads.

    Attributes:
        path: The folder of vectors.
        dimension: E.
    """

    def __init__(self, path: Path, store: Store, source: Source, threads: int) -> None:
        self.path, self.dimension = path, source.dimension
        self._store, self._source, self._threads = store, source, threads
        self._lock = threading.Lock()
        self._filters: OrderedDict[tuple[Filter, int], Selection] = OrderedDict()
        self._facets: dict[tuple[Filter, int, int], Facets] = {}
        faiss.omp_set_num_threads(threads)
        try:
            self._view = load(path / INDEX, store, source)
        except FormatError as error:
            refit(path, str(error))
            self._view = load(path / INDEX, store, source)

    @classmethod
    def open(cls, path: Path, *, writable: bool = False, threads: int = 1) -> Self:
        """Opens the index of a folder of vectors.

        Args:
            path: The folder of vectors.
            writable: ``add`` and ``delete`` will be called. Several processes may write, one waits
                for the other.
            threads: CPU threads that one search takes.

        Raises:
            UsageError: The folder has no index, or its vectors have changed since.
            FormatError: The index is damaged or of another version.
        """
        path = Path(path)
        if not (path / INDEX).is_dir():
            raise UsageError(f"{path} has no index: make one with vidvec index {path}")
        read_index_manifest(path)
        store = Store(path / INDEX / FILE, writable=writable)
        try:
            source = Source(path, store)
            if source.dimension != store.state().dimension:
                raise UsageError(
                    f"{path} holds vectors of {source.dimension} numbers, its index those of "
                    f"{store.state().dimension}: run vidvec index {path} --restart"
                )
            source.check()
            return cls(path, store, source, threads)
        except BaseException:
            store.close()
            raise

    def __repr__(self) -> str:
        return f"SearchIndex({str(self.path)!r}, {len(self)} × {self.dimension}, {self.kind})"

    def __len__(self) -> int:
        self.refresh()
        return self._view.count

    def __contains__(self, video_id: object) -> bool:
        return isinstance(video_id, str) and bool(self._store.rows_of([video_id]))

    @property
    def kind(self) -> str:
        """How candidates are found, such as ``exact`` or ``ivf-sq8``."""
        return self._view.state.kind

    @property
    def generation(self) -> int:
        """Grows with every acknowledged write that this index has taken in."""
        return self._view.state.generation

    @property
    def ids(self) -> list[str]:
        """Ids of all videos, in the order in which they came in."""
        return [key for (key,) in self._store.read("SELECT id FROM videos ORDER BY row")]

    def refresh(self) -> None:
        """Takes in what was written since; costs microseconds where nothing was."""
        if self._store.generation() == self._view.state.generation:
            return
        with self._lock:
            view = self._view
            with self._store.snapshot():
                state = self._store.state()
                if state.generation == view.state.generation:
                    return
                if state.epoch == view.state.epoch:
                    self._view = advance(view, state, self._store, self._source)
                    return
            self._reload()

    def _reload(self) -> None:
        # A folder of vectors that was made anew may come with an epoch.
        self._source = Source(self.path, self._store)
        try:
            self._view = load(self.path / INDEX, self._store, self._source)
        except FormatError as error:
            refit(self.path, str(error))
            self._view = load(self.path / INDEX, self._store, self._source)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        filter: Filter = Filter(),  # noqa: A002, B008 - the search's word for it; frozen
        without: Sequence[Collection[str]] | None = None,
        exact: bool = False,
    ) -> list[list[Hit]]:
        """The videos nearest to each query by cosine, nearest first, ties by id.

        Args:
            queries: (Q, E) of any length but none.
            k: At most so many.
            filter: Which videos may be found.
            without: For each query ids that are left out.
            exact: Compare with every vector, whatever the kind.

        Returns:
            For each query its hits, whose cosines are those of the vectors themselves. A video
            whose vector has no length is never found, nor is anything by such a query.

        Raises:
            UsageError: The queries are not (Q, E), hold NaN or infinity, or k is below 1.
        """
        if k < 1:
            raise UsageError(f"k is {k}, expected 1 or more")
        given = np.asarray(queries, np.float32)
        check_width(given, self.dimension, "query vectors", self.path)
        if without is not None and len(without) != len(given):
            raise UsageError(f"{len(given)} queries, but {len(without)} lists of ids to leave out")
        faiss.omp_set_num_threads(self._threads)
        hits: list[list[Hit]] = []
        with self._at_rest() as view:
            allowed = self._allowed(filter, view) if filter else None
            task = Search(view, self._source, self._store, k, allowed, exact)
            for start in range(0, len(given), BATCH):
                some = without[start : start + BATCH] if without is not None else None
                hits += task.run(unit(given[start : start + BATCH]), some)
        return hits

    @contextmanager
    def _at_rest(self) -> Iterator[View]:
        """The newest view, while the records are of its generation for this thread."""
        for attempt in count_up(1):
            self.refresh()
            view = self._view
            with self._store.snapshot():
                same = self._store.generation() == view.state.generation
                # Where writes come so fast, a row that just went may be missing from the hits.
                if same or attempt == TRIES:
                    yield view
                    return

    def like(
        self,
        ids: Sequence[str],
        k: int,
        *,
        filter: Filter = Filter(),  # noqa: A002, B008
    ) -> list[list[Hit]]:
        """The videos nearest to each of these, themselves left out.

        Raises:
            UsageError: An id is not known, or k is below 1.
        """
        without = [(video,) for video in ids]
        return self.search(self.vectors_of(ids), k, filter=filter, without=without)

    def _allowed(self, asked: Filter, view: View) -> Selection:
        """Which rows pass a filter."""
        key = (asked, view.state.generation)
        with self._lock:
            if key in self._filters:
                self._filters.move_to_end(key)
                return self._filters[key]
        condition, values = where(asked)
        found = self._store.read(f"SELECT row FROM videos WHERE {condition}", values)  # noqa: S608
        rows = np.fromiter((row for (row,) in found), np.int64)
        mask = np.zeros(len(view.places), np.bool_)
        mask[rows[rows < len(mask)]] = True
        allowed = Selection(mask & view.findable, view.state.covered)
        with self._lock:
            self._filters[key] = allowed
            while len(self._filters) > KEPT_FILTERS:
                self._filters.popitem(last=False)
        return allowed

    def words(self, text: str, k: int, *, filter: Filter = Filter()) -> list[Hit]:  # noqa: A002, B008
        """Videos whose titles have every one of the words, best first; see ``find_words``."""
        return find_words(self._store, text, k, filter)

    def facets(self, filter: Filter = Filter(), top: int = 50) -> Facets:  # noqa: A002, B008
        """Counts of tags, categories and languages of the videos that pass a filter."""
        self.refresh()
        key = (filter, top, self.generation)
        with self._lock:
            if key in self._facets:
                return self._facets[key]
        with self._store.snapshot():
            facets = count(self._store.connection, filter, top)
        with self._lock:
            if len(self._facets) >= KEPT_FILTERS:
                self._facets.clear()
            self._facets[key] = facets
        return facets

    def vectors_of(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """(n, E) unit vectors of videos.

        Raises:
            UsageError: An id is not known.
        """
        self.refresh()
        view, known = self._view, self._store.rows_of(list(ids))
        self._require(ids, known)
        rows = np.array([known[video] for video in ids], np.int64)
        if len(rows) and rows.max() >= len(view.places):
            return self.vectors_of(ids)  # written since the view was taken
        return self._source.gather(rows, view.places[rows])

    def videos(self, ids: Sequence[str]) -> list[IndexedVideo]:
        """What is known of videos.

        Raises:
            UsageError: An id is not known.
        """
        known = self._store.videos(list(ids))
        self._require(ids, known)
        return [known[video] for video in ids]

    def _require(self, ids: Sequence[str], known: Collection[str]) -> None:
        unknown = [video for video in ids if video not in known]
        if unknown:
            raise UsageError(f"no video {unknown[0]!r} in {self.path}")

    def matrix(self) -> tuple[list[str], NDArray[np.float32]]:
        """Ids and (n, E) unit vectors of all videos, in the order in which they came in."""
        self.refresh()
        view = self._view
        live = view.live
        found = np.empty((len(live), self.dimension), np.float32)
        at = 0
        for rows, vectors in self._source.blocks(live, view.places[live]):
            found[at : at + len(rows)] = vectors
            at += len(rows)
        ids = self._store.all_ids()
        known = [row in ids and not np.isnan(found[at, 0]) for at, row in enumerate(live.tolist())]
        if not all(known):  # deleted since the view was taken
            live, found = live[known], found[known]
        return [ids[row] for row in live.tolist()], found

    def add(
        self,
        ids: Sequence[str],
        vectors: NDArray[np.float32],
        videos: Sequence[IndexedVideo],
    ) -> None:
        """Adds videos, or replaces those that are there; on disk when it returns.

        Args:
            ids: Each once.
            vectors: (n, E) of any length. One without length is kept and never found.
            videos: What is known of them, in the same order.

        Raises:
            UsageError: An id comes twice or is no text, the vectors are not (n, E) or hold NaN or
                infinity, or the index was opened for reading. Nothing is written then.
        """
        given = np.asarray(vectors, np.float32)
        check_width(given, self.dimension, "vectors to add", self.path)
        check_ids(ids, len(given), videos)
        made = unit(given)
        with self._store.transaction():
            known = list(self._store.rows_of(list(ids)).values())
            writes.overrule(self._store, known)
            writes.remove(self._store, known)
            writes.insert(self._store, videos, vectors=made, zero=(made == 0).all(axis=1).tolist())
            self._store.update_state()
        self.refresh()
        if len(self._view.fresh) >= FOLD_AT:
            fold(self.path, self._store, self._source)
            self.refresh()

    def delete(self, ids: Collection[str]) -> int:
        """Deletes videos; on disk when it returns.

        Args:
            ids: Those that are not known are passed over.

        Returns:
            How many were there.

        Raises:
            UsageError: The index was opened for reading.
        """
        with self._store.transaction():
            rows = list(self._store.rows_of(list(dict.fromkeys(ids))).values())
            if rows:
                writes.overrule(self._store, rows)
                writes.remove(self._store, rows)
                self._store.update_state()
        self.refresh()
        return len(rows)

    def close(self) -> None:
        """Closes the files."""
        self._store.close()

    def __enter__(self) -> SearchIndex:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def check_ids(ids: Sequence[str], vectors: int, videos: Sequence[IndexedVideo]) -> None:
    """Refuses ids that do not fit what they stand for.

    Raises:
        UsageError: An id comes twice, is empty or no text, or the numbers of ids, vectors and
            videos differ.
    """
    if not len(ids) == vectors == len(videos):
        raise UsageError(
            f"{len(ids)} ids, {vectors} vectors and {len(videos)} videos: expected as many of each"
        )
    seen: set[str] = set()
    for video, known in zip(ids, videos, strict=True):
        if not isinstance(video, str) or not video:
            raise UsageError(f"an id is {video!r}, expected text")
        if video in seen:
            raise UsageError(f"id {video!r} comes twice")
        if video != known.id:
            raise UsageError(f"id {video!r} comes with what is known of {known.id!r}")
        seen.add(video)
        texts = (video, known.title, known.category, known.language, known.file, *known.tags)
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            raise UsageError(f"a text of video {video!r} is not Unicode") from None
