"""Which scores of pairs are likely to be wrong, and what a corpus's labels allow.

Four things speak against a score, each in shares of the range of scores:

- ``ratings``: the pair was rated more than once, and the ratings are that far apart;
- ``neighbours``: triangles of pairs that no distances have (``vidvec.data.triangles``);
- ``model``: the score is that far from what the cosine of vectors lets expect. As in confident
  learning (Northcutt, Jiang and Chuang 2021), what is expected is foretold for each pair by a fit
  that has not seen it;
- ``copies``: both videos have the same frames, and the score is that far below the highest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec import metrics
from vidvec.config import SplitName
from vidvec.data.agreement import Agreement, Rating, agreement
from vidvec.data.corpus import Corpus
from vidvec.data.duplicates import find_duplicates, is_quick
from vidvec.data.labels import (
    Coverage,
    Scores,
    SplitFacts,
    corpus_ratings,
    coverage,
    score_facts,
    split_facts,
)
from vidvec.data.triangles import excesses, find_triangles, strains
from vidvec.embed.evaluate import VectorTable, chosen_pairs, pair_cosines, split_of
from vidvec.embed.score_curve import cross_fitted
from vidvec.errors import UsageError
from vidvec.records import Pair, Reject

Doubles = NDArray[np.float64]
# A triangle counts as broken from so large an excess on, as a share of the range of scores.
EXCESS = 0.1


@dataclass(frozen=True, slots=True)
class Suspect:
    """A pair whose score may be wrong.

    Attributes:
        id_1, id_2: The videos, the lower id first.
        score: Mean of its ratings.
        ratings: All of them.
        suspicion: Root of the summed squares of what speaks against the score.
        against: What speaks against it, by name; without those that do not.
        expected: What the cosine lets expect; ``None`` without vectors.
    """

    id_1: str
    id_2: str
    score: float
    ratings: tuple[float, ...]
    suspicion: float
    against: dict[str, float]
    expected: float | None


@dataclass(frozen=True, slots=True)
class LabelReport:
    """A corpus's scored pairs, checked.

    Attributes:
        corpus: Its folder.
        pairs: Scores in the corpus.
        ratings: Scores looked at for noise, and where they are from.
        rejects: Rows of files that are no ratings of its videos.
        scores, coverage, splits: Of the corpus's pairs.
        agreement: ``None`` where no pair was rated twice.
        triangles: Triangles of pairs looked at.
        broken: Of them, those whose excess is 0.1 of the range of scores or more.
        all_triangles: Whether those are all there are.
        judged: Pairs that vectors judged.
        model_spearman: Of cosines and scores there; NaN without.
        duplicates: Pairs of videos with the same frames; ``None`` where they were not looked for.
        suspects: Worst first.
    """

    corpus: Path
    pairs: int
    ratings: int
    rejects: list[Reject]
    scores: Scores
    coverage: Coverage
    splits: tuple[SplitFacts, ...]
    agreement: Agreement | None
    triangles: int
    broken: int
    all_triangles: bool
    judged: int
    model_spearman: float
    duplicates: int | None
    suspects: tuple[Suspect, ...]


def check_labels(
    corpus: Corpus,
    files: Sequence[Path] = (),
    vectors: Sequence[VectorTable] = (),
    *,
    split: SplitName | str = "all",
    duplicates: bool | None = None,
    seed: int = 0,
) -> LabelReport:
    """Looks at a corpus's scored pairs, and for scores that are likely to be wrong.

    Args:
        corpus: With scored pairs.
        files: Of ratings: id_1, id_2, score, and rater where known; none: what the corpus's pairs
            come from.
        vectors: Of one model or more, whose mean judges.
        split: Which pairs the vectors judge: ``all``, or those of a split that their model has not
            learned from.
        duplicates: Look for videos with the same frames; ``None``: where that takes seconds.
        seed: Of the bootstrap and of the fit's parts.

    Raises:
        UsageError: The corpus has no scored pairs, or the split is none.
    """
    pairs = corpus.pairs()
    if not pairs:
        raise UsageError(f"{corpus.path} has no scored pairs: ingest it with --pairs FILE")
    ratings, rejects = corpus_ratings(corpus, files)
    if not ratings:
        raise UsageError(f"no ratings of videos of {corpus.path} in {', '.join(map(str, files))}")
    noise = _Noise(ratings)
    found, broken, complete = noise.by_neighbours()
    noise.by_ratings()
    judged, rank = noise.by_model(vectors, _judged(corpus, pairs, split), seed)
    look = is_quick(corpus) if duplicates is None else duplicates
    return LabelReport(
        corpus=corpus.path,
        pairs=len(pairs),
        ratings=len(ratings),
        rejects=rejects,
        scores=score_facts(pairs),
        coverage=coverage(pairs, len(corpus.live)),
        splits=split_facts(corpus),
        agreement=agreement(ratings, seed=seed),
        triangles=found,
        broken=broken,
        all_triangles=complete,
        judged=judged,
        model_spearman=rank,
        duplicates=noise.by_copies(corpus) if look else None,
        suspects=noise.suspects(),
    )


def _judged(
    corpus: Corpus, pairs: Sequence[Pair], split: SplitName | str
) -> set[frozenset[str]] | None:
    """The pairs of a split's validation; ``None``: all."""
    if split == "all":
        return None
    chosen = chosen_pairs(pairs, split_of(corpus, split))[0].tolist()
    return {frozenset((pairs[row].id_1, pairs[row].id_2)) for row in chosen}


