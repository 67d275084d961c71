"""Why a video was found: what each of its modalities has to do with the cosine.

Videos are seen again through one modality alone and without each, in one batch for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vidvec.config import Modality
from vidvec.data.corpus import Corpus
from vidvec.records import Video
from vidvec.search.made import QueryVideo
from vidvec.search.query import QueryEncoder, View
from vidvec.search.types import Why

_TEXTS: dict[Modality, str] = {"title": "title", "speech": "speech_text", "screen": "screen_text"}
_WHOLE: frozenset[Modality] = frozenset()


def explain(
    encoder: QueryEncoder,
    corpus: Corpus,
    query: NDArray[np.floating],
    ids: Sequence[str],
    cosines: Sequence[float] | None = None,
) -> list[Why]:
    """What each modality of some videos has to do with their cosine with a query.

    Args:
        encoder: Of the vectors that the videos were found by.
        corpus: Where the videos are.
        query: (E,), of any length but 0.
        ids: Of the videos.
        cosines: Of the videos with the query, where they are known; else they are made again.

    Returns:
        One for each id; an empty one where the corpus does not have the video.

    Raises:
        UsageError: The corpus does not hold the features that the models read.
    """
    known = [video_id for video_id in dict.fromkeys(ids) if video_id in corpus]
    videos = encoder.of_corpus(corpus, known)
    has = {
        video_id: modalities_of(video, encoder.modalities)
        for video_id, video in zip(known, videos, strict=True)
    }
    wanted: set[View] = {
        (video_id, left)
        for video_id, held in has.items()
        for left in _left_out(held)
        if left or len(held) == 1 or cosines is None
    }
    unit = np.asarray(query, np.float64) / max(float(np.linalg.norm(query)), 1e-30)
    found = {view: float(unit @ seen) for view, seen in encoder.views(corpus, wanted).items()}
    for place, video_id in enumerate(ids):
        if cosines is not None and video_id in has:
            found.setdefault((video_id, _WHOLE), cosines[place])
    whys = {
        video_id: _why(held, {left: found[video_id, left] for left in _left_out(held)})
        for video_id, held in has.items()
    }
    return [whys.get(video_id, Why()) for video_id in ids]


def modalities_of(video: Video, read: Sequence[Modality]) -> tuple[Modality, ...]:
    """Those of the modalities that a video has."""
    return tuple(modality for modality in read if _has(video, modality))


def _has(video: Video, modality: Modality) -> bool:
    if modality in _TEXTS:
        return bool(getattr(video, _TEXTS[modality]).strip())
    features = [video.frames if modality == "frames" else video.audio]
    if isinstance(video, QueryVideo):
        features = list((video.frames_of if modality == "frames" else video.audio_of).values())
    return any(len(some) > 0 for some in features)


def _left_out(has: Sequence[Modality]) -> set[frozenset[Modality]]:
    """What a video that has these modalities is seen without: nothing, each, all but each."""
    alone = {frozenset(has) - {one} for one in has}
    each = {frozenset({one}) for one in has} if len(has) > 1 else set()
    return {_WHOLE, *alone, *each}


def _why(has: Sequence[Modality], cosines: Mapping[frozenset[Modality], float]) -> Why:
    """From the cosine of the video seen without each of some sets of modalities."""
    alone = {one: cosines[frozenset(has) - {one}] for one in has}
    whole = cosines[_WHOLE]
    lost = {one: whole - cosines[frozenset({one})] for one in has} if len(has) > 1 else {}
    return Why(alone, lost)
