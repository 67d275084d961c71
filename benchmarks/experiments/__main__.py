"""Everything that docs/experiments.md says of better recipes, trained, measured, written down.

    python -m benchmarks.experiments FOLDER [--docs docs] [--only trials made clips sts]

The made corpus (``made``), what was tried on another one (``trials``, in ``made/tuning``), real
clips (``clips``) and sentences that people scored (``sts``), each in a folder below FOLDER;
``--only`` names some of them. Started again after a stop, it carries on; what is done is not done
again. ``--docs`` puts the figures into docs/experiments.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.experiments import clips, made, made_trials, sts

Part = Callable[[Path, Path | None], None]


def main(folder: Path, docs: Path | None, only: Sequence[str], workers: int | None) -> None:
    """Runs the parts, one after the other."""
    parts: dict[str, Part] = {
        "made": lambda own, place: made.main(own, place, made.Plan(workers=workers)),
        "trials": lambda own, place: made_trials.main(own.with_name("made") / "tuning", place),
        "clips": lambda own, place: clips.main(own, place, clips.Plan(workers=workers)),
        "sts": sts.main,
    }
    for name in only:
        parts[name](folder / name, docs)


def parse(arguments: list[str]) -> tuple[Path, Path | None, list[str], int | None]:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--docs", type=Path, default=None)
    names = ("made", "trials", "clips", "sts")
    parser.add_argument("--only", nargs="+", choices=names, default=list(names))
    parser.add_argument("--workers", type=int, default=None)
    given = parser.parse_args(arguments)
    return given.folder, given.docs, given.only, given.workers


if __name__ == "__main__":
    main(*parse(sys.argv[1:]))
