"""How much faster several processes train than one, each on one thread.

    python -m benchmarks.distributed FOLDER [--processes 2] [--size small] [--rounds 3]

Pretraining on videos of the published lengths, 128 a step: by one process, by several that
``torchrun`` starts on this machine, with copies of the model and with shards, and by one process
with as many threads; in turn. Videos a second are those that the runs log, without their first
line. Processor time is that of a longer run less that of a shorter one, so that the start is in
neither, and says what processes cost each other where the machine has other work, too. Ratios are
to one process of the same round: median, lowest, highest.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.corpus import make_corpus

VIDEOS, EPOCHS = 1280, (1, 3)
COMMON = ("pretrain.evaluate_every=100000", "pretrain.videos=all", "pretrain.validation_share=0")


class Way(NamedTuple):
    """How a run is done."""

    processes: int
    threads: int
    more: tuple[str, ...] = ()


class Figures(NamedTuple):
    """What a way comes to: videos a second, and milliseconds of processors a video."""

    speed: float
    processor: float


def measure(folder: Path, size: str, way: Way) -> Figures:
    """Two runs on the corpus of a folder, of which the second is longer."""
    spent = []
    for epochs in EPOCHS:
        before = _children_seconds()
        speed = _run(folder, size, way, epochs)
        spent.append(_children_seconds() - before)
    videos = VIDEOS * (EPOCHS[1] - EPOCHS[0])
    return Figures(speed, 1000 * (spent[1] - spent[0]) / videos)


def _children_seconds() -> float:
    """Processor time of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(folder: Path, size: str, way: Way, epochs: int) -> float:
    """Videos a second of one run."""
    run, settings = folder / "run", (*COMMON, f"pretrain.epochs={epochs}", *way.more)
    shutil.rmtree(run, ignore_errors=True)
    module = ["-m", "vidvec.cli", "pretrain", str(folder / "corpus"), str(run), "--size", size]
    module += [word for setting in settings for word in ("--set", setting)]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    launcher += ["--nproc-per-node", str(way.processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(way.threads), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *(launcher if way.processes > 1 else []), *module]
    subprocess.run(command, env=environment, check=True, capture_output=True)  # noqa: S603
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = [line["videos_per_second"] for line in lines if line["kind"] == "train"]
    shutil.rmtree(run)
    return statistics.median(found[1:] or found)


def _ratios(some: list[float], base: list[float]) -> str:
    ratios = [mine / one for mine, one in zip(some, base, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def main(folder: Path, processes: int, size: str, rounds: int) -> None:
    """Makes a corpus, runs the ways in turn, prints a table."""
    if not (folder / "corpus" / "manifest.json").is_file():
        make_corpus(folder / "corpus", VIDEOS)
    ways = {
        "one process, one thread": Way(1, 1),
        f"one process, {processes} threads": Way(1, processes),
        f"{processes} processes, copies": Way(processes, 1),
        f"{processes} processes, shards": Way(processes, 1, ("pretrain.sharded=true",)),
    }
    found: dict[str, list[Figures]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(measure(folder, size, way))
    print("| | videos/s | × | processor ms a video | × |\n|---|---|---|---|---|")
    base = list(zip(*found["one process, one thread"], strict=True))
    for name, some in found.items():
        speeds, spent = (list(figures) for figures in zip(*some, strict=True))
        print(
            f"| {name} | {statistics.median(speeds):.0f} | {_ratios(speeds, list(base[0]))} "
            f"| {statistics.median(spent):.1f} | {_ratios(spent, list(base[1]))} |"
        )
    print(f"load at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--size", default="small")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    main(given.folder, given.processes, given.size, given.rounds)
