"""A source into a corpus: read, decode, encode, append; what cannot be read is named and counted.

A killed ingest carries on. The manifest says how many rows of the source are in the committed
shards; they are skipped, and rejects written after the last commit are cut off.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vidvec.data import corpus as store
from vidvec.data.frames import FrameEncoder, open_frame_encoder
from vidvec.data.lists import changed_lists, check_lists, take_lists
from vidvec.data.sampling import sample_positions
from vidvec.data.sources import Source, open_source
from vidvec.data.tokenizer import load_tokenizer, train_tokenizer
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
        videos: Videos in the corpus now.
        added: Of these, from this source (an interrupted run's part included).
        rejected: Records left out, counted by reason.
        pairs: Scored pairs in the corpus now.
        note: A sentence on the frame encoder where there is something to know.
        resumed_at: Rows of the source that an interrupted run had done.
    """

    videos: int
    added: int
    rejected: Counter[str]
    pairs: int
    note: str = ""
    resumed_at: int = 0


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How to ingest.

    Attributes:
        encoder: Frame encoder: ``classic``, ``onnx:FILE`` or ``hf:NAME``.
        encoder_options: What it takes besides, such as ``size``.
        tokenizer: Name or folder; empty: one is trained on the corpus's titles.
        pairs: Files with scored pairs.
        tag_list: File that fixes the tag vocabulary; ``None``: the corpus's most frequent tags.
        strict: Stop at the first record, or row of a list, that cannot be used.
        workers: Videos decoded side by side.
    """

    encoder: str = "classic"
    encoder_options: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = ""
    pairs: tuple[Path, ...] = ()
    tag_list: Path | None = None
    strict: bool = False
    workers: int = 2


def ingest(
    source_path: Path, corpus_path: Path, options: IngestOptions, progress: Progress | None = None
) -> IngestReport:
    """Reads a source into a corpus, new or already there.

    Args:
        source_path: See ``open_source``.
        corpus_path: The corpus folder. Where it is complete and the source is new, the videos are
            appended; where it holds this source already, only pairs and tag lists that changed
            since are taken.
        options: See there.
        progress: Called with rows done and records rejected.

    Raises:
        UsageError: The source, an option, or the mix with what the corpus holds cannot be used.
        BadRecord: ``strict``, and a record or a row of a list cannot be used, or an earlier run
            left one out; what came before it is kept, and the next run begins with it.
    """
    source = open_source(source_path)
    if options.tokenizer:
        load_tokenizer(options.tokenizer)
    check_lists(source, options)
    writer = CorpusWriter(corpus_path, source)
    if writer.entry["complete"]:
        return _ingest_again(writer, source, options)
    if options.strict:
        writer.check_strict(but_lists=False)
    encoder = _LazyEncoder(options)
    resumed_at = writer.entry["cursor"]
    rows = iter(()) if writer.entry.get("read") else islice(source.read(), resumed_at, None)
    for done, result in enumerate(_processed(rows, encoder, options.workers), resumed_at + 1):
        writer.add(result, encoder.identity, strict=options.strict)
        if progress is not None:
            progress(done, sum(writer.entry["rejected"].values()))
    _finish(writer, source, options)
    return replace(_report(writer), note=encoder.note, resumed_at=resumed_at)


def _ingest_again(writer: CorpusWriter, source: Source, options: IngestOptions) -> IngestReport:
    """Takes what has changed beside records that are all in the corpus."""
    changed = changed_lists(writer, source, options)
    if options.strict:
        writer.check_strict(but_lists=bool(changed))
    frames = writer.manifest["frame_encoder"]["name"]
    note = f"this source is in already (frames: {frames})"
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
    result = _process(SourceRow(str(path), Video(id=name, title=title), Path(path)), opened)
    if isinstance(result, Reject):
        raise BadRecord(result.reason, f"{path}: {result.detail}")
    return result.video


def _report(writer: CorpusWriter) -> IngestReport:
    """Counts of the corpus and of this source."""
    corpus = store.Corpus(writer.path, unfinished=True)
    return IngestReport(
        videos=len(corpus),
        added=writer.entry["videos"],
        rejected=Counter(writer.entry["rejected"]),
        pairs=len(corpus.pairs()),
    )


class _LazyEncoder:
    """Opens the frame encoder when the first video file needs it; features need none."""

    def __init__(self, options: IngestOptions) -> None:
        self._options = options
        self._encoder: FrameEncoder | None = None
        self.identity: dict[str, Any] | None = None

    def open(self) -> FrameEncoder:
        if self._encoder is None:
            self._encoder = open_frame_encoder(
                self._options.encoder, options=self._options.encoder_options
            )
            # Through JSON, as the manifest holds it, so that the two can be compared.
            self.identity = json.loads(json.dumps(self._encoder.identity))
        return self._encoder

    @property
    def note(self) -> str:
        return self._encoder.note if self._encoder else ""


def _process(row: SourceRow, encoder: FrameEncoder) -> Processed | Reject:
    video = row.video
    try:
        decoded = decode(row.file or Path(), short_side=encoder.short_side)
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
    with ThreadPoolExecutor(max(1, workers)) as pool:
        ahead: deque[Future[Processed | Reject] | Processed | Reject] = deque()
        for row in rows:
            if isinstance(row, Reject):
                ahead.append(row)
            elif row.file is None or len(row.video.frames):
                ahead.append(Processed(row.where, row.video, encoded=False, part=row.part))
            else:
                ahead.append(pool.submit(_process, row, encoder.open()))
            if len(ahead) > 2 * workers:
                yield _result(ahead.popleft())
        while ahead:
            yield _result(ahead.popleft())


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
        train_tokenizer(store.iterate_titles(corpus)).save(folder)
    take_lists(writer, source, options)
    writer.entry["complete"] = True
    writer.commit()
