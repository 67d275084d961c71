"""Commands on corpora: ingest, inspect."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vidvec.cli.bulk import Bulk
from vidvec.cli.shared import Location, NumbersOption, out, print_json, progress
from vidvec.cli.sources import Fetching
from vidvec.errors import UsageError, VidvecError

if TYPE_CHECKING:
    from vidvec.data.corpus import Corpus
    from vidvec.data.duplicates import Duplicates
    from vidvec.data.ingest import IngestReport


def ingest(
    source: Path,
    corpus: Location,
    /,
    *,
    encoder: str = "classic",
    encoder_precision: Literal["auto", "float32", "bf16", "fp16", "int8"] = "auto",
    keyframes: Annotated[bool, Parameter(negative="")] = False,
    size: int | None = None,
    mean: NumbersOption = None,
    std: NumbersOption = None,
    output: str | None = None,
    resize: Literal["squash", "crop"] | None = None,
    audio: str = "log-mel",
    asr: str = "",
    ocr: Annotated[bool, Parameter(negative="")] = False,
    tokenizer: str = "",
    pairs: Annotated[list[Path], Parameter(negative="")] = [],  # noqa: B006 - never changed
    tag_list: Path | None = None,
    strict: Annotated[bool, Parameter(negative="")] = False,
    workers: int = 2,
    file_seconds: float = 300.0,
    file_memory_mb: int = 4096,
    fetching: Fetching = Fetching(),  # noqa: B008 - never changed
    update: Annotated[bool, Parameter(negative="")] = False,
    bulk: Bulk = Bulk(),  # noqa: B008 - never changed
) -> None:
    """Read videos, TFRecords or features into a corpus; started again, it carries on.

    Args:
        source: Folder of videos with a table of metadata (meta.csv, meta.jsonl, meta.parquet: id,
            file, title, speech_text, tags, category), a table, a folder of TFRecords, a table with
            a column of frame features, a pattern such as 'videos/**/*.mp4', a .txt with a path a
            line, tars as WebDataset has them, or a dataset folder of Hugging Face.
        corpus: Folder of the corpus; an existing one is appended to.
        encoder: Frame encoder: classic (no weights), onnx:FILE, hf:NAME, timm:NAME, or for short
            efficientnet-b3, siglip2, dinov3, dinov2, clip.
        encoder_precision: What the encoder computes in: bf16 or fp16 (hf, timm) on a GPU, int8
            (onnx) on a CPU; auto takes what the corpus holds already, else float32.
        keyframes: Look at videos at their key frames alone, those nearest to the times that are
            looked at otherwise: many times faster, and fewer frames.
        size: Picture size of an ONNX model, where its file does not say.
        mean: What an ONNX model's input has subtracted, in 0…255.
        std: What it is then divided by.
        output: Name of an ONNX model's output to take.
        resize: How pictures come to an ONNX model's size.
        audio: Audio encoder: log-mel (no weights), hf:NAME, or none.
        asr: Speech recogniser of Whisper's family, hf:NAME, for videos without speech_text.
        ocr: Read text on screen from the pictures of videos without screen_text.
        tokenizer: Name or folder of a Hugging Face fast tokenizer; else one is trained on titles.
        pairs: Files with scored pairs: id_1, id_2, score.
        tag_list: File that fixes the tag vocabulary, one id a line.
        strict: Stop at the first record, pair or tag that cannot be used.
        workers: Processes that read files side by side.
        file_seconds: Time that reading one file may take, besides a second for every 10 MB of it;
            then it is left out.
        file_memory_mb: Memory that reading one file may take.
        update: Read a source again that is in already: take in what is new or has changed, and mark
            what is gone.
        bulk: On a Ray cluster.
    """
    from vidvec.data.ingest import IngestOptions
    from vidvec.data.ingest import ingest as run

    given = {"size": size, "mean": mean, "std": std, "output": output, "resize": resize}
    options = IngestOptions(
        encoder=encoder,
        encoder_precision=encoder_precision,
        keyframes=keyframes,
        encoder_options={key: value for key, value in given.items() if value is not None},
        audio=audio,
        asr=asr,
        ocr=ocr,
        tokenizer=tokenizer,
        pairs=tuple(pairs),
        tag_list=tag_list,
        strict=strict,
        workers=workers,
        file_seconds=file_seconds,
        file_memory_mb=file_memory_mb,
        access=fetching.options(),
        update=update,
    )
    where = bulk.options()
    with progress("ingest") as say:
        if where is None:
            report = run(source, corpus, options, _with_rate(say))
        else:
            from vidvec.pipeline.bulk.ingest import bulk_ingest

            report = bulk_ingest(source, corpus, options, where, _with_rate(say))
    _ingested(report, source, corpus)


def inspect(
    corpus: Location,
    /,
    *,
    html: Path | None = None,
    sample: int = 12,
    duplicates: bool | None = None,
    threshold: float | None = None,
    rejects: str | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    verify: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Show what a corpus holds: counts, lengths, scripts, tags, rejects, duplicates, a sample.

    Args:
        corpus: The corpus.
        html: Write a page with film strips here.
        sample: Videos in the sample.
        duplicates: Look for duplicates in the frames, all of which are read; without being asked
            where that takes seconds.
        threshold: Similarity from which videos are near duplicates, 0…1; 0.75 where not given.
        rejects: Print every record left out for this reason, and nothing else; all: for any.
        as_json: Print as JSON.
        verify: Read every shard and compare its checksum.
    """
    from vidvec.data.corpus import Corpus

    opened = Corpus(corpus, unfinished=True)
    if rejects is not None:
        _show_rejects(opened, rejects)
        return
    _show(opened, html, sample, _duplicates(opened, duplicates, threshold), as_json)
    if verify:
        damaged = opened.verify()
        if damaged:
            raise VidvecError(f"{corpus}: checksum differs in {', '.join(damaged)}: ingest again")
        if not as_json:
            out.print("all checksums match")


