"""What each modality adds: a model evaluated with all it reads, without each, by each alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec import metrics
from vidvec.config import Backend, Modality, SplitName
from vidvec.data.batches import BatchBuilder
from vidvec.data.corpus import Corpus
from vidvec.embed.choice import check_without
from vidvec.embed.embedder import Encoder, Progress, embed_rows
from vidvec.embed.evaluate import Evaluation, chosen_pairs, evaluate, pair_cosines, split_of
from vidvec.errors import UsageError
from vidvec.metrics import Interval
from vidvec.records import Pair


@dataclass(frozen=True, slots=True)
class PairVectors:
    """Vectors in memory, of the videos of some pairs.

    Attributes:
        rows: Row in ``matrix`` by video id.
        matrix: (videos, E) float32.
    """

    rows: dict[str, int]
    matrix: NDArray[np.float32]

    def __contains__(self, video_id: object) -> bool:
        return video_id in self.rows

    def row(self, video_id: str) -> int:
        """The row of a video."""
        return self.rows[video_id]


@dataclass(frozen=True, slots=True)
class AblationRow:
    """A model that reads some of what it can.

    Attributes:
        name: ``everything``, ``without title``, ``title alone``; two of them where they are one.
        read: The modalities that are read.
        share: Of the pairs' videos, those that have the modality that the name speaks of; ``None``
            for everything.
        spearman: With its 95 % interval; NaN where all vectors are one.
        difference: From everything, with its interval over the same resampled pairs; ``None`` for
            everything itself.
    """

    name: str
    read: tuple[Modality, ...]
    share: float | None
    spearman: Interval
    difference: Interval | None


@dataclass(frozen=True, slots=True)
class Ablation:
    """What each modality adds, on the validation pairs of a split.

    Attributes:
        split: ``clean``, ``published`` or ``all``.
        pairs: Pairs measured.
        absent: Modalities that the model reads and no video of the pairs has.
        rows: Everything first.
    """

    split: str
    pairs: int
    absent: tuple[Modality, ...]
    rows: list[AblationRow]


def evaluate_model(
    checkpoint: Path,
    corpus: Corpus,
    split: SplitName | str = "clean",
    *,
    without: Collection[Modality] = (),
    backend: Backend = "auto",
    seed: int = 0,
) -> Evaluation:
    """Embeds the videos of a split's pairs in memory and evaluates them.

    Args:
        checkpoint: A checkpoint or run.
        corpus: With scored pairs.
        split: See ``evaluate``.
        without: What is read of no video, as if none had it.
        backend: See ``Encoder.load``.
        seed: Of the bootstrap.

    Raises:
        UsageError: The corpus does not fit the model, the split has no pair, or the model does not
            read what is to be left out.
    """
    encoder = Encoder.load(checkpoint, backend=backend)
    check_without(encoder.model, without)
    corpus = encoder.model.check_frames(corpus, checkpoint, without)
    pairs = corpus.pairs()
    parts = split_of(corpus, split)
    some = [pairs[int(i)] for i in chosen_pairs(pairs, parts)[0]]
    return evaluate(_embedded(encoder, corpus, some, without), pairs, parts, seed)


def ablate(
    checkpoint: Path,
    corpus: Corpus,
    split: SplitName | str = "clean",
    *,
    backend: Backend = "auto",
    seed: int = 0,
    resamples: int = 1000,
    progress: Progress | None = None,
) -> Ablation:
    """Evaluates a model with everything, without each modality, and with each alone.

    Args:
        checkpoint: A checkpoint or run.
        corpus: With scored pairs.
        split: See ``evaluate``.
        backend: See ``Encoder.load``.
        seed, resamples: Of the bootstrap.
        progress: Called with evaluations done and all.

    Raises:
        UsageError: The corpus does not fit the model, or the split has no pair.
    """
    encoder = Encoder.load(checkpoint, backend=backend)
    corpus = encoder.model.check_frames(corpus, checkpoint)
    pairs = corpus.pairs()
    chosen = [pairs[int(i)] for i in chosen_pairs(pairs, split_of(corpus, split))[0]]
    if not chosen:
        raise UsageError(
            f"no pair to measure on: {corpus.path} has {len(pairs)} pairs, none of them in the "
            f"{split} validation split"
        )
    scores = np.array([pair.score for pair in chosen])
    shares = _shares(encoder, corpus, chosen)
    present: tuple[Modality, ...] = tuple(name for name, share in shares.items() if share)
    named = _named(present)
    rows: list[AblationRow] = []
    whole = np.zeros(0)
    for done, (name, of, read) in enumerate(named):
        left_out = [modality for modality in shares if modality not in read]
        cosines = pair_cosines(_embedded(encoder, corpus, chosen, left_out), chosen)
        drawn = {"resamples": resamples, "seed": seed}
        spearman = metrics.bootstrap(metrics.spearman, cosines, scores, **drawn)
        difference = None
        if done:
            sides = (cosines, whole, scores)
            difference = metrics.bootstrap_difference(metrics.spearman, *sides, **drawn)
        else:
            whole = cosines
        share = None if of is None else shares[of]
        rows.append(AblationRow(name, read, share, spearman, difference))
        if progress is not None:
            progress(done + 1, len(named))
    absent: tuple[Modality, ...] = tuple(name for name in shares if name not in present)
    return Ablation(str(split), len(chosen), absent, rows)


def _named(
    present: tuple[Modality, ...],
) -> list[tuple[str, Modality | None, tuple[Modality, ...]]]:
    """Name, the modality that it speaks of, and what is read; each set of modalities once."""
    named: list[tuple[str, Modality | None, tuple[Modality, ...]]] = [("everything", None, present)]
    if len(present) < 2:
        return named
    for one in present:
        others = tuple(other for other in present if other != one)
        # Of two modalities, without one is the other alone.
        same = f" = {others[0]} alone" if len(others) == 1 else ""
        named.append((f"without {one}{same}", one, others))
    if len(present) > 2:
        named += [(f"{one} alone", one, (one,)) for one in present]
    return named


def _shares(encoder: Encoder, corpus: Corpus, pairs: Sequence[Pair]) -> dict[Modality, float]:
    """Of the videos of the pairs, those that have each modality that the model reads."""
    config = encoder.model.recipe.model
    counts = BatchBuilder(corpus, encoder.model.tokenizer, config).counts
    rows = _rows(corpus, pairs)
    return {name: float((counts[name][rows] > 0).mean()) for name in config.modalities}


def _rows(corpus: Corpus, pairs: Sequence[Pair]) -> NDArray[np.int64]:
    """(videos,) rows of the videos of the pairs, ascending."""
    ids = {video for pair in pairs for video in (pair.id_1, pair.id_2)}
    return np.array(sorted(corpus.row(video) for video in ids), np.int64)


def _embedded(
    encoder: Encoder, corpus: Corpus, pairs: Sequence[Pair], without: Collection[Modality]
) -> PairVectors:
    """Vectors of the videos of the pairs."""
    model = encoder.model
    builder = BatchBuilder(corpus, model.tokenizer, model.recipe.model, without)
    rows = _rows(corpus, pairs)
    places = {corpus.ids[row]: place for place, row in enumerate(rows.tolist())}
    return PairVectors(places, embed_rows(encoder, builder, rows))
