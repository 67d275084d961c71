"""Finetuning on scored pairs: the cosine of two vectors learns the score's rank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vidvec import metrics
from vidvec.config import Recipe
from vidvec.data.batches import BatchBuilder, prefetch
from vidvec.data.corpus import Corpus
from vidvec.data.splits import corpus_split, rank_normalise
from vidvec.errors import UsageError
from vidvec.model.heads import TagHead
from vidvec.model.weights import VideoModel, load_model
from vidvec.train.adapters import adapt, trained
from vidvec.train.distributed import ALONE, Processes, launched
from vidvec.train.folds import in_fold
from vidvec.train.objectives.pair_losses import pair_losses
from vidvec.train.objectives.pairs import ScoredPairs
from vidvec.train.objectives.tags import tag_loss
from vidvec.train.pretrain import run_facts
from vidvec.train.pseudo import pseudo_facts, read_pseudo_pairs, with_pseudo_pairs
from vidvec.train.start import new_model
from vidvec.train.task import Phase, StepOrder, default_device, prepare_model
from vidvec.train.teachers import soft_pair_targets, teacher_facts
from vidvec.train.trainer import OnStep, TrainReport, train

VALIDATION_BATCH = 64


class FinetuneTask:
    """Finetuning on a corpus's pairs.

    Args:
        model: Trained in place; of its pretraining heads only that for tags stays, where tags are
            learned beside.
        corpus: With scored pairs.
        processes: That train the model together.
    """

    name = "finetune"
    unit = "pairs"

    def __init__(self, model: VideoModel, corpus: Corpus, processes: Processes = ALONE) -> None:
        self.model, self.processes = model, processes
        self.stage = model.recipe.finetune
        model.heads = self._tag_head = _kept_head(model, corpus)
        adapt(model)
        with processes.main_first():
            self._builder = BatchBuilder(corpus, model.tokenizer, model.recipe.model)
        pairs = corpus.pairs()
        if not pairs:
            raise UsageError(f"{corpus.path} has no scored pairs: ingest it with --pairs FILE")
        self.split = in_fold(corpus_split(corpus, self.stage.split), pairs, self.stage)
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
        self.pseudo = read_pseudo_pairs(corpus, self.stage, self.split, pairs, self._targets)
        made = np.arange(len(pairs), len(pairs) + len(self.pseudo))
        seed, size, chosen = model.recipe.seed, self.stage.batch_size, self.split.train
        self.learned_from = np.concatenate([chosen, made])

        def epoch(number: int) -> list[NDArray[np.int64]]:
            order = chosen[np.random.default_rng([seed, number]).permutation(len(chosen))]
            batches = [order[start : start + size] for start in range(0, len(order), size)]
            return with_pseudo_pairs(batches, made, self.stage.pseudo_ratio, [seed, number])

        self.order = StepOrder([Phase(self.stage.epochs, epoch)])
        self.device = prepare_model(model, self.stage)
        self._learned = self._targets
        if self.stage.teachers:
            some = (corpus, self._rows, self._targets)
            # No process but one runs the teachers.
            if processes.main:
                self._learned = soft_pair_targets(
                    *some, split=self.split, stage=self.stage, device=self.device
                )
            self._learned = processes.from_main(self._learned)
        self._rows = np.concatenate([self._rows, self.pseudo.rows])
        self._learned = np.concatenate([self._learned, self.pseudo.targets])

    def batch(self, step: int) -> tuple[Any, Tensor]:
        """See ``Task``: all first videos, then all second ones, and the (P,) targets."""
        pairs, own = self.order(step), None
        rows = self._rows[pairs].T.reshape(-1)
        if self.processes.several:
            first = self.processes.own(len(pairs), self.stage.accumulate)
            own, pairs = np.concatenate([first, len(pairs) + first]), pairs[first]
        return self._read(rows, step, own), torch.from_numpy(self._learned[pairs]).float()

    def _read(self, rows: NDArray[np.int64], step: int, own: NDArray[np.int64] | None) -> Any:
        """The videos of a step, as ``_forward`` takes them; at some positions alone, or all."""
        rate, seed = self.stage.modality_dropout, self.model.recipe.seed
        return self._builder.build_with_dropout(rows, rate, seed, step, own)

    def losses(self, batch: tuple[Any, Tensor], step: int) -> dict[str, Tensor]:
        """See ``Task``."""
        return self._losses(batch, ALONE)

    def _losses(self, batch: tuple[Any, Tensor], processes: Processes) -> dict[str, Tensor]:
        """The losses of a batch that these processes have a share of each, which sum up to its."""
        videos, targets = batch[0].to(self.device), batch[1].to(self.device)
        losses, cosines = self._losses_of_a_pass(videos, targets, processes)
        if self.stage.r_drop_weight:
            others, other_cosines = self._losses_of_a_pass(videos, targets, processes)
            losses = {name: (loss + others[name]) / 2 for name, loss in losses.items()}
            losses["r_drop"] = F.mse_loss(cosines, other_cosines) / processes.size
            losses["loss"] = losses["loss"] + self.stage.r_drop_weight * losses["r_drop"]
        return losses

    def _losses_of_a_pass(
        self, videos: Any, targets: Tensor, processes: Processes
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The losses, and the (P,) cosines that they are of."""
        vectors, logits = self._forward(videos)
        pairs = _pairs_of_all(vectors, targets, videos.rows, processes)
        losses = pair_losses(pairs, self.stage)
        if processes.several:
            losses = {name: loss / processes.size for name, loss in losses.items()}
        positions, counts = videos.tag_positions, videos.tag_counts
        if logits is not None and positions is not None and counts is not None:
            total = processes.total((counts >= 0).sum())
            losses["tag"] = tag_loss(logits.float(), positions, counts, total)
            losses["loss"] = losses["loss"] + self.stage.tag_weight * losses["tag"]
        return losses, pairs.cosines

    def _forward(self, videos: Any) -> tuple[Tensor, Tensor | None]:
        """(2P, E) vectors of length 1, and the logits of their tags where tags are learned."""
        encoded = self.model.encoder(videos)
        head = self._tag_head
        return encoded.vectors, None if head is None else head.tag_logits(encoded)

    def parts(self, batch: tuple[Any, Tensor], step: int) -> list[Callable[[], dict[str, Tensor]]]:
        """See ``Task``: of pairs, each part's losses weighted by how many it has.

        The squared error comes to the batch's; losses that compare pairs see those of their part.
        """
        processes, accumulate = self.processes, self.stage.accumulate
        if accumulate == 1 and not processes.several:
            return [partial(self.losses, batch, step)]
        videos, targets = batch
        pairs = len(targets)

        def losses(span: tuple[int, int], share: float) -> dict[str, Tensor]:
            first, end = span
            part = videos.take(span, (pairs + first, pairs + end))
            found = self._losses((part, targets[first:end]), processes)
            return {name: loss * share for name, loss in found.items()}

        return [partial(losses, *each) for each in processes.own_parts(pairs, accumulate)]

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
        vectors = self._vectors(rows)
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

    def _vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, E) of these rows, nothing left out."""
        places = np.arange(len(rows))
        some = [places[at : at + VALIDATION_BATCH] for at in range(0, len(rows), VALIDATION_BATCH)]
        own = [rows[part] for part in self.processes.shared_out(some)]
        batches = prefetch(own, self._builder.build, device=self.device)
        found = torch.cat([self.model.encoder(batch).vectors for batch in batches])
        gathered = self.processes.gather(found).values.cpu().numpy()
        vectors = np.empty_like(gathered)
        vectors[np.concatenate(self.processes.dealt(some))] = gathered
        return vectors


def _pairs_of_all(
    vectors: Tensor, targets: Tensor, rows: Tensor, processes: Processes
) -> ScoredPairs:
    """The pairs of all processes, of which each has all its first videos, then all second ones."""
    if not processes.several:
        return ScoredPairs.of(vectors, targets, rows)
    sides = [processes.gather(side).values for side in vectors.chunk(2)]
    which = [processes.gather(side).values for side in rows.chunk(2)]
    return ScoredPairs.of(torch.cat(sides), processes.gather(targets).values, torch.cat(which))


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

    Processes that ``torchrun`` started train it together.

    Args:
        corpus_path: A complete corpus with pairs.
        run: The run's folder.
        recipe: Its ``finetune`` section; the model's shape is the checkpoint's where one is given.
        start: A pretrained checkpoint or run, which finds the frames that it reads, the corpus's
            own or a feature set's; ``None``: a new model.
        on_step: See ``train``.
        features: The corpus's feature set that a new model learns from; empty: its own frames.
    """
    from vidvec.train.cached import CachedFinetuneTask  # which builds on this file

    corpus = Corpus(corpus_path, features=features)
    with launched() as processes:
        torch.manual_seed(recipe.seed)
        model = start_model(start, recipe, corpus).to(processes.device or default_device())
        corpus = model.check_frames(corpus, start or corpus_path)
        made_by = {"stage": "finetune", "corpus": str(corpus_path)}
        model.made_by = {**made_by, "start": str(start) if start else ""}
        cached = recipe.finetune.adapter == "residual"
        task = (CachedFinetuneTask if cached else FinetuneTask)(model, corpus, processes)
        start_name = str(start) if start else ""
        more = {"start": start_name, **teacher_facts(recipe.finetune.teachers)}
        more |= pseudo_facts(recipe.finetune)
        facts = run_facts(corpus, model.tokenizer, recipe.stage_hash("finetune"), **more)
        report = train(task, run, facts, on_step)
    if recipe.finetune.adapter == "none":
        return report
    return replace(report, note=str(trained(model)))
