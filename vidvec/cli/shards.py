"""What ``vidvec index VECTORS INTO --shards N`` does and prints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from vidvec.cli.shared import out, print_json, progress
from vidvec.errors import UsageError


def to_shards(
    vectors: Path,
    folder: Path | None,
    shards: int | None,
    *,
    corpus: Path | None,
    kind: str,
    restart: bool,
    as_json: bool,
) -> None:
    """Spreads a folder of vectors over shards.

    Raises:
        UsageError: The folder to write or the number is missing, or what does not go with them.
    """
    if folder is None or shards is None or restart:
        raise UsageError(
            "shards take a folder to write and a number: vidvec index VECTORS INTO --shards N; to "
            "make them anew, delete that folder"
        )
    from vidvec.search.sharded.splitting import split

    with progress("index", transient=True) as update:
        report = split(vectors, folder, shards, corpus=corpus, kind=kind, progress=update)
    if as_json:
        print_json({**asdict(report), "file": str(report.file)})
        return
    each = ", ".join(f"{one.videos}" for one in report.shards)
    kinds = ", ".join(sorted({one.kind for one in report.shards}))
    said = [f"{report.file}: {report.videos} videos in {shards} shards ({each}), {kinds}"]
    if not (report.written or any(one.written for one in report.shards)):
        said.append("unchanged, nothing written")
    left = sum(one.difference.not_finite + one.difference.duplicates for one in report.shards)
    if left:
        named = [name for one in report.shards for name in one.difference.named][:5]
        said.append(
            f"left out: {left} vectors with NaN or infinity, or of an id that came before; such as "
            f"{', '.join(named)}"
        )
    for line in said:
        out.print(line, highlight=False, soft_wrap=True)
