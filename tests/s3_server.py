"""A real S3 server on loopback (moto), and a proxy before it that counts and injects failures."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.ports import free_ports

BUCKET = "videos"
START_SECONDS = 60.0


@contextlib.contextmanager
def s3_server(**environment: str) -> Iterator[str]:
    """The URL of a server of its own process, with a bucket; ends with the block."""
    (port,) = free_ports(1)
    command = [sys.executable, "-c", "from moto.server import main; main()"]
    server = subprocess.Popen(
        [*command, "-H", "127.0.0.1", "-p", str(port)],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def _wait(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("PUT", f"/{BUCKET}", headers={"Authorization": _ANYBODY})
            if connection.getresponse().status == http.client.OK:
                return
        time.sleep(0.1)
    raise RuntimeError(f"no S3 server at port {port}: exit status {server.poll()}")


_ANYBODY = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, Signature=a"


@dataclass
class Faults:
    """What goes wrong, as rates from 0 to 1 of the requests, in turn.

    Attributes:
        slow_down: Answered with 503 SlowDown.
        cut: The answer ends after half of its body, and the connection with it.
        stall: Nothing is answered for ``stall_seconds``, then the connection ends.
        code: Where set, every request is answered with this error, ``(status, code)``.
        only: Only requests with this in their path are hit.
    """

    slow_down: float = 0.0
    cut: float = 0.0
    stall: float = 0.0
    stall_seconds: float = 30.0
    code: tuple[int, str] | None = None
    only: str = ""


@dataclass
class Request:
    """A request that came through: its method, path, range, status, and bytes of the answer."""

    method: str
    path: str
    range: str
    status: int
    sent: int


@dataclass
class Proxy:
    """What a running proxy is told, and what it saw."""

    url: str
    faults: Faults = field(default_factory=Faults)
    requests: list[Request] = field(default_factory=list)
    injected: dict[str, int] = field(default_factory=dict)

    def forget(self) -> None:
        """Forgets what it saw."""
        self.requests.clear()
        self.injected.clear()

    def received(self, part: str) -> int:
        """Bytes that answers to GETs of objects with this in their path had."""
        return sum(
            seen.sent for seen in self.requests if seen.method == "GET" and part in seen.path
        )


@contextlib.contextmanager
def s3_proxy(server: str, seed: int = 0) -> Iterator[Proxy]:
    """A proxy before a server, in threads of this process."""
    draw = random.Random(seed)  # noqa: S311 - which requests are hit is no secret
    target = server.removeprefix("http://")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Says nothing."""

        def _hit(self) -> str:
            faults = proxy.faults
            if faults.only not in self.path:
                return ""
            if faults.code is not None:
                return "code"
            at = draw.random()
            for kind in ("slow_down", "cut", "stall"):
                at -= getattr(faults, kind)
                if at < 0:
                    return kind
            return ""

        def _body(self) -> bytes:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                parts = []
                while True:
                    line = self.rfile.readline()
                    parts.append(line)
                    if int(line.split(b";")[0], 16) == 0:
                        while (line := self.rfile.readline()) not in (b"\r\n", b""):
                            parts.append(line)
                        return b"".join([*parts, b"\r\n"])
                    parts.append(self.rfile.read(int(line.split(b";")[0], 16) + 2))
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _serve(self) -> None:
            body, kind = self._body(), self._hit()
            if kind:
                proxy.injected[kind] = proxy.injected.get(kind, 0) + 1
            if kind in ("slow_down", "code"):
                status, code = (503, "SlowDown") if kind == "slow_down" else proxy.faults.code or ()
                told = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
                self._answer(status, [("Content-Type", "application/xml")], told)
                return
            if kind == "stall":
                time.sleep(proxy.faults.stall_seconds)
                self.close_connection = True
                return
            connection = http.client.HTTPConnection(target, timeout=60)
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            reply = connection.getresponse()
            content = reply.read()
            hop = ("connection", "transfer-encoding", "server", "date")
            headers = [(k, v) for k, v in reply.getheaders() if k.lower() not in hop]
            self._answer(reply.status, headers, content, cut=kind == "cut")
            connection.close()

        def _answer(
            self, status: int, headers: list[tuple[str, str]], content: bytes, cut: bool = False
        ) -> None:
            self.send_response(status)
            for name, value in headers:
                if name.lower() != "content-length" or self.command == "HEAD":
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            body = b"" if self.command == "HEAD" else content
            if cut:
                body, self.close_connection = body[: len(body) // 2], True
            with contextlib.suppress(OSError):
                self.wfile.write(body)
                self.wfile.flush()
            if cut:
                self.connection.shutdown(socket.SHUT_RDWR)
            seen = Request(
                self.command, self.path, self.headers.get("Range", ""), status, len(body)
            )
            proxy.requests.append(seen)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve  # noqa: N815

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    proxy = Proxy(f"http://127.0.0.1:{running.server_address[1]}")
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        running.shutdown()
        running.server_close()
