"""Search where no index can be written: every vector compared, filters and words one by one."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from vidvec.data.corpus import Corpus
from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError
from vidvec.records import Video
from vidvec.search.filters import moment
from vidvec.search.index import ExactIndex
from vidvec.search.types import Filter, Hit, IndexedVideo


def indexed(video: Video) -> IndexedVideo:
    """What an index knows of a video."""
    return IndexedVideo(
        video.id,
        video.title,
        tuple(video.tags or ()),
        video.category,
        video.language,
        video.duration_seconds,
        video.date,
        video.file,
    )


def passes(video: IndexedVideo, asked: Filter) -> bool:
    """Whether a video may be found; see ``Filter``."""
    seconds, when = video.duration_seconds, moment(video.date)
    languages = [language.lower() for language in asked.languages]
    spoken = video.language.lower()
    checks = (
        set(asked.tags) <= set(video.tags),
        not asked.categories or video.category in asked.categories,
        not languages or any(spoken == one or spoken.startswith(f"{one}-") for one in languages),
        asked.min_seconds is None or (seconds is not None and seconds >= asked.min_seconds),
        asked.max_seconds is None or (seconds is not None and seconds <= asked.max_seconds),
        not asked.after or (when is not None and when >= (moment(asked.after) or 0)),
        not asked.before or (when is not None and when < (moment(asked.before) or 0)),
    )
    return all(checks)


class InMemoryIndex:
    """What ``SearchIndex`` offers to one search, without a file.

    Args:
        vectors: To search in.
        corpus: Of their videos; ``None``: nothing is known of them.
    """

    def __init__(self, vectors: Vectors, corpus: Corpus | None) -> None:
        self._vectors, self._corpus = vectors, corpus

    def __len__(self) -> int:
        return len(self._vectors)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        filter: Filter = Filter(),  # noqa: A002, B008 - as in SearchIndex
        without: Sequence[Collection[str]] | None = None,
        exact: bool = True,
    ) -> list[list[Hit]]:
        """The videos nearest to each query; see ``SearchIndex.search``, which this is exact for."""
        barred = {video for video in self._vectors.ids if not self._passes(video, filter)}
        found = []
        for place in range(len(queries)):
            left_out = barred.union(without[place] if without is not None else ())
            index = ExactIndex(self._vectors, left_out)
            found.append(index.search(queries[place : place + 1], k)[0])
        return found

    def words(self, text: str, k: int, *, filter: Filter = Filter()) -> list[Hit]:  # noqa: A002, B008
        """Not without an index.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            f"words in titles are looked for in an index, and none can be written in "
            f"{self._vectors.path}: look for --title, or copy the folder"
        )

    def vectors_of(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """(n, E) vectors of videos, of any length.

        Raises:
            UsageError: An id is not known.
        """
        rows = np.array([self._vectors.row(video) for video in ids], np.int64)
        return self._vectors.matrix[rows]

    def videos(self, ids: Sequence[str]) -> list[IndexedVideo]:
        """What the corpus says of videos."""
        return [self._known(video) for video in ids]

    def _known(self, video: str) -> IndexedVideo:
        corpus = self._corpus
        if corpus is None or video not in corpus:
            return IndexedVideo(video)
        return indexed(corpus.video(corpus.row(video)))

    def _passes(self, video: str, asked: Filter) -> bool:
        return not asked or passes(self._known(video), asked)
