"""A file at a URL onto this disk: limited in size and time, carried on where it was cut off.

Requests follow RFC 9110. A transfer is carried on by ``Range`` with ``If-Range`` (its section 14),
so that halves of two versions are never joined; without a validator it begins again.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin

from vidvec.data.addresses import Target, parse_url, resolve
from vidvec.errors import BadRecord

_BLOCK = 1 << 18
_QUIET_SECONDS = 30.0
_LONGEST_PAUSE = 30.0
_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429)  # and all from 500 on: another try may go better


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """How a file is fetched.

    Attributes:
        private: Allow addresses of this machine and of its own network.
        max_bytes: A larger file is left out.
        seconds: For one file, all tries and pauses together.
        attempts: Tries, where the server or the line fails.
        pause_seconds: Before the second try; doubled before each further one.
        redirects: Followed one after the other at most.
    """

    private: bool = False
    max_bytes: int = 4 * 2**30
    seconds: float = 600.0
    attempts: int = 4
    pause_seconds: float = 0.5
    redirects: int = 5


class _Again(Exception):  # noqa: N818 - not an error yet
    """A try failed, and another may go better."""

    def __init__(self, reason: str, detail: str, pause: float = 0.0, *, anew: bool = False) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.pause, self.anew = reason, detail, pause, anew


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked; TLS still checks the host's name."""

    def __init__(self, target: Target, addresses: list[str], timeout: float) -> None:
        super().__init__(target.host, target.port, timeout=timeout)
        self._target, self._addresses = target, addresses
        self.socket: socket.socket | None = None

    def connect(self) -> None:
        for place, address in enumerate(self._addresses):
            try:
                plain = socket.create_connection((address, self._target.port), self.timeout)
                break
            except OSError:
                if place + 1 == len(self._addresses):
                    raise
        self.socket = self.sock = plain
        if self._target.secure:
            context = ssl.create_default_context()
            self.socket = self.sock = context.wrap_socket(plain, server_hostname=self._target.host)


