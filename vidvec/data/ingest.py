"""A source into a corpus: read, decode, encode, append; what cannot be read is named and counted.

A killed ingest carries on. The manifest says how many rows of the source are in the committed
shards; they are skipped, and rejects written after the last commit are cut off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vidvec import storage
from vidvec.data import corpus as store
from vidvec.data.access import SCRATCH, Access, AccessOptions
from vidvec.data.audio import LOG_MEL, AudioEncoder
from vidvec.data.engine import Engine, OpenEngine, here
from vidvec.data.entries import is_update, of_place, place_of
from vidvec.data.frames import EncoderPrecision, FrameEncoder, open_frame_encoder
from vidvec.data.lists import changed_lists, check_lists, take_lists
from vidvec.data.media import read_media
from vidvec.data.modalities import Modalities
from vidvec.data.processing import Chunk, Result, Seen, request_for, settle, with_file
from vidvec.data.sampling import EVEN, KEYFRAMES
from vidvec.data.sources import Source, open_source
from vidvec.data.staged import staged
from vidvec.data.tokenizer import load_tokenizer, train_tokenizer
from vidvec.data.update import Update, UpdateReport
from vidvec.data.worker import FILE_SECONDS, MEMORY_MB, Limits
from vidvec.data.writer import CorpusWriter
from vidvec.errors import BadRecord
from vidvec.records import Reject, SourceRow, Video

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
        notes: What this run could not have of videos that are in, such as damaged sound, counted.
        update: What an update found; ``None``: it was none, or an interrupted run had found it.
    """

    videos: int
    added: int
    rejected: Counter[str]
    pairs: int
    note: str = ""
    resumed_at: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    update: UpdateReport | None = None


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How to ingest.

    Attributes:
        encoder: Frame encoder; see ``open_frame_encoder``.
        encoder_options: What it takes besides, such as ``size``.
        encoder_precision: What it computes in; ``auto``: as what the corpus holds, else float32.
        keyframes: Look at videos at their key frames alone, which is faster; see ``video.decode``.
        audio: Audio encoder; see ``open_audio_encoder``.
        asr: Speech recogniser, ``hf:NAME``, that fills ``speech_text`` where it is empty.
        ocr: Whether ``screen_text``, where it is empty, is read from the pictures.
        tokenizer: Name or folder; empty: one is trained on the corpus's titles.
        pairs: Files with scored pairs.
        tag_list: File that fixes the tag vocabulary; ``None``: the corpus's most frequent tags.
        strict: Stop at the first record, or row of a list, that cannot be used.
        workers: Processes that read files side by side.
        file_seconds, file_memory_mb: What reading one file may take; see ``worker.Limits``.
        access: What may be downloaded, and how much.
        update: Where the source is in already, take in what is new or has changed, and mark what
            is gone; see ``update.py``.
    """

    encoder: str = "classic"
    encoder_options: dict[str, Any] = field(default_factory=dict)
    encoder_precision: EncoderPrecision = "auto"
    keyframes: bool = False
    audio: str = "log-mel"
    asr: str = ""
    ocr: bool = False
    tokenizer: str = ""
    pairs: tuple[Path, ...] = ()
    tag_list: Path | None = None
    strict: bool = False
    workers: int = 2
    file_seconds: float = FILE_SECONDS
    file_memory_mb: int = MEMORY_MB
    access: AccessOptions = field(default_factory=AccessOptions)
    update: bool = False


def ingest(
    source_path: Path,
    corpus_path: Path,
    options: IngestOptions,
    progress: Progress | None = None,
    *,
    open_engine: OpenEngine = here,
) -> IngestReport:
    """Reads a source into a corpus, new or already there.

    Args:
        source_path: See ``open_source``.
        corpus_path: The corpus folder, or its URL (see ``staged.py``). Where it is complete and the
            source is new, the videos are appended; where it holds this source already, only pairs
            and tag lists that changed since are taken, or with ``options.update`` whatever has.
        options: See there.
        progress: Called with rows done and records rejected.
        open_engine: Where rows become results: on this machine, or see ``pipeline.bulk``.

    Raises:
        UsageError: The source, an option, or the mix with what the corpus holds cannot be used.
        BadRecord: ``strict``, and a record or a row of a list cannot be used, or an earlier run
            left one out; what came before it is kept, and the next run begins with it.
    """
    if isinstance(corpus_path, storage.S3Path):
        return staged(
            corpus_path,
            lambda folder, say: ingest(source_path, folder, options, say, open_engine=open_engine),
            store.SHARD_BYTES,
            progress,
        )
    with Access(options.access, corpus_path / SCRATCH) as access:
        source = open_source(source_path, access)
        return _ingest(source, corpus_path, options, progress, access, open_engine=open_engine)


def _ingest(
    source: Source,
    corpus_path: Path,
    options: IngestOptions,
    progress: Progress | None,
    access: Access,
    *,
    open_engine: OpenEngine,
) -> IngestReport:
    Limits(options.file_seconds, options.file_memory_mb)  # refused before any work
    if options.tokenizer:
        load_tokenizer(options.tokenizer)
    check_lists(source, options)
    writer = CorpusWriter(corpus_path, source, update=options.update)
    if writer.entry["complete"]:
        return _ingest_again(writer, source, options)
    if options.strict:
        writer.check_strict(but_lists=False)
    writer.frame_sampling = KEYFRAMES if options.keyframes else EVEN
    resumed_at = writer.entry["cursor"]
    with open_engine(writer, options) as engine:
        writer.audio_encoder = engine.audio_identity
        update = Update(writer) if is_update(writer.entry) else None
        try:
            chunks = engine.chunks(source, update)
            _add(writer, chunks, engine, update, strict=options.strict, progress=progress)
        except BaseException:
            access.close()  # threads that wait for downloads give up, so that the pool can end
            raise
    found = update.finish() if update is not None else None
    if writer.entry["complete"]:  # the one of before: there was nothing to write
        note = "the source is as it was: nothing changed"
        return replace(_ingest_again(writer, source, options, note), update=found)
    _finish(writer, source, options)
    note = "; ".join(filter(None, (engine.note, _update_hint(writer))))
    report = replace(_report(writer), note=note, resumed_at=resumed_at, update=found)
    return replace(report, notes=engine.notes)


def _add(
    writer: CorpusWriter,
    chunks: Iterable[list[Result]],
    engine: Engine,
    update: Update | None,
    *,
    strict: bool,
    progress: Progress | None,
) -> None:
    """Hands results to the writer, which commits between chunks only."""
    done = writer.entry["cursor"]
    for chunk in chunks:
        if engine.made_with:
            writer.manifest["made_with"] = engine.made_with
        for left, result in zip(range(len(chunk) - 1, -1, -1), chunk, strict=True):
            if update is not None:
                update.advance()
            writer.add(result, engine.identity, strict=strict, hold=left > 0)
            done += 1
            if progress is not None:
                progress(done, sum(writer.entry["rejected"].values()))


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
    audio: str | AudioEncoder = LOG_MEL,
) -> Video:
    """One video file with its frame features, as ``ingest`` would store it.

    It is read in this process, where a file that crashes FFmpeg or never ends does so, too; for
    files that nobody vouches for, ``ingest`` has limits.

    Args:
        path: The file.
        title: Its title.
        video_id: Its id; by default the file's name.
        encoder: Frame encoder, opened or by its spec; must be the one that the model to use was
            trained on.
        audio: Audio encoder, likewise.

    Returns:
        The video; without frames where the file holds sound only and there is a title or sound.

    Raises:
        BadRecord: The file cannot be decoded.
    """
    opened = open_frame_encoder(encoder) if isinstance(encoder, str) else encoder
    modalities = Modalities(audio)
    video = Video(id=video_id or Path(path).stem, title=title)
    row = with_file(SourceRow(str(path), video, Path(path)))
    try:
        media = read_media(Path(path), request_for(video, opened, modalities, IngestOptions()))
    except BadRecord as error:
        raise BadRecord(error.reason, f"{path}: {error.detail}") from None
    outcome, _ = settle(row, media, modalities)
    if isinstance(outcome, Seen):
        chunk = Chunk(opened)
        chunk.add(outcome)
        [outcome] = chunk.finish()
    if isinstance(outcome, Reject):
        raise BadRecord(outcome.reason, f"{path}: {outcome.detail}")
    return outcome.video


def _report(writer: CorpusWriter) -> IngestReport:
    """Counts of the corpus and of this source."""
    corpus = store.Corpus(writer.path, unfinished=True)
    return IngestReport(
        videos=len(corpus.live),
        added=writer.entry["videos"],
        rejected=Counter(writer.entry["rejected"]),
        pairs=len(corpus.pairs()),
    )


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
