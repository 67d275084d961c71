"""What routes share: the worker's state, the errors they may answer, JSON without a detour."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel
from starlette.responses import Response

from vidvec.search.server.answers import ErrorAnswer
from vidvec.search.server.failures import ApiError
from vidvec.search.server.state import State

# Parameters of an address that may be given several times.
LISTED = frozenset({"tags", "categories", "languages"})
_MEANING = {
    400: "The request cannot be used.",
    401: "The API key is missing or another one.",
    404: "There is no such video, or this server has no such thing.",
    413: "The body is too large.",
    415: "The body is of another kind.",
    422: "The request is not what it should be, or the file cannot be read.",
    429: "Too many requests from this client; Retry-After says when to go on.",
    503: "Busy, or not done in time; Retry-After says when to ask again.",
}


def state_of(request: Request) -> State:
    """The worker's state, for a request whose address says nothing twice.

    Raises:
        ApiError: A parameter that has one value is given several.
    """
    given = Counter(name for name, _ in request.query_params.multi_items())
    for name, count in given.items():
        if count > 1 and name not in LISTED:
            raise ApiError(
                "bad-request", f"{name[:60]} is given {count} times, expected once", status=422
            )
    state: State = request.app.state.vidvec
    return state


Served = Annotated[State, Depends(state_of)]


def errors(*more: int) -> dict[int | str, dict[str, Any]]:
    """Answers other than success, for OpenAPI: those that every route has, and more."""
    return {
        status: {"model": ErrorAnswer, "description": _MEANING[status]}
        for status in sorted({400, 401, 422, 429, 503, *more})
    }


def json_answer(answer: BaseModel) -> Response:
    """An answer as JSON; NaN, which JSON does not have, as null."""
    return Response(answer.model_dump_json(), media_type="application/json")


def note(request: Request, **fields: Any) -> None:
    """Says what was looked for, which is logged where that is asked for."""
    request.state.log.update(fields)
