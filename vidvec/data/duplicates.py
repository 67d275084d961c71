"""Videos that are there more than once: the same frame features, nearly the same, the same title.

Exact duplicates have the same frame features bit for bit, which copies of a file have. Near
duplicates are looked for in two steps:

1. A vector a video: the mean of its frame features less the corpus's mean, on the leading principal
   directions of a sample. Its neighbours by cosine (exact for small corpora, in faiss's inverted
   lists for large ones) are candidates.
2. Frame by frame: each frame of the video with fewer of them has a best match among the other's
   frames, by cosine less the corpus's mean. The mean over these best matches is the similarity of
   the two: Chamfer similarity after Kordopatis-Zilos et al., "ViSiL" (2019), of the one side, so
   that a part of a video matches the whole. Other videos from the same studio reach it, too; so
   matched frames must also change together: what is left of them less each video's mean must
   correlate. Where one of the two does not change, that says nothing, and similarity decides.

Pairs that pass are joined into groups; a group may hold two videos that are alike only by way of a
third.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import google_crc32c
import numpy as np
from numpy.typing import NDArray

from vidvec.data.corpus import Corpus
from vidvec.data.sampling import sample_positions
from vidvec.errors import UsageError

# docs/experiments.md: of 8,981 pairs of unrelated clips the most alike reach 0.69 (classic) and
# 0.55 (MobileNet); copies with a logo or caption, brighter, cropped or cut nearly all reach 0.75.
THRESHOLD = 0.75
# Of 1,433 pairs of made scenes that reach it, 22 change together; of 45 copies 31.
CHANGE = 0.6
# Means differ more than frames where one video is a part of the other.
CANDIDATE_MARGIN = 0.1
# Frames of a video that differ so little from their mean, in variance, against those of the corpus
# from theirs, are all alike. Still clips as encoders leave them have up to 0.0005, the calmest of
# 137 real clips 0.0019.
STILL = 1e-3

DIRECTIONS = 64
NEIGHBOURS = 16
SAMPLE = 4096
FEWEST = 8  # below, the corpus's mean says more about its few videos than about what they share
EXACT_SEARCH = 20_000
QUERIES_AT_ONCE = 4096
CHECKED_FRAMES = 32
MOST_CHECKS = 2_000_000
QUICK_BYTES = 2**30
_BLOCK = 512

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Frames = NDArray[np.float16]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Group:
    """Videos that are alike.

    Attributes:
        rows: Of the corpus. The first stands for the others: it has the most frames, and of those
            with as many came first.
        similarity: Of the least alike two that were compared and joined; 1 where all are the same.
    """

    rows: tuple[int, ...]
    similarity: float


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What was found in the frames of a corpus.

    Attributes:
        compared: Videos with frames.
        exact: Groups with the same frame features, largest first.
        near: Groups of near duplicates, largest first; of exact ones, only the first is in here.
        still: Rows of videos with two frames or more whose frames are all alike.
        threshold: Similarity from which two videos that change alike are near duplicates.
        checked: Pairs compared frame by frame.
        unchecked: Candidates beyond the most that are checked, the least alike by their means.
        too_few: Near duplicates were not looked for: there are fewer than 8 different videos.
    """

    compared: int
    exact: tuple[Group, ...]
    near: tuple[Group, ...]
    still: tuple[int, ...]
    threshold: float
    checked: int
    unchecked: int
    too_few: bool


