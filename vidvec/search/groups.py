"""Groups of near duplicates of a folder of vectors, kept on disk so that they are found once.

VECTORS/groups/*.json   one file for each threshold: a cache, which may be deleted at any time
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from vidvec import storage
from vidvec.embed.vectors import Vectors
from vidvec.errors import FormatError, UsageError
from vidvec.search.calibrate import Calibration
from vidvec.search.dedup import THRESHOLD, Deduplication, deduplicate, find_groups
from vidvec.search.engine import SearchIndex
from vidvec.search.folding import INDEX
from vidvec.search.index import corpus_of, gone_ids
from vidvec.search.joining import Progress
from vidvec.search.stamp import vectors_stamp
from vidvec.search.store import FILE as RECORDS
from vidvec.search.store import Store
from vidvec.search.types import Group, Hit

FOLDER = "groups"
PRECISION = 0.99


class LiveVectors:
    """The vectors of a folder without those of videos that are gone, as they are when it is made.

    With what was added to its index and without what was deleted from it, where it has one.

    Args:
        path: Folder of vectors.
        corpus: Of its videos; ``None``: the one that was embedded, where it is still there.

    Attributes:
        vectors: The folder, opened.
        gone: Ids of videos that are gone.
        stamp: Differs where the vectors or their videos do.
    """

    def __init__(self, path: Path, corpus: Path | None = None) -> None:
        self.vectors = Vectors(path)
        opened = corpus_of(path, corpus)
        self.gone = set(gone_ids(opened, self.vectors, own=corpus is None))
        # Read before the vectors are: what is written in between is another state, found anew.
        generation = _generation(path / INDEX / RECORDS)
        self.stamp = digest(vectors_stamp(self.vectors), generation, sorted(self.gone))

    def read(self) -> tuple[list[str], NDArray[np.float32], int]:
        """Ids (n,), vectors (n, E) float32, and how many were left out as gone."""
        ids, matrix = _indexed(self.vectors.path) or (self.vectors.ids, self.vectors.matrix)
        if self.gone.isdisjoint(ids):
            return ids, matrix, 0
        keep = np.array([video not in self.gone for video in ids], np.bool_)
        kept = [video for video in ids if video not in self.gone]
        return kept, matrix[keep], len(ids) - len(kept)


def _generation(records: Path) -> int:
    if not records.is_file():
        return 0
    try:
        store = Store(records)
    except FormatError:
        return 0
    try:
        return store.generation()
    finally:
        store.close()


def _indexed(path: Path) -> tuple[list[str], NDArray[np.float32]] | None:
    """Ids and vectors of a folder's index; ``None`` without one that can be used."""
    if not (path / INDEX / storage.MANIFEST).is_file():
        return None
    try:
        with SearchIndex.open(path, threads=faiss.omp_get_max_threads()) as index:
            return index.matrix()
    except (FormatError, UsageError):  # an old one, or one of other vectors: the vectors count
        return None


def threshold_for(path: Path, precision: float) -> float:
    """The cosine from which a folder's videos are duplicates with a stated precision.

    Args:
        path: Folder of vectors.
        precision: Above 0 and below 1.

    Raises:
        UsageError: There is no calibration, it is of other vectors, or it assures no such
            precision.
    """
    calibration = Calibration.load(path)
    if calibration is None:
        raise UsageError(
            f"{path} has no calibration, which says what precision a cosine has: run vidvec "
            f"calibrate {path} with scored pairs, or give --threshold"
        )
    found = calibration.threshold(precision)
    if found.cosine is None:
        raise UsageError(f"{found}; calibrate with more pairs, or give --threshold")
    return found.cosine


def default_threshold(*paths: Path) -> float:
    """That of 99 % precision where a calibration of these vectors assures it, else 0.9.

    Args:
        paths: Folders of vectors; of several calibrations the highest cosine is taken.
    """
    found = [_calibrated(path) for path in paths]
    return max((cosine for cosine in found if cosine is not None), default=THRESHOLD)


def _calibrated(path: Path) -> float | None:
    try:
        calibration = Calibration.load(path)
    except (FormatError, UsageError):
        return None
    return None if calibration is None else calibration.threshold(PRECISION).cosine


def dedup(
    vectors: Path,
    threshold: float | None = None,
    *,
    corpus: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Deduplication, int]:
    """Finds the groups of near duplicates of a folder of vectors anew, and keeps them.

    Args:
        vectors: The folder.
        threshold: Cosine; ``None``: see ``default_threshold``.
        corpus: Of its videos; ``None``: the one that was embedded.
        progress: Called with how much is done, of how much, and of what.

    Returns:
        What was found, and how many vectors of videos that are gone were left out.

    Raises:
        UsageError: As ``find_groups``.
        FormatError: The folder holds no vectors.
    """
    cosine = default_threshold(vectors) if threshold is None else threshold
    live = LiveVectors(vectors, corpus)
    ids, matrix, left_out = live.read()
    found = deduplicate(ids, matrix, cosine, progress=progress)
    keep(vectors, live.stamp, cosine, found.groups)
    return found, left_out


def groups_of(
    vectors: Path,
    threshold: float | None = None,
    *,
    corpus: Path | None = None,
    progress: Progress | None = None,
) -> list[Group]:
    """The groups that ``dedup`` finds, read where they were found before.

    Args, errors: as ``dedup``.
    """
    cosine = default_threshold(vectors) if threshold is None else threshold
    live = LiveVectors(vectors, corpus)
    path = _file(vectors, live.stamp, cosine)
    groups = _read(path, live.stamp)
    if groups is None:
        ids, matrix, _ = live.read()
        groups = find_groups(ids, matrix, cosine, progress=progress)
        keep(vectors, live.stamp, cosine, groups)
    return groups


def _file(vectors: Path, stamp: str, threshold: float) -> Path:
    return vectors / FOLDER / f"{digest(stamp, repr(float(threshold)))}.json"


def digest(*facts: Any) -> str:
    """Sixteen hex digits that differ where facts do."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def keep(vectors: Path, stamp: str, threshold: float, groups: list[Group]) -> None:
    """Keeps groups; those of vectors that are there no more are removed."""
    path = _file(vectors, stamp, threshold)
    found = [[[hit.id, hit.cosine] for hit in group.members] for group in groups]
    facts = {"kind": "groups", "stamp": stamp, "threshold": threshold}
    try:
        path.parent.mkdir(exist_ok=True)
        storage.remove_leftovers(path.parent)
        for other in path.parent.glob("*.json"):
            if _read(other, stamp) is None:
                other.unlink(missing_ok=True)
        with storage.atomic_path(path) as temporary:
            temporary.write_text(json.dumps({**facts, "groups": found}), "utf-8")
    except OSError:  # where nothing may be written, they are found anew each time
        return


def _read(path: Path, stamp: str) -> list[Group] | None:
    """Groups that were kept; ``None`` where there are none, or of other vectors, or damaged."""
    try:
        found = json.loads(path.read_text("utf-8"))
        if found["kind"] != "groups" or found["stamp"] != stamp:
            return None
        members = [tuple(Hit(str(v), float(c)) for v, c in group) for group in found["groups"]]
        return [Group(hits[0].id, hits) for hits in members]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
