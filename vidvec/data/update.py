"""A source that is in a corpus already, read again: what is new, what has changed, what is gone.

Each row of the source is held against the stamp of the video that the corpus has of it
(``stamps.py``). New videos are appended. So is the new version of one that has changed; the old one
is marked gone. What the source no longer has is marked gone, too, and no more than that: features
stay, so that a disk that is not mounted costs nothing, and the mark goes when the video comes back.
``compact`` removes for good what is marked.

The marks are runs of rows in the manifest, ``"gone": [[first, count], …]``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vidvec.data import corpus as store
from vidvec.data.entries import place_of
from vidvec.data.writer import CorpusWriter
from vidvec.records import Reject, SourceRow


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What an update found.

    Attributes:
        new: Videos that the corpus did not have.
        changed: Videos of which the source has another version; the old one is marked gone.
        unchanged: Videos that are as they were.
        gone: Videos marked gone because the source no longer has them.
        back: Videos whose mark was taken away.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    gone: int = 0
    back: int = 0

    @property
    def nothing(self) -> bool:
        """Whether the source is as it was."""
        return not (self.new or self.changed or self.gone or self.back)


class Update:
    """One reading of a source for an update.

    Args:
        writer: Of the corpus, with the update's own entry.
    """

    def __init__(self, writer: CorpusWriter) -> None:
        self._writer = writer
        corpus = store.Corpus(writer.path, unfinished=True)
        stamps = corpus.column("stamp").to_pylist()
        own = self._own_rows()
        self._held = {corpus.ids[row]: stamps[row] or "" for row in own.tolist()}
        self._seen: set[str] = set()
        self._places: deque[int] = deque()
        writer.forgive_known_rejects()

    def _own_rows(self) -> NDArray[np.int64]:
        """Rows that came from this source, ascending."""
        start, own = 0, [np.zeros(0, np.int64)]
        for entry in self._writer.manifest["ingests"]:
            if place_of(entry) == place_of(self._writer.entry):
                own.append(np.arange(start, start + entry["videos"]))
            start += entry["videos"]
        return np.concatenate(own)

    def rows(self, rows: Iterable[SourceRow | Reject]) -> Iterator[SourceRow | Reject]:
        """Those of a source's rows that there is something to do about, in order.

        Rows before the entry's cursor were done by a run that was stopped.
        """
        cursor = self._writer.entry["cursor"]
        for place, row in enumerate(rows):
            if self._is_settled(row, place < cursor) or place < cursor:
                continue
            self._places.append(place)
            yield row

    def _is_settled(self, row: SourceRow | Reject, done: bool) -> bool:
        """Whether the corpus has a row as it is."""
        if isinstance(row, Reject):
            return False
        video = row.video
        if video.id in self._seen:
            return False  # twice in the source: the writer says so
        self._seen.add(video.id)
        held = self._held.get(video.id)
        if held is None:
            return False
        if held in ("", video.stamp):
            return True
        if not done:
            self._writer.let_replace(video.id)
        return False

    @property
    def places(self) -> tuple[int, ...]:
        """Which rows of the source those are that ``rows`` has given and nobody advanced over."""
        return tuple(self._places)

    def advance(self) -> None:
        """To be called before each result goes to the writer: which row of the source it is."""
        self._writer.entry["cursor"] = self._places.popleft()

    def finish(self) -> UpdateReport:
        """Marks what is gone, with the writer's next commit, and counts.

        Where there is nothing to write, the writer's entry is the one of before again.
        """
        writer = self._writer
        before = len(store.Corpus(writer.path, unfinished=True)) - writer.entry["videos"]
        if writer.has_news:
            writer.commit()
        corpus = store.Corpus(writer.path, unfinished=True)
        own = self._own_rows()
        last = {corpus.ids[row]: row for row in own.tolist()}
        gone = corpus.gone.copy()
        gone[own] = True
        gone[[row for video, row in last.items() if video in self._seen]] = False
        came = [corpus.ids[row] for row in range(before, len(corpus))]
        older = {corpus.ids[row] for row in own.tolist() if row < before}
        changed = len(older.intersection(came))
        left = own[gone[own] & ~corpus.gone[own]]
        report = UpdateReport(
            new=len(came) - changed,
            changed=changed,
            unchanged=int((~gone & ~corpus.gone)[own[own < before]].sum()),
            gone=sum(corpus.ids[row] not in self._seen for row in left.tolist()),
            back=int((corpus.gone[own] & ~gone[own]).sum()),
        )
        runs = runs_of(gone)
        if not writer.has_news and runs == writer.manifest.get("gone", []):
            writer.drop_entry()
        elif runs or "gone" in writer.manifest:
            writer.manifest["gone"] = runs
        return report


def runs_of(marked: NDArray[np.bool_]) -> list[list[int]]:
    """The runs of a mask as first row and count.

    >>> runs_of(np.array([False, True, True, False, True]))
    [[1, 2], [4, 1]]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    bounds = edges.tolist()
    return [[first, end - first] for first, end in list(pairwise(bounds))[::2]]
