"""Answers of several shards made into one, as one index over all of their videos gives it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice

from vidvec.search.filters import Facets, most_frequent
from vidvec.search.partial import Missing
from vidvec.search.types import Hit


def merged(parts: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
    """The k best of several lists of hits, each by falling cosine, then id.

    A video that several shards have counts once, with the highest cosine.
    """
    return list(islice(_once(merge(*parts, key=lambda hit: (-hit.cosine, hit.id))), k))


def _once(hits: Iterable[Hit]) -> Iterator[Hit]:
    seen: set[str] = set()
    for hit in hits:
        if hit.id not in seen:
            seen.add(hit.id)
            yield hit


def merged_facets(parts: Sequence[Facets], top: int, missing: Missing | None) -> Facets:
    """The counts of several shards together, each of which has counted every value."""
    found = []
    for name in ("tags", "categories", "languages"):
        counts: Counter[str] = Counter()
        for part in parts:
            counts.update(dict(getattr(part, name)))
        found.append(tuple(most_frequent(counts.items(), top)))
    tags, categories, languages = found
    return Facets(sum(part.videos for part in parts), tags, categories, languages, missing)
