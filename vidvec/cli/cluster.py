"""What ``vidvec index --to`` does and prints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vidvec.cli.shared import out, print_json, progress
from vidvec.errors import UsageError

if TYPE_CHECKING:
    from vidvec.search.cluster.filling import FillReport


def to_cluster(
    vectors: Path | None,
    address: str,
    *,
    corpus: Path | None,
    kind: str,
    shards: int,
    rolls_back: bool,
    as_json: bool,
) -> None:
    """Fills a cluster, or has it search the generation before.

    Raises:
        UsageError: There is no folder to fill it from.
    """
    if rolls_back:
        _roll_back(address, as_json=as_json)
        return
    if vectors is None:
        raise UsageError("give the folder of vectors that the cluster is filled from")
    from vidvec.search.cluster.filling import fill

    with progress("index", transient=True) as update:
        report = fill(vectors, address, corpus=corpus, kind=kind, shards=shards, progress=update)
    if as_json:
        print_json(asdict(report))
        return
    for line in lines(report):
        out.print(line, highlight=False, soft_wrap=True)


def _roll_back(address: str, *, as_json: bool) -> None:
    from vidvec.search.cluster.address import parse
    from vidvec.search.cluster.connection import connect
    from vidvec.search.cluster.generations import roll_back

    place = parse(address)
    client = connect(place)
    try:
        found = roll_back(client, place)
    finally:
        client.close()
    if as_json:
        print_json({"address": str(place), "collection": found.collection, "videos": found.rows})
        return
    out.print(
        f"{place}: searched is {found.collection}, filled from {found.vectors} with {found.rows} "
        "videos; the same again goes back",
        highlight=False,
        soft_wrap=True,
    )


def lines(report: FillReport) -> list[str]:
    """What is printed of a report."""
    done = f"{report.seconds:.1f} s" if report.written else "unchanged, nothing written"
    said = [f"{report.address}: {report.videos} videos, {report.kind}, {done}"]
    if report.written and report.resumed:
        said.append(f"{report.resumed} of them were there from a run that was stopped")
    if report.gone:
        said.append(f"{report.gone} videos that are gone from the source are left out")
    for why, count in report.refused.items():
        said.append(f"left out: {count} videos, because {why}")
    if report.named:
        said.append(f"such as {', '.join(repr(name[:60]) for name in report.named[:5])}")
    if report.written and report.previous is not None:
        said.append(f"vidvec index --to {report.address} --roll-back goes back to those before")
    return said
