"""Workers of a bulk ingest that misbehave, by the names of their files and rows."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator

from tests.ray_files import TASK
from vidvec.data.processing import LazyEncoder, Processing, Result
from vidvec.data.worker import Limits
from vidvec.data.workers import WorkerPool
from vidvec.pipeline.bulk.ingest_worker import IngestJob, IngestWorker
from vidvec.records import Reject, SourceRow


class Misbehaving(IngestWorker):
    """Its files are read by ``ray_files.read``; rows called ``kills …`` end its own process."""

    def __init__(self, job: IngestJob) -> None:
        super().__init__(job)
        limits = Limits(job.options.file_seconds, job.options.file_memory_mb)
        self._pool = WorkerPool(job.options.workers, limits, task=TASK)

    def _processing(self, lazy: LazyEncoder) -> Processing:
        return _Processing(lazy, self._modalities, self._pool, self._job.options)


class _Processing(Processing):
    def chunks(
        self, rows: Iterable[SourceRow | Reject], first: int | None = None
    ) -> Iterator[list[Result]]:
        return super().chunks(map(_looked_at, rows), first)


def _looked_at(row: SourceRow | Reject) -> SourceRow | Reject:
    title = "" if isinstance(row, Reject) else row.video.title
    if title.startswith("kills"):
        os.kill(os.getpid(), signal.SIGKILL)
    if title.startswith("breaks"):
        raise ZeroDivisionError("as a library may")
    return row
