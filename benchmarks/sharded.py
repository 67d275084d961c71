"""What it costs to search several shards as one, as a table in Markdown.

    python -m benchmarks.sharded [--vectors N] [--shards S] [--queries Q]

The same made vectors (256 numbers around 2,000 centres, with titles) as one index, as folders, and
as servers of one process each on this machine. One search after the other, ten hits each; before
them 50 that are not counted.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.serve import CENTRES, NOISE, SIZE, cpu_seconds, wait_until_ready
from vidvec.embed.vectors import VectorWriter
from vidvec.search.engine import build_index
from vidvec.search.interface import Index, open_index
from vidvec.search.sharded.splitting import split
from vidvec.search.types import Hit

WARM, HITS = 50, 10
HEAD = """\
| kind | searched | searches/s | p50 ms | p99 ms | CPU ms a search | recall@10 |
|---|---|---|---|---|---|---|"""


def made_vectors(path: Path, count: int, queries: int) -> NDArray[np.float32]:
    """Writes a folder of vectors; (queries, 256) others of the same centres."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((CENTRES, SIZE), np.float32)

    def draw(number: int) -> NDArray[np.float32]:
        noise = random.standard_normal((number, SIZE), np.float32)
        drawn = centres[random.integers(0, CENTRES, number)] + NOISE * noise
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)

    writer = VectorWriter(path, SIZE, {"normalised": True, "made_by": {"stage": "made"}})
    for start in range(0, count, 65_536):
        number = min(65_536, count - start)
        writer.append([f"v{start + row}" for row in range(number)], draw(number))
    writer.finish()
    return draw(queries)


@contextmanager
def servers(folders: list[Path], file: Path) -> Iterator[list[int]]:
    """A server for each folder; writes the file that lists them, and gives their processes."""
    with ExitStack() as stack:
        lines, processes = ["timeout_seconds = 60\n"], []
        for folder in folders:
            command = [sys.executable, "-m", "vidvec.cli", "serve", str(folder), "--port", "0"]
            process = stack.enter_context(
                subprocess.Popen(  # noqa: S603 - our own command
                    command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )
            )
            stack.callback(process.terminate)
            assert process.stdout is not None
            url = process.stdout.readline().split()[0]
            wait_until_ready(int(url.rsplit(":", 1)[1]))
            lines.append(f'[[shard]]\nserver = "{url}"\n')
            processes.append(process.pid)
        file.write_text("".join(lines))
        yield processes


def measure(
    index: Index, queries: NDArray[np.float32], truth: list[set[str]], processes: list[int]
) -> str:
    """Searches one by one; the last five cells of a row."""

    def spent() -> float:
        return time.process_time() + sum(map(cpu_seconds, processes))

    def timed(query: NDArray[np.float32]) -> tuple[float, list[Hit]]:
        began = time.perf_counter()
        [hits] = index.search(query[None], HITS)
        return time.perf_counter() - began, hits

    for query in queries[:WARM]:
        timed(query)
    before = spent()
    found = [timed(query) for query in queries]
    cpu = 1000 * (spent() - before) / len(queries)
    seconds = np.array([each for each, _ in found])
    right = [
        len({hit.id for hit in hits} & good) for (_, hits), good in zip(found, truth, strict=True)
    ]
    p50, p99 = np.percentile(1000 * seconds, [50, 99])
    recall = np.mean(right) / HITS
    return f"{1 / seconds.mean():,.0f} | {p50:.1f} | {p99:.1f} | {cpu:.1f} | {recall:.3f} |"


def main(arguments: list[str]) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.sharded")
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--queries", type=int, default=500)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        queries = made_vectors(root / "vectors", asked.vectors, asked.queries)
        print(
            f"{asked.vectors:,} vectors × {SIZE}, {asked.queries} queries; {os.cpu_count()} cores "
            f"{platform.machine()}, load beforehand {os.getloadavg()[0]:.1f}, "
            f"{datetime.now(UTC):%Y-%m-%d}\n\n{HEAD}",
            flush=True,
        )
        for kind in ("exact", "ivf-sq8"):
            compare(root, kind, queries, asked.shards)


def compare(root: Path, kind: str, queries: NDArray[np.float32], shards: int) -> None:
    """Prints the rows of one kind of index."""
    whole = root / "vectors"
    build_index(whole, kind=kind)
    file = split(whole, root / f"shards-{kind}", shards, kind=kind).file
    folders = [file.parent / f"shard-{number}" for number in range(shards)]

    def row(name: str, place: Path, processes: list[int] | None = None) -> None:
        index = open_index(place)
        try:
            cells = measure(index, queries, truth, processes or [])
            print(f"| `{kind}` | {name} | {cells}", flush=True)
        finally:
            index.close()

    index = open_index(whole)
    exact: Callable[..., list[list[Hit]]] = index.search
    truth = [{hit.id for hit in hits} for hits in exact(queries, HITS, exact=True)]
    index.close()
    row("one index", whole)
    row(f"{shards} folders", file)
    listed = root / f"servers-{kind}.toml"
    with servers(folders, listed) as processes:
        row(f"{shards} servers", listed, processes)


if __name__ == "__main__":
    main(sys.argv[1:])
