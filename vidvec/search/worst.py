"""The scored pairs on which cosines and people disagree most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from vidvec import metrics
from vidvec.config import Modality, SplitName
from vidvec.data.corpus import Corpus
from vidvec.embed.evaluate import VectorTable, chosen_pairs, pair_cosines, split_of
from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError
from vidvec.records import Pair
from vidvec.search.explain import modalities_of
from vidvec.search.query import QueryEncoder, View


@dataclass(frozen=True, slots=True)
class WorstPair:
    """A scored pair, and where it stands among the others by score and by cosine.

    Attributes:
        id_1, id_2: The videos.
        score: Of the people.
        cosine: Of the vectors.
        score_rank, cosine_rank: 0 for the lowest of all pairs to 1 for the highest; of equal ones
            the mean rank.
        gap: By how much the two ranks differ, 0…1.
        why: For each modality that one of the videos has, by how much the cosine falls when both
            are seen without it; to 0 where nothing else is left of one of them. ``None``: not
            asked for.
    """

    id_1: str
    id_2: str
    score: float
    cosine: float
    score_rank: float
    cosine_rank: float
    gap: float
    why: Mapping[Modality, float] | None = None


@dataclass(frozen=True, slots=True)
class WorstPairs:
    """Some of the worst pairs of a split.

    Attributes:
        pairs: Worst first.
        total: Pairs of the split whose videos both have vectors.
        spearman: Of cosine and score over all of them; NaN where one of the two does not vary.
    """

    pairs: list[WorstPair]
    total: int
    spearman: float


def worst_pairs(
    vectors: Path,
    corpus: Corpus,
    split: SplitName | str = "clean",
    *,
    limit: int = 20,
    offset: int = 0,
    encoder: QueryEncoder | None = None,
) -> WorstPairs:
    """The pairs of a split whose cosine stands furthest from where their score has them.

    Args:
        vectors: Folder of vectors.
        corpus: With the scored pairs.
        split: ``clean``, ``published`` or ``all``; see ``evaluate``.
        limit: At most so many.
        offset: So many are left out, of the worst.
        encoder: Says why, by seeing the videos of these pairs again; ``None``: nobody does.

    Raises:
        UsageError: No pair of the split has vectors, the split, limit or offset is none, or the
            corpus does not hold the features that the encoder's models read.
    """
    return RankedPairs(Vectors(vectors), corpus, split).worst(limit, offset, encoder)


class RankedPairs:
    """The pairs of a split by how far cosine and score are apart; see ``worst_pairs``.

    Args:
        vectors: Of the videos.
        corpus: With the scored pairs.
        split: ``clean``, ``published`` or ``all``.

    Attributes:
        spearman: Of cosine and score.

    Raises:
        UsageError: No pair of the split has vectors, or there is no such split.
    """

    def __init__(
        self, vectors: VectorTable, corpus: Corpus, split: SplitName | str = "clean"
    ) -> None:
        pairs = corpus.pairs()
        places = chosen_pairs(pairs, split_of(corpus, split))[0].tolist()
        chosen = [pairs[place] for place in places]
        self._pairs = [pair for pair in chosen if pair.id_1 in vectors and pair.id_2 in vectors]
        if not self._pairs:
            raise UsageError(
                f"no pair to look at: {corpus.path} has {len(pairs)} pairs, {len(chosen)} in the "
                f"{split} validation split, none of them with vectors"
            )
        self._corpus = corpus
        self._cosines = pair_cosines(vectors, self._pairs)
        scores = np.array([pair.score for pair in self._pairs])
        self.spearman = metrics.spearman(self._cosines, scores)
        self._score_ranks, self._cosine_ranks = unit_ranks(scores), unit_ranks(self._cosines)
        self._gaps = np.abs(self._score_ranks - self._cosine_ranks)
        self._order = np.argsort(-self._gaps, kind="stable")

    def __len__(self) -> int:
        return len(self._pairs)

    def worst(
        self, limit: int = 20, offset: int = 0, encoder: QueryEncoder | None = None
    ) -> WorstPairs:
        """So many of the worst pairs, behind those that ``offset`` leaves out."""
        if limit < 0 or offset < 0:
            raise UsageError(f"pairs {offset} and {limit} more: expected numbers of 0 or more")
        places = self._order[offset : offset + limit].tolist()
        shares: Sequence[Mapping[Modality, float] | None] = [None] * len(places)
        if encoder is not None and places:
            shares = cosine_shares(encoder, self._corpus, [self._pairs[each] for each in places])
        pairs = [self._pair(place, why) for place, why in zip(places, shares, strict=True)]
        return WorstPairs(pairs, len(self), self.spearman)

    def _pair(self, place: int, why: Mapping[Modality, float] | None) -> WorstPair:
        pair = self._pairs[place]
        return WorstPair(
            pair.id_1,
            pair.id_2,
            pair.score,
            float(self._cosines[place]),
            float(self._score_ranks[place]),
            float(self._cosine_ranks[place]),
            float(self._gaps[place]),
            why,
        )


def unit_ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n,) ranks from 0 for the lowest to 1 for the highest, ties by average rank.

    Not stretched to 0…1 where the lowest or highest are ties, unlike ``rank_normalise``: pairs of
    equal score have no order among themselves, and their cosines spread around the middle of them.
    """
    ranks = rankdata(values, "average") - 1
    return np.asarray(ranks / max(1, len(ranks) - 1), np.float64)


def cosine_shares(
    encoder: QueryEncoder, corpus: Corpus, pairs: Sequence[Pair]
) -> list[dict[Modality, float]]:
    """For each pair by how much its cosine falls when both videos are seen without a modality.

    Args:
        encoder: Sees them.
        corpus: Where they are.
        pairs: Of its videos.

    Returns:
        By modality that one of the two has; see ``WorstPair.why``.
    """
    ids = list(dict.fromkeys(video for pair in pairs for video in (pair.id_1, pair.id_2)))
    videos = encoder.of_corpus(corpus, ids)
    has = {
        video_id: frozenset(modalities_of(video, encoder.modalities))
        for video_id, video in zip(ids, videos, strict=True)
    }
    wanted: set[View] = {(video_id, frozenset()) for video_id in ids}
    # Without its only modality nothing is left of a video that could be compared.
    wanted |= {(each, frozenset({one})) for each in ids if len(has[each]) > 1 for one in has[each]}
    vectors = encoder.views(corpus, wanted)

    def cosine(pair: Pair, left: frozenset[Modality]) -> float:
        both = (pair.id_1, pair.id_2)
        a, b = (vectors.get((video_id, left & has[video_id])) for video_id in both)
        return 0.0 if a is None or b is None else float(a.astype(np.float64) @ b)

    shares = []
    for pair in pairs:
        whole = cosine(pair, frozenset())
        either = [each for each in encoder.modalities if each in has[pair.id_1] | has[pair.id_2]]
        without = {each: cosine(pair, frozenset({each})) for each in either}
        shares.append({each: whole - without[each] for each in either})
    return shares
