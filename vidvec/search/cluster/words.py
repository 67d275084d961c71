"""Search for words in the titles of a collection, in the order that a folder's index gives.

The cluster says which titles have all pairs of letters of a word; which of them have the word, and
their scores, are found here, by SQLite's formula of BM25 over groups of three letters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from vidvec.errors import UsageError
from vidvec.search.cluster.rows import both, folded, listed, pairs_of
from vidvec.search.text import split_words
from vidvec.search.types import Hit

# SQLite's constants (FTS5, the bm25 function).
K1, B = 1.2, 0.75
LEAST_IDF = 1e-6
# Titles that are read for one question, at most; of more, the first that come.
MOST_TITLES = 65_536

# Gives ids and titles that fulfil a condition, at most so many.
Titles = Callable[[str, int], Iterator[tuple[str, str]]]
Count = Callable[[str], int]


def split(text: str) -> list[str]:
    """The words of a text, small.

    Raises:
        UsageError: See ``split_words``.
    """
    return [folded(word) for word in split_words(text)]


def find_words(
    text: str,
    k: int,
    condition: str,
    *,
    titles: Titles,
    count: Count,
    mean_tokens: float,
    rarities: Sequence[float] | None = None,
) -> list[Hit]:
    """Videos whose titles have every one of the words; see ``vidvec.search.text.find_words``.

    Args:
        text: The words.
        k: At most so many.
        condition: Which videos may be found.
        titles: Reads titles.
        count: Counts videos that fulfil a condition.
        mean_tokens: Groups of three letters that a title has on average.
        rarities: Of the words with three characters and more; ``None``: as they are counted here.

    Raises:
        UsageError: The words cannot be looked for, or k is below 1.
    """
    if k < 1:
        raise UsageError(f"k is {k}, expected 1 or more")
    words = split(text)
    found = [
        (video, title, folded(title))
        for video, title in titles(both(*map(having, words), condition), MOST_TITLES)
    ]
    found = [each for each in found if all(word in each[2] for word in words)]
    long = [word for word in words if len(word) >= 3]
    if not long:
        letters = sum(map(len, words))
        hits = [Hit(video, letters / len(title)) for video, title, _ in found]
    else:
        rare = _rarities(long, titles, count) if rarities is None else rarities
        hits = [Hit(video, bm25(small, long, rare, mean_tokens)) for video, _, small in found]
    return sorted(hits, key=lambda hit: (-hit.cosine, hit.id))[:k]


def having(word: str) -> str:
    """The condition that a title has all pairs of letters of a word."""
    pairs = [pair for pair in pairs_of(word) if len(pair) == 2 or len(word) == 1]
    return f"array_contains_all(pairs, {listed(pairs)})"


def _rarities(words: Sequence[str], titles: Titles, count: Count) -> list[float]:
    """Each word's inverse document frequency."""
    total = count("")
    found = []
    for having_it in having_counts(words, titles, count):
        idf = math.log((total - having_it + 0.5) / (having_it + 0.5))
        found.append(idf if idf > 0 else LEAST_IDF)
    return found


def having_counts(words: Sequence[str], titles: Titles, count: Count) -> list[int]:
    """How many titles have each of the words; ``titles`` and ``count`` as in ``find_words``."""
    found = []
    for word in words:
        having_it = read = 0
        for _, title in titles(having(word), MOST_TITLES + 1):
            read += 1
            having_it += word in folded(title)
        # Nearly all that have its pairs have the word.
        found.append(count(having(word)) if read > MOST_TITLES else having_it)
    return found


def bm25(title: str, words: Sequence[str], rare: Sequence[float], mean_tokens: float) -> float:
    """SQLite's score of a title in small letters, its sign turned.

    Args:
        title: In small letters (``folded``), which has all of the words.
        words: Likewise, of three characters or more.
        rare: Their inverse document frequencies.
        mean_tokens: Groups of three letters that a title has on average.
    """
    length = max(0, len(title) - 2)
    scale = K1 * (1 - B + B * length / mean_tokens) if mean_tokens else K1
    score = 0.0
    for word, idf in zip(words, rare, strict=True):
        often = _often(title, word)
        score += idf * often * (K1 + 1) / (often + scale)
    return score


def _often(title: str, word: str) -> int:
    """How often a title has a word, with those that overlap."""
    found, at = 0, title.find(word)
    while at >= 0:
        found, at = found + 1, title.find(word, at + 1)
    return found
