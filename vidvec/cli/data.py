"""Commands on corpora: ingest, inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vidvec.cli.shared import NumbersOption, out, progress
from vidvec.errors import VidvecError

if TYPE_CHECKING:
    from vidvec.data.ingest import IngestReport


def ingest(
    source: Path,
    corpus: Path,
    /,
    *,
    encoder: str = "classic",
    size: int | None = None,
    mean: NumbersOption = None,
    std: NumbersOption = None,
    output: str | None = None,
    resize: Literal["squash", "crop"] | None = None,
    tokenizer: str = "",
    pairs: Annotated[list[Path], Parameter(negative="")] = [],  # noqa: B006 - never changed
    tag_list: Path | None = None,
    strict: Annotated[bool, Parameter(negative="")] = False,
    workers: int = 2,
) -> None:
    """Read videos, TFRecords or features into a corpus; started again, it carries on.

    Args:
        source: Folder of videos with a table of metadata (meta.csv, meta.jsonl, meta.parquet: id,
            file, title, speech_text, tags, category), a table, a folder of TFRecords, or a table
            with a column of frame features.
        corpus: Folder of the corpus; an existing one is appended to.
        encoder: Frame encoder: classic (no weights), onnx:FILE, or hf:NAME.
        size: Picture size of an ONNX model, where its file does not say.
        mean: What an ONNX model's input has subtracted, in 0…255.
        std: What it is then divided by.
        output: Name of an ONNX model's output to take.
        resize: How pictures come to an ONNX model's size.
        tokenizer: Name or folder of a Hugging Face fast tokenizer; else one is trained on titles.
        pairs: Files with scored pairs: id_1, id_2, score.
        tag_list: File that fixes the tag vocabulary, one id a line.
        strict: Stop at the first record, pair or tag that cannot be used.
        workers: Videos decoded side by side.
    """
    from vidvec.data.ingest import IngestOptions
    from vidvec.data.ingest import ingest as run

    given = {"size": size, "mean": mean, "std": std, "output": output, "resize": resize}
    options = IngestOptions(
        encoder=encoder,
        encoder_options={key: value for key, value in given.items() if value is not None},
        tokenizer=tokenizer,
        pairs=tuple(pairs),
        tag_list=tag_list,
        strict=strict,
        workers=workers,
    )
    with progress("ingest") as update:
        report = run(
            source, corpus, options, lambda done, bad: update(done, None, f"{bad} rejected")
        )
    _ingested(report, source, corpus)


def inspect(
    corpus: Path,
    /,
    *,
    html: Path | None = None,
    sample: int = 12,
    verify: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Show what a corpus holds: counts, lengths, tags, scores, rejects, a sample.

    Args:
        corpus: The corpus.
        html: Write a page with film strips of the sample here.
        sample: Videos in the sample.
        verify: Read every shard and compare its checksum.
    """
    from vidvec import console
    from vidvec.data import inspect as inspection
    from vidvec.data.corpus import Corpus

    opened = Corpus(corpus, unfinished=True)
    summary = inspection.summarise(opened)
    for part in console.summary(summary):
        out.print(part)
    rows = inspection.sample_rows(opened, sample)
    for row in rows:
        video = opened.video(row)
        tags = ", ".join(video.tags or ())
        out.print(
            f"  {video.id}  {len(video.frames)} frames  {video.title!r}  {tags}", markup=False
        )
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(inspection.to_html(opened, summary, rows), "utf-8")
        out.print(f"wrote {html}")
    if verify:
        damaged = opened.verify()
        if damaged:
            raise VidvecError(f"{corpus}: checksum differs in {', '.join(damaged)}: ingest again")
        out.print("all checksums match")


def _ingested(report: IngestReport, source: Path, corpus: Path) -> None:
    if report.note:
        out.print(report.note, highlight=False)
    if report.resumed_at:
        out.print(f"carried on at row {report.resumed_at}")
    rejected = sum(report.rejected.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in report.rejected.most_common())
    out.print(
        f"{corpus}: {report.videos} videos ({report.added} from {source}), {report.pairs} pairs, "
        f"{rejected} rejected"
        + (f" ({reasons}; see {corpus / 'rejects.jsonl'})" if reasons else ""),
        soft_wrap=True,
        highlight=False,
    )
