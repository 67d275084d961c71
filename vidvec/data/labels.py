"""What a corpus's scored pairs are like: scores and their ranks, the graph, the splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import ks_2samp

from vidvec.config import SplitName
from vidvec.data.agreement import Rating
from vidvec.data.balanced import kept_videos
from vidvec.data.corpus import Corpus
from vidvec.data.pair_rows import read_pair_rows
from vidvec.data.pairs import read_ratings
from vidvec.data.splits import rank_normalise, split_by, split_pairs
from vidvec.errors import UsageError
from vidvec.records import Pair, Reject

BINS = 10


@dataclass(frozen=True, slots=True)
class Scores:
    """The distribution of scores.

    Attributes:
        lowest, highest, mean: Of all scores.
        distinct: Different scores.
        ties: Share of all pairs of pairs that have the same score; they have no order.
        histogram: Label and count of each of ten bins from the lowest score to the highest; one
            each where there are no more than ten scores.
        ranks: Every different score, how many pairs have it, and the target 0…1 that finetuning
            learns in its place (``rank_normalise``).
    """

    lowest: float
    highest: float
    mean: float
    distinct: int
    ties: float
    histogram: tuple[tuple[str, int], ...]
    ranks: tuple[tuple[float, int, float], ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """The graph whose nodes are videos and whose edges are pairs.

    Attributes:
        videos: In the corpus.
        scored: Of them, in a pair.
        components: Parts that no pair connects.
        largest_pairs, largest_videos: Share of pairs and of scored videos in the part that holds
            most pairs.
        median_degree, most_degree: Pairs of a scored video.
    """

    videos: int
    scored: int
    components: int
    largest_pairs: float
    largest_videos: float
    median_degree: float
    most_degree: int


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """What a split comes to.

    Attributes:
        name: Of the split.
        train, validation, dropped: Pairs.
        distance: Largest difference of the shares of validation pairs and of all pairs that have a
            score up to any (Kolmogorov and Smirnov's); NaN without validation pairs.
        bound: What 95 % of random draws of as many pairs stay below: 1.36/√n.
    """

    name: str
    train: int
    validation: int
    dropped: int
    distance: float
    bound: float


def corpus_ratings(corpus: Corpus, files: Sequence[Path] = ()) -> tuple[list[Rating], list[Reject]]:
    """Everybody's scores of pairs of a corpus.

    A score that is given twice to the same pair is kept once by the corpus where it comes from two
    files; so the files themselves are read, where they are still there.

    Args:
        corpus: With the videos.
        files: To read; none: those that the corpus's pairs come from.

    Returns:
        The ratings of videos that are not gone; and the rows that are none.
    """
    ids = {corpus.ids[row] for row in corpus.live.tolist()}
    held = read_pair_rows(corpus.path / "pairs.parquet", corpus.manifest["pairs"])
    names = [Path(name) for name in dict.fromkeys(name for _, name in held) if name]
    there = list(files) or [name for name in names if name.is_file()]
    ratings, rejects = list[Rating](), list[Reject]()
    for file in there:
        rows, wrong = read_ratings(file)
        ratings += [Rating(pair, rater or file.name) for pair, rater in rows]
        rejects += wrong
    if not files:
        read = {str(name) for name in there}
        ratings += [Rating(pair, Path(name).name) for pair, name in held if name not in read]
    known = [rating for rating in ratings if set(rating.videos) <= ids]
    for rating in ratings:
        missing = [video for video in rating.videos if video not in ids]
        if missing:
            detail = f"pair {' '.join(rating.videos)}: not in the corpus: {', '.join(missing)}"
            rejects.append(Reject(rating.rater, missing[0], "pair-unknown-id", detail))
    return known, rejects


def score_facts(pairs: Sequence[Pair]) -> Scores:
    """The distribution of the scores of one pair or more.

    Raises:
        UsageError: There are none.
    """
    if not pairs:
        raise UsageError("no scored pairs to look at")
    scores = np.array([pair.score for pair in pairs], np.float64)
    targets = dict(zip(scores.tolist(), rank_normalise(scores).tolist(), strict=True))
    counts = Counter(scores.tolist())
    ranks = tuple((score, counts[score], targets[score]) for score in sorted(counts))
    n = len(scores)
    equal = sum(count * (count - 1) for count in counts.values())
    return Scores(
        lowest=float(scores.min()),
        highest=float(scores.max()),
        mean=float(scores.mean()),
        distinct=len(counts),
        ties=equal / (n * (n - 1)) if n > 1 else 0.0,
        histogram=_histogram(scores, ranks),
        ranks=ranks,
    )


def _histogram(
    scores: NDArray[np.float64], ranks: Sequence[tuple[float, int, float]]
) -> tuple[tuple[str, int], ...]:
    if len(ranks) <= BINS:
        return tuple((f"{score:g}", count) for score, count, _ in ranks)
    counts, edges = np.histogram(scores, BINS)
    labels = [f"{low:.3g}–{high:.3g}" for low, high in pairwise(edges)]
    return tuple(zip(labels, counts.tolist(), strict=True))


def coverage(pairs: Sequence[Pair], videos: int) -> Coverage:
    """The graph of one pair or more, of a corpus with so many videos."""
    ids: dict[str, int] = {}
    places = [[ids.setdefault(v, len(ids)) for v in (pair.id_1, pair.id_2)] for pair in pairs]
    ends = np.array(places, np.int64)
    n = len(ids)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(n, n))
    count, labels = connected_components(graph, directed=False)
    inside = np.bincount(labels[ends[:, 0]], minlength=count)
    largest = int(inside.argmax())
    degrees = np.bincount(ends.reshape(-1), minlength=n)
    return Coverage(
        videos=videos,
        scored=n,
        components=int(count),
        largest_pairs=float(inside[largest] / len(pairs)),
        largest_videos=float((labels == largest).mean()),
        median_degree=float(np.median(degrees)),
        most_degree=int(degrees.max()),
    )


def split_facts(corpus: Corpus) -> tuple[SplitFacts, ...]:
    """What each split makes of a corpus's pairs; nothing is written down."""
    pairs = corpus.pairs()
    scores = np.array([pair.score for pair in pairs], np.float64)
    facts = []
    for name in get_args(SplitName):
        if name == "balanced":
            split = split_by(pairs, kept_videos(corpus.path, pairs, write=False), name)
        else:
            split = split_pairs(pairs, name)
        count = len(split.validation)
        distance = ks_2samp(scores[split.validation], scores).statistic if count else np.nan
        bound = 1.36 / np.sqrt(count) if count else np.nan
        sides = (len(split.train), count, split.dropped)
        facts.append(SplitFacts(name, *sides, float(distance), float(bound)))
    return tuple(facts)
