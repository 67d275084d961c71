"""Vectors on a plane, so that neighbours stay neighbours.

t-SNE, exact (van der Maaten and Hinton, "Visualizing Data using t-SNE", 2008): time and memory grow
with the square of the number of vectors, which for the at most 2,000 of a page are seconds. It
begins at the two principal components, so the same vectors give the same map.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

PERPLEXITY = 30.0
STEPS = 500
EARLY_STEPS, EXAGGERATION = 150, 12.0


def principal_components(vectors: NDArray[np.floating]) -> Floats:
    """(n, 2) coordinates of (n, E) vectors along the two directions of most variance.

    Each sign is the one whose largest coordinate is positive. Directions that are not there (fewer
    than three vectors, or all on a line) give 0.
    """
    centred = np.asarray(vectors, np.float64) - np.mean(vectors, axis=0, dtype=np.float64)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    scores = np.zeros((len(centred), 2))
    found = min(2, len(lengths))
    scores[:, :found] = left[:, :found] * lengths[:found]
    furthest = np.abs(scores).argmax(axis=0)
    return (scores * np.where(scores[furthest, [0, 1]] < 0, -1, 1)).astype(np.float32)


def affinities(vectors: NDArray[np.floating], perplexity: float) -> Floats:
    """(n, n) symmetric neighbour probabilities that sum to 1.

    Each row's bandwidth is found by bisection, all rows at once, so that the entropy of its
    neighbours is the logarithm of ``perplexity``.
    """
    points = np.asarray(vectors, np.float32)
    squares = (points * points).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0)
    np.fill_diagonal(distances, np.inf)
    distances -= distances.min(axis=1, keepdims=True)
    precision = np.ones(len(points), np.float32)
    low, high = np.zeros_like(precision), np.full_like(precision, np.inf)
    finite = np.where(np.isfinite(distances), distances, 0)
    for _ in range(40):
        weights = np.exp(-distances * precision[:, None])
        sums = weights.sum(axis=1)
        entropy = np.log(sums) + precision * (weights * finite).sum(axis=1) / sums
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, precision, low), np.where(wide, high, precision)
        precision = np.where(np.isinf(high), precision * 2, (low + high) / 2)
    rows = weights / sums[:, None]
    return np.asarray((rows + rows.T) / (2 * len(points)), np.float32)


def plane(vectors: NDArray[np.floating]) -> Floats:
    """(n, 2) places of (n, E) vectors on a map of unit spread; near by cosine is near there."""
    vectors = np.asarray(vectors, np.float32)
    if not len(vectors):
        return np.zeros((0, 2), np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    places = principal_components(unit)
    if len(unit) > 3:
        places = _descend(affinities(unit, min(PERPLEXITY, (len(unit) - 1) / 3)), places)
    spread = places.std(axis=0).max()
    return places / spread if spread > 0 else places


def _descend(wanted: Floats, start: Floats) -> Floats:
    """Gradient descent on the divergence between wanted and shown neighbour probabilities.

    Momentum, gains and exaggeration are those of the paper's implementation; the learning rate
    grows with the number of points, after Belkina et al. (2019).
    """
    places = start / max(float(start.std()), 1e-12) * np.float32(1e-4)
    velocity, gains = np.zeros_like(places), np.ones_like(places)
    rate = max(50.0, len(places) / EXAGGERATION)
    for step in range(STEPS):
        early = step < EARLY_STEPS
        gradient = _gradient(wanted * np.float32(EXAGGERATION) if early else wanted, places)
        same = np.sign(gradient) == np.sign(velocity)
        gains = np.maximum(np.where(same, gains * 0.8, gains + 0.2), 0.01)
        velocity = (0.5 if early else 0.8) * velocity - rate * gains * gradient
        places = places + velocity
        places -= places.mean(axis=0)
    return np.asarray(places, np.float32)


def _gradient(wanted: Floats, places: Floats) -> Floats:
    """(n, 2) equation 5 of the paper."""
    squares = (places * places).sum(axis=1)
    closeness = 1 / (1 + np.maximum(squares[:, None] + squares - 2 * places @ places.T, 0))
    np.fill_diagonal(closeness, 0)
    pull = (wanted - closeness / closeness.sum()) * closeness
    return np.asarray(4 * (pull.sum(axis=1)[:, None] * places - pull @ places), np.float32)
