"""The page: static files that a browser may keep, as long as it asks whether they are new."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

FOLDER = Path(__file__).resolve().parents[2] / "page"
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
        b"form-action 'self'; frame-ancestors 'none'",
    ),
    (b"cache-control", b"no-cache"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class PageFiles:
    """Static files with the page's headers.

    Args:
        folder: Of the files.
    """

    def __init__(self, folder: Path) -> None:
        self._files = StaticFiles(directory=folder, check_dir=False)

    async def response(self, name: str, scope: Scope) -> Response:
        """One of the files, or that it has not changed."""
        found = await self._files.get_response(name, scope)
        found.headers.raw.extend(HEADERS)
        return found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers with a file, or that it has not changed, or that there is none."""
        await self._files(scope, receive, with_headers(send))


def with_headers(send: Send) -> Send:
    """Sends the page's headers along."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *HEADERS]
        await send(message)

    return answer


def install(app: FastAPI, folder: Path = FOLDER) -> None:
    """Serves the page at ``/`` and its files at ``/page/``, where there is one."""
    files = PageFiles(folder)

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        if not (folder / "index.html").is_file():
            return PlainTextResponse(
                "There is no page here; /openapi.json describes the API.\n", 404
            )
        return await files.response("index.html", request.scope)

    app.mount("/page", files)
