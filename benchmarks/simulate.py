"""A simulated cluster beside the cost model: ingest with machines that fail, and training.

    python -m benchmarks.simulate [--videos 1e6 1e8] [--seeds 3] [--docs docs]

Discrete events (simpy). Machines take parts of the videos from one queue: their cores read files,
their GPUs encode pictures behind them, and readers wait where these are behind. A machine fails at
random, what it was at goes back into the queue, and it comes back after a repair. Some machines are
slow all the time; some files are poison and cost what the limit on time allows. The model knows of
none of this but for what a training loses with a machine.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import simpy

from benchmarks.reproduction.report import write_figures
from vidvec.pipeline.scale.assumptions import Assumptions, load_assumptions
from vidvec.pipeline.scale.stages import (
    HOUR,
    core_seconds,
    frames_kept,
    stage_costs,
)

Process = Generator[Any, Any, None]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong.

    Attributes:
        name: Of the row.
        mtbf_hours: Of one machine; 0: none fails.
        repair_hours: Until it is back.
        slow: Share of machines at half speed.
        poison: Share of files that take a core ``poison_seconds`` and give nothing.
    """

    name: str
    mtbf_hours: float = 0.0
    repair_hours: float = 0.5
    slow: float = 0.0
    poison: float = 0.0
    poison_seconds: float = 60.0


TROUBLES = [
    Trouble("none"),
    Trouble("a machine fails every 2,000 h", mtbf_hours=2000),
    Trouble("every 100 h", mtbf_hours=100),
    Trouble("every 10 h", mtbf_hours=10),
    Trouble("one machine in ten at half speed", slow=0.1),
    Trouble("one file in 1,000 takes its minute", poison=0.001),
    Trouble("all of these, every 100 h", mtbf_hours=100, slow=0.1, poison=0.001),
]


@dataclass
class Cluster:
    """One run of ingest.

    Attributes:
        given: The machines and rates.
        videos: How many.
        part: Videos of a task, which is done as a whole or not at all.
        trouble: What goes wrong.
        seed: Of what is drawn.
        done: Parts whose files were read and whose pictures were encoded, each once.
        again: Parts that were begun anew.
        failures: Of machines.
    """

    given: Assumptions
    videos: float
    part: float
    trouble: Trouble
    seed: int
    done: set[int] = field(default_factory=set)
    again: int = 0
    failures: int = 0

    def run(self) -> float:
        """Hours until all parts are done."""
        self.env = simpy.Environment()
        self.draw = random.Random(self.seed)  # noqa: S311 - nothing secret
        self.total = round(self.videos / self.part)
        self.queue = simpy.Store(self.env)
        self.queue.items = list(range(self.total))
        self.finished = self.env.event()
        for machine in range(round(self.given.machines.count)):
            self.env.process(self._machine(machine))
        self.env.run(self.finished)
        return float(self.env.now)

    def _machine(self, number: int) -> Process:
        """A machine that works until it fails, is mended, and works again."""
        slow = number < self.trouble.slow * self.given.machines.count
        while True:
            held: set[int] = set()
            ready: simpy.Store = simpy.Store(self.env, capacity=2)
            workers = [
                self.env.process(self._reader(ready, held, 2.0 if slow else 1.0)),
                self.env.process(self._encoder(ready, held, 2.0 if slow else 1.0)),
            ]
            if not self.trouble.mtbf_hours:
                return
            yield self.env.timeout(self.draw.expovariate(1 / self.trouble.mtbf_hours))
            self.failures += 1
            for worker in workers:
                if worker.is_alive:
                    worker.interrupt()
            for part in held - self.done:
                self.again += 1
                yield self.queue.put(part)
            yield self.env.timeout(self.trouble.repair_hours)

    def _reader(self, ready: simpy.Store, held: set[int], slower: float) -> Process:
        each = core_seconds(self.given) + self.trouble.poison * self.trouble.poison_seconds
        hours = self.part * each / self.given.machines.cores_each / HOUR * slower
        asked = None
        try:
            while True:
                asked = self.queue.get()
                part = yield asked
                held.add(part)
                asked = None
                yield self.env.timeout(hours)
                yield ready.put(part)
        except simpy.Interrupt:
            if asked is not None:
                asked.cancel()

    def _encoder(self, ready: simpy.Store, held: set[int], slower: float) -> Process:
        machines = self.given.machines
        products = machines.products / machines.count
        work = self.part * frames_kept(self.given) * self.given.work.picture_gflops * 1e9
        hours = work / products / HOUR * slower
        try:
            while True:
                part = yield ready.get()
                yield self.env.timeout(hours)
                held.discard(part)
                self.done.add(part)
                if len(self.done) == self.total and not self.finished.triggered:
                    self.finished.succeed()
        except simpy.Interrupt:
            return


