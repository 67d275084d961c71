"""Changes while serving, several workers, how a server ends, what cannot be served."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serving import COUNT, Server, answered, code, command, head, hits, serving
from vidvec.search.engine import SearchIndex
from vidvec.search.types import IndexedVideo

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(served, tmp_path) -> Path:
    """A folder of vectors of one's own."""
    shutil.copytree(served / "vectors", tmp_path / "vectors")
    return tmp_path / "vectors"


def until(found) -> None:
    end = time.monotonic() + 60
    while not found():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_changes_are_taken_in_and_a_request_in_flight_ends_well(copy, tmp_path):
    """One server from start to end: add, delete, calibration gone; SIGTERM; started again."""
    with serving(copy, tmp_path) as server:
        with SearchIndex.open(copy, writable=True) as index:
            index.add(["new"], index.vectors_of(["clip3"]), [IndexedVideo("new", title="Neues")])
            assert hits(server.http, {"ids": ["clip3"], "k": 1})[0][0] == "new"
            until(lambda: server.http.get("/readyz").json()["videos"] == COUNT + 1)
            index.delete(["new", "clip5"])
        gone = server.http.get("/api/v1/video", params={"id": "clip5"})
        assert code(gone) == "unknown-id"
        until(lambda: server.http.get("/readyz").json()["videos"] == COUNT - 1)
        (copy / "calibration.json").unlink()
        until(lambda: not server.http.get("/api/v1/info").json()["can"]["probability"])

        slow = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        idle = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        body = b'{"ids": ["clip3"]}'
        slow.sendall(head("/api/v1/search", len(body)) + body[:5])
        time.sleep(1)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", server.port), timeout=5)
        assert server.process.poll() is None
        slow.sendall(body[5:])
        status, answer = answered(slow)
        assert status == 200
        assert len(json.loads(answer)["hits"]) == COUNT - 2
        slow.close()
        idle.close()
        assert server.process.wait(60) == 0
    with serving(copy, tmp_path, "--port", server.port, ready=False) as again:
        again.until_ready()
        assert again.port == server.port
        assert again.http.get("/readyz").json()["videos"] == COUNT - 1


def children(process: int) -> list[int]:
    """Processes that a process has started and that serve."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rsplit(")", 1)[1].split()
            command_line = (path.parent / "cmdline").read_bytes()
            if int(fields[1]) == process and b"spawn_main" in command_line:
                found.append(int(path.parent.name))
    return found


def test_two_workers_are_one_server(served, tmp_path):
    """Counters, rates and answers are of both; a worker that is killed is replaced."""
    options = ["--workers", 2, "--rate", 5, "--log-format", "text"]
    with serving(served / "vectors", tmp_path, *options) as server:
        workers = children(server.process.pid)
        assert len(workers) == 2
        answers = []
        for _ in range(60):  # each over a new connection, which either may take
            with httpx.Client(base_url=server.url, timeout=60) as http:
                answers.append(http.get("/api/v1/video", params={"id": "clip0"}).status_code)
        assert set(answers) <= {200, 429}
        time.sleep(2)
        counted = requests_counted(server)
        assert counted["/api/v1/video"] == answers.count(200) > 0
        # Refused before it was known by which route.
        assert counted.get("unmatched", 0) == answers.count(429)
        os.kill(workers[0], signal.SIGKILL)
        until(lambda: len(set(children(server.process.pid)) - set(workers)) == 1)
        until(lambda: alive(server))
        assert server.stop() == 0
        assert children(server.process.pid) == []
    assert not Path(f"/proc/{workers[1]}").exists()


def alive(server: Server) -> bool:
    with contextlib.suppress(httpx.TransportError), httpx.Client(base_url=server.url) as http:
        return http.get("/readyz").status_code == 200
    return False


def requests_counted(server: Server) -> dict[str, float]:
    found: dict[str, float] = {}
    with httpx.Client(base_url=server.url, timeout=60) as http:
        text = http.get("/metrics").text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "vidvec_requests_total":
                route = sample.labels["route"]
                found[route] = found.get(route, 0) + sample.value
    return found


def told(*arguments: object, **environment: str) -> str:
    """What a command that must fail says."""
    done = subprocess.run(
        list(map(str, arguments)),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def test_what_cannot_be_served(served, tmp_path, server):
    vectors = served / "vectors"
    open_to_all = told(*command(vectors, "--host", "0.0.0.0"))  # noqa: S104
    assert "give them a key with --api-key KEY" in open_to_all
    assert "--rate -1: expected 0" in told(*command(vectors, "--rate", "-1"))
    assert "is not a vectors folder" in told(*command(tmp_path))
    taken = told(*command(vectors, "--port", server.port))
    assert "give another --port" in taken


def test_vectors_of_no_known_model(tmp_path):
    """Ids are looked for; text is not available, and says why."""
    from tests.unit.search.test_index import vectors_of

    matrix = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    vectors_of(tmp_path / "vectors", matrix)
    with serving(tmp_path / "vectors", tmp_path) as server:
        info = server.http.get("/api/v1/info").json()
        assert info["model"] is None
        able = {name for name, can in info["can"].items() if can}
        assert able == {"groups"}
        assert len(hits(server.http, {"ids": ["v3"], "k": 5})) == 5
        for path, body in (
            ("search", {"text": "sea"}),
            ("search", {"ids": ["v3"], "explain": True}),
            ("embed", {"texts": ["sea"]}),
        ):
            response = server.http.post(f"/api/v1/{path}", json=body)
            assert (response.status_code, code(response)) == (404, "not-available")
        upload = server.http.post("/api/v1/search/upload", files={"file": b"abc"})
        assert code(upload) == "not-available"
        for path in ("pairs", "map", "picture?id=v3"):
            assert code(server.http.get(f"/api/v1/{path}")) == "not-available"
