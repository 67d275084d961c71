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
from vidvec.data.pairs import read_pairs
from vidvec.data.sampling import sample_positions
from vidvec.data.sources import Source, open_source
from vidvec.data.tokenizer import load_tokenizer, train_tokenizer
from vidvec.data.video import decode, to_jpeg
from vidvec.data.writer import CorpusWriter, Processed, write_pairs
from vidvec.errors import BadRecord, UsageError
from vidvec.records import Pair, Reject, SourceRow, Video

THUMBNAILS = 8
MAX_TAGS = 10_000
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
        strict: Stop at the first record that cannot be read.
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
            appended; where it holds this source already, nothing is done.
        options: See there.
        progress: Called with rows done and records rejected.

    Raises:
        UsageError: The source, an option, or the mix with what the corpus holds cannot be used.
        BadRecord: ``strict``, and a record cannot be read; what came before it is kept.
    """
    source = open_source(source_path, options.tag_list)
    _check_options(options)
    writer = CorpusWriter(corpus_path, source)
    if writer.entry["complete"]:
        _take_late_pairs(writer, options.pairs)
        held = writer.manifest["frame_encoder"]["name"]
        return replace(_report(writer), note=f"this source is in already (frames: {held})")
    encoder = _LazyEncoder(options)
    resumed_at = writer.entry["cursor"]
    rows = islice(source.read(), resumed_at, None)
    for done, result in enumerate(_processed(rows, encoder, options.workers), resumed_at + 1):
        outcome = writer.add(result, encoder.identity)
        if isinstance(outcome, Reject) and options.strict:
            writer.commit()
            raise BadRecord(outcome.reason, f"{outcome.where} {outcome.id}: {outcome.detail}")
        if progress is not None:
            progress(done, sum(writer.entry["rejected"].values()))
    _finish(writer, source, options)
    return replace(_report(writer), note=encoder.note, resumed_at=resumed_at)


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


def _check_options(options: IngestOptions) -> None:
    """Finds out now what else would come out after the last video."""
    for file in options.pairs:
        if not file.is_file():
            raise UsageError(f"file of pairs {file} does not exist")
    if options.tokenizer:
        load_tokenizer(options.tokenizer)


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
    """Everything that needs all videos: tokenizer, tag vocabulary, pairs, shard sizes."""
    writer.commit()
    writer.merge_small_shards()
    corpus = store.Corpus(writer.path, unfinished=True)
    folder = writer.path / "tokenizer"
    if options.tokenizer:
        load_tokenizer(options.tokenizer).save(folder)
    elif not (folder / "tokenizer.json").is_file():
        train_tokenizer(store.iterate_titles(corpus)).save(folder)
    if source.tag_list is not None:
        writer.manifest["tag_vocabulary"] = source.tag_list
    elif not writer.manifest["tag_vocabulary"] or len(writer.manifest["ingests"]) == 1:
        writer.manifest["tag_vocabulary"] = frequent_tags(corpus)
    _take_pairs(writer, corpus, (*options.pairs, *source.pairs))
    writer.entry["complete"] = True
    writer.commit()


def frequent_tags(corpus: store.Corpus, limit: int = MAX_TAGS) -> list[str]:
    """The corpus's most frequent tags, ties by name; a tag of one video only teaches nothing."""
    counts = Counter(tag for tags in corpus.column("tags").to_pylist() for tag in set(tags or ()))
    shared = [tag for tag, count in counts.items() if count > 1]
    return sorted(shared, key=lambda tag: (-counts[tag], tag))[:limit]


def _take_pairs(writer: CorpusWriter, corpus: store.Corpus, files: tuple[Path, ...]) -> None:
    """Adds scored pairs to ``pairs.parquet``; those with an unknown video are rejected."""
    new, rejects = _new_pairs(corpus, files)
    for reject in rejects:
        writer.reject(reject)
    if new:
        write_pairs(writer.path / "pairs.parquet", [*corpus.pairs(), *new])
    writer.manifest["pairs"] += len(new)


def _take_late_pairs(writer: CorpusWriter, files: tuple[Path, ...]) -> None:
    """Adds pairs to a corpus whose videos are all there; without new ones nothing changes."""
    corpus = store.Corpus(writer.path, unfinished=True)
    if files and _new_pairs(corpus, files)[0]:
        _take_pairs(writer, corpus, files)
        writer.commit()


def _new_pairs(corpus: store.Corpus, files: tuple[Path, ...]) -> tuple[list[Pair], list[Reject]]:
    """Pairs of these files that the corpus does not have yet, and what is wrong with the others.

    A pair that came with an earlier ingest is not taken again, as where one file of pairs is given
    with each of several sources.
    """
    held = Counter(corpus.pairs())
    new: list[Pair] = []
    rejects: list[Reject] = []
    for file in dict.fromkeys(path.resolve() for path in files):
        read, bad = read_pairs(file)
        rejects += bad
        for pair in read:
            missing = [video for video in (pair.id_1, pair.id_2) if video not in corpus]
            if missing:
                detail = f"pair {pair.id_1} {pair.id_2}: not in the corpus: {', '.join(missing)}"
                rejects.append(Reject(file.name, missing[0], "pair-unknown-id", detail))
            elif held[pair]:
                held[pair] -= 1
            else:
                new.append(pair)
    return new, rejects