def find_duplicates(
    corpus: Corpus, threshold: float = THRESHOLD, progress: Progress | None = None
) -> Duplicates:
    """Looks for duplicates in the frames of a corpus, which are read once, and candidates again.

    Memory is about 2 KB a video at most, whatever its frames take: they are read as they lie.

    Args:
        corpus: With frames or without.
        threshold: Similarity, 0…1, from which two videos that change alike are near duplicates.
        progress: Called with how much is done, of how much, and of what: videos read, videos
            searched for, pairs compared.

    Raises:
        UsageError: The threshold is not above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"a similarity from above 0 to 1 is expected, found {threshold}")
    rows = corpus.live[corpus.frame_counts[corpus.live] > 0]
    said = progress or (lambda *_: None)
    space = FrameSpace(corpus, rows)
    vectors, checksums, variances = _read(corpus, rows, space, said)
    exact = _exact_groups(corpus, rows, checksums)
    extra = np.array([row for group in exact for row in group.rows[1:]], np.int64)
    kept = ~np.isin(rows, extra)
    still = rows[(corpus.frame_counts[rows] > 1) & (variances <= STILL)]
    too_few = int(kept.sum()) < FEWEST
    near: tuple[Group, ...] = ()
    checked = unchecked = 0
    if not too_few:
        pairs, unchecked = _candidates(vectors[kept], threshold - CANDIDATE_MARGIN, said)
        pairs = rows[kept][pairs]
        checked = len(pairs)
        near = _joined(corpus, _near_pairs(corpus, space, pairs, threshold, said))
    found = tuple(int(row) for row in still)
    return Duplicates(len(rows), exact, near, found, threshold, checked, unchecked, too_few)


def is_quick(corpus: Corpus) -> bool:
    """Whether looking for duplicates takes seconds: few videos, and frames of a GiB at most."""
    size = int(corpus.frame_counts.sum()) * corpus.frame_size * 2
    return len(corpus) <= EXACT_SEARCH and size <= QUICK_BYTES


class FrameSpace:
    """What frames are compared in: the corpus's mean, its leading directions, and its scale.

    Args:
        corpus: The corpus.
        rows: (n,) int64, videos with frames; the sample is drawn from them.

    Attributes:
        mean: (D,) float32 mean of the sample's video means. Videos that are alike about their
            plain mean count together as one: else many copies would draw the mean to themselves,
            and be unlike one another about it.
        directions: (K, D) float32, rows orthonormal.
        scale: Mean squared distance of the sample's frames from ``mean``.
    """

    def __init__(self, corpus: Corpus, rows: Ints) -> None:
        drawn = np.random.default_rng(0).permutation(len(rows))[:SAMPLE]
        sample = rows[np.sort(drawn)]
        means = np.zeros((len(sample), corpus.frame_size), np.float64)
        squares = np.zeros(len(sample))
        for place, row in enumerate(sample.tolist()):
            frames = corpus.frames(row).astype(np.float32)
            means[place] = frames.mean(axis=0)
            squares[place] = np.square(frames).sum(axis=1, dtype=np.float64).mean()
        weights = _weights(means)
        middle = weights @ means
        # E|x − m|² = E|x|² − 2 m·E x + |m|², and E x is m.
        self.scale = float(weights @ squares - middle @ middle)
        self.mean = middle.astype(np.float32)
        size = min(DIRECTIONS, corpus.frame_size)
        spread = (means - middle).T * weights @ (means - middle)
        self.directions = np.linalg.eigh(spread)[1][:, ::-1][:, :size].T.astype(np.float32)

    def compare(self, frames: Frames, others: Frames) -> tuple[float, bool]:
        """How alike two videos are by their frames, −1…1, and whether the two change together.

        Args:
            frames: (F, D) of one.
            others: (F, D) of the other.
        """
        fewer, more = sorted((self._centred(each) for each in (frames, others)), key=len)
        cosines = _unit(fewer) @ _unit(more).T
        matched = more[cosines.argmax(axis=1)]
        own, all_its, its = (each - each.mean(axis=0) for each in (fewer, more, matched))
        change = min(float(np.square(each).sum(axis=1).mean()) for each in (own, all_its))
        lengths = float(np.linalg.norm(own)) * float(np.linalg.norm(its))
        together = change <= STILL * self.scale or float(np.vdot(own, its)) >= CHANGE * lengths > 0
        return float(cosines.max(axis=1).mean()), together

    def _centred(self, frames: Frames) -> Floats:
        shown = frames[sample_positions(len(frames), CHECKED_FRAMES)]
        return shown.astype(np.float32) - self.mean


def _weights(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) weights that sum to one, of each the inverse of how many are like it and itself."""
    if not len(means):
        return np.zeros(0)
    unit = _unit((means - means.mean(axis=0)).astype(np.float32))
    alike = np.maximum(1, (unit @ unit.T >= THRESHOLD).sum(axis=1))
    weights = 1 / alike
    return weights / weights.sum()


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.float32(1e-12))


def _read(
    corpus: Corpus, rows: Ints, space: FrameSpace, progress: Progress
) -> tuple[Floats, NDArray[np.uint32], Floats]:
    """One pass over the frames.

    Returns:
        Unit vectors (n, K), CRC-32C of the frame features (n,), and the variance of each video's
        frames about their mean in units of the corpus's (n,).
    """
    vectors = np.zeros((len(rows), len(space.directions)), np.float32)
    checksums = np.zeros(len(rows), np.uint32)
    variances = np.zeros(len(rows), np.float32)
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK].tolist()
        means = np.zeros((len(some), corpus.frame_size), np.float32)
        for place, row in enumerate(some):
            frames = corpus.frames(row)
            checksums[start + place] = google_crc32c.value(frames.tobytes())
            centred = frames.astype(np.float32) - space.mean
            means[place] = centred.mean(axis=0)
            centred -= means[place]
            variances[start + place] = np.vdot(centred, centred) / len(frames)
        vectors[start : start + len(some)] = _unit(means @ space.directions.T)
        progress(start + len(some), len(rows), "videos read")
    return vectors, checksums, variances / np.float32(max(space.scale, 1e-12))