def training_hours(given: Assumptions, hours: float, seed: int) -> float:
    """Hours of a training that takes so many without failures, each of which sets all back.

    Time runs in steps between failures; work since the last checkpoint is lost.
    """
    machines, draw = given.machines, random.Random(seed)  # noqa: S311
    every, restart = machines.checkpoint_minutes / 60, machines.restart_minutes / 60
    clock = done = 0.0
    while True:
        until = draw.expovariate(machines.count / machines.hours_between_failures)
        if done + until >= hours:
            return clock + hours - done
        clock += until + restart
        done = (done + until) // every * every


def rows(scales: list[float], given: Assumptions, seeds: int) -> list[str]:
    """The table of ingest."""
    found = [
        "| videos | what goes wrong | model | simulated | × | failures | parts begun anew |",
        "|---|---|---|---|---|---|---|",
    ]
    for videos in scales:
        model = stage_costs(videos, given)[0].hours
        part = max(100.0, videos / given.machines.count / 200)
        for trouble in TROUBLES:
            runs = [Cluster(given, videos, part, trouble, seed) for seed in range(seeds)]
            hours = [run.run() for run in runs]
            assert all(len(run.done) == run.total for run in runs)
            mean = sum(hours) / seeds
            found.append(
                f"| {videos:.0e} | {trouble.name} | {model:.2f} h | {mean:.2f} h "
                f"({min(hours):.2f}–{max(hours):.2f}) | {mean / model:.2f} "
                f"| {sum(run.failures for run in runs) / seeds:.1f} "
                f"| {sum(run.again for run in runs) / seeds:.1f} |"
            )
    return found


def training_rows(scales: list[float], given: Assumptions, seeds: int) -> list[str]:
    """The table of training: the model's addition for lost machines, and what is simulated."""
    found = [
        "| videos | without failures | model | simulated |",
        "|---|---|---|---|",
    ]
    for videos in scales:
        cost = stage_costs(videos, given)[1]
        plain = max(cost.bounds.values())
        runs = [training_hours(given, plain, seed) for seed in range(100 * seeds)]
        mean = sum(runs) / len(runs)
        found.append(f"| {videos:.0e} | {plain:.2f} h | {cost.hours:.2f} h | {mean:.2f} h |")
    return found


def main(scales: list[float], seeds: int, docs: Path | None, settings: list[str]) -> None:
    """Simulates, prints, and puts the tables into docs/scale.md."""
    given = load_assumptions(None, settings)
    said = "\n".join([*rows(scales, given, seeds), "", *training_rows(scales, given, seeds)])
    print(said)
    if docs is not None:
        write_figures(docs / "scale.md", said)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulate", description=__doc__)
    parser.add_argument("--videos", type=float, nargs="+", default=[1e6, 1e8])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--docs", type=Path, default=None)
    parser.add_argument("--set", action="append", default=[])
    asked = parser.parse_args()
    main(asked.videos, asked.seeds, asked.docs, asked.set)
