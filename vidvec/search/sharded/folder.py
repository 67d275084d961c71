"""A folder of vectors as a shard."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import FormatError, UsageError
from vidvec.search.cluster.rows import folded
from vidvec.search.engine import SearchIndex
from vidvec.search.filters import Facets, where
from vidvec.search.folding import INDEX
from vidvec.search.sharded.model import model_of
from vidvec.search.sharded.words import WordCounts, long_words, score, split_words
from vidvec.search.source import Source
from vidvec.search.store import FILE, Store
from vidvec.search.text import find_words
from vidvec.search.types import Filter, Hit, IndexedVideo
from vidvec.storage import read_manifest

_EVERY = 2**62


class FolderShard(SearchIndex):
    """An open index that also gives what shards are merged by.

    Attributes:
        model: What made the vectors; see ``model_of``.
        most_hits: Any number.
    """

    most_hits = _EVERY

    def __init__(self, path: Path, store: Store, source: Source, threads: int) -> None:
        super().__init__(path, store, source, threads)
        self.model = model_of(read_manifest(path, "vectors")["made_by"])
        self._file = self._stamp()
        self._title_sizes: tuple[int, tuple[int, int]] | None = None

    def _stamp(self) -> tuple[int, int]:
        try:
            found = os.stat(self.path / INDEX / FILE)
        except OSError as error:
            raise FormatError(f"{self.path / INDEX} is gone ({error.strerror})") from None
        return found.st_dev, found.st_ino

    def current(self) -> bool:
        """Whether the index is still the one that was opened, and not another in its place.

        Raises:
            FormatError: It is gone.
        """
        return self._stamp() == self._file

    def vectors_among(self, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Those of these videos that are there, and their (n, E) unit vectors."""
        asked = list(dict.fromkeys(ids))
        while True:
            known = self._store.rows_of(asked)
            asked = [video for video in asked if video in known]
            try:
                return asked, self.vectors_of(asked)
            except UsageError:  # one was deleted just then
                continue

    def videos_among(self, ids: Sequence[str]) -> list[IndexedVideo]:
        """What is known of those of these videos that are there."""
        return list(self._store.videos(list(dict.fromkeys(ids))).values())

    def word_counts(self, text: str) -> WordCounts:
        """What BM25 takes of the titles here, for the words of a text."""
        sql = "SELECT count(*) FROM titles WHERE titles MATCH ?"
        with self._store.snapshot():
            having = [next(self._store.read(sql, [_quoted(word)]))[0] for word in long_words(text)]
            titles, tokens = self._title_size()
        return WordCounts(titles, tokens, tuple(having))

    def _title_size(self) -> tuple[int, int]:
        generation = self._store.generation()
        if self._title_sizes is None or self._title_sizes[0] != generation:
            sql = "SELECT count(*), coalesce(sum(max(0, length(title) - 2)), 0) FROM videos"
            self._title_sizes = generation, next(self._store.read(sql))
        return self._title_sizes[1]

    def scored_words(self, text: str, k: int, asked: Filter, counts: WordCounts) -> list[Hit]:
        """``words`` by the counts of all shards."""
        words = long_words(text)
        if not words:  # then a title's score is its own
            return find_words(self._store, text, k, asked)
        return score(self._titles(text, words, asked), words, k, counts)

    def _titles(self, text: str, words: list[str], asked: Filter) -> Iterator[tuple[str, str]]:
        """Ids and titles, in small letters, of the videos that have all words."""
        condition, values = where(asked)
        sql = (
            "SELECT videos.id, videos.title FROM titles JOIN videos ON videos.row = titles.rowid "  # noqa: S608 - no user's text
            f"WHERE titles MATCH ? AND {condition}"
        )
        short = [word for word in split_words(text) if len(word) < 3]
        match = " AND ".join(map(_quoted, words))
        for video, title in self._store.read(sql, [match, *values]):
            small = folded(title)
            if all(word in small for word in short):
                yield video, small

    def all_facets(self, asked: Filter) -> Facets:
        """Counts of all values, not of the most frequent alone."""
        return self.facets(asked, _EVERY)


def _quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'
