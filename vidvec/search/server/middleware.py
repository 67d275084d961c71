"""What every request passes: it is named, timed, logged; let in or not; cut off in the end."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vidvec.search.server import logs
from vidvec.search.server.config import BODY_BYTES, MEGABYTE, ServerConfig
from vidvec.search.server.failures import ApiError
from vidvec.search.server.limits import BodyTooLarge, Gate, RateLimiter, counted
from vidvec.search.server.metrics import Metrics

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_OPEN = ("/", "/healthz", "/readyz", "/favicon.ico")
_UNCOUNTED = ("/healthz", "/readyz", "/metrics")
# A page shows many pictures at once, and each costs next to nothing.
PICTURE_TOKENS = 0.02
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Observe:
    """Gives each request an id, counts and logs it; turns what nobody foresaw into a 500.

    Args:
        app: What answers.
        metrics: Counts.
        log_queries: Log what is after the path's question mark, too.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, log_queries: bool) -> None:
        self._app, self._metrics, self._log_queries = app, metrics, log_queries

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["log"] = {}
        started, status, failed = time.perf_counter(), 0, None

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", ()))
                message["headers"] = [
                    *headers,
                    (b"x-request-id", request_id.encode()),
                    *_SECURITY,
                ]
            await send(message)

        self._metrics.started()
        try:
            await self._app(scope, receive, answer)
        except Exception as error:  # anything: one request's failure is not the server's
            failed = error
            if not status:
                await _internal(request_id).response()(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - started
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.finished(method, route_of(scope), status, seconds)
            self._log(scope, request_id, status, seconds, failed)

    def _log(
        self, scope: Scope, request_id: str, status: int, seconds: float, failed: Exception | None
    ) -> None:
        client = scope.get("client") or ("",)
        fields: dict[str, Any] = {
            "request_id": request_id,
            "client": client[0],
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "ms": round(1000 * seconds, 2),
        }
        if self._log_queries:
            fields["query"] = scope["query_string"].decode("latin-1")
            fields |= scope["state"]["log"]
        logs.request(fields, failed=failed)


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _internal(request_id: str) -> ApiError:
    return ApiError(
        "internal",
        f"something went wrong in the server; its log says what, at request {request_id}",
        "the request can be made again",
    )


def route_of(scope: Scope) -> str:
    """The path of the route that answered, so that metrics stay few whatever is asked for."""
    path = getattr(scope.get("route"), "path", "")
    if path:
        return str(path)
    return "/page" if scope["path"].startswith("/page/") else "unmatched"


class Guard:
    """Asks for the key, keeps to the limits of rate, size, number and time.

    Args:
        app: What answers.
        config: The limits.
        metrics: Counts who was refused.
        rates: The clients' buckets.
    """

    def __init__(
        self, app: ASGIApp, config: ServerConfig, metrics: Metrics, rates: RateLimiter
    ) -> None:
        self._app, self._config, self._metrics, self._rates = app, config, metrics, rates
        self._key = _digest(config.api_key) if config.api_key else b""
        self._requests = Gate(config.concurrency, "requests")
        self._uploads = Gate(config.uploads, "uploads")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._admit(scope, receive, answer)
        except (ApiError, BodyTooLarge) as error:
            refusal = _too_large(error) if isinstance(error, BodyTooLarge) else error
            self._metrics.refused(refusal.code)
            if started:
                raise
            await refusal.response()(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, path = Headers(scope=scope), scope["path"]
        self._check_host(headers)
        is_open = path in _OPEN or path.startswith("/page/")
        if not is_open:
            self._check_key(headers)
        if path not in _UNCOUNTED:
            client = (scope.get("client") or ("",))[0]
            small = is_open or path == "/api/v1/picture"
            self._check_rate(client, PICTURE_TOKENS if small else 1.0)
        upload = path.endswith("/upload")
        most = self._config.upload_bytes + MEGABYTE if upload else BODY_BYTES
        limited = counted(receive, most, headers.get("content-length", "").encode("latin-1"))
        if path in _UNCOUNTED:
            await self._app(scope, limited, send)
            return
        with (self._uploads if upload else self._requests).entered():
            await self._in_time(scope, limited, send, upload)

    async def _in_time(self, scope: Scope, receive: Receive, send: Send, upload: bool) -> None:
        seconds = self._config.timeout_seconds
        if upload:
            seconds += self._config.upload_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._app(scope, receive, send)
        except TimeoutError:
            raise ApiError(
                "timed-out",
                f"this takes longer than the {seconds:g} s that a request may take",
                "ask for less, or again later",
                retry_after=5,
            ) from None

    def _check_host(self, headers: Headers) -> None:
        """Without a key, a page from elsewhere must not reach this machine under its own name."""
        if self._key or not self._config.loopback:
            return
        host = headers.get("host", "")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if name in ("localhost", "[::1]", self._config.host) or name.startswith("127."):
            return
        raise ApiError(
            "bad-request",
            f"this server answers to this machine alone, not to the name {name[:100]!r}",
            "ask http://127.0.0.1, or start the server with --api-key",
        )

    def _check_key(self, headers: Headers) -> None:
        if not self._key:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not hmac.compare_digest(_digest(given), self._key):
            raise ApiError(
                "unauthorised",
                "the API key is missing" if not given else "the API key is another one",
                "send it as Authorization: Bearer KEY, or as X-API-Key: KEY",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _check_rate(self, client: str, tokens: float) -> None:
        seconds = self._rates.take(client, tokens)
        if seconds:
            raise ApiError(
                "too-many-requests",
                f"more than {self._config.requests_a_second:g} requests a second from {client}",
                "ask more slowly",
                retry_after=seconds,
            )


def _digest(key: str) -> bytes:
    """Of one length, so that comparing takes as long whatever is given."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _too_large(error: BodyTooLarge) -> ApiError:
    return ApiError("too-large", error.detail, "/api/v1/info says what is taken")
