"""Groups and scored pairs as answers."""

from __future__ import annotations

import math
from collections.abc import Mapping

from vidvec.search.server.answers import (
    GroupAnswer,
    GroupsAnswer,
    PairAnswer,
    PairsAnswer,
    VideoAnswer,
    video_answer,
)
from vidvec.search.server.finding import hit_answers, known_videos
from vidvec.search.server.overview import Groups
from vidvec.search.server.state import State
from vidvec.search.types import IndexedVideo
from vidvec.search.worst import RankedPairs


def groups_answer(state: State, found: Groups, offset: int, limit: int) -> GroupsAnswer:
    """So many of the groups, from one on."""
    some = found.groups[offset : offset + limit]
    known = known_videos(state, [group.representative for group in some])
    groups = [
        GroupAnswer.model_construct(
            representative=_video(state, known, group.representative),
            members=hit_answers(state, group.members),
        )
        for group in some
    ]
    return GroupsAnswer.model_construct(
        total=len(found.groups), threshold=found.threshold, groups=groups
    )


def pairs_answer(
    state: State, ranked: RankedPairs, limit: int, offset: int, explain: bool
) -> PairsAnswer:
    """So many of the worst pairs, from one on."""
    encoder = state.model.encoder if explain else None
    found = ranked.worst(limit, offset, encoder)
    ids = {video for pair in found.pairs for video in (pair.id_1, pair.id_2)}
    known = known_videos(state, sorted(ids))
    pairs = [
        PairAnswer.model_construct(
            video_1=_video(state, known, pair.id_1),
            video_2=_video(state, known, pair.id_2),
            score=pair.score,
            cosine=pair.cosine,
            score_rank=pair.score_rank,
            cosine_rank=pair.cosine_rank,
            gap=pair.gap,
            why=None if pair.why is None else dict(pair.why),
        )
        for pair in found.pairs
    ]
    spearman = None if math.isnan(found.spearman) else found.spearman
    return PairsAnswer.model_construct(total=found.total, spearman=spearman, pairs=pairs)


def _video(state: State, known: Mapping[str, IndexedVideo], video_id: str) -> VideoAnswer:
    # One that was deleted from the index may still be in the pairs.
    return video_answer(known.get(video_id, IndexedVideo(video_id)), state.pictures(video_id))
