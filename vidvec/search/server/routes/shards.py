"""What another server asks of this one, where it searches this one as a shard of its own."""

from __future__ import annotations

import numpy as np
from fastapi import APIRouter
from starlette.responses import Response

from vidvec import storage
from vidvec.errors import UsageError
from vidvec.search.server.answers import VideoAnswer, video_facts
from vidvec.search.server.failures import not_available
from vidvec.search.server.routes.common import Served, errors, json_answer
from vidvec.search.server.shards import (
    ShardAnswer,
    ShardFacetsAnswer,
    ShardFacetsBody,
    ShardHitsAnswer,
    ShardSearchBody,
    ShardVideosAnswer,
    ShardVideosBody,
    ShardWordsAnswer,
    ShardWordsBody,
    shard_hits,
    values,
)
from vidvec.search.server.state import State
from vidvec.search.sharded.cluster import ClusterShard
from vidvec.search.sharded.folder import FolderShard
from vidvec.search.sharded.words import WordCounts, long_words
from vidvec.search.types import Hit

router = APIRouter(prefix="/api/v1/shard", tags=["shards"])


def _index(state: State) -> FolderShard | ClusterShard:
    if isinstance(state.index, FolderShard | ClusterShard):
        return state.index
    raise not_available(
        "what is served here is made of shards itself, and cannot be one",
        "list its shards instead of this server",
    )


@router.get("", response_model=ShardAnswer, responses=errors(404))
async def shard(state: Served) -> Response:
    """What kind of shard this is."""
    index = _index(state)
    manifest = storage.read_manifest(state.config.folder, "vectors")
    return json_answer(
        ShardAnswer(
            dimension=index.dimension,
            kind=index.kind,
            videos=state.videos,
            generation=index.generation,
            model=index.model,
            manifest={**manifest, "shards": []},
        )
    )


@router.post("/search", response_model=ShardHitsAnswer, responses=errors(404, 413))
async def search(body: ShardSearchBody, state: Served) -> Response:
    """The videos nearest to each of several vectors."""
    return await state.work.run(_search, state, body)


def _search(state: State, body: ShardSearchBody) -> Response:
    index = _index(state)
    if any(len(query) != index.dimension for query in body.queries):
        raise UsageError(f"queries of another width than {index.dimension}")
    queries = np.array(body.queries, np.float32).reshape(-1, index.dimension)
    given = body.without or [[] for _ in body.queries]
    if len(given) != len(queries):
        raise UsageError(f"{len(queries)} queries, but {len(given)} lists of ids to leave out")
    without = [{*some, *state.gone} for some in given]
    found = index.search(
        queries, body.k, filter=body.filter.asked(), without=without, exact=body.exact
    )
    return json_answer(ShardHitsAnswer.model_construct(hits=[shard_hits(hits) for hits in found]))


@router.post("/videos", response_model=ShardVideosAnswer, responses=errors(404, 413))
async def videos(body: ShardVideosBody, state: Served) -> Response:
    """What is known of those of these videos that are here, and their vectors."""
    return await state.work.run(_videos, state, body)


def _videos(state: State, body: ShardVideosBody) -> Response:
    index = _index(state)
    known = {one.id: one for one in index.videos_among(body.ids)}
    vectors = None
    if body.vectors:
        there, found = index.vectors_among(list(known))
        known = {video: known[video] for video in there}
        vectors = found.tolist()
    answers = [
        VideoAnswer.model_construct(**video_facts(one, state.pictures(one.id)))
        for one in known.values()
    ]
    return json_answer(ShardVideosAnswer.model_construct(videos=answers, vectors=vectors))


@router.post("/words", response_model=ShardWordsAnswer, responses=errors(404, 413))
async def words(body: ShardWordsBody, state: Served) -> Response:
    """Titles here that have words; scored by the counts of all shards, or the counts for them."""
    return await state.work.run(_words, state, body)


def _words(state: State, body: ShardWordsBody) -> Response:
    index = _index(state)
    if body.counts is None:
        counts = index.word_counts(body.text)
        hits: list[Hit] = []
    else:
        counts = WordCounts(body.counts.titles, body.counts.tokens, tuple(body.counts.having))
        _check_counts(body.text, counts)
        most = body.k + len(state.gone)
        found = index.scored_words(body.text, most, body.filter.asked(), counts)
        hits = [hit for hit in found if hit.id not in state.gone][: body.k]
    return json_answer(
        ShardWordsAnswer.model_construct(
            titles=counts.titles,
            tokens=counts.tokens,
            having=list(counts.having),
            hits=shard_hits(hits),
        )
    )


def _check_counts(text: str, counts: WordCounts) -> None:
    words = long_words(text)
    if len(words) != len(counts.having):
        raise UsageError(f"{len(words)} words are scored, but {len(counts.having)} counts given")
    if max(counts.having, default=0) > counts.titles:
        raise UsageError("a word is in more titles than there are")


@router.post("/facets", response_model=ShardFacetsAnswer, responses=errors(404, 413))
async def facets(body: ShardFacetsBody, state: Served) -> Response:
    """Counts of every value that the videos here have which pass a filter."""
    found = await state.work.run(_index(state).all_facets, body.filter.asked())
    return json_answer(
        ShardFacetsAnswer.model_construct(
            videos=found.videos,
            tags=values(found.tags),
            categories=values(found.categories),
            languages=values(found.languages),
        )
    )
