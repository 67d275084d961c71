"""How well and how fast near duplicates are found among many vectors, as a table in Markdown.

    python -m benchmarks.dedup [VIDEOS] [THRESHOLD] [TOPIC SHARE] [SEED …]

Made vectors of 256 numbers: videos of 2,000 topics, and a third of all are copies, one to nine of a
video, whose cosine to the original is drawn from 0.90 … 0.999. Which are copies of one another is
known, so that pairs can be counted: a pair is found when both are in one group. TOPIC SHARE is the
cosine of two videos of one topic; at 0 there are no topics, and lists by nearest centre say least.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np
from numpy.typing import NDArray

from vidvec.search.dedup import THRESHOLD, deduplicate

WIDTH = 256
TOPICS = 2000
TOPIC_SHARE = 0.5
AT_ONCE = 50_000


def made(count: int, seed: int, share: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(count, 256) unit vectors, shuffled, and the video (count,) that each is a copy of."""
    random = np.random.default_rng(seed)
    copies: list[int] = []
    while len(copies) < count // 3:
        copies += [len(copies)] * int(random.integers(1, 10))
    originals = count - len(copies)
    labels = np.concatenate([np.arange(originals), np.array(copies) % originals])
    topics = _unit(random.normal(size=(TOPICS, WIDTH)))
    vectors = np.empty((count, WIDTH), np.float32)
    for start in range(0, originals, AT_ONCE):
        size = min(AT_ONCE, originals - start)
        own, topic = _unit(random.normal(size=(size, WIDTH))), random.integers(TOPICS, size=size)
        both = np.sqrt(share) * topics[topic] + np.sqrt(1 - share) * own
        vectors[start : start + size] = _unit(both)
    for start in range(originals, count, AT_ONCE):
        base = vectors[labels[start : start + AT_ONCE]].astype(np.float64)
        cosine = random.uniform(0.90, 0.999, (len(base), 1))
        away = random.normal(size=base.shape)
        away = _unit(away - (away * base).sum(axis=1, keepdims=True) * base)
        vectors[start : start + AT_ONCE] = cosine * base + np.sqrt(1 - cosine**2) * away
    order = random.permutation(count)
    return vectors[order], labels[order]


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def pairs_in(labels: NDArray[np.int64]) -> int:
    """Pairs of equal labels."""
    _, counts = np.unique(labels, return_counts=True)
    return int((counts.astype(np.int64) * (counts - 1) // 2).sum())


def main(count: int, threshold: float, share: float, seeds: list[int]) -> None:
    """Prints the table."""
    print(f"{count:,} vectors of {WIDTH} numbers, threshold {threshold:g}, topic share {share:g}\n")
    print(
        "| seed | pairs of copies | recall | precision | groups | sampled recall | minutes | GB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for seed in seeds:
        vectors, labels = made(count, seed, share)
        ids = [str(number) for number in range(count)]
        start = time.perf_counter()
        found = deduplicate(ids, vectors, threshold, progress=_say)
        minutes = (time.perf_counter() - start) / 60
        group = np.arange(count) + len(found.groups)
        for number, each in enumerate(found.groups):
            group[[int(hit.id) for hit in each.members]] = number
        both = pairs_in(group * (count + 1) + labels)
        known, shown = pairs_in(labels), pairs_in(group)
        sampled = found.recall
        share = "exact" if sampled is None else f"{sampled.found:,} of {sampled.pairs:,}"
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"| {seed} | {known:,} | {both / known:.4f} | {both / max(1, shown):.4f} | "
            f"{len(found.groups):,} | {share} | {minutes:.1f} | {memory:.1f} |",
            flush=True,
        )


_started = time.perf_counter()
_last = ""


def _say(done: int, total: int, note: str) -> None:
    global _last  # noqa: PLW0603 - which step was said last
    if note != _last or done == total:
        _last = note
        seconds = time.perf_counter() - _started
        print(f"{seconds:7.1f} s  {note} {done:,} of {total:,}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(
        int(given[0]) if given else 1_000_000,
        float(given[1]) if len(given) > 1 else THRESHOLD,
        float(given[2]) if len(given) > 2 else TOPIC_SHARE,
        [int(each) for each in given[3:]] or [1],
    )
