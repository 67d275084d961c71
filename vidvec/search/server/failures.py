"""Errors as the client sees them: a status, a code, what was wrong, what to do."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from vidvec.errors import BadRecord, FormatError, ServerError, VidvecError

STATUS = {
    "bad-request": 400,
    "unauthorised": 401,
    "unknown-id": 404,
    "not-available": 404,
    "not-found": 404,
    "method-not-allowed": 405,
    "too-large": 413,
    "unsupported-media": 415,
    "bad-video": 422,
    "too-many-requests": 429,
    "internal": 500,
    "busy": 503,
    "timed-out": 503,
    "unreachable": 503,
}
_CODE_OF_STATUS = {
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-media",
}


class ApiError(Exception):
    """Ends a request.

    Attributes:
        code: One of ``STATUS``.
        message: What was found and what was expected.
        hint: What to do; may be empty.
        status: Of the answer, where it is not the code's own.
        retry_after: Seconds after which to ask again; 0: not said.
        headers: More of them.
    """

    def __init__(
        self,
        code: str,
        message: str,
        hint: str = "",
        *,
        status: int | None = None,
        retry_after: float = 0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint
        self.status = STATUS[code] if status is None else status
        self.headers = dict(headers or {})
        if retry_after:
            self.headers["Retry-After"] = str(math.ceil(retry_after))

    def response(self) -> Response:
        """The answer."""
        error = {"code": self.code, "message": self.message, "hint": self.hint}
        # A message may repeat what no UTF-8 can carry: ASCII with escapes always can.
        body = json.dumps({"error": error}).encode("ascii")
        return Response(body, self.status, self.headers, "application/json")


def unknown_id(video_id: str) -> ApiError:
    """No video has this id."""
    return ApiError(
        "unknown-id", f"no video {video_id[:200]!r} here", "ids are told by every search's hits"
    )


def not_available(what: str, hint: str) -> ApiError:
    """This server has no such thing."""
    return ApiError("not-available", what, hint)


def of_user_error(error: VidvecError) -> ApiError:
    """An error of the package as the client sees it."""
    if isinstance(error, BadRecord):
        return ApiError("bad-video", str(error), "hand in another file")
    if isinstance(error, FormatError):
        return ApiError("not-available", str(error), "the server's folders need looking after")
    if isinstance(error, ServerError):
        return ApiError("unreachable", str(error), "ask again in a moment", retry_after=2)
    return ApiError("bad-request", str(error))


def _validation(error: RequestValidationError) -> ApiError:
    found = [_sentence(each) for each in error.errors()]
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return ApiError(
        "bad-request",
        "; ".join(found[:3]) + more,
        "/openapi.json says what is taken",
        status=422,
    )


def _sentence(error: Mapping[str, Any]) -> str:
    if error["type"] == "json_invalid":
        reason, place = error.get("ctx", {}).get("error", ""), error["loc"][-1]
        return f"the body is not JSON: {reason} at character {place}"
    place = error["loc"][1:] if error["loc"][:1] in (("body",), ("query",)) else error["loc"]
    where = ".".join(str(each)[:60] for each in place) or "the request"
    return f"{where}: {_SAID.get(error['type'], error['msg'].removeprefix('Value error, '))}"


_SAID = {
    "extra_forbidden": "there is no such field",
    "missing": "it is missing",
    "string_unicode": "it is not Unicode",
    "string_pattern_mismatch": "it is empty",
}


def install(app: FastAPI) -> None:
    """Makes every error of an app one of ours."""

    async def ours(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)  # noqa: S101 - what it is installed for
        return error.response()

    async def users(_: Request, error: Exception) -> Response:
        assert isinstance(error, VidvecError)  # noqa: S101
        return of_user_error(error).response()

    async def validation(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        return _validation(error).response()

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        code = _CODE_OF_STATUS.get(error.status_code, "bad-request")
        message, hint = str(error.detail), ""
        if error.status_code == 404:
            message, hint = "there is nothing at this path", "/openapi.json lists the paths"
        return ApiError(
            code, message, hint, status=error.status_code, headers=error.headers
        ).response()

    app.add_exception_handler(ApiError, ours)
    app.add_exception_handler(VidvecError, users)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, http)
