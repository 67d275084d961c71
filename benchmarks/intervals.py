"""How often the scorecard's 95 % intervals hold the true correlation, as a table in Markdown.

    python -m benchmarks.intervals [DRAWS]

Scores and cosines of 200 pairs are drawn whose true Pearson correlation is 1/√2. A share of the
variance of each comes from the two videos of a pair, so that pairs with a video in common are
alike. Three graphs: no video in two pairs; stars of five pairs around one video; pairs of 100
videos drawn at random, nearly all of which hang together.
"""

from __future__ import annotations

import sys
from collections import defaultdict

import numpy as np

from vidvec.metrics import Interval
from vidvec.records import Pair
from vidvec.search.scorecard.resampling import (
    Drawn,
    components,
    correlated,
    single,
    videos,
    weighted_pearson,
)

PAIRS = 200
SHARES = (0.3, 0.6)
TRUE = 1 / np.sqrt(2)
RESAMPLES = 400
Ends = list[tuple[int, int]]


def graphs(random: np.random.Generator) -> dict[str, Ends]:
    """The pairs of each graph, as numbers of videos."""
    drawn = [random.choice(PAIRS // 2, 2, replace=False) for _ in range(PAIRS)]
    return {
        "apart": [(2 * pair, 2 * pair + 1) for pair in range(PAIRS)],
        "stars of five": [(PAIRS + pair // 5, pair) for pair in range(PAIRS)],
        "at random": [(int(a), int(b)) for a, b in drawn],
    }


def scored(random: np.random.Generator, ends: Ends, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and scores (P,) of pairs, a share of whose variance comes from their videos."""

    def noise() -> np.ndarray:
        of_video = random.normal(size=2 * PAIRS)
        shared = np.array([of_video[a] + of_video[b] for a, b in ends])
        return np.sqrt(share / 2) * shared + np.sqrt(1 - share) * random.normal(size=len(ends))

    scores = noise()
    return scores + noise(), scores


def main(draws: int) -> None:
    """Prints the table."""
    print("| pairs | from their videos | over pairs | components | videos, as drawn | videos |")
    print("|---|---|---|---|---|---|")
    random = np.random.default_rng(0)
    for share in SHARES:
        found: dict[str, dict[str, list[Interval]]] = defaultdict(lambda: defaultdict(list))
        for seed in range(draws):
            for name, ends in graphs(random).items():
                x, y = scored(random, ends, share)
                pairs = [Pair(str(a), str(b), 0.0) for a, b in ends]
                for units in (single(PAIRS), components(pairs), videos(pairs)):
                    if units.count < 20:
                        continue
                    drawn = correlated(
                        weighted_pearson, x, y, units, resamples=RESAMPLES, seed=seed
                    )
                    found[name][units.name].append(drawn.interval())
                    if units.name == "videos":
                        plain = Drawn(drawn.value, drawn.samples).interval()
                        found[name]["as drawn"].append(plain)
        for name, each in found.items():
            cells = [_said(each[kind]) for kind in ("pairs", "components", "as drawn", "videos")]
            print(f"| {name} | {share:.0%} | {' | '.join(cells)} |", flush=True)


def _said(intervals: list[Interval]) -> str:
    """The share of intervals that hold the truth, and how wide they are on average."""
    if not intervals:
        return ""
    held = np.mean([each.low <= TRUE <= each.high for each in intervals])
    width = np.mean([each.high - each.low for each in intervals])
    return f"{held:.1%}, {width:.3f}"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
