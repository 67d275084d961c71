"""Rows of a source into videos with features.

Files are read ahead by worker processes; their pictures go through the frame encoder here, in
batches of its own size, whichever videos they are of. Results come in chunks, each of videos that
were encoded together: who commits between two chunks, and begins there again after a kill, has the
same batches made, hence the same bits, as a run that was not killed.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidvec.data.frames import FrameEncoder, open_frame_encoder
from vidvec.data.media import Media, MediaRequest
from vidvec.data.modalities import Modalities
from vidvec.data.reopen import absolute_spec
from vidvec.errors import BadRecord
from vidvec.records import Processed, Reject, SourceRow, Video

if TYPE_CHECKING:
    from vidvec.data.ingest import IngestOptions
    from vidvec.data.workers import WorkerPool

# A chunk ends with so many of the encoder's batches, the last of which is mostly not full, or rows.
CHUNK_BATCHES = 16
CHUNK_ROWS = 256
# Rows read ahead, by worker: enough for the others to go on while one file takes long, but no more
# than are in memory with AHEAD_BYTES, and two for each worker in any case.
AHEAD_ROWS, AHEAD_BYTES = 8, 512 << 20
# Of files out of URLs, tars and tables, which lie on the disk or in memory until they are read.
AHEAD_LENT = 4

Result = Processed | Reject


@dataclass(frozen=True, slots=True)
class Seen:
    """A video that was read and waits for the features of its pictures."""

    row: SourceRow
    video: Video
    heard: bool
    pictures: list[NDArray[np.uint8]]


def open_encoder(options: IngestOptions, held: dict[str, Any]) -> FrameEncoder:
    """The frame encoder that an ingest asks for, where the corpus holds frames of ``held``."""
    return open_frame_encoder(
        options.encoder,
        options=options.encoder_options,
        precision=options.encoder_precision,
        like=held,
    )


class LazyEncoder:
    """Opens the frame encoder when the first video file needs it; features need none.

    Args:
        options: Name the encoder.
        held: Identity of the one that the corpus's frames are of.
        opener: Opens it otherwise, as where several uses share one.

    Attributes:
        identity: Once it is open, as the manifest holds it.
        made_with: What opens it and the audio encoder again, from any folder; empty before.
    """

    def __init__(
        self,
        options: IngestOptions,
        held: dict[str, Any],
        opener: Callable[[], FrameEncoder] | None = None,
    ) -> None:
        self._options = options
        self._opener = opener or partial(open_encoder, options, held)
        self._encoder: FrameEncoder | None = None
        self.identity: dict[str, Any] | None = None
        self.made_with: dict[str, Any] = {}

    def open(self) -> FrameEncoder:
        """The encoder."""
        if self._encoder is None:
            self._encoder = self._opener()
            # Through JSON, as the manifest holds it, so that the two can be compared.
            self.identity = json.loads(json.dumps(self._encoder.identity))
            options = self._options
            self.made_with = {
                "encoder": absolute_spec(options.encoder),
                "options": options.encoder_options,
                "precision": options.encoder_precision,
                "audio": absolute_spec(options.audio),
            }
        return self._encoder

    @property
    def note(self) -> str:
        """The encoder's, where it was opened."""
        return self._encoder.note if self._encoder else ""


class Processing:
    """Rows to results.

    Args:
        encoder: Of frames.
        modalities: What is wanted besides.
        pool: Reads the files.
        options: Of the ingest.

    Attributes:
        notes: What could not be had of videos that are in, counted.
    """

    def __init__(
        self, encoder: LazyEncoder, modalities: Modalities, pool: WorkerPool, options: IngestOptions
    ) -> None:
        self._encoder = encoder
        self._modalities = modalities
        self._pool = pool
        self._options = options
        self._workers = max(1, options.workers)
        self._ahead_rows = AHEAD_ROWS * self._workers
        self.notes: Counter[str] = Counter()

    def chunks(
        self, rows: Iterable[SourceRow | Reject], first: int | None = None
    ) -> Iterator[list[Result]]:
        """The rows' results in their order; chunks of one where nothing is encoded.

        Args:
            rows: The rows.
            first: Place in the source of the first of them, which the others follow without a gap.
                Chunks then end before each place that is a multiple of ``CHUNK_ROWS``, so that a
                source that is cut there, and done piece by piece, has the same batches made.
        """
        chunk: Chunk | None = None
        for place, (row, coming) in enumerate(self._read_ahead(rows), start=(first or 0) + 1):
            outcome = self._settle(row, coming)
            if chunk is None and not isinstance(outcome, Seen):
                yield [outcome]
                continue
            chunk = chunk or Chunk(self._encoder.open())
            chunk.add(outcome)
            stops = self._options.strict and isinstance(outcome, Reject)
            ends = first is not None and place % CHUNK_ROWS == 0
            if chunk.is_full or stops or ends:
                yield chunk.finish()
                chunk = None
        if chunk is not None:
            yield chunk.finish()

    def _read_ahead(
        self, rows: Iterable[SourceRow | Reject]
    ) -> Iterator[tuple[SourceRow | Reject, Future[Media] | None]]:
        """Rows with what will be read of their files."""
        ahead: deque[tuple[SourceRow | Reject, Future[Media] | None]] = deque()
        for each in rows:
            row = each if isinstance(each, Reject) else with_file(each)
            ahead.append((row, self._begin(row)))
            if len(ahead) > self._ahead_rows:
                yield ahead.popleft()
        while ahead:
            yield ahead.popleft()

    def _begin(self, row: SourceRow | Reject) -> Future[Media] | None:
        """Has the file of a row read, where it has one that is needed."""
        if isinstance(row, Reject) or len(row.video.frames):
            return None
        borrowed = row.borrow()
        if borrowed is None:
            return None
        request = request_for(row.video, self._encoder.open(), self._modalities, self._options)
        fits = AHEAD_BYTES // _usual_bytes(request)
        if row.lease is not None:
            fits = min(fits, AHEAD_LENT * self._workers)
        self._ahead_rows = max(2 * self._workers, min(self._ahead_rows, fits))
        return self._pool.submit(borrowed, request)

    def _settle(
        self, row: SourceRow | Reject, coming: Future[Media] | None
    ) -> Processed | Reject | Seen:
        """A row's result as far as it can be had without the frame encoder."""
        if isinstance(row, Reject):
            return row
        if coming is None:
            return Processed(row.where, row.video, encoded=False, part=row.part)
        try:
            media = coming.result()
        except BadRecord as error:
            return Reject(row.where, row.video.id, error.reason, error.detail)
        outcome, notes = settle(row, media, self._modalities)
        self.notes.update(note.partition(":")[0] for note in notes)
        return outcome


