"""Finetuning on scored pairs: the cosine of two vectors learns the score's rank."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vidvec import metrics
from vidvec.config import Recipe
from vidvec.data.batches import BatchBuilder, prefetch
from vidvec.data.corpus import Corpus
from vidvec.data.splits import rank_normalise, split_pairs
from vidvec.errors import UsageError
from vidvec.model.heads import TagHead
from vidvec.model.weights import VideoModel, load_model
from vidvec.records import Batch
from vidvec.train.objectives.pair_losses import pair_losses
from vidvec.train.objectives.pairs import ScoredPairs
from vidvec.train.objectives.tags import tag_loss
from vidvec.train.pretrain import run_facts
from vidvec.train.start import new_model
from vidvec.train.task import Phase, StepOrder, default_device, part_spans, prepare_model
from vidvec.train.trainer import OnStep, TrainReport, train

VALIDATION_BATCH = 64


class FinetuneTask:
    """Finetuning on a corpus's pairs.

    Args:
        model: Trained in place; of its pretraining heads only that for tags stays, where tags are
            learned beside.
        corpus: With scored pairs.
    """

    name = "finetune"
    unit = "pairs"

    def __init__(self, model: VideoModel, corpus: Corpus) -> None:
        self.model = model
        self.stage = model.recipe.finetune
        model.heads = self._tag_head = _kept_head(model, corpus)
        self._builder = BatchBuilder(corpus, model.tokenizer, model.recipe.model)
        pairs = corpus.pairs()
        if not pairs:
            raise UsageError(f"{corpus.path} has no scored pairs: ingest it with --pairs FILE")
        self.split = split_pairs(pairs, self.stage.split)
        if not len(self.split.train):
            raise UsageError(
                f"none of the {len(pairs)} pairs of {corpus.path} is left to train on with the "
                f"{self.stage.split} split: add pairs, or set finetune.split=published"
            )
        rows = [(corpus.row(pair.id_1), corpus.row(pair.id_2)) for pair in pairs]
        self._rows = np.array(rows, np.int64)
        scores = np.array([pair.score for pair in pairs], np.float64)
        self._scores = scores
        self._targets = rank_normalise(scores) if self.stage.rank_normalise else scores
        seed, size, chosen = model.recipe.seed, self.stage.batch_size, self.split.train

        def epoch(number: int) -> list[NDArray[np.int64]]:
            order = chosen[np.random.default_rng([seed, number]).permutation(len(chosen))]
            return [order[start : start + size] for start in range(0, len(order), size)]

        self.order = StepOrder([Phase(self.stage.epochs, epoch)])
        self.device = prepare_model(model, self.stage)

    def batch(self, step: int) -> tuple[Batch, Tensor]:
        """See ``Task``: all first videos, then all second ones, and the (P,) targets."""
        pairs = self.order(step)
        rows = self._rows[pairs].T.reshape(-1)
        rate, seed = self.stage.modality_dropout, self.model.recipe.seed
        videos = self._builder.build_with_dropout(rows, rate, seed, step)
        return videos, torch.from_numpy(self._targets[pairs]).float()

    def losses(self, batch: tuple[Batch, Tensor], step: int) -> dict[str, Tensor]:
        """See ``Task``."""
        videos, targets = batch[0].to(self.device), batch[1].to(self.device)
        losses, cosines = self._losses_of_a_pass(videos, targets)
        if self.stage.r_drop_weight:
            others, other_cosines = self._losses_of_a_pass(videos, targets)
            losses = {name: (loss + others[name]) / 2 for name, loss in losses.items()}
            losses["r_drop"] = F.mse_loss(cosines, other_cosines)
            losses["loss"] = losses["loss"] + self.stage.r_drop_weight * losses["r_drop"]
        return losses

    def _losses_of_a_pass(self, videos: Batch, targets: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The losses, and the (P,) cosines that they are of."""
        encoded = self.model.encoder(videos)
        pairs = ScoredPairs.of(encoded.vectors, targets, videos.rows)
        losses = pair_losses(pairs, self.stage)
        logits = None if self._tag_head is None else self._tag_head.tag_logits(encoded)
        positions, counts = videos.tag_positions, videos.tag_counts
        if logits is not None and positions is not None and counts is not None:
            losses["tag"] = tag_loss(logits.float(), positions, counts)
            losses["loss"] = losses["loss"] + self.stage.tag_weight * losses["tag"]
        return losses, pairs.cosines

    def parts(
        self, batch: tuple[Batch, Tensor], step: int
    ) -> list[Callable[[], dict[str, Tensor]]]:
        """See ``Task``: of pairs, each part's losses weighted by how many it has.

        The squared error comes to the batch's; losses that compare pairs see those of their part.
        """
        if self.stage.accumulate == 1:
            return [partial(self.losses, batch, step)]
        videos, targets = batch
        pairs = len(targets)

        def losses(first: int, end: int) -> dict[str, Tensor]:
            part = videos.take((first, end), (pairs + first, pairs + end))
            found = self.losses((part, targets[first:end]), step)
            return {name: loss * ((end - first) / pairs) for name, loss in found.items()}

        return [partial(losses, *span) for span in part_spans(pairs, self.stage.accumulate)]

    def tensors(self) -> dict[str, Tensor]:
        """See ``Task``: none."""
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """See ``Task``."""

    def validate(self) -> dict[str, float]:
        """Spearman and MSE on the validation pairs; ``score`` is what ``best_by`` names."""
        chosen = self.split.validation
        if not len(chosen):
            return {}
        rows = np.unique(self._rows[chosen])
        rows = rows[np.argsort(self._builder.lengths[rows], kind="stable")]
        some = [rows[at : at + VALIDATION_BATCH] for at in range(0, len(rows), VALIDATION_BATCH)]
        batches = prefetch(some, self._builder.build, device=self.device)
        vectors = torch.cat([self.model.encoder(batch).vectors for batch in batches]).cpu().numpy()
        place = np.argsort(rows)
        first, second = (
            vectors[place[np.searchsorted(rows[place], self._rows[chosen, side])]]
            for side in (0, 1)
        )
        cosines = metrics.cosines(first, second)
        error = metrics.mse(cosines, self._targets[chosen])
        rank = metrics.spearman(cosines, self._scores[chosen])
        by_rank = self.stage.best_by == "spearman" and np.isfinite(rank)
        return {"mse": error, "spearman": rank, "score": 1 - rank if by_rank else error}


