"""What vectors of clips find: clips of the same topic, altered copies, the clip of a picture.

Letters: S seeds, Q queries, C clips, E numbers in a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.copies import ALTERED_SET, copied
from vidvec.metrics import Interval

RESAMPLES = 2000
Floats = NDArray[np.float32]
Hits = NDArray[np.float64]
# By what the clips are read: ``frames``, ``title``, ``both``, each (C, E); ``copies``: altered
# copies of some of them, by frames; ``pictures``: (C, E), the middle frame of each. Of length 1.
Vectors = Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Clips:
    """What is known of the clips.

    Attributes:
        facts: (C,) of each clip, as its set's ``meta.jsonl`` has it.
        copy_of: Of each altered copy that was made, the place of its clip.
        copy_kinds: How each was made.
    """

    facts: Sequence[Mapping[str, str]]
    copy_of: NDArray[np.int64]
    copy_kinds: Sequence[str]


def topics(clips: Clips, vectors: Floats) -> Hits:
    """(Q,) whether the nearest clip of another group has the topic, of the clips with topics."""
    own = [place for place, facts in enumerate(clips.facts) if facts["source"] == ALTERED_SET]
    groups = np.array([clips.facts[place]["group"] for place in own])
    kinds = np.array([clips.facts[place]["category"] for place in own])
    cosines = vectors[own] @ vectors[own].T
    cosines[groups[:, None] == groups] = -np.inf
    return np.asarray(kinds[cosines.argmax(axis=1)] == kinds, np.float64)


def known_copies(clips: Clips, vectors: Floats) -> Hits:
    """(Q,) whether the nearest clip is a copy, of the clips that came along with copies."""
    shown = np.array([copied(dict(facts)) for facts in clips.facts])
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    own = [place for place, what in enumerate(shown) if what.startswith("dup:")]
    return np.asarray(shown[cosines[own].argmax(axis=1)] == shown[own], np.float64)


def made_copies(clips: Clips, copies: Floats, vectors: Floats) -> Hits:
    """(Q,) whether the clip nearest to an altered copy is the one that it was made of."""
    return np.asarray((copies @ vectors.T).argmax(axis=1) == clips.copy_of, np.float64)


def own_pictures(pictures: Floats, vectors: Floats) -> Hits:
    """(C,) whether the clip nearest to a picture is the one that it is from."""
    return np.asarray((pictures @ vectors.T).argmax(axis=1) == np.arange(len(vectors)), np.float64)


# Which measures there are, each with what the clips are read by.
MEASURES = (
    *(f"topics by {view}" for view in ("frames", "title", "both")),
    *(f"{what} by {view}" for what in ("copies", "made", "picture") for view in ("frames", "both")),
)


def hits(clips: Clips, vectors: Vectors, measure: str) -> Hits:
    """(Q,) of one of ``MEASURES``."""
    what, view = measure.split(" by ")
    read = vectors[view]
    if what == "topics":
        return topics(clips, read)
    if what == "copies":
        return known_copies(clips, read)
    if what == "made":
        return made_copies(clips, vectors["copies"], read)
    return own_pictures(vectors["pictures"], read)


def measured(clips: Clips, by_seed: Sequence[Vectors]) -> dict[str, Hits]:
    """(S, Q) of each measure that these vectors allow."""
    return {
        measure: np.stack([hits(clips, vectors, measure) for vectors in by_seed])
        for measure in MEASURES
        if measure.split(" by ")[1] in by_seed[0]
    }


def mean_interval(found: Hits, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean of (S, Q) values and its 95 % interval, over seeds and queries drawn together.

    Of differences it is the paired interval.
    """
    of_seeds, of_queries = (_drawn(count, resamples, seed) for count in found.shape)
    drawn = ((of_seeds @ found) * of_queries).sum(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(found.mean()), float(low), float(high))


@lru_cache
def _drawn(count: int, resamples: int, seed: int) -> Hits:
    """(resamples, count) how often each is drawn of as many as there are, as a share of them."""
    random = np.random.default_rng([seed, count])
    return random.multinomial(count, np.full(count, 1 / count), resamples) / count


def unit(vectors: NDArray[np.floating]) -> Floats:
    """Rows of length 1; one of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)


def joined(first: Vectors, second: Vectors) -> dict[str, Floats]:
    """Both vectors of everything, each with half the say; by title alone only the second."""
    found = {}
    for name, own in second.items():
        other = first.get(name, np.zeros((len(own), first["frames"].shape[1]), np.float32))
        found[name] = unit(np.concatenate([other, own], axis=1))
    return found
