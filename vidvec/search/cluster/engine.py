"""Search in a cluster, with what ``SearchIndex`` offers for a folder.

Letters: Q queries, E width of a vector.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import BadRecord, UsageError
from vidvec.search.cluster.address import parse
from vidvec.search.cluster.connection import SECONDS, connect
from vidvec.search.cluster.ranking import ClusterSearch, check
from vidvec.search.cluster.reader import CHUNK, Reader
from vidvec.search.cluster.rows import KNOWN, by_ids, expression, known, record, refusal
from vidvec.search.cluster.words import find_words
from vidvec.search.filters import Facets, most_frequent
from vidvec.search.neighbours import unit
from vidvec.search.source import check_width
from vidvec.search.types import Filter, Hit, IndexedVideo

# Queries and rows of one call.
BATCH, ROWS = 256, 2_000
# How often it is asked at most whether something has changed, in seconds.
PATIENCE = 1.0
# Counts for filters are of so many videos; of more, they are estimated from as many.
FACET_ROWS = 200_000
KEPT_FACETS = 16


class ClusterIndex:
    """A name in a cluster, opened. Its methods may be called from several threads.

    What is written here is seen here at once, by others a moment later. Writes go into the
    generation that is searched: the next that ``fill`` makes does not have them.

    Attributes:
        reader: Asks the cluster.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._lock = threading.Lock()
        self._facets: OrderedDict[tuple[Filter, int, int], Facets] = OrderedDict()
        self._asked, self._generation, self._count = time.monotonic(), 0, -1
        self._take_in()

    @classmethod
    def open(cls, address: str, *, pinned: bool = False, seconds: float = SECONDS) -> Self:
        """Opens a name in a cluster.

        Args:
            address: ``http://HOST:PORT/NAME``.
            pinned: Stay with the generation that is searched at first, which is there until the
                one after the next is; ``reader.newer`` tells that there is another. For who
                encodes queries: another generation may want another model.
            seconds: Of one call, at most.

        Raises:
            UsageError: It is no address, or nothing is there.
            FormatError: It was not made by vidvec, or by another version.
            ServerError: The cluster cannot be reached.
            MissingExtraError: The extra ``cluster`` is not installed.
        """
        place = parse(address)
        client = connect(place, seconds)
        try:
            return cls(Reader(place, client, pinned=pinned))
        except BaseException:
            client.close()
            raise

    def __repr__(self) -> str:
        size = f"{len(self)} × {self.dimension}"
        return f"ClusterIndex({str(self.reader.address)!r}, {size}, {self.kind})"

    @property
    def dimension(self) -> int:
        """E."""
        return self.reader.held.dimension

    @property
    def kind(self) -> str:
        """How neighbours are found."""
        return self.reader.held.kind

    @property
    def generation(self) -> int:
        """Grows with every change that was taken in: here, and where videos came or went."""
        return self._generation

    @property
    def ids(self) -> list[str]:
        """Ids of all videos, in the order in which they came in."""
        rows = ((row["row"], row["id"]) for row in self.reader.walk("", ["id", "row"]))
        return [video for _, video in sorted(rows)]

    def __len__(self) -> int:
        return self.reader.count()

    def __contains__(self, video_id: object) -> bool:
        return isinstance(video_id, str) and any(self.reader.by_ids([video_id], ["id"]))

    def refresh(self) -> None:
        """Takes in what was written since, and another generation; asks once a second at most."""
        with self._lock:
            if time.monotonic() - self._asked < PATIENCE:
                return
            self._asked = time.monotonic()
        self._take_in()

    def _take_in(self) -> None:
        other = self.reader.follow()
        number = self.reader.count()
        if other or number != self._count:
            self._count = number
            self._changed()

    def _changed(self) -> None:
        with self._lock:
            self._generation += 1
            self._facets.clear()

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        filter: Filter = Filter(),  # noqa: A002, B008 - as in SearchIndex
        without: Sequence[Collection[str]] | None = None,
        exact: bool = False,
    ) -> list[list[Hit]]:
        """The videos nearest to each query by cosine, nearest first, ties by id.

        Args:
            queries: (Q, E) of any length but none.
            k: At most so many; with what is left out, at most 16,384.
            filter: Which videos may be found.
            without: For each query ids that are left out.
            exact: Look into all lists; the cluster still compares what it keeps of a vector.

        Returns:
            For each query its hits, whose cosines are those of the vectors themselves. A video
            whose vector has no length is never found, nor is anything by such a query.

        Raises:
            UsageError: The queries are not (Q, E), hold NaN or infinity, or k is out of range.
            ServerError: The cluster does not answer.
        """
        given = np.asarray(queries, np.float32)
        left_out = [set(some) for some in without] if without is not None else [set()] * len(given)
        check(given, k, left_out, self.reader)
        task = ClusterSearch(self.reader, k, expression(filter), exact)
        hits: list[list[Hit]] = []
        for start in range(0, len(given), BATCH):
            some = unit(given[start : start + BATCH])
            hits += task.run(some, left_out[start : start + BATCH])
        return hits

    def like(
        self,
        ids: Sequence[str],
        k: int,
        *,
        filter: Filter = Filter(),  # noqa: A002, B008
    ) -> list[list[Hit]]:
        """The videos nearest to each of these, themselves left out.

        Raises:
            UsageError: An id is not known, or k is out of range.
            ServerError: The cluster does not answer.
        """
        without = [(video,) for video in ids]
        return self.search(self.vectors_of(ids), k, filter=filter, without=without)

    def words(self, text: str, k: int, *, filter: Filter = Filter()) -> list[Hit]:  # noqa: A002, B008
        """Videos whose titles have every one of the words, best first.

        As ``vidvec.search.text.find_words``; of titles the first 4,000 characters are searched,
        and where more than 65,536 titles may have the words, some of them.

        Raises:
            UsageError: The words cannot be looked for.
            ServerError: The cluster does not answer.
        """

        def titles(condition: str, most: int) -> Iterator[tuple[str, str]]:
            for row in self.reader.walk(condition, KNOWN, most):
                yield row["id"], known(row).title

        mean = self.reader.held.title_tokens / max(1, self.reader.held.rows)
        return find_words(
            text,
            k,
            expression(filter),
            titles=titles,
            count=self.reader.count,
            mean_tokens=mean,
        )

    def facets(self, filter: Filter = Filter(), top: int = 50) -> Facets:  # noqa: A002, B008
        """Counts of tags, categories and languages of the videos that pass a filter.

        Of more than 200,000 videos they are estimated from so many, drawn by their ids.

        Raises:
            UsageError: The filter cannot be asked.
            ServerError: The cluster does not answer.
        """
        key = (filter, top, self.generation)
        with self._lock:
            if key in self._facets:
                return self._facets[key]
        condition = expression(filter)
        total, seen = self.reader.count(condition), 0
        counts: tuple[Counter[str], Counter[str], Counter[str]] = (Counter(), Counter(), Counter())
        for row in self.reader.walk(condition, KNOWN, FACET_ROWS):
            video, seen = known(row), seen + 1
            counts[0].update(set(video.tags))
            counts[1].update([video.category] if video.category else [])
            counts[2].update([video.language] if video.language else [])
        scale = max(1.0, total / max(1, seen))
        tags, categories, languages = (_scaled(each, scale, top) for each in counts)
        facets = Facets(total, tags, categories, languages)
        with self._lock:
            self._facets[key] = facets
            while len(self._facets) > KEPT_FACETS:
                self._facets.popitem(last=False)
        return facets

    def vectors_of(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """(n, E) unit vectors of videos.

        Raises:
            UsageError: An id is not known.
            ServerError: The cluster does not answer.
        """
        held = {row["id"]: row["vector"] for row in self.reader.by_ids(ids, ["id", "vector"])}
        self._require(ids, held)
        found = np.array([held[video] for video in ids], np.float32)
        return unit(found.reshape(len(ids), self.dimension))

    def videos(self, ids: Sequence[str]) -> list[IndexedVideo]:
        """What is known of videos.

        Raises:
            UsageError: An id is not known.
            ServerError: The cluster does not answer.
        """
        held = {row["id"]: known(row) for row in self.reader.by_ids(ids, KNOWN)}
        self._require(ids, held)
        return [held[video] for video in ids]

    def _require(self, ids: Sequence[str], held: Collection[str]) -> None:
        unknown = [video for video in ids if video not in held]
        if unknown:
            raise UsageError(f"no video {unknown[0]!r} in {self.reader.address}")

    def matrix(self) -> tuple[list[str], NDArray[np.float32]]:
        """Ids and (n, E) unit vectors of all videos, in the order in which they came in.

        Raises:
            ServerError: The cluster does not answer.
        """
        rows = [
            (row["row"], row["id"], np.array(row["vector"], np.float32))
            for row in self.reader.walk("", ["id", "row", "vector"])
        ]
        rows.sort(key=lambda row: row[:2])
        vectors = np.array([row[2] for row in rows], np.float32)
        return [row[1] for row in rows], unit(vectors.reshape(len(rows), self.dimension))

    def add(
        self, ids: Sequence[str], vectors: NDArray[np.float32], videos: Sequence[IndexedVideo]
    ) -> None:
        """Adds videos, or replaces those that are there; the cluster has them when it returns.

        Args:
            ids: Each once.
            vectors: (n, E) of any length. One without length is kept and never found.
            videos: What is known of them, in the same order.

        Raises:
            UsageError: See ``SearchIndex.add``; or a video does not fit into the cluster's fields.
                Nothing is written then.
            ServerError: The cluster does not answer.
        """
        from vidvec.search.engine import check_ids

        given = np.asarray(vectors, np.float32)
        check_width(given, self.dimension, "vectors to add", self.reader.address)
        check_ids(ids, len(given), videos)
        for video in videos:
            if why := refusal(video):
                raise UsageError(f"video {video.id[:80]!r} cannot be added: {why}")
        first, made = time.time_ns() // 1000, unit(given)
        try:
            rows = [record(v, made[at], first + at) for at, v in enumerate(videos)]
        except BadRecord as error:
            raise UsageError(f"a video cannot be added: {error.detail}") from None
        for start in range(0, len(rows), ROWS):
            self.reader.call(partial(self._write, rows[start : start + ROWS]))
        self.reader.wrote()
        self._count = self.reader.count()
        self._changed()

    def _write(self, rows: list[dict[str, Any]], collection: str) -> None:
        self.reader.client.upsert(collection, rows)

    def _remove(self, condition: str, collection: str) -> None:
        self.reader.client.delete(collection, filter=condition)

    def delete(self, ids: Collection[str]) -> int:
        """Deletes videos; the cluster has done so when it returns.

        Args:
            ids: Those that are not known are passed over.

        Returns:
            How many were there.

        Raises:
            ServerError: The cluster does not answer.
        """
        there = [row["id"] for row in self.reader.by_ids(list(ids), ["id"])]
        for start in range(0, len(there), CHUNK):
            self.reader.call(partial(self._remove, by_ids(there[start : start + CHUNK])))
        if there:
            self.reader.wrote()
            self._count = self.reader.count()
            self._changed()
        return len(there)

    def close(self) -> None:
        """Closes the connection."""
        self.reader.close()

    def __enter__(self) -> ClusterIndex:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _scaled(count: Counter[str], scale: float, top: int) -> tuple[tuple[str, int], ...]:
    return tuple((name, round(n * scale)) for name, n in most_frequent(count.items(), top))
