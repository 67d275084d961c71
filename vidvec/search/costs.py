"""What smaller vectors cost: fewer numbers, fewer bits, against the whole ones in float32.

Letters: Q queries, n vectors, E width of a vector, P scored pairs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss as faiss_module
import numpy as np
from numpy.typing import NDArray

from vidvec import metrics
from vidvec.data.corpus import Corpus
from vidvec.embed.dtypes import (
    DTYPES,
    Dtype,
    check_dtype,
    check_size,
    cut,
    decode,
    encode,
    unit_rows,
    vector_bytes,
)
from vidvec.embed.evaluate import chosen_pairs, split_of
from vidvec.embed.resampled import Resampled
from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError
from vidvec.metrics import Interval
from vidvec.records import Pair
from vidvec.search.brute import nearest
from vidvec.search.neighbours import Neighbours, add, train

# At most so many vectors are searched, as many as the times are given for.
SEARCHED = 100_000
QUERIES = 256
TIMED = 16  # queries, one at a time
ROUNDS = 3
NEIGHBOURS = 10
CANDIDATES = 16
# What is searched in an index of this kind is the dtype itself.
KIND_OF: dict[Dtype, str] = {
    "float32": "exact",
    "float16": "float16",
    "int8": "int8",
    "binary": "binary",
}
Floats = NDArray[np.float32]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Cost:
    """Figures of vectors of one size and dtype.

    Attributes:
        size: Numbers in a vector.
        dtype: What is kept of a number.
        bytes_per_vector: Without ids.
        spearman: Of the cosines with the scores, with a 95 % interval over the pairs; ``None``
            without pairs.
        difference: That less what the whole vectors in float32 have, over the same resamples.
        recall: Share of the ten nearest by whole vectors that are the ten nearest by these.
        recall_reranked: Share that is among ``candidates`` times as many, which the whole vectors
            would put in order.
        milliseconds, milliseconds_reranked: Of CPU for one query among 100,000 vectors, one at a
            time, on one thread.
    """

    size: int
    dtype: Dtype
    bytes_per_vector: int
    spearman: Interval | None
    difference: Interval | None
    recall: float
    recall_reranked: float
    milliseconds: float
    milliseconds_reranked: float


@dataclass(frozen=True, slots=True)
class Costs:
    """What each size and dtype costs.

    Attributes:
        vectors: How many were searched.
        dimension: Numbers in a whole vector.
        split: Whose validation pairs were measured on; empty without pairs.
        pairs: How many.
        queries: How many vectors were looked for, themselves left out.
        candidates: So many a hit are put in order again.
        rows: One for each size and dtype, in the order asked for.
    """

    vectors: int
    dimension: int
    split: str
    pairs: int
    queries: int
    candidates: int
    rows: tuple[Cost, ...]


def measure_costs(
    vectors: Path,
    corpus: Corpus | None = None,
    *,
    sizes: Sequence[int] = (),
    dtypes: Sequence[Dtype | str] = DTYPES,
    split: str = "clean",
    candidates: int = CANDIDATES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Costs:
    """Measures what it costs to keep less of some vectors.

    Args:
        vectors: Folder of the vectors. Of more than ``SEARCHED`` a sample is searched.
        corpus: With scored pairs; ``None``: only search is measured.
        sizes: How many of the first numbers are kept; none: all.
        dtypes: What is kept of a number.
        split: Its validation pairs are measured on; see ``evaluate``.
        candidates: So many a hit are put in order by the whole vectors.
        seed: Of the bootstrap and of samples.
        progress: Called with rows measured, all, and what is being measured.

    Raises:
        UsageError: A size or dtype cannot be used, no pair of the split has vectors, or there are
            under two vectors that have a direction.
        FormatError: The vectors are damaged.
    """
    if candidates < 1:
        raise UsageError(f"{candidates} candidates a hit: expected 1 or more")
    opened = Vectors(vectors)
    wanted = [check_size(size, opened.dimension, vectors) for size in sizes or [opened.dimension]]
    kinds = [check_dtype(dtype) for dtype in dtypes]
    pairs = _Pairs(opened, corpus, split, seed) if corpus is not None else None
    search = _Search(_sample(opened, seed), candidates, seed)
    rows: list[Cost] = []
    total = len(wanted) * len(kinds)
    for size in wanted:
        for dtype in kinds:
            if progress is not None:
                progress(len(rows), total, f"{size} {dtype}")
            rows.append(_cost(size, dtype, pairs, search))
    return Costs(
        vectors=len(search.whole),
        dimension=opened.dimension,
        split=split if pairs is not None else "",
        pairs=len(pairs.rows) if pairs is not None else 0,
        queries=len(search.asked),
        candidates=candidates,
        rows=tuple(rows),
    )


def _cost(size: int, dtype: Dtype, pairs: _Pairs | None, search: _Search) -> Cost:
    spearman, difference = (None, None) if pairs is None else pairs.figures(size, dtype)
    recall, reranked = search.recalls(size, dtype)
    plain, both = search.milliseconds(size, dtype)
    return Cost(
        size=size,
        dtype=dtype,
        bytes_per_vector=vector_bytes(size, dtype),
        spearman=spearman,
        difference=difference,
        recall=recall,
        recall_reranked=reranked,
        milliseconds=plain,
        milliseconds_reranked=both,
    )


def _sample(opened: Vectors, seed: int) -> Floats:
    """(n, E) unit vectors, at most ``SEARCHED`` of them; without zeros and what is not finite."""
    rows = np.arange(len(opened))
    if len(rows) > SEARCHED:
        rows = np.sort(np.random.default_rng(seed).choice(rows, SEARCHED, replace=False))
    found = opened.take(rows)
    found = unit_rows(found[np.isfinite(found).all(axis=1)])
    found = found[found.any(axis=1)]
    if len(found) < 2:
        raise UsageError(f"{opened.path} has {len(found)} vectors with a direction: 2 are needed")
    return found


def as_kept(whole: Floats, size: int, dtype: Dtype) -> Floats:
    """(n, size) unit vectors, as they are when they come back."""
    return unit_rows(decode(encode(cut(whole, size), dtype), dtype, size))


class _Pairs:
    """Spearman on the pairs of a split.

    Attributes:
        rows: (P, 2) int64 rows of the vectors.
    """

    def __init__(self, opened: Vectors, corpus: Corpus, split: str, seed: int) -> None:
        pairs: list[Pair] = corpus.pairs()
        chosen, _ = chosen_pairs(pairs, split_of(corpus, split))
        measured = [
            pair
            for pair in (pairs[int(i)] for i in chosen)
            if pair.id_1 in opened and pair.id_2 in opened
        ]
        if not measured:
            raise UsageError(
                f"no pair to measure on: {len(pairs)} pairs, {len(chosen)} in the {split} "
                "validation split, none of them with vectors"
            )
        sides = [(opened.row(pair.id_1), opened.row(pair.id_2)) for pair in measured]
        used, places = np.unique(np.array(sides, np.int64), return_inverse=True)
        self.rows = places.reshape(-1, 2)
        self._whole = opened.take(used)
        self._resampled = Resampled(np.array([pair.score for pair in measured]), seed)
        self._drawn = self._resampled.draw(self._cosines(self._whole))

    def _cosines(self, vectors: Floats) -> NDArray[np.float64]:
        return metrics.cosines(vectors[self.rows[:, 0]], vectors[self.rows[:, 1]])

    def figures(self, size: int, dtype: Dtype) -> tuple[Interval, Interval]:
        """Spearman, and its difference from that of the whole vectors in float32."""
        drawn = self._resampled.draw(self._cosines(as_kept(self._whole, size, dtype)))
        return self._resampled.interval(drawn), self._resampled.interval(drawn - self._drawn)


class _Search:
    """Recall and time of searches among some vectors.

    Args:
        whole: (n, E) unit vectors.
        candidates: So many a hit are put in order by them.
        seed: Of the queries.

    Attributes:
        whole: See above.
        asked: (Q,) rows of the vectors that are looked for.
    """

    def __init__(self, whole: Floats, candidates: int, seed: int) -> None:
        faiss_module.omp_set_num_threads(1)
        self.whole, self._candidates = whole, candidates
        count = len(whole)
        random = np.random.default_rng(seed)
        self.asked = np.sort(random.choice(count, min(QUERIES, count), replace=False))
        self._rows = np.arange(count)
        self._k = min(NEIGHBOURS, count - 1)
        found = nearest(whole[self.asked], [(self._rows, whole)], self._k + 1)
        self._truth = _others(found, self.asked, self._k)

    def recalls(self, size: int, dtype: Dtype) -> tuple[float, float]:
        """As they are found, and put in order again."""
        index = _index(as_kept(self.whole, size, dtype), dtype)
        queries = cut(self.whole[self.asked], size)
        wanted = min(self._k * self._candidates, len(self.whole) - 1)
        rows = _others(index.candidates(queries, wanted + 1), self.asked, wanted)
        return self._share(rows[:, : self._k]), self._share(rows)

    def _share(self, rows: NDArray[np.int64]) -> float:
        return float((self._truth[:, :, None] == rows[:, None, :]).any(axis=2).mean())

    def milliseconds(self, size: int, dtype: Dtype) -> tuple[float, float]:
        """Of one query among 100,000 vectors: these ones, as often as it takes."""
        many = self._rows[np.arange(SEARCHED) % len(self._rows)]
        index = _index(as_kept(self.whole, size, dtype)[many], dtype)
        whole = self.whole[self.asked[:TIMED]]
        queries = cut(whole, size)

        def find(at: int, k: int) -> NDArray[np.int64]:
            return index.candidates(queries[at : at + 1], k)[0]

        def find_and_order(at: int) -> None:
            rows = many[find(at, self._k * self._candidates)]
            np.argsort(-(self.whole[rows] @ whole[at]))

        plain = _median_milliseconds(lambda at: find(at, self._k), len(queries))
        return plain, _median_milliseconds(find_and_order, len(queries))


def _index(vectors: Floats, dtype: Dtype) -> Neighbours:
    kind = KIND_OF[dtype]
    made = train(kind, vectors.shape[1], len(vectors), vectors, threads=1)
    add(made, np.arange(len(vectors)), vectors)
    return made


def _others(rows: NDArray[np.int64], own: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """(Q, k) of (Q, k + 1) rows those that are not a query's own, in their order."""
    order = np.argsort(rows == own[:, None], axis=1, kind="stable")
    return np.take_along_axis(rows, order, 1)[:, :k]


def _median_milliseconds(run: Callable[[int], object], count: int) -> float:
    """Median over the queries of the CPU time that each took, the least of some rounds."""
    least = np.full(count, np.inf)
    for _ in range(ROUNDS):
        for at in range(count):
            began = time.process_time()
            run(at)
            least[at] = min(least[at], time.process_time() - began)
    return 1000 * float(np.median(least))
