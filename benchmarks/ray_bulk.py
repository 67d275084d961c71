"""Bulk ingest on Ray by the number of workers, and where each worker's time goes.

    python -m benchmarks.ray_bulk CLIPS [--on ray] [--workers 1 2 3 4] [--part-rows 8]

CLIPS is a folder of videos; ``--on`` as of ``vidvec ingest``. Each line is a whole ingest into a
new corpus, with one process that reads files a worker. Time runs from the moment when the first
part begins to the end of the last: the start of Ray and of its workers comes before. Where the
machine has fewer cores than workers, they share them. The first line is ``vidvec ingest`` alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.report import this_machine
from vidvec import IngestOptions, ingest
from vidvec.pipeline.bulk.connection import connected
from vidvec.pipeline.bulk.ingest import bulk_ingest
from vidvec.pipeline.bulk.options import BulkOptions
from vidvec.pipeline.bulk.pool import Receipt

STAGES = ("read", "encode", "write")


@dataclass
class Figures:
    """What the receipts of one ingest say.

    Attributes:
        began, ended: The first part and the last, in seconds since 1970.
        rows: In all parts.
        busy: Seconds in which each worker was at a part.
        stages: Seconds of all workers by what they were at.
    """

    began: float = float("inf")
    ended: float = 0.0
    rows: int = 0
    busy: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    stages: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def __call__(self, receipt: Receipt) -> None:
        """Takes a receipt."""
        self.began = min(self.began, receipt.ended_at - receipt.seconds["all"])
        self.ended = max(self.ended, receipt.ended_at)
        self.rows += receipt.rows
        self.busy[receipt.worker] += receipt.seconds["all"]
        for stage in STAGES:
            self.stages[stage] += receipt.seconds[stage]

    def line(self, workers: int) -> str:
        """A row of the table."""
        span = self.ended - self.began
        each = " ".join(f"{1000 * self.stages[stage] / self.rows:.0f}" for stage in STAGES)
        shares = " ".join(f"{seconds / span:.0%}" for seconds in sorted(self.busy.values()))
        return f"| {workers} | {span:.1f} | {self.rows / span:.1f} | {each} | {shares} |"


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--on", default="ray")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--part-rows", type=int, default=8)
    given = parser.parse_args()
    options = IngestOptions(workers=1)
    machine = this_machine()
    print(f"{machine.processor}, {machine.cores} cores, {machine.instructions}\n")
    print("| workers | seconds | videos a second | ms a video: read, encode, write | busy |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        report = ingest(given.clips, Path(folder) / "plain", options)
        seconds = time.monotonic() - begun
        rows = report.videos + sum(report.rejected.values())
        print(f"| no Ray | {seconds:.1f} | {rows / seconds:.1f} | | |", flush=True)
        with connected(given.on):
            for workers in given.workers:
                figures = Figures()
                bulk = BulkOptions(
                    given.on, given.part_rows, workers=workers, cpus=0.5, on_receipt=figures
                )
                bulk_ingest(given.clips, Path(folder) / f"{workers}", options, bulk)
                print(figures.line(workers), flush=True)


if __name__ == "__main__":
    main()
