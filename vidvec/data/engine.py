"""Where the rows of a source become results: an ingest's engine. ``here`` is this machine's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from vidvec.data.modalities import Modalities
from vidvec.data.processing import LazyEncoder, Processing, Result
from vidvec.data.sources import Source
from vidvec.data.update import Update
from vidvec.data.worker import Limits
from vidvec.data.workers import WorkerPool
from vidvec.data.writer import CorpusWriter
from vidvec.records import Reject, SourceRow

if TYPE_CHECKING:
    from vidvec.data.ingest import IngestOptions


class Engine(Protocol):
    """Makes the results of a source's rows, in their order."""

    @property
    def audio_identity(self) -> dict[str, Any]:
        """Identity of the audio encoder."""
        ...

    @property
    def identity(self) -> dict[str, Any] | None:
        """Identity of the frame encoder, once a row has needed it."""
        ...

    @property
    def made_with(self) -> dict[str, Any]:
        """What opens the encoders again; empty before. See ``LazyEncoder``."""
        ...

    @property
    def note(self) -> str:
        """A sentence on the frame encoder where there is something to know."""
        ...

    @property
    def notes(self) -> Counter[str]:
        """What could not be had of videos that are in, counted."""
        ...

    def chunks(self, source: Source, update: Update | None) -> Iterator[list[Result]]:
        """Results of the rows that are still to be read, in chunks that are committed whole."""
        ...


OpenEngine = Callable[[CorpusWriter, "IngestOptions"], AbstractContextManager[Engine]]


class Here:
    """The engine of one machine: worker processes that read files, the encoder in this one.

    Args:
        writer: Of the corpus.
        options: Of the ingest.
        pool: Reads the files.
    """

    def __init__(self, writer: CorpusWriter, options: IngestOptions, pool: WorkerPool) -> None:
        self._writer = writer
        self._encoder = LazyEncoder(options, writer.manifest["frame_encoder"])
        modalities = Modalities(options.audio, options.asr, ocr=options.ocr)
        self.audio_identity = modalities.audio_identity
        self._processing = Processing(self._encoder, modalities, pool, options)

    @property
    def identity(self) -> dict[str, Any] | None:
        """See ``Engine``."""
        return self._encoder.identity

    @property
    def made_with(self) -> dict[str, Any]:
        """See ``Engine``."""
        return self._encoder.made_with

    @property
    def note(self) -> str:
        """See ``Engine``."""
        return self._encoder.note

    @property
    def notes(self) -> Counter[str]:
        """See ``Engine``."""
        return self._processing.notes

    def chunks(self, source: Source, update: Update | None) -> Iterator[list[Result]]:
        """See ``Engine``."""
        if update is not None:
            return self._processing.chunks(update.rows(source.read()))
        first = self._writer.entry["cursor"]
        return self._processing.chunks(self._rows_left(source, first), first)

    def _rows_left(self, source: Source, first: int) -> Iterator[SourceRow | Reject]:
        if self._writer.entry.get("read"):
            return iter(())
        return islice(source.read(), first, None)


@contextmanager
def here(writer: CorpusWriter, options: IngestOptions) -> Iterator[Engine]:
    """Yields the engine of this machine; see ``OpenEngine``."""
    with WorkerPool(options.workers, Limits(options.file_seconds, options.file_memory_mb)) as pool:
        yield Here(writer, options, pool)
