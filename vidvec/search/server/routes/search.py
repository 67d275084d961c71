"""Search by words, ids and both; neighbours of many; texts to vectors."""

from __future__ import annotations

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import Response

from vidvec.search.server import finding
from vidvec.search.server.answers import EmbedAnswer, HitsAnswer, SimilarAnswer
from vidvec.search.server.routes.common import Served, errors, json_answer, note
from vidvec.search.server.schemas import EmbedBody, SearchBody, SimilarBody
from vidvec.search.server.state import State

router = APIRouter(prefix="/api/v1", tags=["search"])


@router.post("/search", response_model=HitsAnswer, responses=errors(404, 413))
async def search(body: SearchBody, state: Served, request: Request) -> Response:
    """Videos that are like words, like other videos, or like both."""
    clock = finding.Clock()
    note(request, text=body.text, ids=body.ids)
    new = None
    if body.text is not None and not body.words:
        state.model.required()
        new = (await state.texts.submit(body.text))[None]
    asked = finding.Asked(
        ids=body.ids,
        unlike_ids=body.unlike_ids,
        new=new,
        k=body.k,
        filter=body.filter.asked(),
        explain=body.explain,
        words=body.text if body.words else None,
    )
    return await state.work.run(_found, state, asked, clock)


def _found(state: State, asked: finding.Asked, clock: finding.Clock) -> Response:
    return json_answer(finding.find(state, asked, clock))


@router.post("/similar", response_model=SimilarAnswer, responses=errors(404, 413))
async def similar(body: SimilarBody, state: Served) -> Response:
    """The neighbours of each of several videos."""
    clock = finding.Clock()
    answer = await state.work.run(
        finding.similar, state, body.ids, body.k, body.filter.asked(), clock
    )
    return json_answer(answer)


@router.post("/embed", response_model=EmbedAnswer, responses=errors(404, 413))
async def embed(body: EmbedBody, state: Served, request: Request) -> Response:
    """Texts as vectors, each as a video with this title and nothing else; an empty one, too."""
    note(request, texts=body.texts)
    encoder = state.model.required()
    vectors = await state.work.run(encoder.titles, body.texts)
    return json_answer(embed_answer(vectors))


def embed_answer(vectors: np.ndarray) -> EmbedAnswer:
    """(n, E) vectors as an answer."""
    return EmbedAnswer.model_construct(vectors=vectors.tolist(), dimension=vectors.shape[1])
