"""What a server holds: an open-loop load from a second process, as a table in Markdown.

    python -m benchmarks.serve [--vectors N] [--rate R] [--seconds S] [--workers W] [--text-batch B]

Requests come at random moments (Poisson) at a fixed mean rate, whether or not earlier ones were
answered, and latency counts from the moment a request was due: a server that falls behind cannot
hide it. Half look for words, half for the neighbours of a video, twenty hits each. The load is then
tripled. Vectors are made: 256 numbers around 2,000 centres, with titles, tags and a model of the
size of the recipe ``base``, without training, which changes no time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.corpus import FIRST_LETTER, LETTERS_USED, make_corpus

SIZE, CENTRES, NOISE = 256, 2_000, 0.6
HITS = 20
WARM_SECONDS = 5.0
# More connections than a server lets in, so that it is the server that refuses.
CONNECTIONS = 256
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Figures:
    """What came back of one load.

    Attributes:
        rate: Requests a second that were due.
        seconds: From the first to the last answer.
        statuses: Answers by HTTP status; 0: a connection that broke.
        latencies: (n,) milliseconds of those that were answered with 200, ascending.
        refusals: (n,) milliseconds of 429 and 503, ascending.
        cores: CPU seconds of the server a second.
        client: CPU seconds of this process a second.
    """

    rate: float
    seconds: float
    statuses: Counter[int]
    latencies: np.ndarray
    refusals: np.ndarray
    cores: float
    client: float

    def row(self) -> str:
        """A row of the table."""
        good, all_ = self.statuses[200], sum(self.statuses.values())
        refused = self.statuses[429] + self.statuses[503]
        times = " | ".join(f"{percentile(self.latencies, p):.0f}" for p in (50, 95, 99, 100))
        return (
            f"| {self.rate:.0f} | {good / self.seconds:.0f} | {times} | {refused / all_:.1%} | "
            f"{percentile(self.refusals, 99):.0f} | {all_ - good - refused} | {self.cores:.2f} | "
            f"{self.client:.2f} |"
        )


HEAD = """\
| requests a second | answered | p50 ms | p95 | p99 | max | refused | refusal p99 ms | errors | \
server cores | client cores |
|---|---|---|---|---|---|---|---|---|---|---|"""


def percentile(values: np.ndarray, share: float) -> float:
    """Of ascending values; NaN of none."""
    return float(np.percentile(values, share)) if len(values) else float("nan")


def make_folder(root: Path, count: int) -> Path:
    """A corpus, a model and vectors; returns the folder of vectors."""
    from vidvec.config import load_recipe
    from vidvec.embed.embedder import weights_hash
    from vidvec.embed.vectors import VectorWriter
    from vidvec.model.weights import save_model
    from vidvec.train.start import new_model

    corpus = make_corpus(root / "corpus", count, frame_size=8)
    recipe = load_recipe("base", [f"model.embedding_size={SIZE}"])
    save_model(root / "model", new_model(recipe, corpus))
    random = np.random.default_rng(0)
    centres = random.standard_normal((CENTRES, SIZE), np.float32)
    made_by = {
        "stage": "embed",
        "checkpoint": str(root / "model"),
        "weights": weights_hash(root / "model"),
        "corpus": str(root / "corpus"),
        "videos": count,
    }
    writer = VectorWriter(root / "vectors", SIZE, {"normalised": True, "made_by": made_by})
    for start in range(0, count, 65_536):
        ids = corpus.ids[start : start + 65_536]
        noise = random.standard_normal((len(ids), SIZE), np.float32)
        vectors = centres[random.integers(0, CENTRES, len(ids))] + NOISE * noise
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        writer.append(ids, vectors)
    writer.finish()
    return root / "vectors"


@contextmanager
def server(vectors: Path, workers: int, text_batch: int) -> Iterator[tuple[int, int]]:
    """Its process and port, when it is ready."""
    command = [sys.executable, "-m", "benchmarks.serve", "--serve", str(vectors)]
    command += ["--workers", str(workers), "--text-batch", str(text_batch)]
    with subprocess.Popen(  # noqa: S603 - this very file
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline().rsplit(":", 1)[1])
            for _ in range(workers):
                wait_until_ready(port)
            yield process.pid, port
        finally:
            process.terminate()


def wait_until_ready(port: int) -> None:
    """Until every worker that is likely to be asked has its model."""
    good = 0
    while good < 20:
        try:
            url = f"http://127.0.0.1:{port}/readyz"
            with urllib.request.urlopen(url, timeout=10):
                good += 1
        except OSError:
            good = 0
            time.sleep(0.2)


def serve(vectors: Path, workers: int, text_batch: int) -> None:
    """The server's side, without a limit of rate: all requests come from one client."""
    from vidvec.search.engine import build_index
    from vidvec.search.server.config import ServerConfig
    from vidvec.search.server.running import run

    build_index(vectors)
    run(
        ServerConfig(vectors=vectors, port=0, workers=workers, text_batch=text_batch),
        lambda url: print(url, flush=True),
    )


