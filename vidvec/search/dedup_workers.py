"""Near duplicates among the vectors of several folders, found by workers.

Groups are those that ``deduplicate`` finds among all vectors together: all pairs are computed where
it computes all, else the same lists are compared. No process holds all vectors: a worker holds two
blocks, or the vectors of a list; this one a sample, from which the centres are learnt, and of each
video its id and its component.

    PARTS/places-*.npy, added-*.npy     where each folder's live vectors lie
    PARTS/block-*.f32, known-*.npy      the vectors that have a direction, and which these are
    PARTS/centres.npy, probes-*.npy     of lists: their centres, and what is put into them
    PARTS/sample.npy, sampled-*.npy     rows that are compared with everything, and their pairs
    PARTS/edges-*.npy                   what a part joins
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidvec import storage
from vidvec.errors import UsageError
from vidvec.search import joining
from vidvec.search.dedup import Deduplication, check_threshold, grouped
from vidvec.search.dedup_blocks import NOWHERE, UNIT, Blocks, Layout, Shard, block_part, save
from vidvec.search.dedup_parts import counts, lists_part, pair_part, probe_part
from vidvec.search.dedup_shards import Ids, place
from vidvec.search.groups import FOLDER, LiveVectors, default_threshold, digest, keep
from vidvec.search.joining import Labels, SampledRecall
from vidvec.search.stars import MARGIN
from vidvec.workers import Part, Progress, Workers, make_missing

# Rows of a block: as many as make MOST_BLOCKS of them, within these bounds.
FEWEST_ROWS, MOST_ROWS, MOST_BLOCKS = 8_192, 65_536, 64
# Cosines of a part that compares lists, at least; and such parts at most.
COSINES_A_PART, MOST_PARTS = 2**24, 4_096

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Job:
    """What a search for duplicates goes on with.

    Attributes:
        folder: Of what parts make.
        workers: Who make them.
        progress: Called with parts done, all, and of what.
    """

    folder: Path
    workers: Workers
    progress: Progress

    def make(self, parts: Sequence[Part], note: str) -> None:
        """Has those parts made that are not there."""
        make_missing(self.workers, parts, len(parts), note, self.progress)


def dedup_shards(
    folders: Sequence[Path],
    threshold: float | None = None,
    *,
    workers: Workers,
    corpus: Path | None = None,
    parts: Path | None = None,
    exact: bool | None = None,
    progress: Progress = lambda *_: None,
) -> tuple[Deduplication, int]:
    """Finds the groups of near duplicates among the vectors of several folders.

    What is done when it is stopped is not done again.

    Args:
        folders: Of vectors of one model, each of other videos; on several machines under the same
            path on each.
        threshold: Cosine; ``None``: see ``default_threshold``.
        workers: Who compares.
        corpus: Of the videos; ``None``: those that were embedded.
        parts: Folder for what workers make, which is removed in the end; ``None``: in ``groups`` of
            the first folder. It takes as much as all vectors in float32.
        exact: Compute all pairs; ``None``: where there are few vectors.
        progress: Called with parts done, all, and of what.

    Returns:
        What was found, and how many vectors of videos that are gone were left out.

    Raises:
        UsageError: A video is in two folders, they hold vectors of different size, or as
            ``deduplicate``.
        FormatError: A folder holds no vectors.
    """
    cosine = default_threshold(*folders) if threshold is None else threshold
    check_threshold(cosine)
    folders = [path.resolve() for path in folders]
    stamps, dimension = _stamps(folders, corpus)
    made_of = digest(stamps, cosine, exact, FEWEST_ROWS)
    folder = (parts or folders[0] / FOLDER) / f"parts-{made_of}"
    job = Job(folder.resolve(), workers, progress)
    _prepare_folder(job.folder)
    shards, ids, gone = _placed(folders, corpus, stamps, job.folder)
    layout, known = _layout(job, shards, dimension)
    rows = np.flatnonzero(known != NOWHERE)
    nowhere = tuple(ids[row] for row in np.flatnonzero(known == NOWHERE).tolist())
    names = ids if len(rows) == len(ids) else ids.only(rows)
    few = len(rows) <= joining.EXACT if exact is None else exact
    if few or not len(rows):
        labels, recall = _labels(job, _pairs(job, layout, cosine), len(rows)), None
    else:
        labels, recall = _by_lists(job, layout, cosine)
    groups = grouped(names, Blocks(layout), labels, cosine, progress)
    shutil.rmtree(job.folder, ignore_errors=True)
    if len(folders) == 1:
        keep(folders[0], stamps[0], cosine, groups)
    return Deduplication(cosine, len(rows), nowhere, groups, recall), gone


def _stamps(folders: Sequence[Path], corpus: Path | None) -> tuple[list[str], int]:
    """The state of each folder, one opened after the other, and the size of all vectors.

    Raises:
        UsageError: There are several sizes.
    """
    stamps: list[str] = []
    dimension = 0
    for folder in folders:
        live = LiveVectors(folder, corpus)
        dimension = dimension or live.vectors.dimension
        if live.vectors.dimension != dimension:
            raise UsageError(
                f"{folders[0]} holds vectors of {dimension} numbers, {folder} of "
                f"{live.vectors.dimension}: only vectors of one model can be compared"
            )
        stamps.append(live.stamp)
    return stamps, dimension


def _prepare_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        storage.remove_leftovers(folder)
    except OSError as error:
        raise UsageError(
            f"{folder.parent} cannot be written to, where parts of the work are kept: {error}; "
            "give another folder with --parts"
        ) from None


def _placed(
    folders: Sequence[Path], corpus: Path | None, stamps: Sequence[str], to: Path
) -> tuple[list[Shard], Ids, int]:
    """Where all vectors lie, their ids, and how many are left out as gone.

    Raises:
        UsageError: A video is in two folders, or one has changed since it had its stamp.
    """
    shards: list[Shard] = []
    names: list[pa.Array] = []
    left_out = start = 0
    for number, folder in enumerate(folders):
        live = LiveVectors(folder, corpus)
        if live.stamp != stamps[number]:
            raise UsageError(f"{folder} has changed in this moment: run the command again")
        shard, kept, gone = place(live, to, number, start)
        shards.append(shard)
        names.append(kept)
        left_out, start = left_out + gone, shard.stop
    ids = Ids(pa.concat_arrays(names))
    twice = ids.repeated()
    if twice is not None:
        video, rows = twice
        one, other = (next(s.folder for s in shards if row < s.stop) for row in rows[:2])
        raise UsageError(
            f"video {video!r} is in {one} and in {other}: folders that are compared must hold "
            "different videos"
        )
    return shards, ids, left_out


def _layout(job: Job, shards: list[Shard], dimension: int) -> tuple[Layout, NDArray[np.int8]]:
    """Has the blocks written; and what is known of each vector."""
    count = shards[-1].stop
    rows = min(MOST_ROWS, max(FEWEST_ROWS, -(-count // MOST_BLOCKS)))
    starts = range(0, count, rows)
    layout = Layout(str(job.folder), (0,), dimension, as_is=True)
    known = [job.folder / f"known-{number:06d}.npy" for number in range(len(starts))]
    made = [
        Part(path, block_part, (shards, start, min(start + rows, count), str(layout.file(number))))
        for number, (start, path) in enumerate(zip(starts, known, strict=True))
    ]
    job.make(made, "blocks read")
    read = [np.load(path) for path in known]
    ends = np.cumsum([0, *(int((each != NOWHERE).sum()) for each in read)])
    every = np.concatenate([np.zeros(0, np.int8), *read])
    as_is = bool((every == UNIT).all())
    return Layout(str(job.folder), tuple(ends.tolist()), dimension, as_is), every


def _pairs(job: Job, layout: Layout, threshold: float) -> list[Path]:
    """Has each two blocks compared, once."""
    made = [
        Part(
            job.folder / f"edges-{one:06d}-{other:06d}.npy",
            pair_part,
            (layout, one, other, threshold - MARGIN),
        )
        for one, other in combinations_with_replacement(range(len(layout)), 2)
    ]
    job.make(made, "pairs of blocks compared")
    return [part.output for part in made]


def _labels(job: Job, edges: Sequence[Path], count: int) -> Ints:
    """(count,) the component of each vector."""
    labels = Labels(count)
    for number, path in enumerate(edges):
        one, other = np.load(path).T
        labels.add(one, other)
        job.progress(number + 1, len(edges), "parts joined")
    labels.merge()
    return labels.values


def _by_lists(job: Job, layout: Layout, threshold: float) -> tuple[Ints, SampledRecall]:
    """Components by the lists of the nearest centres, and how many pairs of a sample they have."""
    count = layout.bounds[-1]
    lists, sample = _centres(job, layout)
    rows = joining.recall_sample(count)
    save(job.folder / "sample.npy", rows)
    probes = [layout.probes(number) for number in range(len(layout))]
    sampled = [job.folder / f"sampled-{number:06d}.npy" for number in range(len(layout))]
    made = [
        Part(
            probe,
            probe_part,
            (
                layout,
                number,
                str(sample),
                (str(job.folder / "sample.npy"), threshold, str(sampled[number])),
            ),
        )
        for number, probe in enumerate(probes)
    ]
    job.make(made, "blocks put into lists")
    made = [
        Part(
            job.folder / f"edges-{first:08d}-{stop:08d}.npy",
            lists_part,
            (layout, lists, (first, stop), threshold - MARGIN),
        )
        for first, stop in _ranges(probes, lists)
    ]
    job.make(made, "parts of the lists compared")
    labels = _labels(job, [part.output for part in made], count)
    pairs = found = 0
    for path in sampled:
        one, other = np.load(path).T
        pairs += len(one)
        found += int((labels[one] == labels[other]).sum())
    return labels, SampledRecall(len(rows), pairs, found)


def _centres(job: Job, layout: Layout) -> tuple[int, Path]:
    """How many lists there are, and the file of their centres."""
    lists, sample = joining.centre_sample(layout.bounds[-1])
    path = job.folder / "centres.npy"
    if not path.is_file():
        job.progress(0, 1, "centres")
        save(path, joining.learn_centres(Blocks(layout)[sample], lists))
    return lists, path


def _ranges(probes: Sequence[Path], lists: int) -> Iterator[tuple[int, int]]:
    """Lists of about as many cosines each."""
    own, visiting = np.zeros(lists, np.int64), np.zeros(lists, np.int64)
    for path in probes:
        some, all_of_it = counts(path, lists)
        own += some
        visiting += all_of_it
    work = np.cumsum(own * visiting)
    each = max(COSINES_A_PART, -(-int(work[-1]) // MOST_PARTS))
    cuts = np.searchsorted(work, np.arange(each, int(work[-1]), each), side="right")
    yield from pairwise(sorted({0, *cuts.tolist(), lists}))
