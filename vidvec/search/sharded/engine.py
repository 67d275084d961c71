"""Search over several shards, with what ``SearchIndex`` offers for a folder.

Letters: Q queries, E width of a vector.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import ServerError, UsageError
from vidvec.search.filters import Facets, where
from vidvec.search.partial import Found, Missing
from vidvec.search.sharded import writing
from vidvec.search.sharded.gathering import Shards, opening
from vidvec.search.sharded.layout import HASH, ShardsFile, is_text, read_shards, shard_of
from vidvec.search.sharded.merging import merged, merged_facets
from vidvec.search.sharded.shard import refreshed
from vidvec.search.sharded.words import split_words, summed
from vidvec.search.source import check_width
from vidvec.search.types import Filter, Hit, IndexedVideo

Said = Callable[[str, float, str], None]


class ShardedIndex:
    """An index made of several. Its methods may be called from several threads.

    A shard that does not answer does not cost the answer of the others: what is found says which
    are ``missing``, and why. Where none answers, ``ServerError`` is raised.

    Attributes:
        file: Lists the shards.
        shards: Themselves.
        dimension: E.
    """

    def __init__(self, file: ShardsFile, shards: Shards) -> None:
        self.file, self.shards = file, shards
        self.dimension = shards.dimension
        self._lock = threading.Lock()
        self._seen: tuple[int | None, ...] = ()
        self._generation = 0

    @classmethod
    def open(
        cls, path: Path, *, writable: bool = False, threads: int = 1, said: Said | None = None
    ) -> ShardedIndex:
        """Opens the shards that a file lists.

        Args:
            path: The file.
            writable: ``add`` and ``delete`` will be called.
            threads: CPU threads that one search of a folder takes.
            said: Called after each answer of a shard with its name, the seconds it took, and why it
                is missing, or nothing.

        Raises:
            UsageError, FormatError: The file cannot be used.
            ServerError: No shard can be opened.
        """
        file = read_shards(Path(path))
        return cls(file, opening(file, writable=writable, threads=threads, said=said))

    def __repr__(self) -> str:
        size = f"{len(self.shards.all)} shards × {self.dimension}"
        return f"ShardedIndex({str(self.file.path)!r}, {size}, {self.kind})"

    @property
    def kind(self) -> str:
        """How the shards find candidates, such as ``exact`` or ``exact, ivf-sq8``."""
        kinds = {each.opened.kind for each in self.shards.all if each.opened is not None}
        return ", ".join(sorted(kinds))

    @property
    def generation(self) -> int:
        """Grows with every change of a shard that was taken in, and when one goes or comes back."""
        seen = tuple(
            None if each.opened is None else each.opened.generation for each in self.shards.all
        )
        with self._lock:
            if seen != self._seen:
                self._seen = seen
                self._generation += 1
            return self._generation

    @property
    def missing(self) -> Missing | None:
        """Shards that are left alone at the moment; ``None``: none."""
        return self.shards.missing([each.failure for each in self.shards.all if each.failure])

    def states(self) -> dict[str, bool]:
        """Of each shard, by name, whether it is asked at the moment."""
        return {each.place.name: each.failure is None for each in self.shards.all}

    @property
    def ids(self) -> list[str]:
        """Ids of all videos, shard by shard.

        Raises:
            ServerError: A shard does not answer.
        """
        return [video for ids, _ in self._matrices() for video in ids]

    def __len__(self) -> int:
        """Of the shards that answer."""
        counts, _ = self.shards.ask(len, background=True)
        return sum(counts)

    def __contains__(self, video_id: object) -> bool:
        if not isinstance(video_id, str):
            return False
        held, missing = self.known([video_id])
        if self._unsure(video_id, held, missing):
            self._require([video_id], held, missing)
        return video_id in held

    def refresh(self) -> None:
        """Takes in what has changed, and tries shards that have failed, after their pause."""
        self.shards.ask(refreshed, background=True)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        filter: Filter = Filter(),  # noqa: A002, B008 - as in SearchIndex
        without: Sequence[Collection[str]] | None = None,
        exact: bool = False,
    ) -> Found[list[Hit]]:
        """The videos nearest to each query by cosine, nearest first, ties by id.

        Args:
            queries: (Q, E) of any length but none.
            k: At most so many; with what is left out, at most 16,384 where a shard is no folder.
            filter: Which videos may be found.
            without: For each query ids that are left out.
            exact: Compare with every vector, whatever the kind.

        Returns:
            For each query its hits, of all shards that answer.

        Raises:
            UsageError: The queries are not (Q, E), hold NaN or infinity, or k is out of range.
            ServerError: No shard answers.
        """
        given = np.asarray(queries, np.float32)
        check_width(given, self.dimension, "query vectors", self.file.path)
        if without is not None and len(without) != len(given):
            raise UsageError(f"{len(given)} queries, but {len(without)} lists of ids to leave out")
        self._check(k + max(map(len, without or []), default=0), filter, k)
        left_out = None if without is None else [[*texts_of(some)] for some in without]
        found, missing = self.shards.ask(
            lambda shard: shard.search(given, k, filter=filter, without=left_out, exact=exact)
        )
        hits = (merged(parts, k) for parts in zip(*found, strict=True))
        return Found(hits, missing)

    def _check(self, most: int, asked: Filter, k: int) -> None:
        """Refuses what a shard would refuse, so that it is not the shard's failure."""
        check_filter(asked)
        allowed = self.shards.most_hits
        if k < 1 or most > allowed:
            raise UsageError(f"k is {k}, expected 1 … {allowed}, what is left out included")

    def like(
        self,
        ids: Sequence[str],
        k: int,
        *,
        filter: Filter = Filter(),  # noqa: A002, B008
    ) -> Found[list[Hit]]:
        """The videos nearest to each of these, themselves left out.

        Raises:
            UsageError: An id is not known, or k is out of range.
            ServerError: No shard answers, or that of an id does not.
        """
        without = [(video,) for video in ids]
        return self.search(self.vectors_of(ids), k, filter=filter, without=without)

    def words(self, text: str, k: int, *, filter: Filter = Filter()) -> Found[Hit]:  # noqa: A002, B008
        """Videos whose titles have every one of the words, best first; see ``find_words``.

        Scores count in how many titles of all shards a word is.

        Raises:
            UsageError: The words cannot be looked for.
            ServerError: No shard answers.
        """
        split_words(text)
        self._check(k, filter, k)
        parts, missing = self.shards.ask(lambda shard: shard.word_counts(text))
        counts = summed(parts)
        found, later = self.shards.ask(lambda shard: shard.scored_words(text, k, filter, counts))
        return Found(merged(found, k), later or missing)

    def facets(self, filter: Filter = Filter(), top: int = 50) -> Facets:  # noqa: A002, B008
        """Counts of tags, categories and languages of the videos that pass a filter.

        Raises:
            UsageError: The filter cannot be asked.
            ServerError: No shard answers.
        """
        check_filter(filter)
        parts, missing = self.shards.ask(lambda shard: shard.all_facets(filter))
        return merged_facets(parts, top, missing)

    def vectors_of(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """(n, E) unit vectors of videos.

        Raises:
            UsageError: An id is not known.
            ServerError: An id is in no shard that answers, and may be in another.
        """
        asked = texts_of(ids)
        parts, missing = self.shards.ask(lambda shard: shard.vectors_among(asked))
        held: dict[str, NDArray[np.float32]] = {}
        for there, vectors in reversed(parts):
            held.update(zip(there, vectors, strict=True))
        self._require(ids, held, missing)
        found = np.array([held[video] for video in ids], np.float32)
        return found.reshape(len(ids), self.dimension)

    def videos(self, ids: Sequence[str]) -> list[IndexedVideo]:
        """What is known of videos.

        Raises:
            UsageError: An id is not known.
            ServerError: An id is in no shard that answers, and may be in another.
        """
        held, missing = self.known(ids)
        self._require(ids, held, missing)
        return [held[video] for video in ids]

    def known(self, ids: Sequence[str]) -> tuple[dict[str, IndexedVideo], Missing | None]:
        """What is known of those of these videos that are in a shard that answers."""
        asked = texts_of(ids)
        parts, missing = self.shards.ask(lambda shard: shard.videos_among(asked))
        return {one.id: one for part in reversed(parts) for one in part}, missing

    def _unsure(self, video: str, held: Collection[str], missing: Missing | None) -> bool:
        """Whether a video is in no shard that answers, and may be in another."""
        if video in held or missing is None or not is_text(video):
            return False
        if self.file.placing != HASH:
            return True
        owner = self.file.shards[shard_of(video, len(self.file.shards))].name
        return owner in {one.name for one in missing.shards}

    def _require(self, ids: Sequence[str], held: Collection[str], missing: Missing | None) -> None:
        for video in ids:
            if self._unsure(video, held, missing) and missing is not None:
                raise ServerError(
                    "unreachable",
                    f"video {video!r} is in no shard that answers; {missing.sentence()}",
                )
        unknown = [video for video in ids if video not in held]
        if unknown:
            raise UsageError(f"no video {unknown[0]!r} in {self.file.path}")

    def matrix(self) -> tuple[list[str], NDArray[np.float32]]:
        """Ids and (n, E) unit vectors of all videos, shard by shard.

        Raises:
            ServerError: A shard does not answer.
        """
        parts = self._matrices()
        empty = np.zeros((0, self.dimension), np.float32)
        ids = [video for some, _ in parts for video in some]
        return ids, np.concatenate([empty, *(vectors for _, vectors in parts)])

    def _matrices(self) -> list[tuple[list[str], NDArray[np.float32]]]:
        parts, missing = self.shards.ask(lambda shard: shard.matrix(), seconds=writing.SECONDS)
        if missing is not None:
            raise ServerError("unreachable", f"this takes every shard; {missing.sentence()}")
        return parts

    def add(
        self, ids: Sequence[str], vectors: NDArray[np.float32], videos: Sequence[IndexedVideo]
    ) -> None:
        """Adds videos, or replaces them; each in its shard, on disk there when this returns.

        Args:
            ids: Each once.
            vectors: (n, E) of any length. One without length is kept and never found.
            videos: What is known of them, in the same order.

        Raises:
            UsageError: See ``SearchIndex.add``; or the shards were opened for reading. Nothing is
                written then.
            ServerError: A shard that is written to does not answer: nothing is written then, or
                the message says to which shards something was, and the same again does the rest.
        """
        from vidvec.search.engine import check_ids

        given = np.asarray(vectors, np.float32)
        check_width(given, self.dimension, "vectors to add", self.file.path)
        check_ids(ids, len(given), videos)
        writing.add(self.shards, self.file, ids, given, videos)

    def delete(self, ids: Collection[str]) -> int:
        """Deletes videos; on disk in their shards when this returns.

        Args:
            ids: Those that are not known are passed over.

        Returns:
            How many were there.

        Raises:
            UsageError, ServerError: As ``add``.
        """
        return writing.delete(self.shards, self.file, ids)

    def close(self) -> None:
        """Closes all shards."""
        self.shards.close()

    def __enter__(self) -> ShardedIndex:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def texts_of(ids: Collection[str]) -> list[str]:
    """Those of these ids that a shard can have."""
    return [video for video in ids if is_text(video)]


def check_filter(asked: Filter) -> None:
    """Refuses a filter that cannot be asked.

    Raises:
        UsageError: A date is none, a value is not Unicode, or there are more than 1,000 values.
    """
    where(asked)
    for value in (*asked.tags, *asked.categories, *asked.languages):
        if not is_text(value):
            raise UsageError(f"the filter has {value!r}, which is not Unicode")
