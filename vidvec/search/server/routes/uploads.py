"""Search and vectors by a file that comes along."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Form
from pydantic import ValidationError
from starlette.responses import Response

from vidvec.search.made import QueryVideo
from vidvec.search.server import finding, uploads
from vidvec.search.server.answers import EmbedAnswer, UploadAnswer
from vidvec.search.server.failures import ApiError
from vidvec.search.server.routes.common import Served, errors, json_answer
from vidvec.search.server.routes.search import embed_answer
from vidvec.search.server.schemas import EmbedForm, FilterBody, UploadForm
from vidvec.search.server.state import State
from vidvec.search.types import Filter

router = APIRouter(prefix="/api/v1", tags=["uploads"])


@router.post("/search/upload", response_model=UploadAnswer, responses=errors(404, 413))
async def search_upload(
    form: Annotated[UploadForm, Form(media_type="multipart/form-data")], state: Served
) -> Response:
    """Videos that are like a file, and like words where there are some."""
    clock = finding.Clock()
    asked_filter = _filter(form.filter)
    video = await state.work.run_in(state.work.reading, uploads.read, state, form.file)
    return await state.work.run(_found, state, video, form, asked_filter, clock)


def _found(
    state: State, video: QueryVideo, form: UploadForm, asked_filter: Filter, clock: finding.Clock
) -> Response:
    encoder = state.model.required()
    new = encoder.videos([video])
    if form.text.strip():
        new = np.concatenate([new, encoder.titles([form.text])])
    asked = finding.Asked(new=new, k=form.k, filter=asked_filter, explain=form.explain)
    found = finding.find(state, asked, clock)
    return json_answer(
        UploadAnswer.model_construct(
            hits=found.hits,
            took_ms=found.took_ms,
            generation=found.generation,
            missing=found.missing,
            query=uploads.query_answer(video),
        )
    )


def _filter(text: str) -> Filter:
    """The filter of a form, which is JSON."""
    if not text.strip():
        return Filter()
    try:
        return FilterBody.model_validate_json(text).asked()
    except ValidationError as error:
        found = error.errors()[0]
        place = ".".join(str(each)[:60] for each in ("filter", *found["loc"]))
        raise ApiError(
            "bad-request", f"{place}: {found['msg']}", "give it as JSON", status=422
        ) from None


@router.post("/embed/upload", response_model=EmbedAnswer, responses=errors(404, 413))
async def embed_upload(
    form: Annotated[EmbedForm, Form(media_type="multipart/form-data")], state: Served
) -> Response:
    """A file as a vector."""
    video = await state.work.run_in(state.work.reading, uploads.read, state, form.file, form.title)
    encoder = state.model.required()
    return json_answer(embed_answer(await state.work.run(encoder.videos, [video])))
