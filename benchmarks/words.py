"""How often words find what they name, on the demo's videos.

    python -m benchmarks.words CORPUS RUN [RUN ...]

For ten short queries in Chinese and English, the share of the five nearest videos that carry the
tag of the theme asked for. A third of the demo's videos have no such tag, so 1 is out of reach.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from vidvec import Corpus, Encoder

QUERIES = {
    "海边的帆船": "sea",
    "雪山": "snow",
    "a dog in the garden": "garden",
    "city at night": "city",
    "fish in the aquarium": "aquarium",
    "火车 铁路": "railway",
    "forest": "forest",
    "cooking in the kitchen": "kitchen",
    "沙漠": "desert",
    "concert stage music": "concert",
}
FIRST = 5


def precision(corpus: Corpus, encoder: Encoder) -> float:
    """Mean over the queries."""
    vectors = encoder.encode([corpus.video(row) for row in range(len(corpus))])
    tags = corpus.column("tags").to_pylist()
    hits = []
    for query, theme in zip(encoder.encode(list(QUERIES)), QUERIES.values(), strict=True):
        nearest = np.argsort(-(vectors @ query))[:FIRST]
        hits += [theme in (tags[row] or ()) for row in nearest]
    return float(np.mean(hits))


if __name__ == "__main__":
    opened = Corpus(Path(sys.argv[1]))
    for run in sys.argv[2:]:
        print(f"{run}: {precision(opened, Encoder.load(run)):.2f}")
