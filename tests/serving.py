"""A folder to serve, and real server processes that serve it."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx

from tests.models import write_checkpoint
from tests.unit.search.clips import film
from vidvec.data.corpus import Corpus
from vidvec.data.ingest import IngestOptions, ingest
from vidvec.embed.embedder import embed
from vidvec.embed.vectors import Vectors
from vidvec.search.calibrate import calibrate
from vidvec.search.map import make_map

COUNT = 12
TOPICS = ("sea waves 海浪", "city night 城市", "forest bird 森林")
START_SECONDS = 180


def made_folder(root: Path) -> Path:
    """Clips with titles, tags and pairs; their corpus, model, vectors, calibration, map.

    The last clip looks like the first one.
    """
    clips = root / "clips"
    clips.mkdir(parents=True)
    rows = []
    for number in range(COUNT):
        film(clips / f"clip{number}.mp4", 0 if number == COUNT - 1 else number, 1.5)
        topic = number % len(TOPICS)
        rows.append(
            {
                "id": f"clip{number}",
                "file": f"clip{number}.mp4",
                "title": f"{TOPICS[topic]} {number}",
                "tags": f"topic{topic};{'odd' if number % 2 else 'even'}",
                "category": f"c{topic}",
                "language": "zh-Hant" if number % 2 else "en",
                "date": f"2021-05-{number + 1:02d}",
            }
        )
    _write(clips / "meta.csv", rows)
    pairs = [
        {"id_1": a["id"], "id_2": b["id"], "score": float(a["category"] == b["category"])}
        for a, b in combinations(rows, 2)
    ]
    _write(root / "pairs.csv", pairs)
    ingest(clips, root / "corpus", IngestOptions(pairs=(root / "pairs.csv",)))
    corpus = Corpus(root / "corpus")
    write_checkpoint(root / "model", corpus)
    embed(root / "model", root / "corpus", root / "vectors")
    vectors = Vectors(root / "vectors")
    calibrate(vectors, corpus.pairs(), split="all").save(vectors.path)
    make_map(vectors.path, method="pca")
    return root


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@dataclass
class Server:
    """A server process.

    Attributes:
        process: It.
        url: Where it listens.
        errors: File with what it says on standard error.
        http: A connection.
    """

    process: subprocess.Popen[str]
    url: str
    errors: Path
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=60)

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def log(self) -> list[dict[str, Any]]:
        """Lines of the log."""
        lines = self.errors.read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def logged(self, request_id: str) -> dict[str, Any]:
        """The line of a request, which is written just after its answer."""
        for _ in range(100):
            for line in self.log():
                if line.get("request_id") == request_id:
                    return line
            time.sleep(0.05)
        raise AssertionError(f"request {request_id} is not in the log")

    def stop(self, sign: int = signal.SIGTERM, seconds: float = 60) -> int:
        """Ends it; its exit status."""
        self.http.close()
        self.process.send_signal(sign)
        return self.process.wait(seconds)

    def until_ready(self, headers: dict[str, str] | None = None) -> None:
        """Waits until the model is there."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            try:
                if self.http.get("/readyz", headers=headers).status_code == 200:
                    return
            except httpx.TransportError:
                assert self.process.poll() is None, self.errors.read_text("utf-8")
            time.sleep(0.1)
        raise AssertionError(f"not ready in time: {self.errors.read_text('utf-8')[-2000:]}")


def command(vectors: Path | None, *options: object) -> list[str]:
    """``vidvec serve``, at any free port where none is given."""
    port = () if "--port" in options else ("--port", 0)
    folder = () if vectors is None else (vectors,)
    words = ("-m", "vidvec.cli", "serve", *folder, *port, *options)
    return [sys.executable, *map(str, words)]


@contextmanager
def serving(
    vectors: Path | None, folder: Path, *options: object, ready: bool = True, **environment: str
) -> Iterator[Server]:
    """A server of some vectors, which is gone at the end.

    Args:
        vectors: The folder; ``None``: the options say where to search.
        folder: For its log.
        options: Of ``vidvec serve``.
        ready: Wait until all is loaded.
        environment: More variables.
    """
    errors = folder / f"server-{time.monotonic_ns()}.log"
    with errors.open("w") as file:
        process = subprocess.Popen(
            command(vectors, *options),
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("http://"), errors.read_text("utf-8")
        server = Server(process, line.split()[0], errors)
        if ready:
            server.until_ready()
        yield server
        server.http.close()
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def code(response: httpx.Response) -> str:
    """Of an error."""
    return response.json()["error"]["code"]


def head(
    path: str, length: int, content_type: str = "application/json", key: str = "none"
) -> bytes:
    """Of a request whose body is still to come."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
        f"X-API-Key: {key}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def answered(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of an answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65_536)
        assert part, data
        data += part
    top, _, body = data.partition(b"\r\n\r\n")
    length = int(top.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65_536)
    return int(top.split()[1]), body


def hits(http: httpx.Client, body: dict) -> list[tuple[str, float]]:
    """Id and cosine of each hit of a search."""
    response = http.post("/api/v1/search", json=body)
    assert response.status_code == 200, response.text
    return [(hit["id"], hit["cosine"]) for hit in response.json()["hits"]]
