"""What models that were finetuned before make of the pairs (``finetune.teachers``).

Letters: P pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vidvec import metrics
from vidvec.config import FinetuneConfig
from vidvec.data.batches import BatchBuilder, prefetch
from vidvec.data.corpus import Corpus
from vidvec.data.splits import Split, corpus_split, rank_normalise
from vidvec.errors import UsageError
from vidvec.model.precision import autocast, tensor_float_32
from vidvec.model.weights import VideoModel, checkpoint_folder, load_model
from vidvec.records import Pair
from vidvec.train.folds import in_fold
from vidvec.train.objectives.soft_targets import mixed

VIDEOS_AT_ONCE = 64


def soft_pair_targets(
    corpus: Corpus,
    rows: NDArray[np.int64],
    targets: NDArray[np.float64],
    *,
    split: Split,
    stage: FinetuneConfig,
    device: torch.device,
) -> NDArray[np.float64]:
    """(P,) targets, those of training pairs mixed with the mean of what ``stage.teachers`` say.

    A teacher says its cosine, or where ranks of scores are learned the cosine's rank among those
    that it says, so that both have the same spread. One that was finetuned in a fold other than
    the stage's (``finetune.fold``) teaches those pairs alone that it did not learn from
    (cross-fitting), any other all. What nobody teaches keeps its target.

    Args:
        corpus: Of the pairs.
        rows: (P, 2) rows of the videos.
        targets: (P,) scores or their ranks.
        split: What is learned from and validated on.
        stage: Says who teaches, and with what share.
        device: Where the teachers run.

    Raises:
        UsageError: A teacher has learned from what is validated on, or reads frames of another
            encoder.
    """
    said, teachers = np.zeros(len(targets)), np.zeros(len(targets), np.int64)
    for path in map(Path, stage.teachers):
        teacher = load_model(path)
        taught = _taught(path, teacher, corpus, split, stage)
        cosines = _cosines(path, teacher, corpus, rows[taught], device)
        said[taught] += rank_normalise(cosines) if stage.rank_normalise else cosines
        teachers[taught] += 1
    known = teachers > 0
    hard, soft = (torch.from_numpy(some[known]) for some in (targets, said / teachers.clip(min=1)))
    learned = targets.copy()
    learned[known] = mixed(hard, soft, stage.soft_share).numpy()
    return learned


def _taught(
    path: Path, teacher: VideoModel, corpus: Corpus, split: Split, stage: FinetuneConfig
) -> NDArray[np.int64]:
    """Positions of the training pairs that a teacher has something to say of."""
    if teacher.made_by.get("stage") != "finetune":
        return split.train
    own, pairs = teacher.recipe.finetune, corpus.pairs()
    learned = in_fold(corpus_split(corpus, own.split), pairs, own).train
    if _overlap(pairs, learned, split):
        raise UsageError(
            f"the teacher {path} was finetuned with finetune.split={own.split}"
            f"{f' in fold {own.fold} of {own.folds}' if own.folds else ''}, and so on pairs or "
            f"videos that the split here ({split.name}) validates on: take a teacher of the same "
            "split, or finetune with the teacher's"
        )
    if not own.folds or (own.fold, own.folds) == (stage.fold, stage.folds):
        return split.train
    return np.setdiff1d(split.train, learned)


def _overlap(pairs: Sequence[Pair], learned: NDArray[np.int64], split: Split) -> bool:
    """Whether a teacher knows what is validated on: pairs, or videos where the split parts them."""

    def videos(chosen: NDArray[np.int64]) -> set[str]:
        return {v for row in chosen.tolist() for v in (pairs[row].id_1, pairs[row].id_2)}

    held, own = videos(split.validation), videos(split.train)
    if held & own:  # then videos are shared anyhow
        return bool(np.isin(learned, split.validation).any())
    return bool(held & videos(learned))


@torch.no_grad()
def _cosines(
    path: Path,
    teacher: VideoModel,
    corpus: Corpus,
    rows: NDArray[np.int64],
    device: torch.device,
) -> NDArray[np.float64]:
    """(P,) cosines of pairs of rows (P, 2)."""
    builder = BatchBuilder(
        teacher.check_frames(corpus, path), teacher.tokenizer, teacher.recipe.model
    )
    encoder = teacher.to(device).encoder
    videos, places = np.unique(rows, return_inverse=True)
    order = np.argsort(builder.lengths[videos], kind="stable")
    spans = [order[at : at + VIDEOS_AT_ONCE] for at in range(0, len(order), VIDEOS_AT_ONCE)]
    vectors = np.zeros((len(videos), teacher.recipe.model.embedding_size), np.float32)
    batches = prefetch([videos[span] for span in spans], builder.build, device=device)
    with tensor_float_32(device):
        for span, batch in zip(spans, batches, strict=True):
            with autocast(device, teacher.recipe.finetune.precision):
                found = encoder(batch.to(device)).vectors
            vectors[span] = found.float().cpu().numpy()
    first, second = vectors[places.reshape(rows.shape)].transpose(1, 0, 2)
    cosines: NDArray[np.float64] = metrics.cosines(first, second).astype(np.float64)
    return cosines


def teacher_facts(teachers: Sequence[str]) -> dict[str, str]:
    """What a run that is carried on must have in common of its teachers: their weights."""
    if not teachers:
        return {}
    digest = hashlib.sha256()
    for path in teachers:
        with (checkpoint_folder(Path(path)) / "model.safetensors").open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return {"teachers": digest.hexdigest()[:12]}
