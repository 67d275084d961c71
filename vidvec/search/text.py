"""Search for words in titles: SQLite's trigram index, which needs no words to be told apart."""

from __future__ import annotations

from vidvec.errors import UsageError
from vidvec.search.filters import cases, escaped, where
from vidvec.search.store import Store
from vidvec.search.types import Filter, Hit

MOST_CHARACTERS = 1_000
MOST_WORDS = 64


def find_words(store: Store, text: str, k: int, asked: Filter) -> list[Hit]:
    """Videos whose titles have every one of the words, as parts of words too; case is ignored.

    Words are what spaces separate; Chinese needs none, as 帆船 is found inside 海边的帆船.

    Args:
        store: An index's records.
        text: The words.
        k: At most so many.
        asked: Which videos may be found.

    Returns:
        Best first, ties by id. ``cosine`` is the BM25 score of the words with three characters or
        more, by SQLite's formula with its sign turned: 0 and above, not bounded. Where all words
        are shorter it is the share of the title's characters that they are.

    Raises:
        UsageError: There are no words, more than 64, or more than 1,000 characters.
    """
    if k < 1:
        raise UsageError(f"k is {k}, expected 1 or more")
    words = split_words(text)
    long = [word for word in words if len(word) >= 3]
    condition, values = where(asked)
    short: list[object] = []
    for word in words:
        if len(word) < 3:
            spelled = cases(word)
            each = " OR ".join(["videos.title LIKE ? ESCAPE '\\'"] * len(spelled))
            condition += f" AND ({each})"
            short += [f"%{escaped(one)}%" for one in spelled]
    if long:
        match = " AND ".join('"' + word.replace('"', '""') + '"' for word in long)
        sql = (
            "SELECT videos.id, -bm25(titles) AS score FROM titles "  # noqa: S608 - no user's text
            f"JOIN videos ON videos.row = titles.rowid WHERE titles MATCH ? AND {condition} "
            "ORDER BY score DESC, videos.id LIMIT ?"
        )
        found = store.read(sql, [match, *values, *short, k])
    else:
        sql = (
            "SELECT videos.id, 1.0 * ? / length(videos.title) AS score FROM videos "  # noqa: S608
            f"WHERE {condition} ORDER BY score DESC, videos.id LIMIT ?"
        )
        found = store.read(sql, [sum(map(len, words)), *values, *short, k])
    return [Hit(key, float(score)) for key, score in found]


def split_words(text: str) -> list[str]:
    """The words of a text.

    Raises:
        UsageError: There are none, more than 64, or more than 1,000 characters.
    """
    if len(text) > MOST_CHARACTERS:
        raise UsageError(
            f"the words have {len(text)} characters, expected at most {MOST_CHARACTERS}"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError("the words are not Unicode") from None
    words = text.replace("\0", " ").split()
    if not words:
        raise UsageError("the words are empty: give some to look for")
    if len(words) > MOST_WORDS:
        raise UsageError(f"{len(words)} words, expected at most {MOST_WORDS}")
    return words
