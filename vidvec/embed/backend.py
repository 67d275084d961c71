"""What a backend other than float32 costs: how far vectors move, and what that does to rankings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec import metrics
from vidvec.config import Backend
from vidvec.data.batches import BatchBuilder
from vidvec.data.corpus import Corpus
from vidvec.embed.embedder import Encoder, embed_rows

SAMPLED_PAIRS = 500
SAMPLED_VIDEOS = 256


@dataclass(frozen=True, slots=True)
class BackendLoss:
    """A backend against float32, on a sample of a corpus.

    Attributes:
        videos: Compared.
        cosine, lowest_cosine: Mean and least of the cosines between a video's two vectors.
        pairs: Scored pairs compared; 0: the corpus has none.
        spearman, spearman_float32: Of their cosines with the scores; NaN without pairs.
    """

    videos: int
    cosine: float
    lowest_cosine: float
    pairs: int
    spearman: float
    spearman_float32: float


def backend_loss(checkpoint: Path, corpus: Corpus, backend: Backend, seed: int = 0) -> BackendLoss:
    """Embeds a sample both ways and compares.

    Args:
        checkpoint: A checkpoint or run.
        corpus: Up to ``SAMPLED_PAIRS`` of its scored pairs are taken, or without any
            ``SAMPLED_VIDEOS`` of its videos.
        backend: See ``Encoder.load``.
        seed: Of the sample.
    """
    random = np.random.default_rng(seed)
    pairs = corpus.pairs()
    chosen = [pairs[i] for i in random.permutation(len(pairs))[:SAMPLED_PAIRS]]
    sides = np.array([(corpus.row(p.id_1), corpus.row(p.id_2)) for p in chosen], np.int64)
    sides = sides.reshape(-1, 2)
    rows = np.unique(sides) if len(sides) else random.permutation(len(corpus))[:SAMPLED_VIDEOS]
    plain, other = (_vectors(checkpoint, corpus, rows, each) for each in ("float32", backend))
    moved = metrics.cosines(plain, other)
    scores = [pair.score for pair in chosen]
    places = np.searchsorted(rows, sides)
    rank, rank_plain = (
        metrics.spearman(metrics.cosines(some[places[:, 0]], some[places[:, 1]]), scores)
        for some in (other, plain)
    )
    least = float(moved.min()) if len(moved) else float("nan")
    return BackendLoss(len(rows), float(moved.mean()), least, len(chosen), rank, rank_plain)


def _vectors(
    checkpoint: Path, corpus: Corpus, rows: NDArray[np.int64], backend: Backend
) -> NDArray[np.float32]:
    encoder = Encoder.load(checkpoint, backend=backend)
    corpus = encoder.model.check_frames(corpus, checkpoint)
    builder = BatchBuilder(corpus, encoder.model.tokenizer, encoder.model.recipe.model)
    return embed_rows(encoder, builder, rows)
