"""Options on where videos come from, and ``compact``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vidvec.cli.shared import out, progress

if TYPE_CHECKING:
    from vidvec.data.access import AccessOptions


@Parameter(name="*", help="Videos at URLs.")
@dataclass(frozen=True)
class Fetching:
    """Videos at URLs.

    Args:
        fetch: Download videos at http and https URLs; else they are left out.
        fetch_private: Download from this machine's own network, too.
        fetch_max_mb: Leave out a video that is larger, in MiB; also one in a tar or in a table.
        fetch_seconds: Give up a download that takes longer.
        keep: Folder in which downloaded videos stay; else each is removed when it is read.
    """

    fetch: Annotated[bool, Parameter(negative="")] = False
    fetch_private: Annotated[bool, Parameter(negative="")] = False
    fetch_max_mb: float = 4096.0
    fetch_seconds: float = 600.0
    keep: Path | None = None

    def options(self) -> AccessOptions:
        """As ``vidvec.data.access`` has them."""
        from vidvec.data.access import AccessOptions
        from vidvec.data.fetch import FetchOptions

        limits = FetchOptions(
            private=self.fetch_private,
            max_bytes=int(self.fetch_max_mb * 2**20),
            seconds=self.fetch_seconds,
        )
        return AccessOptions(fetch=self.fetch, keep=self.keep, limits=limits)


def compact(corpus: Path, /) -> None:
    """Remove for good the videos that ingest --update has marked gone; kept until then.

    Args:
        corpus: The corpus.
    """
    from vidvec.data.compact import compact as run

    with progress("compact") as update:
        report = run(corpus, update)
    if not report.removed:
        out.print(f"{corpus}: no video is marked gone", highlight=False, soft_wrap=True)
        return
    out.print(
        f"{corpus}: {report.removed} videos removed, {report.videos} left; {report.shards} shards "
        f"written anew, {report.freed_bytes / 2**20:,.1f} MiB freed",
        highlight=False,
        soft_wrap=True,
    )
