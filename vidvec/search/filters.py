"""Filters as SQL over an index's records, and what there is to filter by."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product

from vidvec.data.dates import iso_date
from vidvec.errors import BadRecord, UsageError
from vidvec.search.partial import Missing
from vidvec.search.types import Filter

# SQLite takes at most 32,766 values in one statement.
MOST_VALUES = 1_000


@dataclass(frozen=True, slots=True)
class Facets:
    """What the videos that pass a filter have, by falling count, then name.

    Attributes:
        videos: How many pass.
        tags, categories, languages: Value and number of videos with it; videos without one are
            not counted.
        missing: Shards whose videos were not counted; ``None``: none.
    """

    videos: int
    tags: tuple[tuple[str, int], ...]
    categories: tuple[tuple[str, int], ...]
    languages: tuple[tuple[str, int], ...]
    missing: Missing | None = None


def moment(date: str) -> int | None:
    """Seconds since 1970 at which a day begins, or a moment is; ``None`` for an empty text.

    Raises:
        BadRecord: The text is no date (``bad-record``).
    """
    if not date:
        return None
    found = datetime.fromisoformat(iso_date(date))
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


def where(asked: Filter) -> tuple[str, list[object]]:
    """A condition on ``videos``, without WHERE, and its values; ``("1", [])`` for no filter.

    Raises:
        UsageError: A date is none, or a list is longer than 1,000.
    """
    parts: list[str] = []
    values: list[object] = []
    for tag in dict.fromkeys(asked.tags):
        parts.append(
            "videos.row IN (SELECT row FROM tags JOIN tag_names USING (tag) WHERE name = ?)"
        )
        values.append(tag)
    if asked.categories:
        parts.append(f"videos.category IN ({marks(asked.categories)})")
        values.extend(asked.categories)
    if asked.languages:
        # LIKE ignores the case of ASCII letters, as language codes do.
        each = "videos.language LIKE ? ESCAPE '\\' OR videos.language LIKE ? ESCAPE '\\'"
        parts.append("(" + " OR ".join([each] * len(asked.languages)) + ")")
        for language in asked.languages:
            values += [escaped(language), escaped(language) + "-%"]
    bounds = (
        ("videos.seconds >= ?", asked.min_seconds),
        ("videos.seconds <= ?", asked.max_seconds),
        ("videos.moment >= ?", _moment(asked.after, "after")),
        ("videos.moment < ?", _moment(asked.before, "before")),
    )
    for condition, value in bounds:
        if value is not None:
            parts.append(condition)
            values.append(value)
    if len(values) > MOST_VALUES:
        raise UsageError(f"the filter has {len(values)} values, expected at most {MOST_VALUES}")
    return " AND ".join(parts) or "1", values


def _moment(date: str, name: str) -> int | None:
    try:
        return moment(date)
    except BadRecord as error:
        raise UsageError(f"filter {name}: {error.detail}") from None


def marks(values: Sequence[object]) -> str:
    """A question mark for each value."""
    return ",".join("?" * len(values))


def escaped(text: str) -> str:
    r"""Text for LIKE … ESCAPE '\\' that stands for itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def count(connection: sqlite3.Connection, asked: Filter, top: int) -> Facets:
    """Counts what the videos that pass a filter have.

    Args:
        connection: To an index's records.
        asked: The filter.
        top: At most so many values of each.
    """
    condition, values = where(asked)
    passing = f"WITH passing AS MATERIALIZED (SELECT row FROM videos WHERE {condition}) "  # noqa: S608 - no user's text
    number = f"{passing}SELECT count(*) FROM passing"  # noqa: S608
    total = connection.execute(number, values).fetchone()[0]
    found = []
    tables = (("tag", "tags", "1"), ("category", "videos", "category != ''"))
    for column, table, known in (*tables, ("language", "videos", "language != ''")):
        # The plus keeps SQLite from looking up each row for each value: one pass over an index
        # with all values is a thousand times faster where many videos pass.
        inside = "+row IN passing" if asked else "1"
        counted = connection.execute(
            f"{passing}SELECT {column}, count(*) AS n FROM {table} WHERE {known} AND {inside} "  # noqa: S608
            f"GROUP BY {column} ORDER BY n DESC",
            values,
        ).fetchall()
        found.append([(value, int(n)) for value, n in counted])
    tags = _named(connection, found[0], top)
    counts = (tuple(most_frequent(each, top)) for each in (tags, *found[1:]))
    tag_counts, categories, languages = counts
    return Facets(int(total), tag_counts, categories, languages)


def _named(
    connection: sqlite3.Connection, tags: Sequence[tuple[int, int]], top: int
) -> list[tuple[str, int]]:
    """Names of the most frequent tags, by falling count, with those as frequent as the last."""
    least = tags[min(top, len(tags)) - 1][1] if tags else 0
    kept = dict(pair for pair in tags if pair[1] >= least)
    named = connection.execute("SELECT tag, name FROM tag_names")
    return [(str(name), kept[tag]) for tag, name in named if tag in kept]


def most_frequent(counts: Iterable[tuple[str, int]], top: int) -> list[tuple[str, int]]:
    """The first so many values with their numbers, by falling number, then name."""
    return sorted(counts, key=lambda pair: (-pair[1], pair[0]))[:top]


def cases(word: str) -> list[str]:
    """Spellings of a short word in small and capital letters, ASCII letters small alone.

    LIKE ignores the case of ASCII letters; of others all spellings have to be asked for.
    """
    letters = [
        (letter.lower(),) if letter.isascii() else tuple({letter.lower(), letter.upper(), letter})
        for letter in word
    ]
    return sorted({"".join(chosen) for chosen in product(*letters)})
