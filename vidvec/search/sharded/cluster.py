"""A name in a Milvus cluster as a shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vidvec.search.cluster.engine import ClusterIndex
from vidvec.search.cluster.reader import MOST_ROWS
from vidvec.search.cluster.rows import KNOWN, expression, known
from vidvec.search.cluster.words import find_words, having_counts
from vidvec.search.filters import Facets
from vidvec.search.neighbours import unit
from vidvec.search.sharded.model import model_of
from vidvec.search.sharded.words import WordCounts, long_words
from vidvec.search.types import Filter, Hit, IndexedVideo

_EVERY = 2**62


class ClusterShard(ClusterIndex):
    """An open name that also gives what shards are merged by.

    Attributes:
        most_hits: Of one question.
    """

    most_hits = MOST_ROWS
    _model = ("", "")

    @property
    def model(self) -> str:
        """What made the vectors; see ``model_of``."""
        held = self.reader.held
        if self._model[0] != held.collection:
            self._model = held.collection, model_of(held.manifest["made_by"])
        return self._model[1]

    def current(self) -> bool:
        """A name is followed to whatever it stands for."""
        return True

    def vectors_among(self, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Those of these videos that are there, and their (n, E) unit vectors."""
        held = {row["id"]: row["vector"] for row in self.reader.by_ids(ids, ["id", "vector"])}
        found = np.array(list(held.values()), np.float32)
        return list(held), unit(found.reshape(len(held), self.dimension))

    def videos_among(self, ids: Sequence[str]) -> list[IndexedVideo]:
        """What is known of those of these videos that are there."""
        return [known(row) for row in self.reader.by_ids(ids, KNOWN)]

    def _titles(self, condition: str, most: int) -> Iterator[tuple[str, str]]:
        for row in self.reader.walk(condition, KNOWN, most):
            yield row["id"], known(row).title

    @property
    def _mean_tokens(self) -> float:
        held = self.reader.held
        return held.title_tokens / max(1, held.rows)

    def word_counts(self, text: str) -> WordCounts:
        """What BM25 takes of the titles here, for the words of a text."""
        having = having_counts(long_words(text), self._titles, self.reader.count)
        titles = self.reader.count()
        return WordCounts(titles, titles * self._mean_tokens, tuple(having))

    def scored_words(self, text: str, k: int, asked: Filter, counts: WordCounts) -> list[Hit]:
        """``words`` by the counts of all shards."""
        return find_words(
            text,
            k,
            expression(asked),
            titles=self._titles,
            count=self.reader.count,
            mean_tokens=counts.mean_tokens,
            rarities=counts.rarities,
        )

    def all_facets(self, asked: Filter) -> Facets:
        """Counts of all values, not of the most frequent alone."""
        return self.facets(asked, _EVERY)