class Fetcher:
    """Fetches files, from several threads if wanted, until it is closed.

    Args:
        options: Limits of each file.
    """

    def __init__(self, options: FetchOptions) -> None:
        self._options = options
        self._closed = threading.Event()
        self._live: set[_Connection] = set()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Cuts what is under way; what is fetched from now on fails at once."""
        self._closed.set()
        with self._lock:
            live = list(self._live)
        for connection in live:
            _cut(connection)

    def fetch(self, url: str, destination: Path) -> None:
        """Writes what is at a URL to a file, which is there only where all of it came.

        Raises:
            BadRecord: ``bad-url``, ``fetch-failed``, ``too-large``, ``timeout``.
            OSError: The file cannot be written.
        """
        deadline = time.monotonic() + self._options.seconds
        try:
            with destination.open("w+b") as file:
                self._try(url, file, deadline)
        except BaseException:
            destination.unlink(missing_ok=True)
            raise

    def _try(self, url: str, file: BinaryIO, deadline: float) -> None:
        pause, validator, attempts = self._options.pause_seconds, "", self._options.attempts
        for attempt in range(1, attempts + 1):
            try:
                with self._response(url, file.tell() if validator else 0, validator, deadline) as (
                    response,
                    start,
                ):
                    file.seek(start)
                    file.truncate()
                    validator = _validator(response)
                    self._body(response, file, deadline)
                return
            except _Again as problem:
                wait = min(max(pause, problem.pause), _LONGEST_PAUSE)
                late = time.monotonic() + wait >= deadline
                if late or attempt == attempts or self._closed.is_set():
                    tries = f" (tried {attempt} times)" if attempt > 1 else ""
                    raise BadRecord(problem.reason, f"{url}: {problem.detail}{tries}") from None
                validator = "" if problem.anew else validator
            self._closed.wait(wait)
            pause *= 2

    @contextmanager
    def _response(
        self, url: str, start: int, validator: str, deadline: float
    ) -> Iterator[tuple[http.client.HTTPResponse, int]]:
        """The answer behind all redirects, and with which byte of the file it begins."""
        headers = {"User-Agent": "vidvec", "Accept": "*/*", "Accept-Encoding": "identity"}
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Range": validator}
        at = url
        for _ in range(self._options.redirects + 1):
            with self._answer(at, headers, deadline) as response:
                location = response.headers.get("Location")
                if response.status in _REDIRECTS and location:
                    at = urljoin(at, location)
                    continue
                yield response, self._start(response, url, start)
                return
        detail = f"{url}: more than {self._options.redirects} redirects, the last to {at:.200}"
        raise BadRecord("fetch-failed", detail)

    @contextmanager
    def _answer(
        self, url: str, headers: dict[str, str], deadline: float
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to one request, whose connection is cut when the time is up."""
        target = parse_url(url)
        left = deadline - time.monotonic()
        if left <= 0:
            raise BadRecord("timeout", self._too_slow(url))
        with _named_problems(deadline, self._options.seconds):
            addresses = resolve(target, private=self._options.private)
        connection = _Connection(target, addresses, min(_QUIET_SECONDS, left))
        watch = threading.Timer(left, _cut, [connection])
        watch.daemon = True
        with self._lock:
            self._live.add(connection)
        try:
            watch.start()
            with _named_problems(deadline, self._options.seconds):
                connection.request("GET", target.path, headers=headers)
                response = connection.getresponse()
            with response:
                yield response
        finally:
            watch.cancel()
            with self._lock:
                self._live.discard(connection)
            connection.close()
            if connection.socket is not None:
                connection.socket.close()

    def _start(self, response: http.client.HTTPResponse, url: str, asked: int) -> int:
        """With which byte the answer begins; refuses those that hold no video."""
        status = response.status
        if asked and status == 416:
            raise _Again("fetch-failed", _status(status), anew=True)
        if status >= 500 or status in _PASSING:
            wait = response.headers.get("Retry-After", "")
            raise _Again("fetch-failed", _status(status), float(wait) if wait.isdigit() else 0.0)
        if status not in (200, 206) or (status == 206 and not asked):
            raise BadRecord("fetch-failed", f"{url}: {_status(status)}")
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            detail = f"{url}: it came as {encoding:.20}, which nobody asked for"
            raise BadRecord("fetch-failed", detail)
        if response.headers.get_content_type() == "text/html":
            raise BadRecord("fetch-failed", f"{url}: found a web page, expected a video file")
        start = 0
        if status == 206:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {asked}-"):
                raise _Again("fetch-failed", "it was carried on at another place", anew=True)
            start = asked
        if start + (response.length or 0) > self._options.max_bytes:
            raise BadRecord("too-large", self._too_large(url, start + (response.length or 0)))
        return start

    def _body(self, response: http.client.HTTPResponse, file: BinaryIO, deadline: float) -> None:
        while not self._closed.is_set():
            with _named_problems(deadline, self._options.seconds):
                block = response.read1(_BLOCK)
                if not block and response.length:
                    raise ConnectionError(f"the connection ended {response.length:,} bytes early")
                if time.monotonic() >= deadline:
                    raise TimeoutError
            if not block and not self._closed.is_set():
                file.flush()
                return
            if file.tell() + len(block) > self._options.max_bytes:
                raise BadRecord("too-large", self._too_large("", file.tell() + len(block)))
            file.write(block)
        raise BadRecord("fetch-failed", "stopped")

    def _too_large(self, url: str, found: int) -> str:
        limit = f"{self._options.max_bytes / 2**20:,.0f} MiB"
        before = f"{url}: " if url else ""
        return f"{before}{found:,} bytes or more, expected at most {limit} (--fetch-max-mb)"

    def _too_slow(self, url: str) -> str:
        return f"{url}: not there after {self._options.seconds:g} s (--fetch-seconds)"


@contextmanager
def _named_problems(deadline: float, seconds: float) -> Iterator[None]:
    """What fails on the line as ``_Again``; as ``timeout`` where the time is up."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise BadRecord("fetch-failed", f"the certificate is not valid: {error}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() >= deadline:
            detail = f"not there after {seconds:g} s (--fetch-seconds)"
            raise BadRecord("timeout", detail) from None
        if isinstance(error, TimeoutError):
            raise _Again("timeout", f"no answer for {_QUIET_SECONDS:g} s") from None
        raise _Again("fetch-failed", f"{type(error).__name__}: {error}") from None


def _cut(connection: _Connection) -> None:
    """Ends a connection from another thread, which wakes whoever reads from it."""
    if connection.socket is not None:
        with suppress(OSError):
            # Of the plain socket: TLS would take the connection's state from under the reader.
            socket.socket.shutdown(connection.socket, socket.SHUT_RDWR)


def _validator(response: http.client.HTTPResponse) -> str:
    """What names this version of the file; empty where the server cannot carry on with it."""
    if response.headers.get("Accept-Ranges", "").lower() == "none":
        return ""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _status(status: int) -> str:
    """A status with its name, such as ``503 Service Unavailable``."""
    try:
        return f"the server answered {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"the server answered {status}"