def cpu_seconds(process: int) -> float:
    """Of a process and those it started, so far."""
    total, parents = 0, {process}
    stats = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        stats[int(path.parent.name)] = (int(fields[1]), int(fields[11]) + int(fields[12]))
    for number, (parent, ticks) in sorted(stats.items()):
        if number in parents or parent in parents:
            parents.add(number)
            total += ticks
    return total / TICK


def bodies(ids: list[str], count: int, seed: int) -> list[bytes]:
    """Requests, words and ids in turn; no two words alike."""
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        if number % 2:
            letters = random.integers(0, LETTERS_USED, int(random.integers(4, 16)))
            asked = {"text": "".join(chr(FIRST_LETTER + each) for each in letters), "k": HITS}
        else:
            asked = {"ids": [ids[int(random.integers(len(ids)))]], "k": HITS}
        body = json.dumps(asked).encode()
        head = (
            "POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


class Load:
    """Sends requests when they are due, over connections that are kept.

    Args:
        port: Of the server.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._places = asyncio.Semaphore(CONNECTIONS)
        self.answers: list[tuple[int, float]] = []

    async def run(self, requests: list[bytes], rate: float, seed: int) -> None:
        """Sends all of them."""
        gaps = np.random.default_rng(seed).exponential(1 / rate, len(requests))
        began = time.perf_counter()
        tasks = []
        for request, due in zip(requests, np.cumsum(gaps).tolist(), strict=True):
            wait = began + due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(self._send(request, began + due)))
        await asyncio.gather(*tasks)

    async def _send(self, request: bytes, due: float) -> None:
        async with self._places:
            try:
                pair = self._free.pop() if self._free else await self._connect()
                pair[1].write(request)
                head = await pair[0].readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await pair[0].readexactly(length)
                status = int(head[9:12])
                self._free.append(pair)
            except (OSError, asyncio.IncompleteReadError):
                status = 0
        self.answers.append((status, 1000 * (time.perf_counter() - due)))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)


def measure(process: int, port: int, ids: list[str], rate: float, seconds: float) -> Figures:
    """One load."""
    seed = int(rate)
    warm, requests = (
        bodies(ids, int(rate * s), seed + n) for n, s in ((0, WARM_SECONDS), (1, seconds))
    )

    async def run() -> tuple[Load, float, float, float]:
        await Load(port).run(warm, rate, seed)
        load, server_before = Load(port), cpu_seconds(process)
        began, client_before = time.perf_counter(), time.process_time()
        await load.run(requests, rate, seed + 2)
        took = time.perf_counter() - began
        client = (time.process_time() - client_before) / took
        return load, took, (cpu_seconds(process) - server_before) / took, client

    load, took, cores, client = asyncio.run(run())
    good = np.sort([ms for status, ms in load.answers if status == 200])
    refused = np.sort([ms for status, ms in load.answers if status in (429, 503)])
    statuses = Counter(status for status, _ in load.answers)
    return Figures(rate, took, statuses, good, refused, cores, client)


def main(arguments: list[str]) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.serve")
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--text-batch", type=int, default=32)
    parser.add_argument("--folder", type=Path, help="where the made vectors stay")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.serve is not None:
        serve(asked.serve, asked.workers, asked.text_batch)
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = asked.folder or Path(temporary)
        vectors = root / "vectors"
        if not vectors.is_dir():
            make_folder(root, asked.vectors)
        from vidvec.embed.vectors import Vectors

        ids = Vectors(vectors).ids
        with server(vectors, asked.workers, asked.text_batch) as (process, port):
            print(
                f"{len(ids):,} vectors × {SIZE}, {asked.workers} worker(s), texts encoded up to "
                f"{asked.text_batch} together; {os.cpu_count()} cores {platform.machine()}, load "
                f"beforehand {os.getloadavg()[0]:.1f}, {datetime.now(UTC):%Y-%m-%d}\n\n{HEAD}",
                flush=True,
            )
            for rate in (asked.rate, 3 * asked.rate):
                print(measure(process, port, ids, rate, asked.seconds).row(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
