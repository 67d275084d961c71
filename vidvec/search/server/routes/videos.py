"""One video: what is known of it, its neighbours, its pictures."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from vidvec.search.server import finding
from vidvec.search.server.answers import HitsAnswer, VideoAnswer
from vidvec.search.server.routes.common import Served, errors, json_answer
from vidvec.search.server.schemas import NeighboursQuery, PictureQuery, VideoQuery

router = APIRouter(prefix="/api/v1", tags=["videos"])


@router.get("/video", response_model=VideoAnswer, responses=errors(404))
async def video(query: Annotated[VideoQuery, Query()], state: Served) -> Response:
    """What is known of a video."""
    return json_answer(await state.work.run(finding.video, state, query.id))


@router.get("/video/neighbours", response_model=HitsAnswer, responses=errors(404))
async def neighbours(query: Annotated[NeighboursQuery, Query()], state: Served) -> Response:
    """The videos nearest to a video, itself left out."""
    asked = finding.Asked(ids=[query.id], k=query.k, explain=query.explain)
    clock = finding.Clock()
    return json_answer(await state.work.run(finding.find, state, asked, clock))


@router.get(
    "/picture",
    response_class=Response,
    responses={
        **errors(404),
        200: {"content": {"image/jpeg": {}}, "description": "The picture."},
        304: {"description": "It has not changed since the ETag that was sent."},
    },
)
async def picture(
    query: Annotated[PictureQuery, Query()], state: Served, request: Request
) -> Response:
    """A picture of a video, in time order."""
    data = await state.work.run(finding.picture, state, query.id, query.n)
    tag = f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=3600"}
    known = [each.strip() for each in request.headers.get("if-none-match", "").split(",")]
    if tag in known or f"W/{tag}" in known:
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type="image/jpeg")
