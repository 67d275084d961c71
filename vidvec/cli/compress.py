"""The command that makes vectors smaller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vidvec.cli.shared import Location, out, print_json, progress


def compress(
    vectors: Location,
    to: Annotated[Path, Parameter(name="OUT")],
    /,
    *,
    size: int | None = None,
    dtype: Literal["float32", "float16", "int8", "binary"] = "int8",
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Write vectors again, smaller: fewer numbers of each, fewer bits of each number.

    What is written is searched, evaluated and fused like any vectors; vidvec evaluate --sizes
    --dtypes shows beforehand what it costs.

    Args:
        vectors: Folder of the vectors.
        to: Folder to write.
        size: The first so many numbers of each vector, brought to length 1; by default all.
        dtype: What is kept of a number: float32, float16, int8, or binary, which is its sign.
        as_json: Print JSON.
    """
    from dataclasses import asdict

    from vidvec.embed.compress import compress as run
    from vidvec.embed.import_vectors import REJECTS

    with progress("compress", transient=True) as update:
        report = run(vectors, to, size=size, dtype=dtype, progress=update)
    if as_json:
        print_json(asdict(report))
        return
    out.print(
        f"{to}: {report.vectors} vectors of {report.dimension} numbers in {report.dtype}, "
        f"{report.bytes_per_vector:,} bytes each, which were {report.bytes_before:,}; mean cosine "
        f"with the same numbers in float32 {report.cosine:.4f}",
        highlight=False,
        soft_wrap=True,
    )
    if report.left_out:
        counts = ", ".join(f"{count} {reason}" for reason, count in report.left_out.items())
        out.print(f"left out: {counts}; see {to / REJECTS}", highlight=False, soft_wrap=True)
