"""Which of the demo's videos are compared, and how similar people would find them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidvec.demo.clips import Clip
from vidvec.demo.scenes import similarity

# The clean split puts pairs in validation whose ids are both multiples of five, and drops pairs
# across. Most pairs are drawn within one side, so that few are lost.
WITHIN_SIDE = 0.9
# Shares of pairs by similarity (above the first number, up to the second): many zeros and not few
# ones, as among real scores.
STRATA = (
    (-1.0, 0.0, 0.31),
    (0.0, 0.25, 0.15),
    (0.25, 0.5, 0.16),
    (0.5, 0.75, 0.14),
    (0.75, 0.95, 0.12),
    (0.95, 1.0, 0.12),
)
# Raters agree on the extremes and differ most in the middle.
RATER_NOISE = 0.1
COPY_SCORES = (0.9, 0.95, 1.0)


def draw_pairs(
    random: np.random.Generator, clips: list[Clip], count: int
) -> list[tuple[str, str, float]]:
    """Draws pairs of readable videos and scores them.

    The score is ``scenes.similarity`` with noise of standard deviation ``0.1·√(s·(1 − s))``, in
    steps of 0.05; where one is an altered copy of the other, or both of a third, 0.9, 0.95 or 1.
    Every altered copy is paired with its original; for the rest, videos take turns and find a
    partner in the one of ``STRATA`` that is furthest behind its share.

    Args:
        random: Decides.
        clips: All videos.
        count: Pairs wanted; at most half of all there are.

    Returns:
        Id, id and score; no pair twice.
    """
    clips = [clip for clip in clips if not clip.damage]
    alike = similarities(clips)
    count = min(count, len(clips) * (len(clips) - 1) // 4)
    order = _choose(random, clips, alike, count)
    looks = [clip.scene.look for clip in clips]
    scored = []
    for place in random.permutation(len(order)):
        one, two = order[int(place)]
        if looks[one] == looks[two]:
            score = float(random.choice(COPY_SCORES))
        else:
            score = _rated(random, float(alike[one, two]))
        scored.append((clips[one].id, clips[two].id, score))
    return scored


def similarities(clips: list[Clip]) -> NDArray[np.float64]:
    """(N, N): similarity of every two videos' scenes."""
    alike = np.ones((len(clips), len(clips)))
    for one, first in enumerate(clips):
        for two, second in enumerate(clips[:one]):
            alike[one, two] = alike[two, one] = similarity(first.scene, second.scene)
    return alike


def _choose(
    random: np.random.Generator, clips: list[Clip], alike: NDArray[np.float64], count: int
) -> list[tuple[int, int]]:
    """Places of the two videos of each pair."""
    places = {clip.id: place for place, clip in enumerate(clips)}
    chosen = [(places[clip.copy_of], place) for place, clip in enumerate(clips) if clip.copy_of]
    free = ~np.eye(len(clips), dtype=np.bool_)
    for one, two in chosen:
        free[one, two] = free[two, one] = False
    stratum = np.searchsorted([high for _, high, _ in STRATA], alike)
    wanted = np.array([share for _, _, share in STRATA])
    filled = np.zeros(len(STRATA))
    side = np.array([int(clip.id) % 5 == 0 for clip in clips])
    first = 0
    while len(chosen) < count:
        first = (first + 1) % len(clips)
        open_to = free[first]
        if random.random() < WITHIN_SIDE:
            open_to = open_to & (side == side[first])
        for number in np.argsort(filled - wanted * (len(chosen) + 1), kind="stable"):
            partners = np.flatnonzero(open_to & (stratum[first] == number))
            if len(partners):
                second = int(random.choice(partners))
                free[first, second] = free[second, first] = False
                filled[number] += 1
                chosen.append((first, second))
                break
    return chosen


def _rated(random: np.random.Generator, alike: float) -> float:
    noise = RATER_NOISE * np.sqrt(alike * (1 - alike)) * random.standard_normal()
    return float(np.clip(np.round(20 * (alike + noise)) / 20, 0, 1))
