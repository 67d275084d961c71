"""Finetuning on scored pairs: the cosine of two vectors learns the score's rank."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidvec import metrics
from vidvec.config import Recipe
from vidvec.data.batches import BatchBuilder, prefetch
from vidvec.data.corpus import Corpus
from vidvec.data.splits import rank_normalise, split_pairs
from vidvec.errors import UsageError
from vidvec.model.weights import VideoModel, load_model
from vidvec.records import Batch
from vidvec.train.objectives import cosine_mse
from vidvec.train.pretrain import run_facts
from vidvec.train.start import new_model
from vidvec.train.task import Phase, StepOrder, default_device, part_spans, prepare_model
from vidvec.train.trainer import OnStep, TrainReport, train

VALIDATION_BATCH = 64


class FinetuneTask:
    """Finetuning on a corpus's pairs.

    Args:
        model: Trained in place; its pretraining heads are dropped.
        corpus: With scored pairs.
    """

    name = "finetune"
    unit = "pairs"

    def __init__(self, model: VideoModel, corpus: Corpus) -> None:
        model.heads = None
        self.model = model
        self.stage = model.recipe.finetune
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
        videos, targets = batch
        vectors = self.model.encoder(videos.to(self.device)).vectors
        return {"loss": cosine_mse(vectors, targets.to(self.device))}

    def parts(
        self, batch: tuple[Batch, Tensor], step: int
    ) -> list[Callable[[], dict[str, Tensor]]]:
        """See ``Task``: of pairs, each part's error weighted by how many it has."""
        if self.stage.accumulate == 1:
            return [partial(self.losses, batch, step)]
        videos, targets = batch
        pairs = len(targets)

        def losses(first: int, end: int) -> dict[str, Tensor]:
            part = videos.take((first, end), (pairs + first, pairs + end))
            found = self.losses((part, targets[first:end]), step)
            return {name: loss * ((end - first) / pairs) for name, loss in found.items()}

        return [partial(losses, *span) for span in part_spans(pairs, self.stage.accumulate)]

    def validate(self) -> dict[str, float]:
        """Spearman and MSE on the validation pairs; ``score`` is the MSE, as published."""
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
        return {"mse": error, "spearman": rank, "score": error}


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
