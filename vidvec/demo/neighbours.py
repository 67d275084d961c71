"""Which videos the report and the picture look up, and what is nearest to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from vidvec.data.corpus import Corpus
from vidvec.data.splits import fold
from vidvec.embed.vectors import Vectors
from vidvec.records import Pair
from vidvec.search.index import ExactIndex
from vidvec.search.types import Hit

# Queries are chosen among so many videos, to stay quick with a large corpus.
CANDIDATES = 5000


@dataclass(frozen=True, slots=True)
class Found:
    """A query and its nearest videos."""

    query: str
    hits: list[Hit]


def choose_queries(corpus: Corpus, vectors: Vectors, count: int, seed: int = 0) -> list[str]:
    """Videos to show neighbours of, drawn without looking at what is found for them.

    Categories take turns. Within one, videos with pictures come first, then those of the fold that
    the clean split keeps out of its training pairs.

    Args:
        corpus: Tells category and frames.
        vectors: Videos must have one.
        count: At most so many ids.
        seed: Of the draw.
    """
    generator = np.random.default_rng(seed)
    draw = generator.choice(len(vectors), min(CANDIDATES, len(vectors)), replace=False)
    ids = [vectors.ids[place] for place in draw if vectors.ids[place] in corpus]
    ids.sort(key=lambda each: (not corpus.frame_counts[corpus.row(each)], fold(each) != 0))
    categories = corpus.column("category")
    of_category: dict[str, list[str]] = {}
    for each in ids:
        of_category.setdefault(categories[corpus.row(each)].as_py(), []).append(each)
    turns = zip_longest(*of_category.values())
    return [each for turn in turns for each in turn if each is not None][:count]


def nearest(vectors: Vectors, ids: Sequence[str], count: int) -> list[Found]:
    """The nearest videos of each of these, themselves left out."""
    hits = ExactIndex(vectors).like(ids, count) if ids else []
    return [Found(query, each) for query, each in zip(ids, hits, strict=True)]


def pair_scores(pairs: Sequence[Pair]) -> dict[frozenset[str], float]:
    """Mean score of each pair, either way round."""
    given: dict[frozenset[str], list[float]] = {}
    for pair in pairs:
        given.setdefault(frozenset((pair.id_1, pair.id_2)), []).append(pair.score)
    return {videos: sum(scores) / len(scores) for videos, scores in given.items()}
