"""Distillation: one model learns to give the vectors that others gave, such as a fusion of six."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vidvec.config import Recipe
from vidvec.data.batches import BatchBuilder, epoch_batches, prefetch
from vidvec.data.corpus import Corpus
from vidvec.errors import UsageError
from vidvec.model.weights import VideoModel
from vidvec.records import Batch
from vidvec.train.distributed import ALONE, Processes, launched
from vidvec.train.finetune import start_model
from vidvec.train.objectives.distillation import cosine_distance, relation_error
from vidvec.train.pretrain import run_facts
from vidvec.train.rows import learned_and_held, split_facts
from vidvec.train.task import Phase, StepOrder, default_device, prepare_model
from vidvec.train.trainer import OnStep, TrainReport, train


class Teacher(Protocol):
    """Vectors by video, such as ``vidvec.Vectors``."""

    @property
    def matrix(self) -> NDArray[np.float32]:
        """(videos, T) float32."""

    @property
    def ids(self) -> list[str]:
        """Ids in the matrix's order."""


class DistillTask:
    """Distillation on a corpus's videos.

    Args:
        model: The student, trained in place; its pretraining heads are dropped.
        corpus: The videos.
        teacher: Their vectors; videos without one are left out.
        processes: That train the model together.

    Attributes:
        without: Videos of the corpus that the teacher has no vector of.

    Raises:
        UsageError: No video has a teacher's vector, or the sizes do not fit the losses.
    """

    name = "distill"
    unit = "videos"

    def __init__(
        self, model: VideoModel, corpus: Corpus, teacher: Teacher, processes: Processes = ALONE
    ) -> None:
        model.heads = None
        self.model, self.processes = model, processes
        self.stage = model.recipe.distill
        size, taught = model.recipe.model.embedding_size, teacher.matrix.shape[1]
        if self.stage.cosine_weight and size != taught:
            raise UsageError(
                f"the student's vectors have {size} numbers, the teacher's {taught}: set "
                f"model.embedding_size={taught} for a new model, or distill.cosine_weight=0 to "
                "learn the similarities alone"
            )
        place = {video: row for row, video in enumerate(teacher.ids)}
        self._places = np.array([place.get(video, -1) for video in corpus.ids], np.int64)
        self._vectors = teacher.matrix
        split, share = model.recipe.finetune.split, self.stage.validation_share
        rows, held = learned_and_held(corpus, self.stage.videos, share, split)
        self.without = int((self._places[rows] < 0).sum() + (self._places[held] < 0).sum())
        rows, self._held = rows[self._places[rows] >= 0], held[self._places[held] >= 0]
        if not len(rows):
            raise UsageError(f"the teacher has no vector of any video of {corpus.path}")
        self.videos, self._seed = len(rows), model.recipe.seed
        with processes.main_first():
            self._builder = BatchBuilder(corpus, model.tokenizer, model.recipe.model)
        lengths, batch_size = self._builder.lengths[rows], self.stage.batch_size

        def epoch(number: int) -> list[NDArray[np.int64]]:
            return epoch_batches(rows, lengths, batch_size, self._seed, number)

        self.order = StepOrder([Phase(self.stage.epochs, epoch)])
        self.device = prepare_model(model, self.stage)

    def batch(self, step: int) -> tuple[Batch, Tensor]:
        """See ``Task``: the videos and the (B, T) vectors of the teacher, of length 1."""
        rows, rate, own = self.order(step), self.stage.modality_dropout, None
        if self.processes.several:
            own = self.processes.own(len(rows), self.stage.accumulate)
        videos = self._builder.build_with_dropout(rows, rate, self._seed, step, own)
        return videos, self._taught(rows if own is None else rows[own])

    def _taught(self, rows: NDArray[np.int64]) -> Tensor:
        vectors = np.array(self._vectors[self._places[rows]], np.float32)
        return F.normalize(torch.from_numpy(vectors), dim=-1)

    def losses(self, batch: tuple[Batch, Tensor], step: int) -> dict[str, Tensor]:
        """See ``Task``."""
        return self._losses(batch, ALONE)

    def _losses(self, batch: tuple[Batch, Tensor], processes: Processes) -> dict[str, Tensor]:
        """The losses of a batch that these processes have a share of each, which sum up to its."""
        videos, teacher = batch
        vectors = self.model.encoder(videos.to(self.device)).vectors.float()
        vectors = processes.gather(vectors).values
        teacher, losses = processes.gather(teacher.to(self.device)).values, {}
        if self.stage.cosine_weight:
            losses["cosine"] = cosine_distance(vectors, teacher)
        losses["relation"] = relation_error(vectors, teacher)
        total = vectors.new_zeros(())
        for name, loss in losses.items():
            total = total + getattr(self.stage, f"{name}_weight") * loss
        losses["loss"] = total
        if processes.several:
            losses = {name: loss / processes.size for name, loss in losses.items()}
        return losses

    def parts(
        self, batch: tuple[Batch, Tensor], step: int
    ) -> list[Callable[[], dict[str, Tensor]]]:
        """See ``Task``: each part's losses weighted by its videos; relations are within a part."""
        processes, accumulate = self.processes, self.stage.accumulate
        if accumulate == 1 and not processes.several:
            return [partial(self.losses, batch, step)]
        videos, teacher = batch

        def losses(span: tuple[int, int], share: float) -> dict[str, Tensor]:
            first, end = span
            found = self._losses((videos.take(span), teacher[first:end]), processes)
            return {name: loss * share for name, loss in found.items()}

        return [partial(losses, *each) for each in processes.own_parts(len(teacher), accumulate)]

    def tensors(self) -> dict[str, Tensor]:
        """See ``Task``: none."""
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """See ``Task``."""

    def validate(self) -> dict[str, float]:
        """Mean losses of the held-out videos; ``score`` is their weighted sum."""
        if not len(self._held):
            return {}
        size, sums = self.stage.batch_size, dict[str, float]()
        some = [self._held[start : start + size] for start in range(0, len(self._held), size)]
        own = self.processes.shared_out(some)
        for rows, batch in zip(
            own, prefetch(own, self._builder.build, device=self.device), strict=True
        ):
            for name, loss in self.losses((batch, self._taught(rows)), -1).items():
                sums[name] = sums.get(name, 0.0) + float(loss) * len(rows)
        values = torch.tensor(list(sums.values()), dtype=torch.float64, device=self.device)
        whole = zip(sums, self.processes.total(values).tolist(), strict=True)
        means = {name: value / len(self._held) for name, value in whole}
        return {**means, "score": means["loss"]}