class _Noise:
    """Different pairs of videos, and what speaks against their scores.

    Args:
        ratings: One or more.
    """

    def __init__(self, ratings: Sequence[Rating]) -> None:
        given: dict[tuple[str, str], list[float]] = {}
        for rating in ratings:
            given.setdefault(rating.videos, []).append(rating.pair.score)
        self._videos = sorted(given)
        self._ratings = [given[videos] for videos in self._videos]
        self._scores = np.array([np.mean(some) for some in self._ratings])
        every = np.array([rating.pair.score for rating in ratings])
        self._low, self._range = float(every.min()), float(np.ptp(every)) or 1.0
        self._unit = (self._scores - self._low) / self._range
        self._against: dict[str, Doubles] = {}
        self._expected = np.full(len(self._videos), np.nan)

    def by_ratings(self) -> None:
        """Speaks against pairs whose ratings differ."""
        self._against["ratings"] = np.array([np.ptp(some) for some in self._ratings]) / self._range

    def by_neighbours(self) -> tuple[int, int, bool]:
        """Speaks against pairs in broken triangles; says how many there are, and are broken."""
        ids = {v: at for at, v in enumerate(sorted({v for two in self._videos for v in two}))}
        ends = np.array([[ids[v] for v in two] for two in self._videos], np.int64)
        triangles = find_triangles(ends, len(ids))
        self._against["neighbours"] = strains(triangles, self._unit)[0]
        broken = int((excesses(triangles, self._unit) >= EXCESS).sum())
        return len(triangles.edges), broken, triangles.complete

    def by_model(
        self, vectors: Sequence[VectorTable], judged: set[frozenset[str]] | None, seed: int
    ) -> tuple[int, float]:
        """Speaks against scores that cosines do not let expect; how many were judged, Spearman."""
        rows = [
            row
            for row, videos in enumerate(self._videos)
            if (judged is None or frozenset(videos) in judged)
            and vectors
            and all(video in table for video in videos for table in vectors)
        ]
        if not rows:
            return 0, float("nan")
        pairs = [Pair(*self._videos[row], 0.0) for row in rows]
        cosines = np.mean([pair_cosines(table, pairs) for table in vectors], axis=0)
        expected = cross_fitted(cosines, self._scores[rows], seed)
        self._expected[rows] = expected
        far = np.zeros(len(self._videos))
        far[rows] = np.abs(expected - self._scores[rows]) / self._range
        self._against["model"] = far
        return len(rows), metrics.spearman(cosines, self._scores[rows])

    def by_copies(self, corpus: Corpus) -> int:
        """Speaks against low scores of videos with the same frames; how many are scored."""
        group = {
            corpus.ids[row]: number
            for number, each in enumerate(find_duplicates(corpus).exact)
            for row in each.rows
        }
        same = np.array([a in group and group[a] == group.get(b) for a, b in self._videos])
        self._against["copies"] = np.where(same, 1 - self._unit, 0.0)
        return int(same.sum())

    def suspects(self) -> tuple[Suspect, ...]:
        """All pairs that something speaks against, worst first."""
        table = np.stack(list(self._against.values()))
        suspicion = np.sqrt((table**2).sum(axis=0))
        order = np.lexsort((np.arange(len(suspicion)), -suspicion))
        return tuple(
            Suspect(
                id_1=self._videos[row][0],
                id_2=self._videos[row][1],
                score=float(self._scores[row]),
                ratings=tuple(self._ratings[row]),
                suspicion=float(suspicion[row]),
                against={name: float(x[row]) for name, x in self._against.items() if x[row] > 0},
                expected=None if np.isnan(self._expected[row]) else float(self._expected[row]),
            )
            for row in order[suspicion[order] > 0].tolist()
        )
