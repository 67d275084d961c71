"""A source into a corpus: read, decode, encode, append; what cannot be read is named and counted.

A killed ingest carries on. The manifest says how many rows of the source are in the committed
shards; they are skipped, and rejects written after the last commit are cut off.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vidvec.data import corpus as store
from vidvec.data.access import SCRATCH, Access, AccessOptions
from vidvec.data.entries import is_update, of_place, place_of
from vidvec.data.frames import EncoderPrecision, FrameEncoder, open_frame_encoder
from vidvec.data.lists import changed_lists, check_lists, take_lists
from vidvec.data.sampling import sample_positions
from vidvec.data.sources import Source, open_source
from vidvec.data.tokenizer import load_tokenizer, train_tokenizer
from vidvec.data.update import Update, UpdateReport
from vidvec.data.video import decode, to_jpeg
from vidvec.data.writer import CorpusWriter, Processed
from vidvec.errors import BadRecord
from vidvec.records import Reject, SourceRow, Video

THUMBNAILS = 8
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class IngestReport:
    """What an ingest did.

    Attributes:
        videos: Videos in the corpus now, without those that are gone.
        added: Of these, from this source (an interrupted run's part included).
        rejected: Records left out, counted by reason.
        pairs: Scored pairs in the corpus now.
        note: A sentence on the frame encoder where there is something to know.
        resumed_at: Rows of the source that an interrupted run had done.
        update: What an update found; ``None``: it was none, or an interrupted run had found it.
    """

    videos: int
    added: int
    rejected: Counter[str]
    pairs: int
    note: str = ""
    resumed_at: int = 0
    update: UpdateReport | None = None


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How to ingest.

    Attributes:
        encoder: Frame encoder; see ``open_frame_encoder``.
        encoder_options: What it takes besides, such as ``size``.
        encoder_precision: What it computes in; ``auto``: as what the corpus holds, else float32.
        audio: Audio encoder; see ``open_audio_encoder``.
        asr: Speech recogniser, ``hf:NAME``, that fills ``speech_text`` where it is empty.
        ocr: Whether ``screen_text``, where it is empty, is read from the pictures.
        tokenizer: Name or folder; empty: one is trained on the corpus's titles.
        pairs: Files with scored pairs.
        tag_list: File that fixes the tag vocabulary; ``None``: the corpus's most frequent tags.
        strict: Stop at the first record, or row of a list, that cannot be used.
        workers: Videos decoded side by side.
        access: What may be downloaded, and how much.
        update: Where the source is in already, take in what is new or has changed, and mark what
            is gone; see ``update.py``.
    """

    encoder: str = "classic"
    encoder_options: dict[str, Any] = field(default_factory=dict)
    encoder_precision: EncoderPrecision = "auto"
    audio: str = "log-mel"
    asr: str = ""
    ocr: bool = False
    tokenizer: str = ""
    pairs: tuple[Path, ...] = ()
    tag_list: Path | None = None
    strict: bool = False
    workers: int = 2
    access: AccessOptions = field(default_factory=AccessOptions)
    update: bool = False


def ingest(
    source_path: Path, corpus_path: Path, options: IngestOptions, progress: Progress | None = None
) -> IngestReport:
    """Reads a source into a corpus, new or already there.

    Args:
        source_path: See ``open_source``.
        corpus_path: The corpus folder. Where it is complete and the source is new, the videos are
            appended; where it holds this source already, only pairs and tag lists that changed
            since are taken, or with ``options.update`` whatever has.
        options: See there.
        progress: Called with rows done and records rejected.

    Raises:
        UsageError: The source, an option, or the mix with what the corpus holds cannot be used.
        BadRecord: ``strict``, and a record or a row of a list cannot be used, or an earlier run
            left one out; what came before it is kept, and the next run begins with it.
    """
    with Access(options.access, corpus_path / SCRATCH) as access:
        return _ingest(open_source(source_path, access), corpus_path, options, progress)


def _ingest(
    source: Source, corpus_path: Path, options: IngestOptions, progress: Progress | None
) -> IngestReport:
    if options.tokenizer:
        load_tokenizer(options.tokenizer)
    check_lists(source, options)
    writer = CorpusWriter(corpus_path, source, update=options.update)
    if writer.entry["complete"]:
        return _ingest_again(writer, source, options)
    if options.strict:
        writer.check_strict(but_lists=False)
    encoder = _LazyEncoder(options, writer.manifest["frame_encoder"])
    resumed_at = writer.entry["cursor"]
    update = Update(writer) if is_update(writer.entry) else None
    rows = _rows_left(writer, source, update)
    for done, result in enumerate(_processed(rows, encoder, options.workers), resumed_at + 1):
        if update is not None:
            update.advance()
        writer.add(result, encoder.identity, strict=options.strict)
        if progress is not None:
            progress(done, sum(writer.entry["rejected"].values()))
    found = update.finish() if update is not None else None
    if writer.entry["complete"]:  # the one of before: there was nothing to write
        note = "the source is as it was: nothing changed"
        return replace(_ingest_again(writer, source, options, note), update=found)
    _finish(writer, source, options)
    note = "; ".join(filter(None, (encoder.note, _update_hint(writer))))
    return replace(_report(writer), note=note, resumed_at=resumed_at, update=found)


def _rows_left(
    writer: CorpusWriter, source: Source, update: Update | None
) -> Iterator[SourceRow | Reject]:
    """The rows of a source that are still to be read."""
    if update is not None:
        return update.rows(source.read())
    if writer.entry.get("read"):
        return iter(())
    return islice(source.read(), writer.entry["cursor"], None)


def _update_hint(writer: CorpusWriter) -> str:
    """What to do about a source that was in before, as other files, and was not updated."""
    before = of_place(writer.manifest["ingests"], place_of(writer.entry))[:-1]
    if not before or "duplicate-id" not in writer.entry["rejected"]:
        return ""
    return (
        "this source was in before and has changed since: --update takes changed videos anew and "
        "marks missing ones, instead of leaving known ids out as duplicates"
    )


def _ingest_again(
    writer: CorpusWriter, source: Source, options: IngestOptions, note: str = ""
) -> IngestReport:
    """Takes what has changed beside records that are all in the corpus."""
    changed = changed_lists(writer, source, options)
    if options.strict:
        writer.check_strict(but_lists=bool(changed))
    frames = writer.manifest["frame_encoder"]["name"]
    note = note or f"this source is in already (frames: {frames})"
    left = writer.entry["rejected"].get("not-fetched")
    if left and options.access.fetch and not options.update:
        note += f"; {left} videos at URLs were left out: --update fetches them"
    if changed:
        writer.reopen(changed)
        _finish(writer, source, options)
        names = ", ".join(sorted(source.name_of(Path(key)) for key in changed))
        note += f"; taken anew: {names}"
    return replace(_report(writer), note=note)


def read_video(
    path: Path | str,
    *,
    title: str = "",
    video_id: str = "",
    encoder: str | FrameEncoder = "classic",
) -> Video:
    """One video file with its frame features, as ``ingest`` would store it.

    Args:
        path: The file.
        title: Its title.
        video_id: Its id; by default the file's name.
        encoder: Frame encoder, opened or by its spec; must be the one that the model to use was
            trained on.

    Raises:
        BadRecord: The file cannot be decoded.
    """
    opened = open_frame_encoder(encoder) if isinstance(encoder, str) else encoder
    name = video_id or Path(path).stem
    row = SourceRow(str(path), Video(id=name, title=title), Path(path))
    result = _process(row, nullcontext(Path(path)), opened)
    if isinstance(result, Reject):
        raise BadRecord(result.reason, f"{path}: {result.detail}")
    return result.video


def _report(writer: CorpusWriter) -> IngestReport:
    """Counts of the corpus and of this source."""
    corpus = store.Corpus(writer.path, unfinished=True)
    return IngestReport(
        videos=len(corpus.live),
        added=writer.entry["videos"],
        rejected=Counter(writer.entry["rejected"]),
        pairs=len(corpus.pairs()),
    )


class _LazyEncoder:
    """Opens the frame encoder when the first video file needs it; features need none."""

    def __init__(self, options: IngestOptions, held: dict[str, Any]) -> None:
        self._options = options
        self._held = held
        self._encoder: FrameEncoder | None = None
        self.identity: dict[str, Any] | None = None

    def open(self) -> FrameEncoder:
        if self._encoder is None:
            self._encoder = open_frame_encoder(
                self._options.encoder,
                options=self._options.encoder_options,
                precision=self._options.encoder_precision,
                like=self._held,
            )
            # Through JSON, as the manifest holds it, so that the two can be compared.
            self.identity = json.loads(json.dumps(self._encoder.identity))
        return self._encoder

    @property
    def note(self) -> str:
        return self._encoder.note if self._encoder else ""


def _process(
    row: SourceRow, borrowed: AbstractContextManager[Path], encoder: FrameEncoder
) -> Processed | Reject:
    video = row.video
    try:
        with borrowed as file:
            decoded = decode(file, short_side=encoder.short_side)
    except BadRecord as error:
        return Reject(row.where, video.id, error.reason, error.detail)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is found below
        frames = encoder.encode(decoded.images).astype(np.float16)
    if not np.isfinite(frames).all():
        detail = "the frame encoder gave a number that is no finite float16"
        return Reject(row.where, video.id, "nan", detail)
    shown = sample_positions(len(decoded.images), THUMBNAILS)
    video = replace(
        video,
        frames=frames,
        frame_times_seconds=decoded.times_seconds,
        duration_seconds=decoded.duration_seconds,
        thumbnails=tuple(to_jpeg(decoded.images[position]) for position in shown),
    )
    return Processed(row.where, video, encoded=True, part=row.part)


def _processed(
    rows: Iterator[SourceRow | Reject], encoder: _LazyEncoder, workers: int
) -> Iterator[Processed | Reject]:
    """Rows in order, video files decoded and encoded ahead by ``workers`` threads.

    Threads, because decoding and encoding release the interpreter, and a fork under Arrow hangs.
    """
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        ahead: deque[Future[Processed | Reject] | Processed | Reject] = deque()
        for row in map(_with_file, rows):
            if isinstance(row, Reject):
                ahead.append(row)
            elif len(row.video.frames) or (borrowed := row.borrow()) is None:
                ahead.append(Processed(row.where, row.video, encoded=False, part=row.part))
            else:
                ahead.append(pool.submit(_process, row, borrowed, encoder.open()))
            if len(ahead) > 2 * workers:
                yield _result(ahead.popleft())
        while ahead:
            yield _result(ahead.popleft())
    finally:
        # Nobody waits here for downloads: who stops a run cuts them behind this.
        pool.shutdown(wait=False, cancel_futures=True)


def _with_file(row: SourceRow | Reject) -> SourceRow | Reject:
    """The row with its video file noted in its video, where it has one that stays."""
    if isinstance(row, Reject) or row.file is None:
        return row
    return replace(row, video=replace(row.video, file=str(row.file.absolute())))


def _result(item: Future[Processed | Reject] | Processed | Reject) -> Processed | Reject:
    return item.result() if isinstance(item, Future) else item


def _finish(writer: CorpusWriter, source: Source, options: IngestOptions) -> None:
    """Everything that needs all videos: tokenizer, lists, shard sizes."""
    writer.entry["read"] = True
    writer.commit()
    writer.merge_small_shards()
    corpus = store.Corpus(writer.path, unfinished=True)
    folder = writer.path / "tokenizer"
    if options.tokenizer:
        load_tokenizer(options.tokenizer).save(folder)
    elif not (folder / "tokenizer.json").is_file():
        train_tokenizer(store.iterate_texts(corpus)).save(folder)
    take_lists(writer, source, options)
    writer.entry["complete"] = True
    writer.commit()
