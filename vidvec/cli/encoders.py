"""Commands on frame encoders: reencode."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vidvec.cli.shared import NumbersOption, out, progress


def reencode(
    corpus: Path,
    /,
    *,
    encoder: str = "",
    encoder_precision: Literal["auto", "float32", "bf16", "fp16", "int8"] = "auto",
    size: int | None = None,
    mean: NumbersOption = None,
    std: NumbersOption = None,
    output: str | None = None,
    resize: Literal["squash", "crop"] | None = None,
    name: str = "",
    restart: Annotated[bool, Parameter(negative="")] = False,
    strict: Annotated[bool, Parameter(negative="")] = False,
    workers: int = 2,
) -> None:
    """Add features of another frame encoder to a corpus, from its video files; it carries on.

    The metadata is not read again. Run again after the corpus has grown, it adds what is new.

    Args:
        corpus: The corpus.
        encoder: Frame encoder, as for ingest: onnx:FILE, hf:NAME, timm:NAME, classic, or for short
            efficientnet-b3, siglip2, dinov3, dinov2, clip. Not needed where --name says which
            set to carry on with.
        encoder_precision: What the encoder computes in: bf16 or fp16 (hf, timm) on a GPU, int8
            (onnx) on a CPU; auto takes what the set holds already, else float32.
        size: Picture size of an ONNX model, where its file does not say.
        mean: What an ONNX model's input has subtracted, in 0…255.
        std: What it is then divided by.
        output: Name of an ONNX model's output to take.
        resize: How pictures come to an ONNX model's size.
        name: Of the feature set, in CORPUS/features; by default after the encoder.
        restart: Throw away what the set has and begin again.
        strict: Stop at the first video whose file is gone or cannot be decoded.
        workers: Videos decoded side by side.
    """
    from vidvec.data.reencode import ReencodeOptions
    from vidvec.data.reencode import reencode as run

    given = {"size": size, "mean": mean, "std": std, "output": output, "resize": resize}
    options = ReencodeOptions(
        encoder=encoder,
        encoder_options={key: value for key, value in given.items() if value is not None},
        encoder_precision=encoder_precision,
        name=name,
        restart=restart,
        strict=strict,
        workers=workers,
    )
    with progress("reencode") as update:
        report = run(
            corpus, options, lambda done, total, bad: update(done, total, f"{bad} rejected")
        )
    if report.note:
        out.print(report.note, highlight=False)
    rejected = sum(report.rejected.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in report.rejected.most_common())
    file = corpus / "features" / report.name / "rejects.jsonl"
    out.print(
        f"{corpus}: feature set {report.name} of {report.encoder}: {report.videos} videos "
        f"({report.added} added), {rejected} rejected"
        + (f" ({reasons}; see {file})" if reasons else "")
        + (f", {report.without_file} without a file" if report.without_file else ""),
        soft_wrap=True,
        highlight=False,
    )
    out.print(
        f"to learn from it: vidvec pretrain {corpus} RUN --features {report.name}",
        soft_wrap=True,
        highlight=False,
    )
