"""The corpus as a whole: what it can be filtered by, groups, scored pairs, the map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from vidvec.search.server import browsing
from vidvec.search.server.answers import (
    FacetsAnswer,
    FacetValue,
    GroupsAnswer,
    MapAnswer,
    PairsAnswer,
    missing_answer,
)
from vidvec.search.server.routes.common import Served, errors, json_answer
from vidvec.search.server.schemas import FilterQuery, GroupsQuery, PairsQuery

router = APIRouter(prefix="/api/v1", tags=["browse"])


@router.get("/facets", response_model=FacetsAnswer, responses=errors())
async def facets(query: Annotated[FilterQuery, Query()], state: Served) -> Response:
    """What the videos that pass a filter have: tags, categories, languages, with counts."""
    found = await state.work.run(state.index.facets, query.asked())
    return json_answer(
        FacetsAnswer(
            videos=found.videos,
            tags=_values(found.tags),
            categories=_values(found.categories),
            languages=_values(found.languages),
            missing=missing_answer(found.missing),
        )
    )


def _values(counts: Sequence[tuple[str, int]]) -> list[FacetValue]:
    return [FacetValue(value=value, count=count) for value, count in counts]


@router.get("/groups", response_model=GroupsAnswer, responses=errors(404))
async def groups(query: Annotated[GroupsQuery, Query()], state: Served) -> Response:
    """Groups of near duplicates, largest first; the first request for a threshold finds them."""
    found = await state.overview.groups(query.threshold)
    answer = await state.work.run(browsing.groups_answer, state, found, query.offset, query.limit)
    return json_answer(answer)


@router.get("/pairs", response_model=PairsAnswer, responses=errors(404))
async def pairs(query: Annotated[PairsQuery, Query()], state: Served) -> Response:
    """The scored pairs on which cosine and score disagree most, worst first."""
    ranked = await state.overview.pairs(query.split)
    answer = await state.work.run(
        browsing.pairs_answer, state, ranked, query.limit, query.offset, query.explain
    )
    return json_answer(answer)


@router.get("/map", response_model=MapAnswer, responses=errors(404))
async def map_(state: Served) -> Response:
    """All videos in the plane, and the themes of its regions."""
    return Response(await state.overview.map(), media_type="application/json")
