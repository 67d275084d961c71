"""How to fit a fusion's weights on few pairs: four ways, judged on pairs that nobody fitted on.

    python -m benchmarks.fusion_weights [--draws 10]

Members see what people score with noise of their own and noise that all share; people's scores are
rounded, and a third of them is 0. Each way gets some pairs; the weights that it finds are measured
on 20,000 others. Printed is the mean gain in Spearman over equal weights, and the worst, in 1e-4.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from vidvec.embed.ablation import PairVectors
from vidvec.embed.weights_fit import best_weights, fit_weights
from vidvec.metrics import spearman
from vidvec.records import Pair

Floats = NDArray[np.float64]
Way = Callable[[Floats, Floats], Floats]
JUDGED = 20_000
MEMBERS = {
    "four alike": (1.0, 1.0, 1.0, 1.0),
    "four, a little unlike": (1.2, 1.0, 1.0, 0.8),
    "four, one useless": (1.2, 1.1, 1.0, 0.1),
    "four, far apart": (1.6, 1.0, 0.7, 0.3),
    "six": (1.2, 1.1, 1.0, 0.9, 0.8, 0.3),
}
PAIRS = (100, 260)
STEPS = (0.2, 0.1, 0.05, 0.02, 0.01)


def made(qualities: tuple[float, ...], count: int, seed: int) -> tuple[Floats, Floats]:
    """Cosines (pairs, members) and scores (pairs,)."""
    random = np.random.default_rng(seed)
    truth, shared = random.normal(size=(2, count))
    noted = truth + 0.5 * random.normal(size=count)
    scores = np.where(noted < -0.35, 0, np.round(noted, 1))
    seen = [q * truth + 0.5 * shared + random.normal(size=count) for q in qualities]
    return np.tanh(np.stack(seen, axis=1) / 3), scores


def climbed(cosines: Floats, scores: Floats) -> Floats:
    """The best Spearman of these very pairs, by moving weight from member to member."""
    members = cosines.shape[1]
    starts = (best_weights(cosines, scores), np.full(members, 1 / members))
    found = [_climb(cosines, rankdata(scores), start) for start in starts]
    return max(found, key=lambda weights: spearman(cosines @ weights, scores))


def _climb(cosines: Floats, ranks: Floats, weights: Floats) -> Floats:
    best, members = spearman(cosines @ weights, ranks), range(len(weights))
    for step in STEPS:
        better = True
        while better:
            better = False
            for to, source in ((a, b) for a in members for b in members if a != b):
                moved = min(step, weights[source])
                tried = weights.copy()
                tried[to] += moved
                tried[source] -= moved
                value = spearman(cosines @ tried, ranks)
                if value > best + 1e-12:
                    weights, best, better = tried, value, True
    return weights


def shipped(cosines: Floats, scores: Floats) -> Floats:
    """What ``vidvec fuse --fit-weights`` does, of pairs that share no video."""
    pairs = [Pair(str(2 * at), str(2 * at + 1), float(s)) for at, s in enumerate(scores)]
    members = []
    for column in cosines.T:
        matrix = np.zeros((2 * len(column), 2), np.float32)
        matrix[0::2, 0] = 1
        matrix[1::2] = np.stack([column, np.sqrt(1 - column**2)], axis=1)
        members.append(PairVectors({str(row): row for row in range(len(matrix))}, matrix))
    return np.array(fit_weights(members, pairs, "all", resamples=1).weights)


def half_way(cosines: Floats, scores: Floats) -> Floats:
    """The mean of the least-squares fit and equal weights."""
    return (best_weights(cosines, scores) + 1 / cosines.shape[1]) / 2


WAYS: dict[str, Way] = {
    "climbing Spearman": climbed,
    "least squares": best_weights,
    "half way to equal": half_way,
    "fuse --fit-weights": shipped,
}


def gains(qualities: tuple[float, ...], count: int, draws: int) -> dict[str, Floats]:
    """(draws,) gain in Spearman of each way over equal weights."""
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for draw in range(draws):
        cosines, scores = made(qualities, count, draw)
        others, truth = made(qualities, JUDGED, 1000 + draw)
        equal = spearman(others.mean(1), truth)
        for name, way in WAYS.items():
            found[name].append(spearman(others @ way(cosines, scores), truth) - equal)
    return {name: np.array(values) for name, values in found.items()}


def main(draws: int) -> None:
    """Prints the table."""
    print(f"| members | pairs | {' | '.join(WAYS)} |")
    print(f"|---|--:|{'--:|' * len(WAYS)}")
    for name, qualities in MEMBERS.items():
        for count in PAIRS:
            found = gains(qualities, count, draws).values()
            cells = [f"{1e4 * each.mean():+.0f} ({1e4 * each.min():+.0f})" for each in found]
            print(f"| {name} | {count} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fusion_weights")
    parser.add_argument("--draws", type=int, default=10)
    main(parser.parse_args().draws)