def distill(
    corpus_path: Path,
    run: Path,
    recipe: Recipe,
    teacher: Teacher,
    start: Path | None = None,
    *,
    on_step: OnStep | None = None,
    features: str = "",
) -> TrainReport:
    """Trains a student on a teacher's vectors, or carries on with a run that was stopped.

    Args:
        corpus_path: A complete corpus with the teacher's videos.
        run: The run's folder.
        recipe: Its ``distill`` section; the model's shape is the checkpoint's where one is given.
        teacher: Of the videos' vectors.
        start: A checkpoint to start from, such as a pretrained one; ``None``: a new model.
        on_step: See ``train``.
        features: For a new model: the corpus's feature set to read; empty: its own frames.

    Raises:
        UsageError: See ``DistillTask``.
    """
    corpus = Corpus(corpus_path, features=features)
    with launched() as processes:
        model = start_model(start, recipe, corpus).to(processes.device or default_device())
        corpus = model.check_frames(corpus, start or corpus_path)
        model.made_by = {
            "stage": "distill",
            "corpus": str(corpus_path),
            "start": str(start) if start else "",
        }
        task = DistillTask(model, corpus, teacher, processes)
        taught = hashlib.sha256(repr(teacher.ids).encode())
        taught.update(np.ascontiguousarray(teacher.matrix).data)
        facts = run_facts(
            corpus,
            model.tokenizer,
            recipe.stage_hash("distill"),
            **split_facts(recipe.finetune.split),
            start=str(start) if start else "",
            teacher=taught.hexdigest()[:12],
        )
        report = train(task, run, facts, on_step)
    if not task.without:
        return report
    note = f"{task.without} videos have no vector of the teacher and were left out"
    return replace(report, note=note)