def _exact_groups(corpus: Corpus, rows: Ints, checksums: NDArray[np.uint32]) -> tuple[Group, ...]:
    """Groups of rows with the same frames; equal checksums are confirmed byte by byte."""
    keys = checksums.astype(np.int64) << 24 | np.minimum(corpus.frame_counts[rows], 2**24 - 1)
    _, where, counts = np.unique(keys, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[where] > 1)
    groups: dict[int, list[list[int]]] = defaultdict(list)
    for place in repeated.tolist():
        row = int(rows[place])
        for group in groups[int(where[place])]:
            if np.array_equal(corpus.frames(group[0]), corpus.frames(row)):
                group.append(row)
                break
        else:
            groups[int(where[place])].append([row])
    found = [Group(tuple(g), 1.0) for some in groups.values() for g in some if len(g) > 1]
    return tuple(sorted(found, key=lambda group: (-len(group.rows), group.rows)))


def _candidates(vectors: Floats, least: float, progress: Progress) -> tuple[Ints, int]:
    """Pairs of places whose vectors are near, (pairs, 2) int64 with the lower first, once each.

    Also returns how many were left out as beyond what is checked, the least alike.
    """
    index, count = _index(vectors), len(vectors)
    keys: list[Ints] = []  # a pair as one number, lower × count + higher
    cosines: list[Floats] = []
    for start in range(0, count, QUERIES_AT_ONCE):
        found, places = index.search(vectors[start : start + QUERIES_AT_ONCE], NEIGHBOURS)
        mine = np.broadcast_to(start + np.arange(len(places))[:, None], places.shape)
        near = (places >= 0) & (places != mine) & (found >= least)
        one, other = mine[near], places[near].astype(np.int64)
        keys.append(np.minimum(one, other) * count + np.maximum(one, other))
        cosines.append(found[near])
        progress(min(count, start + QUERIES_AT_ONCE), count, "videos searched for")
    distinct, first = np.unique(np.concatenate(keys), return_index=True)
    order = np.argsort(-np.concatenate(cosines)[first], kind="stable")[:MOST_CHECKS]
    chosen = distinct[np.sort(order)]
    pairs = np.stack([chosen // count, chosen % count], axis=1)
    return pairs, len(distinct) - len(chosen)


def _index(vectors: Floats) -> Any:
    """Exact for few vectors; else inverted lists of half-precision vectors, 16 of them probed."""
    count, size = vectors.shape
    coarse = faiss.IndexFlatIP(size)
    if count <= EXACT_SEARCH:
        coarse.add(vectors)
        return coarse
    lists = int(4 * np.sqrt(count))
    half, product = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFScalarQuantizer(coarse, size, lists, half, product, False)
    index.cp.niter = 10
    drawn = np.random.default_rng(0).choice(count, min(count, 40 * lists), replace=False)
    index.train(vectors[np.sort(drawn)])
    index.add(vectors)
    index.nprobe = 16
    return index


def _near_pairs(
    corpus: Corpus, space: FrameSpace, pairs: Ints, threshold: float, progress: Progress
) -> list[tuple[int, int, float]]:
    """Of these pairs of rows, those that are near duplicates, with their similarity."""
    found = []
    for place, (row, other) in enumerate(pairs.tolist(), 1):
        if place % _BLOCK == 0 or place == len(pairs):
            progress(place, len(pairs), "pairs compared")
        similarity, together = space.compare(corpus.frames(row), corpus.frames(other))
        if similarity >= threshold and together:
            found.append((row, other, similarity))
    return found


def _joined(corpus: Corpus, pairs: list[tuple[int, int, float]]) -> tuple[Group, ...]:
    """Pairs of rows as groups: whatever is joined by a chain of pairs."""
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        parent.setdefault(row, row)
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    for row, other, _ in pairs:
        low, high = sorted((root(row), root(other)))
        parent[high] = low
    members: dict[int, list[int]] = defaultdict(list)
    least: dict[int, float] = {}
    for row in sorted(parent):
        members[root(row)].append(row)
    for row, _, similarity in pairs:
        least[root(row)] = min(similarity, least.get(root(row), 1.0))
    counts = corpus.frame_counts
    groups = [
        Group(tuple(sorted(rows, key=lambda row: (-int(counts[row]), row))), least[first])
        for first, rows in members.items()
    ]
    return tuple(sorted(groups, key=lambda group: (-len(group.rows), group.rows)))
