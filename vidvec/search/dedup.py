"""Groups of near duplicates among vectors, each around one video that stands for it.

Two videos are alike when their cosine, rounded to six decimals (which is what rounding leaves of
float32 vectors), is at least the threshold. Chains of alike videos join what is unlike, as a fade
from one scene to another does; so a group is not a chain but a star: every member is alike to the
one that represents it. They are found greedily, as a graph is covered by stars (Aslam, Pelekhov and
Rus, "The star clustering algorithm", 2004):

1. Of the videos that are in no group yet, take the one that is alike to most others of them; of
   several, the first by id. It and they are a group. Again, until no two that are left are alike.
2. A group's representative is the member with the highest mean cosine to the others, among those
   that all others are alike to; of several, the first by id.

A video that is alike only to members of a group which do not represent it stays alone, or founds a
group with others that are left. No video is in two groups, and the order of the videos does not
matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import UsageError
from vidvec.search.joining import Progress, SampledRecall, join, sampled_recall
from vidvec.search.stars import DECIMALS, MARGIN, doubles, rounded_cosines, stars
from vidvec.search.types import Group, Hit

# docs/experiments.md, "Near duplicates by vectors": what altered copies of real clips reach.
THRESHOLD = 0.9
LENGTH_TOLERANCE = 1e-6
# Members of a component up to which all its cosines are held at once.
SMALL = 512
NUMBERS_AT_ONCE = 2**22
# Splitting a chain takes the square of its length; a threshold that joins so many says nothing.
MOST_IN_A_CHAIN = 100_000

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Deduplication:
    """What was found among some vectors.

    Attributes:
        threshold: Cosine from which two videos are alike.
        compared: Videos compared.
        left_out: Ids of vectors that have no direction: zero, or with NaN or infinity.
        groups: Largest first, then by the representative's id.
        recall: Of pairs, measured on a sample; ``None`` where all pairs were computed.
    """

    threshold: float
    compared: int
    left_out: tuple[str, ...]
    groups: list[Group]
    recall: SampledRecall | None

    @property
    def extra(self) -> int:
        """Videos that another one represents."""
        return sum(len(group.members) - 1 for group in self.groups)


def find_groups(
    ids: Sequence[str], matrix: Floats, threshold: float, *, progress: Progress | None = None
) -> list[Group]:
    """Groups of near duplicates, largest first, then by the representative's id.

    Args:
        ids: (n,) ids, each once.
        matrix: (n, E) float32 vectors of any length; those without direction are in no group.
        threshold: Cosine, above 0 and at most 1.
        progress: Called with how much is done, of how much, and of what.

    Raises:
        UsageError: The threshold is no such cosine, or so low that chains join a great many videos.
    """
    return deduplicate(ids, matrix, threshold, progress=progress, measure=False).groups


def deduplicate(
    ids: Sequence[str],
    matrix: Floats,
    threshold: float,
    *,
    progress: Progress | None = None,
    measure: bool = True,
    exact: bool | None = None,
) -> Deduplication:
    """As ``find_groups``, with what was left out and how many pairs were found.

    Args:
        ids: (n,) ids, each once.
        matrix: (n, E) float32.
        threshold: Cosine, above 0 and at most 1.
        progress: Called with how much is done, of how much, and of what.
        measure: Compare a sample with everything where not all pairs are computed.
        exact: Compute all pairs; ``None``: where there are few vectors.

    Raises:
        UsageError: As ``find_groups``.
    """
    check_threshold(threshold)
    said = progress or (lambda *_: None)
    unit, rows = _directions(matrix)
    joined = join(unit, threshold - MARGIN, said, exact=exact)
    recall = None
    if measure and not joined.exact:
        recall = sampled_recall(unit, joined.labels, threshold, said)
    names = ids if len(rows) == len(ids) else [ids[row] for row in rows.tolist()]
    groups = grouped(names, unit, joined.labels, threshold, said)
    kept = set(rows.tolist()) if len(rows) < len(ids) else None
    left_out = () if kept is None else tuple(v for row, v in enumerate(ids) if row not in kept)
    return Deduplication(threshold, len(rows), left_out, groups, recall)


def check_threshold(threshold: float) -> None:
    """Refuses what is no cosine of alike videos.

    Raises:
        UsageError: It is 0 or less, or above 1.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"a cosine above 0 and up to 1 is expected as threshold, not {threshold}")


def _directions(matrix: Floats) -> tuple[Floats, Ints]:
    """(n, E) float32 unit vectors, and their rows; without those that have no direction.

    Vectors that are of length 1 already are not copied.
    """
    squares = np.einsum("ne,ne->n", matrix, matrix, dtype=np.float64, casting="safe")
    good = np.isfinite(squares) & (squares > 0)
    rows = np.flatnonzero(good)
    if good.all() and (np.abs(squares - 1) < LENGTH_TOLERANCE).all():
        return np.ascontiguousarray(matrix, np.float32), rows
    lengths = np.sqrt(squares[rows])
    kept = matrix[rows]
    kept /= lengths[:, None].astype(np.float32)
    return kept, rows


class Rows(Protocol):
    """Unit vectors that are read by row."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and numbers of each."""
        ...

    def __getitem__(self, rows: Ints) -> Floats:
        """(…, E) of (…) rows."""
        ...


