"""Groups of near vectors, and how many there are.

k-means on unit vectors, started by k-means++ (Arthur and Vassilvitskii 2007). Their number is the
largest whose mean silhouette (Rousseeuw 1987, with distances to the groups' centres, as Hruschka,
Campello and de Castro 2006) is nearly that of the best number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NUMBERS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 18, 20, 22, 24, 27, 30)
# Videos that centres are computed from, and those that the number is chosen on, at most.
SAMPLE, CHOICE_SAMPLE = 50_000, 5_000
# A number of groups is good enough where its silhouette is this share of the best one's.
NEARLY = 0.97
# Fewer videos are one group; a group has so many on average, or more.
FEWEST, FEWEST_EACH = 8, 4
ROUNDS = 25
# k-means ends where it began well or badly: the best of several is taken.
TRIES = 4
BLOCK = 65_536


def group(
    vectors: NDArray[np.float32], seed: int = 0, number: int | None = None
) -> NDArray[np.int64]:
    """The group of each vector.

    Args:
        vectors: (n, E) of length 1.
        seed: The same gives the same groups.
        number: How many; ``None``: as many as suit the vectors. There may be fewer, where vectors
            are equal.

    Returns:
        (n,) int64: 0 for the largest group and so on; each number below the highest is there.
    """
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(vectors))[:SAMPLE]
    some = vectors[np.sort(chosen)]
    if number is None:
        number = _suitable(some[:: -(-len(some) // CHOICE_SAMPLE)], seed)
    if number < 2:
        return np.zeros(len(vectors), np.int64)
    centres = _centres(some, number, seed)
    nearest = [_nearest(vectors[i : i + BLOCK], centres)[1] for i in range(0, len(vectors), BLOCK)]
    found = np.concatenate([rows[:, 0] for rows in nearest])
    counts = np.bincount(found, minlength=number)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(number, np.int64)
    rank[order] = np.arange(number)
    return rank[found]


def _suitable(vectors: NDArray[np.float32], seed: int) -> int:
    """How many groups suit the vectors."""
    distinct = len(np.unique(vectors, axis=0))
    numbers = [each for each in NUMBERS if each <= min(distinct, len(vectors) / FEWEST_EACH)]
    if len(vectors) < FEWEST or not numbers:
        return 1
    found = {each: _silhouette(vectors, _centres(vectors, each, seed)) for each in numbers}
    best = max(found.values())
    return max(each for each, value in found.items() if value >= NEARLY * best)


def _silhouette(vectors: NDArray[np.float32], centres: NDArray[np.float32]) -> float:
    """Mean of 1 − (distance to the own centre) / (distance to the next one)."""
    own, other = np.sqrt(np.maximum(2 - 2 * _nearest(vectors, centres)[0], 0)).T
    return float((1 - own / np.maximum(other, 1e-12)).mean())


def _nearest(
    vectors: NDArray[np.float32], centres: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cosines (n, 2) with the two nearest centres, and their numbers."""
    import faiss

    index = faiss.IndexFlatIP(centres.shape[1])
    index.add(centres)
    cosines, rows = index.search(np.ascontiguousarray(vectors), 2)
    return cosines, rows


def _centres(vectors: NDArray[np.float32], number: int, seed: int) -> NDArray[np.float32]:
    """(number, E) centres of length 1: of several tries, those nearest to the vectors."""
    import faiss

    single = np.ascontiguousarray(vectors)
    best, found = -np.inf, np.zeros((0, 0), np.float32)
    for trial in range(TRIES):
        means = faiss.Kmeans(
            vectors.shape[1],
            number,
            niter=ROUNDS,
            seed=seed,
            spherical=True,
            min_points_per_centroid=1,
            max_points_per_centroid=len(vectors),
        )
        means.train(single, init_centroids=_spread(vectors, number, seed + trial))
        centres = np.asarray(means.centroids, np.float32)
        near = float(_nearest(single, centres)[0][:, 0].mean())
        if near > best:
            best, found = near, centres
    return found


def _spread(vectors: NDArray[np.float32], number: int, seed: int) -> NDArray[np.float32]:
    """(number, E) vectors far from one another: each drawn by its squared distance to the others.

    Of several drawn each time, the one that brings the vectors nearest to those taken is taken.
    """
    random = np.random.default_rng(seed)
    some = vectors[random.permutation(len(vectors))[:CHOICE_SAMPLE]]
    chosen = [int(random.integers(len(some)))]
    away = np.maximum(2 - 2 * (some @ some[chosen[0]]), 0).astype(np.float64)
    tries = 2 + int(np.log(number))
    while len(chosen) < number:
        total = away.sum()
        if total <= 0:
            chosen.append(chosen[0])
            continue
        drawn = random.choice(len(some), tries, p=away / total)
        closer = np.minimum(away, np.maximum(2 - 2 * (some[drawn] @ some.T), 0))
        best = int(closer.sum(1).argmin())
        chosen.append(int(drawn[best]))
        away = closer[best].astype(np.float64)
    return np.ascontiguousarray(some[chosen])
