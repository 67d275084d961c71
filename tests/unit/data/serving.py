"""A web server on loopback that behaves badly when asked to."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 1200  # 300 KiB
Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers each path as ``server.answers`` says, and notes who asked for what."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        self.server.ranges.append(self.headers.get("Range", ""))
        answer = self.server.answers.get(self.path)
        try:
            if answer is None:
                self.send_error(404)
            else:
                answer(self)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """See ``serve``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.asked: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.stop = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


@contextmanager
def serve(**answers: Answer) -> Iterator[Server]:
    """A server, and what it answers to ``/NAME``."""
    server = Server()
    server.answers = {f"/{name}": answer for name, answer in answers.items()}
    thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


def whole(content: bytes = CONTENT, **headers: object) -> Answer:
    """All of it."""

    def answer(request: Handler) -> None:
        request.head(200, Content_Length=len(content), **headers)
        request.wfile.write(content)

    return answer


def failing(times: int, status: int, then: Answer, **headers: object) -> Answer:
    """A status so many times, then something else."""

    def answer(request: Handler) -> None:
        if request.server.asked[request.path] <= times:
            request.head(status, Content_Length=0, **headers)
        else:
            then(request)

    return answer


def cut_at(place: int, *, tag: str = '"one"', times: int = 1, ranges: bool = True) -> Answer:
    """A connection that ends after so many bytes; carried on where that is asked for."""

    def answer(request: Handler) -> None:
        asked, start = request.headers.get("Range"), 0
        headers: dict[str, object] = {"ETag": tag} if tag else {}
        if asked and ranges and request.headers.get("If-Range") == tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            headers["Content_Range"] = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        request.head(206 if start else 200, Content_Length=len(CONTENT) - start, **headers)
        is_cut = request.server.asked[request.path] <= times
        request.wfile.write(CONTENT[start : place if is_cut else None])
        request.close_connection = True

    return answer


def endless(request: Handler) -> None:
    """A body without an end or a length."""
    request.head(200)
    while not request.server.stop.is_set():
        request.wfile.write(b"x" * 65536)


def dripping(request: Handler) -> None:
    """A body of which a byte comes now and then."""
    request.head(200, Content_Length=1000)
    while not request.server.stop.wait(0.02):
        request.wfile.write(b"x")


def dripping_headers(request: Handler) -> None:
    """The same of the headers."""
    request.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
    while not request.server.stop.wait(0.02):
        request.wfile.write(b"x")


def silent(request: Handler) -> None:
    """No answer at all."""
    request.server.stop.wait(5)


def moved(to: str, status: int = 302) -> Answer:
    """A redirect."""

    def answer(request: Handler) -> None:
        request.head(status, Location=to, Content_Length=0)

    return answer


def slow_start(seconds: float) -> Answer:
    """All of it, after a while."""

    def answer(request: Handler) -> None:
        time.sleep(seconds)
        whole()(request)

    return answer