def grouped(
    ids: Sequence[str], unit: Floats | Rows, labels: Ints, threshold: float, progress: Progress
) -> list[Group]:
    """Splits components into groups.

    Args:
        ids: (n,).
        unit: (n, E) float32 of length 1; only members of components of two or more are read.
        labels: (n,) equal where a chain of pairs joins two vectors.
        threshold, progress: Of ``deduplicate``.

    Raises:
        UsageError: A chain joins a great many videos that are not alike.
    """
    _, component, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    rows = np.flatnonzero(sizes[component] > 1)
    by_id = sorted(rows.tolist(), key=ids.__getitem__)
    rank = np.empty(len(ids), np.int64)
    rank[by_id] = np.arange(len(by_id))
    rows = rows[np.lexsort((rank[rows], component[rows], sizes[component[rows]]))]
    groups: list[Group] = []
    done = 0
    for some in _same_size(rows, sizes[component[rows]], unit.shape[1]):
        vectors = doubles(unit[some])
        if some.shape[1] <= SMALL:
            found, left = _whole(some, vectors, threshold)
        else:
            found, left = [], np.arange(len(some))
        for place in left.tolist():
            found += _split(some[place], vectors[place], threshold)
        groups += [_named(ids, *each) for each in found]
        done += some.size
        progress(done, len(rows), "videos grouped")
    return sorted(groups, key=lambda group: (-len(group.members), group.representative))


def _same_size(rows: Ints, sizes: Ints, dimension: int) -> Iterator[Ints]:
    """Components of one size together, (components, size) rows, as many as memory should hold."""
    bounds = [*np.flatnonzero(np.diff(sizes, prepend=0)), len(sizes)]
    for first, end in pairwise(bounds):
        size = int(sizes[first])
        some = rows[first:end].reshape(-1, size)
        at_once = max(1, NUMBERS_AT_ONCE // (size * (dimension + size)))
        for start in range(0, len(some), at_once):
            yield some[start : start + at_once]


Found = tuple[Ints, Doubles]  # rows of a group, its representative first, and their cosines to it


def _whole(rows: Ints, vectors: Doubles, threshold: float) -> tuple[list[Found], Ints]:
    """Components that are one group, many of one size at once.

    Args:
        rows: (c, s), by id.
        vectors: (c, s, E).
        threshold: Of ``deduplicate``.

    Returns:
        The groups, and the places of components that are not one.
    """
    cosines = rounded_cosines(vectors, vectors)
    centres = np.asarray((cosines >= threshold).all(axis=2))
    nearness = np.where(centres, _nearness(vectors), -np.inf)
    chosen = nearness.argmax(axis=1)
    whole = centres.any(axis=1)
    found = []
    for place in np.flatnonzero(whole).tolist():
        found.append(_ordered(rows[place], int(chosen[place]), cosines[place, chosen[place]]))
    return found, np.flatnonzero(~whole)


def _nearness(vectors: Doubles) -> Doubles:
    """Mean cosine of each with the others, (…, s) of (…, s, E)."""
    total = vectors.sum(axis=-2, keepdims=True)
    others = max(1, vectors.shape[-2] - 1)
    return np.round(((vectors * total).sum(axis=-1) - 1) / others, DECIMALS)


def _ordered(rows: Ints, chosen: int, cosines: Doubles) -> Found:
    """A group with its representative first, the others by falling cosine, then id."""
    cosines = cosines.copy()
    cosines[chosen] = 2
    order = np.argsort(-cosines, kind="stable")
    cosines[chosen] = 1
    return rows[order], np.minimum(cosines[order], 1.0)


def _split(rows: Ints, vectors: Doubles, threshold: float) -> list[Found]:
    """A component's groups.

    Args:
        rows: (s,), by id.
        vectors: (s, E).
        threshold: Of ``deduplicate``.
    """
    # Where the member nearest to all reaches all, everything is alike to it: one group.
    first = int(_nearness(vectors).argmax())
    cosines = rounded_cosines(vectors[first : first + 1], vectors)[0]
    if (cosines >= threshold).all():
        return [_ordered(rows, first, cosines)]
    if len(rows) > MOST_IN_A_CHAIN:
        raise UsageError(
            f"at a cosine of {threshold:g} a chain joins {len(rows):,} videos that are not alike: "
            "give a higher threshold"
        )
    found = []
    for star, hub in stars(vectors, threshold):
        found.append(_represented(rows[star], vectors[star], hub, threshold))
    return found


def _represented(rows: Ints, vectors: Doubles, hub: int, threshold: float) -> Found:
    """A star with its representative: the nearest to the others of those that all are alike to."""
    for chosen in np.argsort(-_nearness(vectors), kind="stable").tolist():
        cosines = rounded_cosines(vectors[chosen : chosen + 1], vectors)[0]
        if chosen == hub or (cosines >= threshold).all():
            break
    return _ordered(rows, chosen, cosines)


def _named(ids: Sequence[str], rows: Ints, cosines: Doubles) -> Group:
    pairs = zip(rows.tolist(), cosines.tolist(), strict=True)
    members = tuple(Hit(ids[row], cosine) for row, cosine in pairs)
    return Group(members[0].id, members)
