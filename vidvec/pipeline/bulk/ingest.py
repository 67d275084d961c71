"""``vidvec ingest --on``: rows become results on a Ray cluster, parts of them at a time.

The machine where the command runs reads the source to cut it into parts, and puts the parts
together in the source's order as they come, through the same writer as an ingest on one machine.
What needs all rows, such as ids that come twice, pairs and the tokenizer, is done there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import vidvec
from vidvec.data.engine import Engine
from vidvec.data.ingest import IngestOptions, IngestReport, Progress
from vidvec.data.ingest import ingest as ingest_with
from vidvec.data.modalities import Modalities
from vidvec.data.processing import CHUNK_ROWS, Result
from vidvec.data.reopen import absolute_spec
from vidvec.data.sources import Source
from vidvec.data.update import Update
from vidvec.data.writer import CorpusWriter
from vidvec.pipeline.bulk.connection import connected
from vidvec.pipeline.bulk.ingest_worker import IngestJob, IngestWorker
from vidvec.pipeline.bulk.options import BulkOptions
from vidvec.pipeline.bulk.part_files import holds_rows, read_facts, read_part
from vidvec.pipeline.bulk.pool import PoolSize, Receipt, Task, Work, gpus_of, run_tasks
from vidvec.pipeline.bulk.staging import Staging

# A multiple of what an ingest on one machine encodes together at most, so that both make the same
# batches and hence the same bits.
PART_ROWS = CHUNK_ROWS
# Options that the results depend on.
_SHAPING = (
    *("encoder", "encoder_options", "encoder_precision", "keyframes", "audio", "asr", "ocr"),
)


def bulk_ingest(
    source: Path,
    corpus: Path,
    options: IngestOptions,
    bulk: BulkOptions,
    progress: Progress | None = None,
) -> IngestReport:
    """Reads a source into a corpus as ``ingest`` does, on a Ray cluster.

    The corpus is the same, row for row. Source and corpus must be at the same paths on all
    machines. Each worker has ``options.workers`` processes that read files.

    Args:
        source: See ``data.ingest.ingest``.
        corpus: Likewise.
        options: Likewise.
        bulk: Where, and in which parts.
        progress: Called with rows that are in the corpus and records rejected.

    Raises:
        VidvecError: See ``data.ingest.ingest``, ``connected`` and ``run_tasks``; ``UsageError``
            also where an unfinished bulk ingest ran with other options.
    """

    @contextmanager
    def open_engine(writer: CorpusWriter, wanted: IngestOptions) -> Iterator[Engine]:
        with connected(bulk.on) as ray:
            cluster = Cluster(ray, writer, wanted, bulk)
            try:
                yield cluster
            finally:
                cluster.close()

    report = ingest_with(source, corpus, options, progress, open_engine=open_engine)
    Staging(corpus).remove()
    return report


class Cluster:
    """The engine of a Ray cluster; see ``data.engine``.

    Args:
        ray: The module, connected.
        writer: Of the corpus.
        options: Of the ingest.
        bulk: How it is cut.
    """

    def __init__(
        self, ray: Any, writer: CorpusWriter, options: IngestOptions, bulk: BulkOptions
    ) -> None:
        self._ray, self._writer, self._options, self._bulk = ray, writer, options, bulk
        self._staging = Staging(writer.path.absolute())
        # Opened here, too: what is not installed is said before the work.
        modalities = Modalities(options.audio, options.asr, ocr=options.ocr)
        self.audio_identity = modalities.audio_identity
        self.identity: dict[str, Any] | None = None
        self.made_with: dict[str, Any] = {}
        self.note = ""
        self.notes: Counter[str] = Counter()
        self._coming: Generator[Receipt, None, None] | None = None

    def close(self) -> None:
        """Ends the job, where it has not ended."""
        if self._coming is not None:
            self._coming.close()

    def chunks(self, source: Source, update: Update | None) -> Iterator[list[Result]]:
        """See ``Engine``; a chunk is a part."""
        job = self._job(source)
        shaping = {name: getattr(job.options, name) for name in _SHAPING}
        of = {"source": str(job.source), "fingerprint": source.fingerprint, "update": bool(update)}
        size = self._staging.open({"of": of, **shaping}, self._bulk.part_rows, PART_ROWS)
        tasks = self._tasks(source, update, size)
        ready = {task.number for task in tasks if self._is_done(task)}
        left = [task for task in tasks if task.number not in ready]
        work = Work(self._ray, IngestWorker, job, self._pool_size())
        self._coming = run_tasks(work, left)
        for task in tasks:
            while task.number not in ready:
                receipt = next(self._coming)
                self._bulk.on_receipt(receipt)
                ready.add(receipt.number)
            yield self._results(task)

    def _job(self, source: Source) -> IngestJob:
        options = replace(
            self._options,
            encoder=absolute_spec(self._options.encoder),
            audio=absolute_spec(self._options.audio),
            asr=absolute_spec(self._options.asr),
            pairs=(),
            tag_list=None,
            tokenizer="",
            strict=False,
        )
        if options.access.keep is not None:
            access = replace(options.access, keep=options.access.keep.absolute())
            options = replace(options, access=access)
        return IngestJob(
            source=source.path.absolute(),
            fingerprint=source.fingerprint,
            target=self._writer.path.absolute(),
            options=options,
            held=self._writer.manifest["frame_encoder"],
            version=vidvec.__version__,
        )

    def _pool_size(self) -> PoolSize:
        gpus = 0.0 if self._options.encoder == "classic" else gpus_of(self._ray)
        return self._bulk.pool_size(max(1, self._options.workers), gpus)

    def _tasks(self, source: Source, update: Update | None, size: int) -> list[Task]:
        """The parts that there is something to do about, in order."""
        if update is not None:
            for _ in update.rows(source.read()):
                pass
            blocks: dict[int, list[int]] = {}
            for place in update.places:
                blocks.setdefault(place // size, []).append(place)
            return [
                Task(number, places[0], places[-1] + 1, tuple(places))
                for number, places in blocks.items()
            ]
        if self._writer.entry.get("read"):
            return []
        rows = self._staging.noted("source_rows")
        if rows is None:
            rows = sum(1 for _ in source.read())
            self._staging.note(source_rows=rows)
        first, tasks = self._writer.entry["cursor"], []
        while first < rows:
            number = first // size
            tasks.append(Task(number, first, min(rows, (number + 1) * size)))
            first = tasks[-1].stop
        return tasks

    def _is_done(self, task: Task) -> bool:
        """Whether a part is there with all its rows; where every row must be used, they are."""
        path = self._staging.part(task.number)
        if not path.is_file():
            return False
        facts = read_facts(path)
        if self._options.strict and facts["rejected"]:
            return False  # what was wrong may have been mended since
        return holds_rows(facts, task.places)

    def _results(self, task: Task) -> list[Result]:
        part = read_part(self._staging.part(task.number))
        facts = part.facts
        self.identity = facts["identity"] or self.identity
        self.made_with = facts["made_with"] or self.made_with
        self.note = facts["note"] or self.note
        self.notes.update(facts["notes"])
        return [part.results[place] for place in task.places]
