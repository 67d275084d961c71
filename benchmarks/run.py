"""Speeds against the published way written plainly, both sides in turn in one run.

    python -m benchmarks.run                    all on the CPU, 6 × 384: minutes on two cores
    python -m benchmarks.run --all-shapes       12 × 768 and scikit-learn in float32 as well
    python -m benchmarks.run --gpu              the large shapes on the GPU as well
    python -m benchmarks.run --only fusion      prints, writes nothing

Results go to ``benchmarks/results/DATE-MACHINE.md`` and ``.json`` and to ``docs/images/speed.png``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import picture
from benchmarks.fusion import compare_fusion
from benchmarks.loader import compare_loading, measure_start
from benchmarks.measure import ROUNDS, Comparison
from benchmarks.report import HEADER, Report, table_row, this_machine, write
from benchmarks.steps import BASE, SMALL, compare_embedding, compare_training

PROJECT = Path(__file__).resolve().parents[1]
PARTS = ("training", "embedding", "fusion", "loading", "start")


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--all-shapes", action="store_true")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--folder", type=Path, help="for made corpora; by default a temporary one")
    return parser.parse_args(given)


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """Everything that was asked for, each figure printed when it is there."""
    flags = [
        flag for flag, on in (("--all-shapes", options.all_shapes), ("--gpu", options.gpu)) if on
    ]
    report = Report(this_machine(options.gpu), " ".join(["python -m benchmarks.run", *flags]))
    print(HEADER)
    for comparison in compare(options, folder, report):
        report.comparisons.append(comparison)
        print(table_row(comparison), flush=True)
    if "start" in options.only:
        report.start = measure_start(folder, options.rounds)
    return report


def compare(options: argparse.Namespace, folder: Path, report: Report) -> Iterator[Comparison]:
    """The comparisons, in the report's order; what else is found goes into the report."""
    shapes = (SMALL, BASE) if options.all_shapes else (SMALL,)
    for shape in shapes:
        if "training" in options.only:
            yield from compare_training(folder, shape, options.rounds)
        if "embedding" in options.only:
            yield from compare_embedding(folder, shape, options.rounds)
    if "fusion" in options.only:
        comparisons, report.cosine_errors = compare_fusion(options.rounds, options.all_shapes)
        yield from comparisons
    if "loading" in options.only:
        yield from compare_loading(folder, options.rounds)
    if options.gpu:
        from benchmarks.gpu import compare_gpu  # large shapes; needs a CUDA device

        yield from compare_gpu(folder, options.rounds)


def main() -> None:
    """Measures, prints, writes."""
    options = arguments()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report = measure(options, Path(folder))
    print("\n" + report.to_markdown())
    if set(options.only) != set(PARTS):
        return
    path = write(report, PROJECT / "benchmarks" / "results")
    picture.draw(
        report.comparisons,
        f"{report.machine.processor}, {report.machine.cores} cores, {report.date}; medians of "
        f"{options.rounds} rounds, lowest to highest as a line",
        PROJECT / "docs" / "images" / "speed.png",
    )
    print(f"written to {path.relative_to(PROJECT)}")


if __name__ == "__main__":
    main()
