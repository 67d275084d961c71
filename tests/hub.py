"""A hub on loopback: as much of its HTTP as huggingface_hub needs to list and fetch a model.

Small files come from the hub itself; weights are large files: the hub names their SHA-256 and sends
the reader on to another host, as the real one does.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import torch
from transformers import BertConfig, BertForMaskedLM

from tests.tiny import tiny_tokenizer

COMMIT = "a" * 40
LARGE = (".safetensors", ".bin", ".h5", ".msgpack", ".onnx")


@dataclass
class Request:
    """What the hub was asked for."""

    method: str
    path: str
    range: str
    authorised: bool


@dataclass
class Hub:
    """Models by name, and how the hub behaves.

    Attributes:
        models: Files of each model.
        status: Answer to everything about a model: status and ``X-Error-Code``.
        sent: Bytes that go out instead of a file's, by file name.
        stated_sizes: What the hub says instead of a file's size.
        cut: After so many bytes of a file the connection is closed; taken off when it has happened.
        stall: After so many bytes of a file nothing more comes.
        busy: Weights are answered with 503.
        bare: No sizes, no digests in the listing, as an old mirror.
    """

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    status: dict[str, tuple[int, str]] = field(default_factory=dict)
    sent: dict[str, bytes] = field(default_factory=dict)
    stated_sizes: dict[str, int] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    stall: dict[str, int] = field(default_factory=dict)
    busy: bool = False
    bare: bool = False
    requests: list[Request] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bodies(self, ending: str = "") -> list[Request]:
        """The requests for the content of files whose name ends so."""
        return [
            each
            for each in self.requests
            if each.method == "GET" and "/content/" in each.path and each.path.endswith(ending)
        ]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_blob_id(content: bytes) -> str:
    """As ``git hash-object`` gives it."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def small_bert(folder: Path) -> dict[str, bytes]:
    """Files of a BERT with random weights, more than 10 MB of them.

    The hub's library writes what comes in pieces of 10 MB: with less, nothing of an interrupted
    download would be on the disk.
    """
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=24_000,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    tiny_tokenizer().save(folder)
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.name != "generation_config.json"
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = self.headers.get("Range") or ""
        authorised = "Authorization" in self.headers
        self.hub.requests.append(Request(self.command, path, asked, authorised))
        name = next((each for each in self._known() if f"/{each}" in path), "")
        if name in self.hub.status:
            status, code = self.hub.status[name]
            self._reply(status, {"X-Error-Code": code} if code else {})
        elif not name:
            self._reply(404, {"X-Error-Code": "RepoNotFound"})
        elif path.startswith("/api/"):
            self._listing(name)
        else:
            self._file(name, path)

    def _known(self) -> list[str]:
        return [*self.hub.models, *self.hub.status]

    def _reply(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _listing(self, name: str) -> None:
        siblings = []
        for file, content in self.hub.models[name].items():
            stated = {"rfilename": file}
            size = self.hub.stated_sizes.get(file, len(content))
            if not self.hub.bare:
                stated |= {"size": size, "blobId": git_blob_id(content)}
            if file.endswith(LARGE) and not self.hub.bare:
                stated["lfs"] = {"size": size, "sha256": sha256(content), "pointerSize": 130}
            siblings.append(stated)
        body = json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode()
        self._reply(200, {"Content-Type": "application/json"}, body)

    def _file(self, name: str, path: str) -> None:
        """``/NAME/resolve/REVISION/FILE``, or ``/content/NAME/FILE`` where it sends readers on."""
        onward = path.startswith("/content/")
        file = path.split(f"/{name}/", 1)[1]
        file = file if onward else file.split("/", 2)[2]
        content = self.hub.models[name].get(file)
        if content is None:
            self._reply(404, {"X-Error-Code": "EntryNotFound"})
            return
        if onward:
            self._content(file, self.hub.sent.get(file, content))
            return
        elsewhere = "localhost" if file.endswith(LARGE) else "127.0.0.1"
        tag = sha256(content) if file.endswith(LARGE) else git_blob_id(content)
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{tag}"',
            "X-Linked-Size": str(len(content)),
            "ETag": f'"{tag}"',
        }
        if self.command == "HEAD" and elsewhere == "127.0.0.1":
            self._reply(200, {**headers, "Content-Length": str(len(content))})
        else:
            location = f"http://{elsewhere}:{self.hub.port}/content/{name}/{file}"
            self._reply(302, {**headers, "Location": location})

    def _content(self, file: str, content: bytes) -> None:
        if self.hub.busy and file.endswith(LARGE):
            self._reply(503, {})
            return
        asked = self.headers.get("Range") or ""
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        status, headers = 200, {"Content-Length": str(len(content) - start)}
        if asked:
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._reply(status, headers)
        if self.command == "HEAD":
            return
        end = min(len(content), self.hub.cut.get(file, len(content)))
        self.wfile.write(content[start : min(end, self.hub.stall.get(file, end))])
        if file in self.hub.stall:
            self.wfile.flush()
            self.hub.released.wait()
            self.close_connection = True
        elif self.hub.cut.pop(file, None) is not None:
            self.close_connection = True


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """The hub, answering on a free port of the loopback interface."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def environment(endpoint: str, home: Path, **more: str) -> dict[str, str]:
    """Variables of a process that knows this hub and this cache, and reaches nothing else."""
    foreign = ("HF_", "HUGGING", "TRANSFORMERS_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    kept = {key: value for key, value in os.environ.items() if not key.upper().startswith(foreign)}
    return {
        **kept,
        "NO_PROXY": "*",
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "COLUMNS": "120",
        **more,
    }


def vidvec(
    *arguments: object, env: dict[str, str], code: str = ""
) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own, or this code with the arguments."""
    start = ["-c", code] if code else ["-m", "vidvec.cli"]
    command = [sys.executable, *start, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=env, check=False, timeout=120
    )