def _duplicates(corpus: Corpus, wanted: bool | None, threshold: float | None) -> Duplicates | None:
    """What there is twice, where it was asked for or is found in seconds."""
    from vidvec.data.duplicates import THRESHOLD, find_duplicates, is_quick

    if wanted is None:
        wanted = threshold is not None or is_quick(corpus)
    if not wanted:
        return None
    with progress("duplicates", transient=True) as update:
        return find_duplicates(corpus, THRESHOLD if threshold is None else threshold, update)


def _show_rejects(corpus: Corpus, reason: str) -> None:
    from vidvec import console_corpus
    from vidvec.data.rejects import read_rejects

    known = set()
    for reject in read_rejects(corpus):
        known.add(reject.reason)
        if reason in {reject.reason, "all"}:
            out.print(console_corpus.rejects([reject]), soft_wrap=True)
    if reason not in {*known, "all"}:
        raise UsageError(
            f"nothing was left out of {corpus.path} for the reason {reason!r}; "
            f"reasons: {', '.join(sorted(known)) or 'none'}"
        )


def _show(
    corpus: Corpus, page: Path | None, sample: int, found: Duplicates | None, as_json: bool
) -> None:
    from vidvec import console_corpus
    from vidvec.data import inspect as inspection
    from vidvec.data.inspect_page import to_html

    summary = inspection.summarise(corpus)
    rows = inspection.sample_rows(corpus, sample)
    if as_json:
        print_json(inspection.as_json(summary, found, corpus))
    else:
        parts = [*console_corpus.summary(summary), *console_corpus.duplicates(found, corpus)]
        for part in (*parts, console_corpus.sample([corpus.video(row) for row in rows])):
            out.print(part)
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(to_html(corpus, summary, rows, found), "utf-8")
        if not as_json:
            out.print(f"wrote {page}", soft_wrap=True)


def _with_rate(say: Callable[..., None]) -> Callable[[int, int], None]:
    """Rows done, rejected, and how many this run does in a second, for a progress bar."""
    start, before = time.monotonic(), -1

    def update(done: int, rejected: int) -> None:
        nonlocal before
        before = done - 1 if before < 0 else before
        rate = (done - before) / max(time.monotonic() - start, 1e-3)
        say(done, None, f"{rate:.1f} a second, {rejected} rejected")

    return update


def _ingested(report: IngestReport, source: Path, corpus: Path) -> None:
    if report.note:
        out.print(report.note, highlight=False)
    if report.resumed_at:
        out.print(f"carried on at row {report.resumed_at}")
    if report.update is not None and not report.update.nothing:
        counts = asdict(report.update).items()
        out.print("update: " + ", ".join(f"{n} {name}" for name, n in counts), highlight=False)
    for what, count in report.notes.most_common():
        out.print(f"{what}: {count} videos", highlight=False)
    rejected = sum(report.rejected.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in report.rejected.most_common())
    out.print(
        f"{corpus}: {report.videos} videos ({report.added} from {source}), {report.pairs} pairs, "
        f"{rejected} rejected"
        + (f" ({reasons}; see {corpus / 'rejects.jsonl'})" if reasons else ""),
        soft_wrap=True,
        highlight=False,
    )
