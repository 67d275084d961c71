"""The command that makes the index of a folder of vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vidvec.cli.cluster import to_cluster
from vidvec.cli.shards import to_shards
from vidvec.cli.shared import Location, Mirrored, out, print_json, progress
from vidvec.errors import UsageError

if TYPE_CHECKING:
    from vidvec.search.building import IndexReport

Kind = Literal[
    "auto",
    "exact",
    "float16",
    "int8",
    "binary",
    "ivf-float16",
    "ivf-sq8",
    "ivf-sq4",
    "ivf-rabitq",
    "hnsw",
]


def index(
    vectors: Mirrored | None = None,
    into: Path | None = None,
    /,
    *,
    corpus: Location | None = None,
    kind: Kind = "auto",
    restart: Annotated[bool, Parameter(negative="")] = False,
    to: str = "",
    shards: int | None = None,
    roll_back: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Make the index of a folder of vectors, or take in what has changed since.

    Args:
        vectors: Folder of vectors; the index lies inside.
        into: With --shards, the folder that the shards and their file shards.toml come into.
        corpus: Has the videos' titles, tags and such; by default the one that was embedded.
        kind: How neighbours are found: exactly, from float32, float16 or int8 numbers, from signs
            alone (binary), or in lists of vectors, of which few are looked into (ivf-…); auto
            keeps what there is, or takes what fits the number of vectors. A cluster has exact,
            ivf-sq8 and hnsw.
        restart: Make the index anew; what was added or deleted while searching is lost.
        to: Put the vectors into a cluster instead, such as http://localhost:19530/vidvec, beside
            those that are searched there, and switch over when all are there.
        shards: Spread the vectors over so many folders, each with an index, to be searched as one
            (--index INTO/shards.toml); with --to, among how many shards the cluster does so.
        roll_back: With --to: have those vectors searched again that were before the last switch.
        as_json: Print JSON.
    """
    from dataclasses import asdict

    from vidvec.search.building import build_index

    if to:
        to_cluster(
            vectors,
            to,
            corpus=corpus,
            kind=kind,
            shards=shards or 1,
            rolls_back=roll_back,
            as_json=as_json,
        )
        return
    if vectors is None or roll_back:
        raise UsageError("give a folder of vectors; --roll-back goes with --to ADDRESS")
    if into is not None or shards is not None:
        to_shards(vectors, into, shards, corpus=corpus, kind=kind, restart=restart, as_json=as_json)
        return
    with progress("index", transient=True) as update:
        report = build_index(vectors, corpus=corpus, kind=kind, progress=update, restart=restart)
    if as_json:
        print_json(asdict(report))
        return
    for line in lines(vectors, report):
        out.print(line, highlight=False, soft_wrap=True)


def lines(vectors: Path, report: IndexReport) -> list[str]:
    """What is printed of a report."""
    found = report.difference
    counts = {
        "added": found.added,
        "replaced": found.replaced,
        "removed": found.removed,
        "with other words or tags": found.changed,
    }
    changes = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    if not report.written:
        changes = "unchanged, nothing written"
    elif not changes:
        changes = "no video changed, index of neighbours written"
    said = [
        f"{vectors}: {report.videos} videos indexed, {report.kind}, "
        f"{report.bytes_per_vector:.0f} bytes a vector, {report.seconds:.1f} s: {changes}"
    ]
    if report.recall is not None:
        said.append(f"{report.recall:.1%} of the ten nearest are found, on a sample")
    if found.gone:
        said.append(f"{found.gone} videos that are gone from the source are left out")
    if found.zero:
        said.append(f"{found.zero} vectors are zero: their videos are kept, and never found")
    if found.not_finite or found.duplicates:
        said.append(
            f"left out: {found.not_finite} vectors with NaN or infinity, {found.duplicates} of an "
            f"id that came before; such as {', '.join(found.named[:5])}"
        )
    return said