class Chunk:
    """Videos whose pictures are encoded together.

    Args:
        encoder: Of frames.
    """

    def __init__(self, encoder: FrameEncoder) -> None:
        self._encoder = encoder
        self._most = CHUNK_BATCHES * encoder.batch_size
        self._count = 0
        self._outcomes: list[Processed | Reject | Seen] = []
        self._counts: list[int] = []
        self._waiting: list[NDArray[np.uint8]] = []
        self._parts = [np.zeros((0, encoder.frame_size), np.float32)]

    def add(self, outcome: Processed | Reject | Seen) -> None:
        """Takes a row; encodes the pictures that fill a batch, and forgets them."""
        self._outcomes.append(outcome)
        if not isinstance(outcome, Seen):
            return
        self._waiting += outcome.pictures
        self._counts.append(len(outcome.pictures))
        self._count += len(outcome.pictures)
        outcome.pictures.clear()
        while len(self._waiting) >= self._encoder.batch_size:
            self._encode(self._encoder.batch_size)

    @property
    def is_full(self) -> bool:
        """Whether ``finish`` is due."""
        return self._count >= self._most or len(self._outcomes) >= CHUNK_ROWS

    def finish(self) -> list[Result]:
        """The rows' results, in the order in which they came."""
        if self._waiting:
            self._encode(len(self._waiting))
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is found below
            features = np.concatenate(self._parts).astype(np.float16)
        each = iter(np.split(features, np.cumsum(self._counts)[:-1]))
        return [
            _with_frames(outcome, next(each)) if isinstance(outcome, Seen) else outcome
            for outcome in self._outcomes
        ]

    def _encode(self, count: int) -> None:
        self._parts.append(self._encoder.encode(self._waiting[:count]))
        del self._waiting[:count]


def request_for(
    video: Video, encoder: FrameEncoder, modalities: Modalities, options: IngestOptions
) -> MediaRequest:
    """What is wanted of a video's file."""
    return MediaRequest(
        short_side=encoder.short_side, keyframes=options.keyframes, **modalities.wanted(video)
    )


def settle(
    row: SourceRow, media: Media, modalities: Modalities
) -> tuple[Seen | Processed | Reject, tuple[str, ...]]:
    """A row with what was read of its file, without frames as yet.

    Returns:
        The row's outcome; a sentence on each thing that could not be had.
    """
    video, heard, notes = modalities.complete(row.video, media)
    notes = media.notes + notes
    if media.without_pictures is not None:
        if not video.title.strip() and len(video.audio) == 0:
            return Reject(row.where, video.id, *media.without_pictures), notes
        return Processed(row.where, video, encoded=False, part=row.part, heard=heard), notes
    video = replace(
        video,
        frame_times_seconds=media.times_seconds,
        duration_seconds=media.duration_seconds,
        thumbnails=media.thumbnails,
    )
    return Seen(row, video, heard, media.pictures), notes


def with_file(row: SourceRow) -> SourceRow:
    """The row with its video file noted in its video, where it has one that stays."""
    if row.file is None:
        return row
    return replace(row, video=replace(row.video, file=str(row.file.absolute())))


def _with_frames(seen: Seen, frames: NDArray[np.float16]) -> Result:
    if not np.isfinite(frames).all():
        detail = "the frame encoder gave a number that is no finite float16"
        return Reject(seen.row.where, seen.video.id, "nan", detail)
    video = replace(seen.video, frames=frames)
    return Processed(seen.row.where, video, encoded=True, part=seen.row.part, heard=seen.heard)


def _usual_bytes(request: MediaRequest) -> int:
    """What a long video in 16:9 comes to in memory, with half an hour of sound where wanted."""
    pictures = request.max_frames * request.short_side**2 * 16 // 9 * 3
    return pictures + int(2 * 16_000 * request.speech_seconds)
