"""From what is asked to answers; runs in threads, on what a worker's state holds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import UsageError
from vidvec.search.explain import explain
from vidvec.search.partial import noted
from vidvec.search.query import like_and_unlike
from vidvec.search.server.answers import (
    HitAnswer,
    HitsAnswer,
    SimilarAnswer,
    SimilarOne,
    VideoAnswer,
    WhyAnswer,
    missing_answer,
    video_answer,
    video_facts,
    why_answer,
)
from vidvec.search.server.failures import not_available, unknown_id
from vidvec.search.server.state import State
from vidvec.search.sharded.engine import ShardedIndex
from vidvec.search.types import Filter, Hit, IndexedVideo

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked for.

    Attributes:
        ids: Hits are to be like these.
        unlike_ids: And unlike these.
        new: (n, E) and like these.
        k, filter, explain: See ``schemas.SearchBody``.
        words: Looked for in titles, in place of all of the above.
    """

    ids: Sequence[str] = ()
    unlike_ids: Sequence[str] = ()
    new: Floats | None = None
    k: int = 20
    filter: Filter = Filter()  # noqa: RUF009 - frozen
    explain: bool = False
    words: str | None = None


class Clock:
    """Milliseconds since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def milliseconds(self) -> float:
        """Rounded to a hundredth."""
        return round(1000 * (time.perf_counter() - self._began), 2)


def find(state: State, asked: Asked, clock: Clock) -> HitsAnswer:
    """Looks for something.

    Raises:
        ApiError: An id is not known, or what explains hits is not there.
    """
    with noted() as notes:
        found = _found(state, asked, clock)
    found.missing = missing_answer(notes.missing)
    return found


def _found(state: State, asked: Asked, clock: Clock) -> HitsAnswer:
    generation, index = state.index.generation, state.index
    query = None
    if asked.words is not None:
        hits = index.words(asked.words, asked.k + len(state.gone), filter=asked.filter)
        hits = [hit for hit in hits if hit.id not in state.gone][: asked.k]
    else:
        query = _query(state, asked)
        without = {*asked.ids, *asked.unlike_ids, *state.gone}
        [hits] = index.search(query[None], asked.k, filter=asked.filter, without=[without])
    why = _why(state, query, hits) if asked.explain and query is not None else None
    answers = hit_answers(state, hits, why, judged=asked.words is None)
    return HitsAnswer.model_construct(
        hits=answers, took_ms=clock.milliseconds, generation=generation
    )


def vectors_of(state: State, ids: Sequence[str]) -> Floats:
    """(n, E) vectors of videos.

    Raises:
        ApiError: One of them is not known.
    """
    try:
        return state.index.vectors_of(ids)
    except UsageError:
        for video_id in ids:
            if video_id not in state.index:
                raise unknown_id(video_id) from None
        raise


def _query(state: State, asked: Asked) -> Floats:
    like = vectors_of(state, asked.ids)
    if asked.new is not None:
        like = np.concatenate([like, asked.new])
    return like_and_unlike(like, vectors_of(state, asked.unlike_ids))


def _why(state: State, query: Floats, hits: Sequence[Hit]) -> list[WhyAnswer]:
    corpus = state.required_corpus("nothing can be explained").corpus
    found = explain(state.model.required(), corpus, query, [hit.id for hit in hits])
    return [why_answer(each) for each in found]


def hit_answers(
    state: State,
    hits: Sequence[Hit],
    why: Sequence[WhyAnswer] | None = None,
    *,
    judged: bool = True,
) -> list[HitAnswer]:
    """Hits with what is known of the videos.

    Args:
        state: The worker's.
        hits: Found.
        why: One for each; ``None``: not asked for.
        judged: Their cosines are cosines, so that a probability can be told.
    """
    known = known_videos(state, [hit.id for hit in hits])
    calibration = state.calibration if judged else None
    probabilities: list[float] | list[None] = [None] * len(hits)
    if calibration is not None and hits:
        found = calibration.probability([hit.cosine for hit in hits])
        probabilities = [float(each) for each in found]
    answers = []
    for place, hit in enumerate(hits):
        video = known.get(hit.id)
        if video is None:  # deleted since it was found
            continue
        answers.append(
            HitAnswer.model_construct(
                **video_facts(video, state.pictures(hit.id)),
                cosine=hit.cosine,
                probability=probabilities[place],
                why=None if why is None else why[place],
            )
        )
    return answers


def known_videos(state: State, ids: Sequence[str]) -> dict[str, IndexedVideo]:
    """What is known of those of these videos that are in the index, or in shards that answer."""
    if isinstance(state.index, ShardedIndex):
        return state.index.known(ids)[0]
    try:
        return {each.id: each for each in state.index.videos(ids)}
    except UsageError:  # some were deleted since they were found
        there = [video_id for video_id in ids if video_id in state.index]
        return {each.id: each for video_id in there for each in state.index.videos([video_id])}


def similar(state: State, ids: Sequence[str], k: int, asked: Filter, clock: Clock) -> SimilarAnswer:
    """Neighbours of each of some videos.

    Raises:
        ApiError: One of them is not known.
    """
    generation = state.index.generation
    without = [{video_id, *state.gone} for video_id in ids]
    with noted() as notes:
        found = state.index.search(vectors_of(state, ids), k, filter=asked, without=without)
        results = [
            SimilarOne.model_construct(id=video_id, hits=hit_answers(state, hits))
            for video_id, hits in zip(ids, found, strict=True)
        ]
    return SimilarAnswer.model_construct(
        results=results,
        took_ms=clock.milliseconds,
        generation=generation,
        missing=missing_answer(notes.missing),
    )


def video(state: State, video_id: str) -> VideoAnswer:
    """What is known of a video.

    Raises:
        ApiError: It is not known.
    """
    try:
        [found] = state.index.videos([video_id])
    except UsageError:
        raise unknown_id(video_id) from None
    return video_answer(found, state.pictures(video_id))


def picture(state: State, video_id: str, number: int) -> bytes:
    """A JPEG picture of a video.

    Raises:
        ApiError: It is not known, or there is no such picture.
    """
    pictures = () if state.corpus is None else state.corpus.thumbnails(video_id)
    if number < len(pictures):
        return pictures[number]
    if video_id not in state.index:
        raise unknown_id(video_id)
    raise not_available(
        f"video {video_id!r} has {len(pictures)} pictures, none of number {number}",
        "they are numbered from 0 on",
    )
