"""A worker of a bulk ingest: rows of a source in, a part on shared storage out."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import vidvec
from vidvec.data.access import Access
from vidvec.data.frames import FrameEncoder
from vidvec.data.ingest import IngestOptions
from vidvec.data.modalities import Modalities
from vidvec.data.processing import LazyEncoder, Processing, Result, open_encoder
from vidvec.data.sources import Source, open_source
from vidvec.data.worker import Limits
from vidvec.data.workers import WorkerPool
from vidvec.errors import UsageError, VidvecError
from vidvec.pipeline.bulk.attempts import Attempt
from vidvec.pipeline.bulk.part_files import write_part
from vidvec.pipeline.bulk.pool import Receipt, Task
from vidvec.pipeline.bulk.staging import Staging
from vidvec.records import Reject, SourceRow


@dataclass(frozen=True, slots=True)
class IngestJob:
    """What every worker is told.

    Attributes:
        source: Absolute path of the source.
        fingerprint: It must have there, too.
        target: Absolute path of the corpus.
        options: With absolute paths.
        held: Identity of the frame encoder of the corpus.
        version: Of vidvec.
    """

    source: Path
    fingerprint: str
    target: Path
    options: IngestOptions
    held: dict[str, Any]
    version: str


class IngestWorker:
    """Reads files in worker processes, and holds the models.

    Args:
        job: See there.

    Raises:
        UsageError: This machine has another vidvec, or sees another source.
    """

    def __init__(self, job: IngestJob) -> None:
        self._job = job
        here = socket.gethostname()
        if vidvec.__version__ != job.version:
            raise UsageError(
                f"{here} has vidvec {vidvec.__version__}, expected {job.version} as where the "
                "command was run: install the same on all machines"
            )
        self._name = f"{here}:{os.getpid()}"
        source = open_source(job.source, Access(job.options.access))
        if source.fingerprint != job.fingerprint:
            raise UsageError(
                f"{here} sees other files in {job.source} than the machine where the command was "
                "run: all machines need the same shared storage there, and it must not change"
            )
        self._rows = _Rows(source)
        self._staging = Staging(job.target)
        options = job.options
        self._modalities = Modalities(options.audio, options.asr, ocr=options.ocr)
        self._pool = WorkerPool(
            options.workers, Limits(options.file_seconds, options.file_memory_mb)
        )
        self._encoder: _Timed | None = None

    def do(self, task: Task) -> Receipt:
        """Does a part; see ``pool.Worker``."""
        begun = time.monotonic()
        attempt = Attempt(self._staging.attempts, task.number)
        places = task.places
        before = self._encoded_seconds
        if attempt.row_by_row:
            made = self._row_by_row(places, attempt)
        else:
            try:
                made = self._whole(places)
            except VidvecError:
                raise
            except Exception:  # a library fails on one of the rows: which one, is found out
                made = self._row_by_row(places, attempt)
        if len(made.results) != len(places):
            raise UsageError(
                f"{self._job.source} has {len(made.results)} rows from row {places[0]} on, "
                f"expected {len(places)}: it has changed since the command began"
            )
        read = time.monotonic()
        rejected = sum(isinstance(result, Reject) for result in made.results)
        facts = {**made.facts, "rejected": rejected, "audio": self._modalities.audio_identity}
        write_part(self._staging.part(task.number), places, made.results, facts)
        attempt.end()
        ended = time.monotonic()
        encoded = self._encoded_seconds - before
        seconds = {
            "read": read - begun - encoded,
            "encode": encoded,
            "write": ended - read,
            "all": ended - begun,
        }
        return Receipt(
            *(task.number, len(places), rejected, seconds, self._name, attempt.begun),
            ended_at=time.time(),
        )

    def _whole(self, places: Sequence[int]) -> _Made:
        """All rows together, as an ingest on one machine does them."""
        lazy = self._lazy()
        processing = self._processing(lazy)
        # Where rows are left out between them, they are an update's.
        together = places[-1] - places[0] + 1 == len(places)
        chunks = processing.chunks(self._rows.take(places), places[0] if together else None)
        return _made([result for chunk in chunks for result in chunk], lazy, processing.notes)

    def _row_by_row(self, places: Sequence[int], attempt: Attempt) -> _Made:
        """Each row for itself; those that cannot be done are left out by name."""
        lazy, notes = self._lazy(), Counter[str]()
        results: list[Result] = []
        for place, row in zip(places, self._rows.take(places), strict=False):
            if attempt.is_poison(place):
                detail = "the process that read it ended each time: a crash, or out of memory"
                results.append(_left_out(row, "crashed", detail))
                continue
            attempt.begin(place)
            processing = self._processing(lazy)
            try:
                results += [result for chunk in processing.chunks([row]) for result in chunk]
            except VidvecError:
                raise
            except Exception as error:
                detail = f"it made a library fail ({type(error).__name__}: {error})"
                results.append(_left_out(row, "failed", detail))
            notes += processing.notes
        return _made(results, lazy, notes)

    def _lazy(self) -> LazyEncoder:
        """The encoder as one part sees it: open only where the part needed it."""
        return LazyEncoder(self._job.options, self._job.held, self._open)

    def _processing(self, lazy: LazyEncoder) -> Processing:
        return Processing(lazy, self._modalities, self._pool, self._job.options)

    def _open(self) -> FrameEncoder:
        """The encoder, opened once."""
        if self._encoder is None:
            self._encoder = _Timed(open_encoder(self._job.options, self._job.held))
        return self._encoder

    @property
    def _encoded_seconds(self) -> float:
        return self._encoder.seconds if self._encoder else 0.0


@dataclass(frozen=True, slots=True)
class _Made:
    """Results of a part's rows, and the facts of the part."""

    results: list[Result]
    facts: dict[str, Any]


def _made(results: list[Result], lazy: LazyEncoder, notes: Counter[str]) -> _Made:
    facts = {
        "identity": lazy.identity,
        "made_with": lazy.made_with,
        "note": lazy.note,
        "notes": dict(sorted(notes.items())),
    }
    return _Made(results, facts)


def _left_out(row: SourceRow | Reject, reason: str, detail: str) -> Reject:
    return row if isinstance(row, Reject) else Reject(row.where, row.video.id, reason, detail)


class _Rows:
    """Rows of a source by their places, read from front to end as long as places ascend."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._coming: Iterator[SourceRow | Reject] = iter(())
        self._at: int | None = None

    def take(self, places: Sequence[int]) -> Iterator[SourceRow | Reject]:
        """The rows at some places, ascending; fewer where the source has no more."""
        if self._at is None or places[0] < self._at:
            self._coming, self._at = self._source.read(), 0
        for place in places:
            for row in islice(self._coming, place - self._at, place - self._at + 1):
                self._at = place + 1
                yield row


class _Timed:
    """A frame encoder that knows how long it has encoded."""

    def __init__(self, encoder: FrameEncoder) -> None:
        self._encoder = encoder
        self.identity, self.frame_size = encoder.identity, encoder.frame_size
        self.short_side, self.note = encoder.short_side, encoder.note
        self.seconds = 0.0

    @property
    def batch_size(self) -> int:
        """Pictures run at once."""
        return self._encoder.batch_size

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(F, D) float32 of F pictures."""
        begun = time.monotonic()
        try:
            return self._encoder.encode(images)
        finally:
            self.seconds += time.monotonic() - begun
