"""What a folder of vectors and its corpus have that an index has not, and the other way round."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.data.corpus import Corpus
from vidvec.embed.vectors import Vectors
from vidvec.search import writes
from vidvec.search.store import Store
from vidvec.search.types import IndexedVideo

CHUNK = 8_192
NAMED = 20
COLUMNS = ("id", "title", "tags", "category", "language", "duration_seconds", "date", "file")

Progress = Callable[[int, int, str], None]


@dataclass
class Difference:
    """How many videos changed, and which could not be taken.

    Attributes:
        added, replaced, removed: Videos that came, have another vector, went.
        changed: With the same vector, but other words, tags or such.
        gone: Vectors whose videos are gone from the corpus.
        zero: Vectors without length among those that came: kept, never found.
        not_finite: Vectors with NaN or infinity: left out.
        duplicates: Vectors of an id that came before: left out.
        named: Ids of some of the last two.
    """

    added: int = 0
    replaced: int = 0
    removed: int = 0
    changed: int = 0
    gone: int = 0
    zero: int = 0
    not_finite: int = 0
    duplicates: int = 0
    named: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether any record changed."""
        return bool(self.added or self.replaced or self.removed or self.changed)


def fingerprint(vectors: Vectors) -> str:
    """Sixteen hex digits that differ where a folder was made anew."""
    shards = [vectors.path / "shards" / entry["file"] for entry in vectors.manifest["shards"]]
    stats = [path.stat() for path in shards]
    return digest_of([vectors.manifest, [(one.st_size, one.st_mtime_ns) for one in stats]])


def digest_of(value: Any) -> str:
    """Sixteen hex digits of a value's JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def take_difference(
    store: Store,
    vectors: Vectors,
    corpus: Corpus | None,
    gone: Collection[str],
    progress: Progress | None = None,
) -> Difference:
    """Brings the records to what the folder and the corpus have, inside a transaction.

    Args:
        store: The records.
        vectors: The folder.
        corpus: What is known of its videos; ``None``: nothing.
        gone: Ids that are left out.
        progress: Called with vectors done, all, and what is being done.
    """
    taker = _Taker(store, corpus, set(gone))
    done, total = 0, len(vectors)
    for ids, matrix in _chunks(vectors):
        taker.take(ids, matrix, done)
        done += len(ids)
        if progress is not None:
            progress(done, total, "reading")
    taker.remove_unseen()
    return taker.found


def _chunks(vectors: Vectors) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    for ids, matrix in vectors.shards():
        for start in range(0, len(ids), CHUNK):
            yield ids[start : start + CHUNK], matrix[start : start + CHUNK]


class _Taker:
    """Takes vectors chunk by chunk, and at the end what did not come out."""

    def __init__(self, store: Store, corpus: Corpus | None, gone: set[str]) -> None:
        self._store, self._corpus, self._gone = store, corpus, gone
        self._ids: set[str] = set()
        next_row = store.state().next_row
        self._unseen = np.zeros(next_row, np.bool_)
        rows, places = store.places()
        self._unseen[rows[places >= 0]] = True
        self._empty = not len(rows)
        self.found = Difference()

    def take(self, ids: Sequence[str], matrix: NDArray[np.float32], first: int) -> None:
        """Takes (n, E) vectors at the places from ``first`` on."""
        digests = writes.digests(matrix).tolist()
        finite = np.all(np.isfinite(matrix), axis=1)
        zero = np.all(matrix == 0, axis=1)
        chosen = [at for at, video in enumerate(ids) if self._wanted(video, bool(finite[at]))]
        names = [ids[at] for at in chosen]
        known = {} if self._empty else self._store.known(names)
        overruled = {} if self._empty else self._store.overruled(names)
        videos = describe(self._corpus, names)
        new: list[int] = []
        changed: dict[int, IndexedVideo] = {}
        moved: list[tuple[int, int]] = []
        old: list[int] = []
        for at, video in zip(chosen, videos, strict=True):
            name, digest = ids[at], digests[at]
            if overruled.get(name) == digest:
                if name in known:
                    self._see(known[name][0])
                continue
            if name not in known:
                new.append(at)
                continue
            row, place, held, facts = known[name]
            self._see(row)
            if held != digest or place is None:
                new.append(at)
                old.append(row)
                continue
            if place != first + at:
                moved.append((first + at, row))
            if facts != writes.facts_digest(video):
                changed[row] = video
        described = dict(zip(names, videos, strict=True))
        writes.remove(self._store, old)
        writes.accept(self._store, [ids[at] for at in new if ids[at] in overruled])
        writes.move(self._store, moved)
        writes.change(self._store, changed)
        writes.insert(
            self._store,
            [described[ids[at]] for at in new],
            places=[first + at for at in new],
            digest=[digests[at] for at in new],
            zero=zero[new].tolist(),
        )
        self.found.added += len(new) - len(old)
        self.found.replaced += len(old)
        self.found.changed += len(changed)
        self.found.zero += int(zero[new].sum())

    def _wanted(self, video: str, finite: bool) -> bool:
        if video in self._gone:
            self.found.gone += 1
            return False
        if not finite or video in self._ids:
            if finite:
                self.found.duplicates += 1
            else:
                self.found.not_finite += 1
            if len(self.found.named) < NAMED:
                self.found.named.append(video)
            return False
        self._ids.add(video)
        return True

    def _see(self, row: int) -> None:
        if row < len(self._unseen):
            self._unseen[row] = False

    def remove_unseen(self) -> None:
        """Takes out the videos of the folder that it does not have any more."""
        rows = np.flatnonzero(self._unseen).tolist()
        writes.remove(self._store, rows)
        self.found.removed += len(rows)


def describe(corpus: Corpus | None, ids: Sequence[str]) -> list[IndexedVideo]:
    """What a corpus knows of videos; of those it does not have, their ids."""
    if corpus is None:
        return [IndexedVideo(video) for video in ids]
    there = [video for video in ids if video in corpus]
    rows = np.array([corpus.row(video) for video in there], np.int64)
    columns = [_column(corpus, name, rows) for name in COLUMNS]
    known = {
        values[0]: IndexedVideo(
            id=values[0],
            title=values[1] or "",
            tags=tuple(values[2] or ()),
            category=values[3] or "",
            language=values[4] or "",
            duration_seconds=values[5],
            date=values[6] or "",
            file=values[7] or "",
        )
        for values in zip(*columns, strict=True)
    }
    return [known.get(video) or IndexedVideo(video) for video in ids]


def _column(corpus: Corpus, name: str, rows: NDArray[np.int64]) -> list[Any]:
    column = corpus.column(name)
    if len(rows) and (np.diff(rows) == 1).all():
        return list(column.slice(int(rows[0]), len(rows)).to_pylist())
    return list(column.take(rows).to_pylist())
