"""The balanced split against the clean one, and its cuts against METIS where that is installed.

    python -m benchmarks.splits [PAIRS]

Made graphs of scored pairs: what is kept for validation, what is lost, how far the scores of the
validation pairs are from all, and seconds. METIS (``pip install pymetis``) is asked for two parts
with the volumes that the balanced split has, whatever the scores.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from vidvec.data.balanced import SHARE
from vidvec.data.bisection import bisect
from vidvec.data.pair_graph import PairGraph, pair_graph
from vidvec.data.splits import split_pairs
from vidvec.records import Pair

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]


def scored(ends: Ints, scores: Doubles | None = None, seed: int = 0) -> list[Pair]:
    """Pairs of (P, 2) videos; scores at random where none are given."""
    some = np.random.default_rng(seed).random(len(ends)) if scores is None else scores
    rows = zip(ends.tolist(), some.tolist(), strict=True)
    return [Pair(str(a), str(b), score) for (a, b), score in rows if a != b]


def tangle(videos: int, pairs: int) -> list[Pair]:
    """Both videos of every pair at random."""
    return scored(np.random.default_rng(1).integers(0, videos, (pairs, 2)))


def communities(videos: int, pairs: int, size: int) -> list[Pair]:
    """Groups of videos, a tenth of the pairs between groups; those within score higher."""
    random = np.random.default_rng(2)
    first = random.integers(0, videos, pairs)
    second = first // size * size + random.integers(0, size, pairs)
    inside = random.random(pairs) < 0.9
    second = np.where(inside, second, random.integers(0, videos, pairs))
    scores = np.where(inside, 0.6, 0.2) + 0.4 * random.random(pairs)
    return scored(np.stack([first, second], 1), scores)


def graphs(most: int) -> dict[str, Callable[[], list[Pair]]]:
    """Graphs by name."""
    at = np.arange(5000)
    return {
        "a chain": lambda: scored(np.stack([at, at + 1], 1)),
        "ten stars": lambda: scored(np.stack([at[10:] % 10, at[10:]], 1)),
        "2,000 small parts": lambda: scored(
            np.array([(5 * a + b, 5 * a + b + 1) for a in range(2000) for b in range(4)])
        ),
        "as many as the competition's": lambda: tangle(63_613, 67_899),
        "four pairs a video": lambda: tangle(5000, 10_000),
        "forty pairs a video": lambda: tangle(500, 10_000),
        "communities of 100": lambda: communities(5000, 20_000, 100),
        f"{most:,} pairs": lambda: tangle(most // 2, most),
    }


def metis(graph: PairGraph, left: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The left of METIS's cut with the volume of another; ``None`` where it is not installed."""
    try:
        import pymetis
    except ImportError:
        return None
    weights = graph.pairs.sum(axis=1)
    here, there = graph.ends.T
    source, target = np.concatenate([here, there]), np.concatenate([there, here])
    both = np.concatenate([weights, weights])
    order = np.argsort(source, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=len(graph)))])
    volumes = np.bincount(source, both, len(graph))
    share = float(volumes[left].sum() / volumes.sum())
    adjacency = pymetis.CSRAdjacency(starts.astype(np.int32), target[order].astype(np.int32))
    _, parts = pymetis.part_graph(
        2,
        adjacency,
        eweights=both[order].tolist(),
        vweights=volumes.astype(np.int64).tolist(),
        tpwgts=[share, 1 - share],
        options=pymetis.Options(seed=0),
    )
    return np.array(parts) == 0


def row(name: str, validation: Ints, train: int, pairs: list[Pair], seconds: float) -> str:
    """A line of the table."""
    scores = np.array([pair.score for pair in pairs])
    lost = 1 - (len(validation) + train) / len(pairs)
    distance = ks_2samp(scores[validation], scores).statistic if len(validation) else np.nan
    figures = f"{len(validation) / len(pairs):10.1%} {lost:8.2%} {distance:8.3f} {seconds:8.2f}"
    return f"{name:38} {figures}"


def main(most: int = 1_000_000) -> None:
    """Prints the table."""
    print(f"{'':38} {'validation':>10} {'lost':>8} {'distance':>8} {'seconds':>8}")
    for name, make in graphs(most).items():
        pairs = make()
        clean = split_pairs(pairs, "clean")
        print(row(f"{name}: clean", clean.validation, len(clean.train), pairs, 0.0))
        started = time.process_time()
        graph, nodes = pair_graph(pairs)
        left = bisect(graph, SHARE, 0)
        seconds = time.process_time() - started
        for cut, who, took in ((left, "balanced", seconds), (metis(graph, left), "METIS", 0.0)):
            if cut is not None:
                sides = cut[nodes]
                inside = np.flatnonzero(sides.all(axis=1))
                train = int((~sides.any(axis=1)).sum())
                print(row(f"{name}: {who}", inside, train, pairs, took), flush=True)


if __name__ == "__main__":
    main(*(int(number) for number in sys.argv[1:2]))
