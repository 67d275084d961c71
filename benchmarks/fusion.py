"""Fusion against scikit-learn's truncated SVD, and how near both are to the float64 answer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD

from benchmarks.measure import Comparison, alternate, timed
from vidvec import metrics
from vidvec.embed.fusion import concatenate, fit, normalised_weights

VIDEOS, MODELS, WIDTH, SIZE = 100_000, 6, 256, 256
ITERATIONS = 50  # as published
BLOCK = 16_384
PAIRS = 20_000


def made_members(videos: int) -> list[NDArray[np.float32]]:
    """(videos, 256) vectors of six models that see much in common, as six jobs of one data do."""
    random = np.random.default_rng(0)
    fading = np.exp(-np.arange(WIDTH, dtype=np.float32) / 60)
    common = random.standard_normal((videos, WIDTH), np.float32) * fading
    members = []
    for _ in range(MODELS):
        turn = np.linalg.qr(random.standard_normal((WIDTH, WIDTH)))[0].astype(np.float32)
        own = random.standard_normal((videos, WIDTH), np.float32)
        members.append(common @ turn + np.float32(0.05) * own + np.float32(0.05))
    return members


def compare_fusion(rounds: int, single: bool = False) -> tuple[list[Comparison], dict[str, float]]:
    """Times both, scikit-learn once, since 50 iterations take minutes.

    Args:
        rounds: Of vidvec's side.
        single: Also against scikit-learn in float32, which halves its time.

    Returns:
        Comparisons, and the largest differences of cosines from the float64 answer.
    """
    members = made_members(VIDEOS)
    weights = normalised_weights(None, MODELS)
    size = f"{VIDEOS:,} × {MODELS * WIDTH:,} → {SIZE}"

    def fast() -> NDArray[np.float64]:
        return fit(blocks(members), weights, [WIDTH] * MODELS, SIZE, "streaming").projection

    seconds = alternate({"fast": fast}, rounds)["fast"]
    joined = concatenate(members, weights)
    pairs = np.random.default_rng(1).integers(0, VIDEOS, (2, PAIRS))
    exact = np.linalg.eigh(joined.T @ joined)[1][:, -SIZE:]
    errors = {"fusion": cosine_difference(joined, pairs, fast(), exact)}
    comparisons = []
    for precision in ("float64", "float32")[: 1 + single]:
        whole = joined.astype(precision)
        svd = TruncatedSVD(SIZE, n_iter=ITERATIONS, random_state=0)
        slow = timed(lambda svd=svd, whole=whole: svd.fit(whole))
        name = "fusion" if precision == "float64" else "fusion_float32"
        what = f"fusion, {size}, against scikit-learn in {precision}"
        comparisons.append(Comparison(name, what, (slow,), seconds, VIDEOS))
        axes = svd.components_.T.astype(np.float64)
        errors[f"scikit-learn in {precision}"] = cosine_difference(joined, pairs, axes, exact)
    return comparisons, errors


def blocks(members: list[NDArray[np.float32]]) -> Iterator[list[NDArray[np.float32]]]:
    """The vectors as they come from the shards of ``vidvec embed``."""
    for start in range(0, len(members[0]), BLOCK):
        yield [member[start : start + BLOCK] for member in members]


def cosine_difference(
    joined: NDArray[np.float64],
    pairs: NDArray[np.int64],
    axes: NDArray[np.float64],
    exact: NDArray[np.float64],
) -> float:
    """Largest difference between cosines of pairs (2, n) by two sets of axes (dimension, SIZE)."""
    one, other = (metrics.cosines(*(joined[pairs] @ each)) for each in (axes, exact))
    return float(np.abs(one - other).max())
