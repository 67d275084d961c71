"""Pseudo-labels from retrieval: pairs that nobody scored, with the score that cosines let expect.

What a cosine means is learned from the scored pairs that training may see; pairs come from
neighbours, from the range between, and from chance. No video of a pair that is validated on is
ever one of them.

Letters: n videos, E width of a vector.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidvec.config import SplitName
from vidvec.data.corpus import Corpus
from vidvec.data.csv_files import write_csv
from vidvec.data.splits import corpus_split, validation_videos
from vidvec.embed.evaluate import VectorTable, pair_cosines
from vidvec.embed.score_curve import ScoreCurve
from vidvec.errors import UsageError
from vidvec.records import Pair
from vidvec.search.brute import nearest
from vidvec.search.neighbours import unit

__all__ = ["COLUMNS", "KINDS", "PseudoLabels", "pseudo_labels", "write_csv"]

COLUMNS = ("id_1", "id_2", "score", "cosine", "kind")
KINDS = ("neighbour", "graded", "random")
BLOCK = 2048
STRATA = 10  # of expected scores, of which graded pairs are drawn alike

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PseudoLabels:
    """Pairs with expected scores.

    Attributes:
        pairs: Their score is what is expected.
        cosines: Of each.
        kinds: Of each: ``neighbour`` (each is among the other's nearest), ``graded`` (of all
            expected scores alike), ``random``.
        videos: That pairs could be of.
        held: Scored videos that are validated on, and were left alone.
        learned_from: Scored pairs that the scores were learned from.
    """

    pairs: tuple[Pair, ...]
    cosines: Doubles
    kinds: tuple[str, ...]
    videos: int
    held: int
    learned_from: int

    def counts(self) -> dict[str, int]:
        """Pairs of each kind."""
        found = Counter(self.kinds)
        return {kind: found[kind] for kind in KINDS}

    def rows(self) -> list[tuple[str, ...]]:
        """A row each, as ``COLUMNS``."""
        table = zip(self.pairs, self.cosines.tolist(), self.kinds, strict=True)
        return [
            (pair.id_1, pair.id_2, f"{pair.score:.6f}", f"{cosine:.6f}", kind)
            for pair, cosine, kind in table
        ]


def pseudo_labels(
    vectors: VectorTable,
    corpus: Corpus,
    *,
    neighbours: int = 10,
    positives: int = 1000,
    graded: int = 1000,
    chance: int = 1000,
    split: SplitName = "clean",
    seed: int = 0,
) -> PseudoLabels:
    """Pairs of videos that nobody scored, and which score to expect of each.

    A cosine's score is isotonic regression on the split's training pairs. Vectors of a model that
    was finetuned on these pairs have cosines nearer to their scores than those of other pairs are:
    better take vectors of a pretrained one, or one that was distilled.

    Args:
        vectors: Of the videos.
        corpus: With scored pairs.
        neighbours: Two videos are neighbours where each is among the other's nearest so many.
        positives: Pairs of neighbours at most, those of the highest cosine, of which every video
            gives its best before any gives its second.
        graded: Pairs whose expected scores are spread over the range, drawn from neighbours and by
            chance.
        chance: Pairs drawn by chance alone.
        split: Whose validation videos are left alone.
        seed: Of what is drawn.

    Raises:
        UsageError: There are no training pairs with vectors, or too few videos.
    """
    if min(neighbours, positives, graded, chance) < 0 or neighbours < 1:
        raise UsageError("numbers of pairs of 0 or more are expected, and a neighbour or more")
    pairs, parts = corpus.pairs(), corpus_split(corpus, split)
    known = [pairs[row] for row in parts.train.tolist()]
    known = [pair for pair in known if pair.id_1 in vectors and pair.id_2 in vectors]
    curve = ScoreCurve.fit(pair_cosines(vectors, known), [pair.score for pair in known])
    held = validation_videos(corpus, split)
    ids = [corpus.ids[row] for row in corpus.live.tolist()]
    ids = [video for video in ids if video in vectors and video not in held]
    if len(ids) < 2:
        raise UsageError(f"{len(ids)} videos of {corpus.path} have vectors and are not held out")
    drawn = _Drawn(vectors, ids, pairs, seed)
    near, far = drawn.neighbours(neighbours)
    drawn.take(_best_first(near, drawn.cosines(near))[:positives], "neighbour")
    pool = np.concatenate([near, far, drawn.by_chance(20 * max(1, graded))])
    drawn.take(drawn.spread(drawn.open(pool), curve, graded), "graded")
    drawn.take(drawn.open(drawn.by_chance(2 * chance))[:chance], "random")
    return drawn.labelled(curve, len(held), len(known))


class _Drawn:
    """Pairs of places in a list of videos, none twice and none that was scored.

    Args:
        vectors: Of the videos.
        ids: (n,) videos that pairs may be of.
        scored: Pairs that people scored.
        seed: Of what is drawn.
    """

    def __init__(
        self, vectors: VectorTable, ids: list[str], scored: Sequence[Pair], seed: int
    ) -> None:
        self._ids, self._random = ids, np.random.default_rng(seed)
        rows = np.array([vectors.row(video) for video in ids], np.int64)
        self._unit = unit(vectors.matrix[rows])
        place = {video: at for at, video in enumerate(ids)}
        known = [
            sorted((place[pair.id_1], place[pair.id_2]))
            for pair in scored
            if pair.id_1 in place and pair.id_2 in place
        ]
        self._taken = set(self._keys(np.array(known, np.int64).reshape(-1, 2)).tolist())
        self._pairs: list[Ints] = []
        self._kinds: list[str] = []

    def _keys(self, pairs: Ints) -> Ints:
        """(k,) one number for each of (k, 2) pairs, lower place first."""
        return pairs[:, 0] * len(self._ids) + pairs[:, 1]

    def open(self, pairs: Ints) -> Ints:
        """Those of (k, 2) pairs, lower place first, that are not taken and not repeated."""
        keys = self._keys(pairs)
        _, places = np.unique(keys, return_index=True)
        first = np.sort(places)
        free = [at for at in first.tolist() if int(keys[at]) not in self._taken]
        return pairs[free]

    def take(self, pairs: Ints, kind: str) -> None:
        """Takes (k, 2) pairs that are open."""
        self._pairs.append(pairs)
        self._kinds += [kind] * len(pairs)
        self._taken.update(self._keys(pairs).tolist())

    def cosines(self, pairs: Ints) -> Doubles:
        """(k,) of (k, 2) pairs."""
        first, second = self._unit[pairs[:, 0]], self._unit[pairs[:, 1]]
        return np.einsum("ke,ke->k", first, second, dtype=np.float64)

    def neighbours(self, k: int) -> tuple[Ints, Ints]:
        """Open pairs in which both, and in which only one, is among the other's k nearest."""
        n = len(self._ids)
        k = min(k, n - 1)
        every = np.arange(n)
        found = []
        for start in range(0, n, BLOCK):
            queries = self._unit[start : start + BLOCK]
            blocks = ((every[a : a + BLOCK], self._unit[a : a + BLOCK]) for a in range(0, n, BLOCK))
            rows = nearest(queries, blocks, k + 1)
            mine = every[start : start + len(queries), None]
            others = rows != mine
            # A video itself is among its nearest, unless k others are the very same.
            others[others.all(axis=1), -1] = False
            found.append(np.stack([np.repeat(mine[:, 0], k), rows[others]], axis=1))
        directed = np.sort(np.concatenate(found), axis=1)
        keys, counts = np.unique(self._keys(directed), return_counts=True)
        pairs = np.stack([keys // n, keys % n], axis=1)
        return self.open(pairs[counts == 2]), self.open(pairs[counts == 1])

    def by_chance(self, count: int) -> Ints:
        """At most so many pairs of two different videos."""
        drawn = np.sort(self._random.integers(0, len(self._ids), (count, 2)), axis=1)
        return drawn[drawn[:, 0] < drawn[:, 1]]

    def spread(self, pool: Ints, curve: ScoreCurve, count: int) -> Ints:
        """So many of a pool, from each tenth of the range of expected scores as many."""
        if not len(pool) or not count:
            return pool[:0]
        expected = curve(self.cosines(pool))
        low, width = expected.min(), float(np.ptp(expected)) or 1.0
        stratum = np.minimum(STRATA - 1, (expected - low) / width * STRATA).astype(np.int64)
        order = self._random.permutation(len(pool))
        order = order[np.argsort(stratum[order], kind="stable")]
        counts = np.bincount(stratum, minlength=STRATA)
        turn = np.arange(len(pool)) - np.repeat(np.cumsum(counts) - counts, counts)
        return pool[order[np.argsort(turn, kind="stable")][:count]]

    def labelled(self, curve: ScoreCurve, held: int, learned_from: int) -> PseudoLabels:
        """What was taken, with expected scores."""
        pairs = np.concatenate(self._pairs)
        cosines = self.cosines(pairs)
        scores = curve(cosines).tolist()
        ids = self._ids
        made = tuple(
            Pair(ids[low], ids[high], score)
            for (low, high), score in zip(pairs.tolist(), scores, strict=True)
        )
        return PseudoLabels(made, cosines, tuple(self._kinds), len(ids), held, learned_from)


def _best_first(pairs: Ints, cosines: Doubles) -> Ints:
    """Pairs by falling cosine, every video's best before any video's second.

    A pair's turn is the larger of its two videos' numbers of better pairs.
    """
    order = np.argsort(-cosines, kind="stable")
    seen: Counter[int] = Counter()
    turns = np.zeros(len(order), np.int64)
    for at, (low, high) in enumerate(pairs[order].tolist()):
        turns[at] = max(seen[low], seen[high])
        seen[low] += 1
        seen[high] += 1
    return pairs[order[np.argsort(turns, kind="stable")]]
