"""What is served, and how it is."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from vidvec import __version__
from vidvec.search.query import TEXT_LIMIT
from vidvec.search.server.answers import (
    Can,
    ErrorAnswer,
    HealthAnswer,
    InfoAnswer,
    LimitsAnswer,
    ReadyAnswer,
    ShardsAnswer,
)
from vidvec.search.server.config import MOST_HITS
from vidvec.search.server.failures import ApiError
from vidvec.search.server.metrics import CONTENT_TYPE
from vidvec.search.server.routes.common import Served, errors, json_answer
from vidvec.search.server.state import State
from vidvec.search.sharded.engine import ShardedIndex

router = APIRouter(tags=["system"])


@router.get("/healthz", response_model=HealthAnswer)
async def healthz(state: Served) -> Response:
    """Whether the process answers, whatever its shards do; asks for no key."""
    return json_answer(HealthAnswer(status="ok", shards=_shards(state)))


@router.get(
    "/readyz",
    response_model=ReadyAnswer,
    responses={
        503: {
            "model": ErrorAnswer,
            "description": "The model is being loaded, or no shard answers.",
        }
    },
)
async def readyz(state: Served) -> Response:
    """Whether all is loaded; asks for no key."""
    if not state.model.settled:
        raise ApiError("busy", "the model is being loaded", "ask again in a moment", retry_after=1)
    shards = _shards(state)
    if shards is not None and not shards.answering:
        raise ApiError("unreachable", "no shard answers", "start them", retry_after=2)
    whole = shards is None or shards.answering == shards.all
    status = "ready" if whole else "incomplete"
    return json_answer(ReadyAnswer(status=status, videos=state.videos, shards=shards))


def _shards(state: State) -> ShardsAnswer | None:
    """How many shards answer; not which, since probes need no key."""
    if not isinstance(state.index, ShardedIndex):
        return None
    states = state.index.states()
    return ShardsAnswer(answering=sum(states.values()), all=len(states))


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        **{status: answer for status, answer in errors().items() if status == 401},
        200: {"content": {"text/plain": {}}, "description": "Prometheus's text format."},
    },
)
async def metrics(state: Served) -> Response:
    """Counters of all workers for Prometheus."""
    return Response(
        await state.work.run(state.metrics.text), headers={"Content-Type": CONTENT_TYPE}
    )


@router.get("/api/v1/info", response_model=InfoAnswer, responses=errors())
async def info(state: Served) -> Response:
    """What is served, and what can be asked of it."""
    encoder = state.model.encoder
    return json_answer(
        InfoAnswer(
            name=state.config.folder.resolve().name,
            version=__version__,
            videos=state.videos,
            dimension=state.index.dimension,
            kind=state.index.kind,
            generation=state.index.generation,
            model=state.model.name if encoder is not None else None,
            modalities=list(encoder.modalities) if encoder is not None else [],
            can=_can(state),
            limits=LimitsAnswer(
                k=MOST_HITS, upload_bytes=state.config.upload_bytes, text_chars=TEXT_LIMIT
            ),
        )
    )


def _can(state: State) -> Can:
    corpus, encoder = state.corpus, state.model.encoder
    reads = encoder.modalities if encoder is not None else ()
    return Can(
        text="title" in reads,
        upload="frames" in reads or "audio" in reads,
        why=encoder is not None and corpus is not None,
        probability=state.calibration is not None,
        map=state.overview.has_map,
        pairs=corpus is not None and corpus.has_pairs,
        groups=state.videos > 1,
        pictures=corpus is not None and corpus.has_pictures,
    )
