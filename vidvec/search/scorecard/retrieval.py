"""Whether what is nearest is relevant: recall@k and mean average precision.

For each query all other videos are ranked by cosine. recall@k is the share of queries with
something relevant among the first k (``metrics.recall_at_k``). Mean average precision is over all
ranks. Queries that have nothing relevant do not count; where none has, the section says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import UsageError
from vidvec.search.calibrate import default_positive
from vidvec.search.scorecard.figures import FEW, Doubles, Figure, Row, Section
from vidvec.search.scorecard.material import Material
from vidvec.search.scorecard.precision import DECIMALS, Bools, average_precision
from vidvec.search.scorecard.resampling import averaged

DEPTHS = (1, 5, 10)
TAG_SHARE = 0.5
# So many cosines are held at once: 32 MB.
_BLOCK = 4_000_000
# Of tagged videos so many times the queries are looked at for some that have anything relevant.
_TRIED = 4

# From places of queries (q,) to (q, n), which videos are relevant.
Relevant = Callable[[NDArray[np.int64]], Bools]


@dataclass(frozen=True, slots=True)
class Relevance:
    """One sense of relevant.

    Attributes:
        label: For people.
        queries: (q,) places of the videos that have something relevant, ascending.
        of: See ``Relevant``; a video itself may be among what is relevant, it is left out.
    """

    label: str
    queries: NDArray[np.int64]
    of: Relevant


def retrieval(material: Material) -> Section:
    """Recall and mean average precision by what is the same of two videos, as far as it is known.

    Raises:
        UsageError: Nothing is known of which videos are alike.
    """
    rows, notes = {}, []
    for key, make in _SENSES.items():
        relevance = make(material)
        if relevance is None:
            notes.append(f"{_MISSING[key]}.")
            continue
        rows[key] = _row(material, relevance)
    if not rows:
        said = "; ".join(note.rstrip(".") for note in notes)
        raise UsageError(f"nothing says which videos are relevant to one another: {said}")
    columns = {f"recall_at_{k}": f"recall@{k}" for k in DEPTHS}
    columns |= {"map": "mean average precision", "chance": "random order"}
    others = len(material.ids) - 1
    said = (
        f"For each query the {others:,} other videos with vectors are ranked. recall@k: the share "
        "of queries with something relevant among the first k. Intervals are over queries. A video "
        "that nobody compared, tagged or grouped with the query counts as not relevant."
    )
    return Section("Whether what is nearest is relevant", "queries", columns, rows, [said, *notes])


def _row(material: Material, relevance: Relevance) -> Row:
    settings = material.settings
    queries = relevance.queries
    if len(queries) > settings.queries:
        random = np.random.default_rng(settings.seed)
        queries = np.sort(random.choice(queries, settings.queries, replace=False))
    found = [ranked(units, queries, relevance.of) for units in material.units]
    figures = {}
    for key in found[0]:
        values = [each[key] for each in found]
        own, *other = [
            averaged(each, resamples=settings.resamples, seed=settings.seed) for each in values
        ]
        figures[key] = Figure.of(own, other[0] if other else None)
    # The mean average precision of a random order is about the share that is relevant.
    figures["chance"] = Figure(figures["chance"].value)
    return Row(relevance.label, len(queries), figures, len(queries) < FEW)


def ranked(
    units: NDArray[np.float32], queries: NDArray[np.int64], of: Relevant
) -> dict[str, Doubles]:
    """Figures of each query that has something relevant.

    Args:
        units: (n, E) unit vectors.
        queries: (q,) rows of them.
        of: What is relevant.

    Returns:
        ``recall_at_<k>`` 0 or 1, ``map``, and ``chance``, the share that is relevant; (q,) each.
    """
    found: dict[str, list[float]] = {f"recall_at_{k}": [] for k in DEPTHS}
    found |= {"map": [], "chance": []}
    step = max(1, _BLOCK // max(1, len(units)))
    for start in range(0, len(queries), step):
        some = queries[start : start + step]
        cosines = np.round((units[some] @ units.T).astype(np.float64), DECIMALS)
        relevant = of(some)
        for place, row in enumerate(some.tolist()):
            others = np.arange(len(units)) != row
            scores, wanted = cosines[place][others], relevant[place][others]
            if not wanted.any():
                continue
            best = _nearest(scores, max(DEPTHS))
            for k in DEPTHS:
                found[f"recall_at_{k}"].append(float(wanted[best[:k]].any()))
            found["map"].append(average_precision(scores, wanted))
            found["chance"].append(float(wanted.mean()))
    return {key: np.array(values, np.float64) for key, values in found.items()}


def _nearest(scores: Doubles, count: int) -> NDArray[np.int64]:
    """Places of the highest scores, highest first, of equal ones the first first."""
    if len(scores) > count:
        near = np.flatnonzero(scores >= np.partition(scores, -count)[-count])
    else:
        near = np.arange(len(scores))
    return near[np.argsort(-scores[near], kind="stable")][:count]


def _by_category(material: Material) -> Relevance | None:
    names = [str(each or "") for each in material.column("category")]
    _, codes = np.unique(names, return_inverse=True)
    return _same("the same category", codes, np.array([bool(name) for name in names]))


def _by_group(material: Material) -> Relevance | None:
    names = [material.groups.get(video, "") for video in material.ids]
    _, codes = np.unique(names, return_inverse=True)
    return _same("the same given group", codes, np.array([bool(name) for name in names]))


def _same(label: str, codes: NDArray[np.int64], known: Bools) -> Relevance | None:
    counts = np.bincount(codes[known], minlength=codes.max(initial=0) + 1)
    queries = np.flatnonzero(known & (counts[codes] > 1))
    if not len(queries) or (counts > 0).sum() < 2:  # of one value alone all are relevant
        return None
    return Relevance(label, queries, lambda rows: (codes[rows][:, None] == codes) & known)


def _by_tags(material: Material) -> Relevance | None:
    """At least half of the tags that either has are tags of both."""
    from scipy.sparse import csr_array

    tags: list[list[str]] = []
    for each in material.column("tags"):
        tags.append(list(dict.fromkeys(map(str, each))) if isinstance(each, list) else [])
    numbers: dict[str, int] = {}
    columns = [numbers.setdefault(tag, len(numbers)) for each in tags for tag in each]
    ends = np.cumsum([0, *(len(each) for each in tags)])
    shape = len(tags), max(1, len(numbers))
    table = csr_array((np.ones(len(columns), np.float32), columns, ends), shape=shape)
    counts = np.diff(ends)

    def of(rows: NDArray[np.int64]) -> Bools:
        both = (table[rows] @ table.T).toarray()
        either = counts[rows][:, None] + counts - both
        return np.asarray((both > 0) & (both >= TAG_SHARE * either), np.bool_)

    tagged = np.flatnonzero(counts > 0)
    most = _TRIED * material.settings.queries
    if len(tagged) > most:
        random = np.random.default_rng(material.settings.seed)
        tagged = np.sort(random.choice(tagged, most, replace=False))
    step = max(1, _BLOCK // max(1, len(tags)))
    blocks = [tagged[start : start + step] for start in range(0, len(tagged), step)]
    has = [of(some).sum(axis=1) > 1 for some in blocks]
    queries = tagged[np.concatenate([np.zeros(0, np.bool_), *has])]
    return Relevance("half of the tags", queries, of) if len(queries) else None


def _by_score(material: Material) -> Relevance | None:
    if not material.pairs:
        return None
    positive = material.settings.positive
    if positive is None:
        positive = default_positive(np.array([pair.score for pair in material.all_pairs]))
    alike: dict[int, list[int]] = {}
    for pair in material.pairs:
        a, b = material.place.get(pair.id_1), material.place.get(pair.id_2)
        if pair.score >= positive and a is not None and b is not None:
            alike.setdefault(a, []).append(b)
            alike.setdefault(b, []).append(a)

    def of(rows: NDArray[np.int64]) -> Bools:
        found = np.zeros((len(rows), len(material.ids)), np.bool_)
        for place, row in enumerate(rows.tolist()):
            found[place, alike.get(row, [])] = True
        return found

    label = f"a score of {positive:.4g} or more"
    return Relevance(label, np.array(sorted(alike), np.int64), of) if alike else None


_SENSES: dict[str, Callable[[Material], Relevance | None]] = {
    "pairs": _by_score,
    "tags": _by_tags,
    "category": _by_category,
    "groups": _by_group,
}
_MISSING = {
    "pairs": "No pair of the split has a score that high",
    "tags": "No two videos share half of their tags",
    "category": "No two categories with two videos in one of them",
    "groups": "No groups of copies were given (--groups)",
}
