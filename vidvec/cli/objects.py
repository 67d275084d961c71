"""Commands that copy folders to and from object storage: push, pull."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vidvec.cli.shared import Location, out, progress

if TYPE_CHECKING:
    from vidvec.storage.folders import CopyReport


def push(folder: Path, url: Location, /) -> None:
    """Copy a corpus, vectors or any folder to object storage; started again, it carries on.

    Only what is not there yet, or has changed, is sent; the manifest comes last.

    Args:
        folder: The folder.
        url: Where to, s3://BUCKET/KEY; the server is AWS_ENDPOINT_URL, else AWS.
    """
    from vidvec.storage.folders import push as run

    with progress("push", transient=True) as update:
        report = run(folder, url, update)
    _say(report, folder, url)


def pull(url: Location, folder: Path, /) -> None:
    """Copy a folder from object storage to this machine; started again, it carries on.

    Every file is compared with its checksum; the manifest comes last.

    Args:
        url: Where from, s3://BUCKET/KEY.
        folder: The folder, new or of an earlier pull; files of other names stay.
    """
    from vidvec.storage.folders import pull as run

    with progress("pull", transient=True) as update:
        report = run(url, folder, update)
    _say(report, url, folder)


def _say(report: CopyReport, source: Path, target: Path) -> None:
    removed = f", {report.removed} removed" if report.removed else ""
    out.print(
        f"{target}: {report.files} files as in {source}, {report.copied} of them copied "
        f"({report.copied_bytes / 1e6:,.1f} MB){removed}",
        highlight=False,
        soft_wrap=True,
    )
