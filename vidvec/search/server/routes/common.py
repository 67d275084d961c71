"""What routes share: the worker's state, the errors they may answer, JSON without a detour."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel
from starlette.responses import Response

from vidvec.search.server.answers import ErrorAnswer
from vidvec.search.server.state import State

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
    """The worker's state."""
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
