"""The command that looks at the machine: doctor."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vidvec.cli.shared import out, print_json
from vidvec.errors import VidvecError


def doctor(
    *paths: Path,
    folder: Path = Path(),
    offline: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Check this machine: what is missing and how to get it; exit 1 where vidvec cannot work.

    Args:
        paths: Corpora, runs, checkpoints and vectors to open, and to hold against one another.
        folder: Where data is to go: its disk is looked at and written to.
        offline: Do not ask the hub.
        as_json: Print as JSON.
    """
    from vidvec import console
    from vidvec.doctor.examine import examine

    found = []
    for finding in examine(paths, folder, offline=offline):
        found.append(finding)
        if not as_json:
            out.print(console.finding(finding))
    if as_json:
        print_json([asdict(finding) for finding in found])
    problems = [finding.name for finding in found if finding.status == "problem"]
    if problems:
        raise VidvecError(f"vidvec cannot work as it should here: {', '.join(problems)}")
