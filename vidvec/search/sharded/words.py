"""Words in titles over several shards: the counts of all of them, and scores by those counts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import nsmallest

from vidvec.search.cluster.words import LEAST_IDF, bm25
from vidvec.search.cluster.words import split as split_words
from vidvec.search.types import Hit

__all__ = ["WordCounts", "long_words", "score", "split_words", "summed"]


@dataclass(frozen=True, slots=True)
class WordCounts:
    """What BM25 takes of a collection of titles.

    Attributes:
        titles: How many videos there are.
        tokens: Groups of three letters that all titles have together.
        having: Titles that have each of the words with three characters or more.
    """

    titles: int
    tokens: float
    having: tuple[int, ...]

    @property
    def mean_tokens(self) -> float:
        """Of a title."""
        return self.tokens / max(1, self.titles)

    @property
    def rarities(self) -> list[float]:
        """Each word's inverse document frequency, as SQLite has it."""
        found = [math.log((self.titles - one + 0.5) / (one + 0.5)) for one in self.having]
        return [idf if idf > 0 else LEAST_IDF for idf in found]


def long_words(text: str) -> list[str]:
    """The words of a text that are scored, small.

    Raises:
        UsageError: See ``split_words``.
    """
    return [word for word in split_words(text) if len(word) >= 3]


def summed(parts: Sequence[WordCounts]) -> WordCounts:
    """The counts of several shards together."""
    return WordCounts(
        sum(part.titles for part in parts),
        sum(part.tokens for part in parts),
        tuple(map(sum, zip(*(part.having for part in parts), strict=True))),
    )


def score(
    titles: Iterable[tuple[str, str]], words: Sequence[str], k: int, counts: WordCounts
) -> list[Hit]:
    """The k best of titles that have all of the words, by BM25 over groups of three letters.

    Args:
        titles: (id, title in small letters) of each.
        words: Small, of three characters or more.
        k: How many.
        counts: Of all shards together.
    """
    rare, mean = counts.rarities, counts.mean_tokens
    hits = (Hit(video, bm25(title, words, rare, mean)) for video, title in titles)
    return nsmallest(k, hits, key=lambda hit: (-hit.cosine, hit.id))