def _kept_head(model: VideoModel, corpus: Corpus) -> TagHead | None:
    """The tag head where tags are learned beside the pairs.

    Raises:
        UsageError: The model has none, or one for other tags.
    """
    if not model.recipe.finetune.tag_weight:
        return None
    if model.heads is None or model.heads.tag is None:
        found = "has no tag head: start from a pretrained one, or set finetune.tag_weight=0"
        raise UsageError(f"the model to finetune {found}")
    if model.tag_vocabulary != corpus.tag_vocabulary:
        raise UsageError(
            f"the model's tag head is for {len(model.tag_vocabulary)} tags, the vocabulary of "
            f"{corpus.path} has {len(corpus.tag_vocabulary)}, and they are not the same in the "
            "same order: set finetune.tag_weight=0, or pretrain on this corpus"
        )
    head = TagHead(model.recipe.model)
    head.tag = model.heads.tag
    return head.to(next(model.encoder.parameters()).device)


def start_model(start: Path | None, recipe: Recipe, corpus: Corpus) -> VideoModel:
    """The model to finetune: a checkpoint with the recipe's training settings, or a new one.

    Raises:
        UsageError: The checkpoint was trained on frames of another encoder.
    """
    if start is None:
        return new_model(recipe, corpus)
    model = load_model(start)
    model.check_frames(corpus, start)
    model.recipe = recipe.model_copy(update={"model": model.recipe.model})
    return model


def finetune(
    corpus_path: Path,
    run: Path,
    recipe: Recipe,
    start: Path | None = None,
    on_step: OnStep | None = None,
    *,
    features: str = "",
) -> TrainReport:
    """Finetunes a model on a corpus's pairs, or carries on with a run that was stopped.

    Args:
        corpus_path: A complete corpus with pairs.
        run: The run's folder.
        recipe: Its ``finetune`` section; the model's shape is the checkpoint's where one is given.
        start: A pretrained checkpoint or run, which finds the frames that it reads, the corpus's
            own or a feature set's; ``None``: a new model.
        on_step: See ``train``.
        features: The corpus's feature set that a new model learns from; empty: its own frames.
    """
    corpus = Corpus(corpus_path, features=features)
    torch.manual_seed(recipe.seed)
    model = start_model(start, recipe, corpus).to(default_device())
    corpus = model.check_frames(corpus, start or corpus_path)
    made_by = {"stage": "finetune", "corpus": str(corpus_path)}
    model.made_by = {**made_by, "start": str(start) if start else ""}
    task = FinetuneTask(model, corpus)
    start_name = str(start) if start else ""
    facts = run_facts(corpus, model.tokenizer, recipe.stage_hash("finetune"), start=start_name)
    return train(task, run, facts, on_step)
