"""Command for the competition's submission: submit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vidvec.cli.shared import err, out
from vidvec.errors import UsageError

if TYPE_CHECKING:
    from vidvec.embed.submission import SubmissionReport


def submit(
    submission: Path,
    /,
    *,
    vectors: Path | None = None,
    data: Path | None = None,
    check: Annotated[bool, Parameter(negative="")] = False,
    strict: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write the vectors of the competition's test videos as a submission, or check one.

    Args:
        submission: The zip.
        vectors: Folder of vectors, at most 256 numbers each.
        data: The competition's folder; its test_a and test_b say which ids must be there.
        check: Write nothing; check a zip that is there, its ids too where --data is given.
        strict: Stop where a test video has no vector; else it gets the mean of the others'.
    """
    from vidvec.data.competition import test_ids
    from vidvec.embed.submission import check_submission, write_submission

    if check and vectors is not None:
        raise UsageError("give either --check or --vectors: --check writes nothing")
    if check:
        _tell(submission, check_submission(submission, test_ids(data) if data else None))
        return
    if vectors is None or data is None:
        raise UsageError("to write a submission give --vectors and --data; to check one, --check")
    ids = test_ids(data)
    written = write_submission(vectors, ids, submission, strict=strict)
    if written.filled:
        shown = ", ".join(written.filled[:5]) + (", …" if len(written.filled) > 5 else "")
        out.print(
            f"{len(written.filled)} without a vector of their own got the mean vector: {shown}",
            soft_wrap=True,
            highlight=False,
        )
    _tell(submission, check_submission(submission, ids))


def _tell(submission: Path, report: SubmissionReport) -> None:
    """Says what was found; ends the process with status 1 where that is a problem."""
    if report.problems:
        for problem in report.problems:
            err.print(f"{submission}: {problem}", markup=False, soft_wrap=True, highlight=False)
        sys.exit(1)
    out.print(
        f"{submission}: valid, {report.videos} videos of {report.dimension} numbers",
        soft_wrap=True,
        highlight=False,
    )
