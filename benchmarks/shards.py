"""Fusion and duplicates by one and two workers, side by side: seconds, and memory of each process.

    python -m benchmarks.shards [VIDEOS] [ROUNDS] [--exact]

Made vectors of 256 numbers: for fusion three models' of the same videos, of which one is a third
noise; for duplicates those of ``benchmarks.dedup`` in four folders. Each figure is of a process of
its own, with one thread a worker, the ways taken in turn; the least of the rounds counts. ``here``
is the command without workers. Memory is the peak of the process that was started, and of the
largest worker; both have their libraries in it (``bare``), and of the files that they map what they
have read. A worker's is what the kernel says of it (``VmHWM``) every 20 ms: its ``ru_maxrss``
begins with that of the process that started it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from vidvec.embed.vectors import SHARD_ROWS, VectorWriter

WIDTH, SIZE = 256, 256
FOLDERS = 4
THRESHOLD = 0.9
WAYS = ("here", "1", "2")


def _write(path: Path, ids: list[str], vectors: np.ndarray) -> None:
    facts = {"normalised": True, "made_by": {"stage": "import", "name": path.name}}
    writer = VectorWriter(path, WIDTH, facts)
    for start in range(0, len(ids), SHARD_ROWS):
        writer.append(ids[start : start + SHARD_ROWS], vectors[start : start + SHARD_ROWS])
    writer.finish()


def _made(root: Path, count: int) -> None:
    """Three models and four folders; in a process of its own, as it takes memory."""
    from benchmarks.dedup import TOPIC_SHARE, made

    vectors, _ = made(count, 1, TOPIC_SHARE)
    ids = [f"{row:08d}" for row in range(count)]
    bounds = np.linspace(0, count, FOLDERS + 1).astype(int).tolist()
    for number in range(FOLDERS):
        some = slice(bounds[number], bounds[number + 1])
        _write(root / f"folder-{number}", ids[some], vectors[some])
    random = np.random.default_rng(0)
    for number in range(3):
        turn = np.linalg.qr(random.normal(size=(WIDTH, WIDTH)))[0].astype(np.float32)
        _write(root / f"model-{number}", ids, vectors @ turn)


def _run(root: Path, what: str, way: str, exact: bool) -> dict[str, Any]:
    """One figure, in this process."""
    from vidvec.workers import Here, LocalWorkers

    workers = nullcontext(Here()) if way == "here" else LocalWorkers(int(way))
    watched = _Watched()
    watched.start()
    start = time.perf_counter()
    found: object = None
    taken: dict[str, float] = {}
    if what == "fuse":
        from vidvec.embed.fusion import fuse
        from vidvec.embed.fusion_parts import fuse_in_parts

        members = [root / f"model-{number}" for number in range(3)]
        out = root / f"fused-{way}"
        shutil.rmtree(out, ignore_errors=True)
        start = time.perf_counter()
        if way == "here":
            fuse(members, out, size=SIZE)
        else:
            with workers as opened:
                fuse_in_parts(members, out, size=SIZE, workers=opened)
    elif what == "dedup":
        from vidvec.search.dedup_workers import dedup_shards

        folders = [root / f"folder-{number}" for number in range(FOLDERS)]
        phases = _Phases()
        start = time.perf_counter()
        with workers as opened:
            result, _ = dedup_shards(
                folders, THRESHOLD, workers=opened, exact=exact or None, progress=phases
            )
        taken = phases.seconds
        found = [result.compared, len(result.groups), result.extra]
        found += [] if result.recall is None else [result.recall.found, result.recall.pairs]
    elif what == "whole":
        found = _whole(root, exact)
    else:
        import vidvec.embed.fusion_parts
        import vidvec.search.dedup_workers  # noqa: F401 - what a process has before it begins
    seconds = time.perf_counter() - start
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "own": own, "worker": watched.peak, "found": found, "phases": taken}


class _Phases:
    """How long each step takes, by what is said of it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._said = time.perf_counter()

    def __call__(self, done: int, total: int, note: str) -> None:
        """Adds the time since it was called last."""
        at = time.perf_counter()
        self.seconds[note] = self.seconds.get(note, 0.0) + at - self._said
        self._said = at


class _Watched(threading.Thread):
    """Reads the peak of this process' workers."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0

    def run(self) -> None:
        own = psutil.Process()
        while True:
            for child in own.children():
                with suppress(OSError, IndexError, psutil.Error):
                    status = Path(f"/proc/{child.pid}/status").read_text()
                    self.peak = max(self.peak, int(status.split("VmHWM:")[1].split()[0]) / 1024)
            time.sleep(0.02)


def _whole(root: Path, exact: bool) -> list[int]:
    """All vectors in one process, as ``vidvec dedup`` does it with one folder."""
    from vidvec.embed.vectors import Vectors
    from vidvec.search.dedup import deduplicate

    opened = [Vectors(root / f"folder-{number}") for number in range(FOLDERS)]
    ids = [video for each in opened for video in each.ids]
    matrix = np.concatenate([each.matrix for each in opened])
    result = deduplicate(ids, matrix, THRESHOLD, exact=exact or None)
    found = [result.compared, len(result.groups), result.extra]
    return found + ([] if result.recall is None else [result.recall.found, result.recall.pairs])


def _apart(*arguments: str) -> dict[str, Any]:
    """What a process of its own prints."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.shards", *arguments]
    done = subprocess.run(  # noqa: S603 - this very file
        command, env=environment, check=True, capture_output=True, text=True
    )
    return dict(json.loads(done.stdout or "{}"))


def main(count: int, rounds: int, exact: bool) -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as name:
        root, flag = Path(name), ["--exact"] if exact else []
        _apart("--make", name, str(count))
        bare = _apart("--run", name, "bare", "here")
        print(
            f"{count:,} × {WIDTH}, {count * WIDTH * 4 / 2**20:,.0f} MB a model or in all folders; "
            f"bare {bare['own']:.0f} MB; load {os.getloadavg()[0]:.1f}\n"
        )
        print("| what | workers | seconds, least (most) | × | MB, the command | MB, a worker |")
        print("|---|---|---|---|---|---|")
        for what in ("fuse", "dedup"):
            ways = WAYS if what == "fuse" else ("whole", *WAYS)
            taken: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
            for _ in range(rounds):
                for way in ways:
                    which = ("whole", "here") if way == "whole" else (what, way)
                    taken[way].append(_apart("--run", name, *which, *flag))
            _print(what, taken)
            if what == "fuse":
                _compare(root)
        for way in WAYS:
            assert taken[way][0]["found"] == taken["whole"][0]["found"]
        print(f"\nfound: {taken['whole'][0]['found']}, the same by all ways")


def _print(what: str, taken: dict[str, list[dict[str, Any]]]) -> None:
    least = {way: min(each["seconds"] for each in some) for way, some in taken.items()}
    for way, some in taken.items():
        most = max(each["seconds"] for each in some)
        own, worker = (max(each[key] for each in some) for key in ("own", "worker"))
        taking = f"{least[way]:.1f} ({most:.1f}) | {least['1'] / least[way]:.2f}"
        print(f"| {what} | {way} | {taking} | {own:.0f} | {worker:.0f} |", flush=True)
    for way, some in taken.items():
        for phase in some[0]["phases"]:
            spent = min(each["phases"].get(phase, np.inf) for each in some)
            print(f"{what} {way}: {phase} {spent:.2f} s", file=sys.stderr)


def _compare(root: Path) -> None:
    """Fails where the ways fused differently."""
    files = [sorted((root / f"fused-{way}" / "shards").iterdir()) for way in WAYS]
    for same in zip(*files, strict=True):
        assert len({path.read_bytes() for path in same}) == 1, same


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", nargs="?", type=int, default=300_000)
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--make", nargs=2)
    parser.add_argument("--run", nargs=3)
    given = parser.parse_args()
    if given.make:
        _made(Path(given.make[0]), int(given.make[1]))
    elif given.run:
        folder, chosen, chosen_way = given.run
        print(json.dumps(_run(Path(folder), chosen, chosen_way, given.exact)))
    else:
        main(given.videos, given.rounds, given.exact)
