"""Pretraining: tags, masked words, masked frames, masked audio frames."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vidvec.config import Recipe
from vidvec.data.batches import BatchBuilder, epoch_batches, prefetch
from vidvec.data.corpus import Corpus
from vidvec.data.tokenizer import TitleTokenizer
from vidvec.errors import UsageError
from vidvec.model.heads import PretrainingHeads
from vidvec.model.layout import FlatLayout, flat_layout
from vidvec.model.weights import VideoModel
from vidvec.records import Batch
from vidvec.train.contrast import Contrasts
from vidvec.train.distributed import ALONE, Processes, launched
from vidvec.train.masking import Masked, mask_batch
from vidvec.train.objectives.pretraining import (
    LossCounts,
    LossWeights,
    count_items,
    count_together,
    pretraining_losses,
)
from vidvec.train.objectives.tags import Focus
from vidvec.train.rows import learned_and_held, split_facts
from vidvec.train.start import new_model
from vidvec.train.tag_lessons import TagLessons
from vidvec.train.task import Phase, StepOrder, default_device, prepare_model
from vidvec.train.trainer import OnStep, TrainReport, train
from vidvec.train.trusted import trusted_facts, trusted_rows

# The masks of validation batches do not change from one validation to the next.
VALIDATION_STEP = -1


class PretrainTask:
    """Pretraining on a corpus's videos.

    Args:
        model: Trained in place.
        corpus: Its videos; those that ``recipe.pretrain`` leaves out are not looked at.
        processes: That train the model together.

    Attributes:
        missing_parts: Parts that the recipe names and the corpus lacks; the others are learnt from.

    Raises:
        UsageError: There is nothing to learn, or nothing to learn from.
    """

    name = "pretrain"
    unit = "videos"

    def __init__(self, model: VideoModel, corpus: Corpus, processes: Processes = ALONE) -> None:
        if not isinstance(model.heads, PretrainingHeads):
            raise UsageError("the model to pretrain has no pretraining heads: it was finetuned")
        self.model, self.heads = model, model.heads
        self.stage, self.processes = model.recipe.pretrain, processes
        self._seed = model.recipe.seed
        with processes.main_first():
            self._builder = BatchBuilder(corpus, model.tokenizer, model.recipe.model)
        split, share = model.recipe.finetune.split, self.stage.validation_share
        rows, self._held = learned_and_held(corpus, self.stage.videos, share, split)
        if not len(rows):
            raise UsageError(f"no video of {corpus.path} is left to pretrain on")
        self.videos = len(rows)
        chosen = (self.stage.parts, *([self.stage.then.parts] * bool(self.stage.then.epochs)))
        groups = [_grouped(rows, corpus, parts) for parts in chosen]
        counts = (self.stage.epochs, self.stage.then.epochs)
        self.order = StepOrder(
            [
                Phase(epochs, partial(self._epoch, some))
                for epochs, some in zip(counts, groups, strict=False)
            ]
        )
        named = {part for parts in chosen for group in parts for part in group}
        self.missing_parts = sorted(named - corpus.parts.keys())
        self._weights = LossWeights(
            self.stage.tag_weight,
            self.stage.mlm_weight,
            self.stage.mfm_weight,
            self.stage.mam_weight,
        )
        tags = self._weights.tag and self.heads.tag is not None
        audio = self._weights.mam and self.heads.mam is not None
        if self.stage.match_weight and self.heads.match is None:
            raise UsageError("the model to pretrain has no head for pretrain.match_weight")
        self._contrasts = Contrasts(
            model.encoder, self._builder, self.stage, self.heads.match, self._seed
        )
        self._focus = Focus(
            self.stage.tag_positive_focus, self.stage.tag_negative_focus, self.stage.tag_margin
        )
        self._lessons = TagLessons(
            model.encoder,
            self.heads,
            self._builder,
            self.stage,
            focus=self._focus,
            trusted=trusted_rows(corpus, rows, self.stage),
            seed=self._seed,
            ramp=self.order.epoch_steps(0),
        )
        if not (tags or self._weights.mlm or self._weights.mfm or audio or self._contrasts):
            raise UsageError(
                "nothing to learn from: every objective that this corpus allows has weight 0; set "
                "pretrain.mlm_weight or pretrain.mfm_weight (or tag_weight, where videos have tags)"
            )
        self.device = prepare_model(model, self.stage)

    def _epoch(self, groups: list[NDArray[np.int64]], epoch: int) -> list[NDArray[np.int64]]:
        """An epoch's batches, group after group."""
        size, lengths = self.stage.batch_size, self._builder.lengths
        batches = [epoch_batches(rows, lengths[rows], size, self._seed, epoch) for rows in groups]
        return list(chain.from_iterable(batches))

    def batch(self, step: int) -> Batch:
        """See ``Task``."""
        rows, rate, own = self.order(step), self.stage.modality_dropout, None
        if self.processes.several:
            own = self.processes.own(len(rows), self.stage.accumulate)
        return self._builder.build_with_dropout(rows, rate, self._seed, step, own)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """See ``Task``: masks are drawn here, on the device."""
        return self._losses(*self._masked(batch, step), step=step)

    def parts(self, batch: Batch, step: int) -> list[Callable[[], dict[str, Tensor]]]:
        """See ``Task``; all parts' masks are drawn first, since means are over all of them."""
        processes, accumulate = self.processes, self.stage.accumulate
        if accumulate == 1 and not processes.several:
            return [partial(self.losses, batch, step)]
        spans, shares = zip(*processes.own_parts(len(batch), accumulate), strict=True)
        pieces = [self._masked(batch.take(span), step) for span in spans]
        each = [count_items(part, masked) for part, masked, _ in pieces]
        counts = count_together(each, processes)
        of_all = partial(self._losses, counts=counts, step=step, processes=processes)
        return [
            partial(of_all, *piece, share=share)
            for piece, share in zip(pieces, shares, strict=True)
        ]

    def _masked(self, batch: Batch, step: int) -> tuple[Batch, Masked, FlatLayout]:
        """The batch as the encoder reads it, on the device, with its masks and its layout."""
        model = self.model
        batch = model.encoder.filled(batch.to(self.device))
        layout = flat_layout(batch, model.recipe.model.order)
        masked = mask_batch(
            batch,
            layout,
            seed=self._seed,
            step=step,
            mlm_rate=self.stage.mlm_rate if self.stage.mlm_weight else 0.0,
            mfm_rate=self.stage.mfm_rate if self.stage.mfm_weight else 0.0,
            mam_rate=self.stage.mam_rate if self.stage.mam_weight else 0.0,
            special_ids=model.tokenizer.special_ids,
            vocab_size=model.recipe.model.vocab_size,
        )
        return batch, masked, layout

    def _losses(
        self,
        batch: Batch,
        masked: Masked,
        layout: FlatLayout,
        *,
        counts: LossCounts | None = None,
        share: float = 1.0,
        step: int = 0,
        processes: Processes = ALONE,
    ) -> dict[str, Tensor]:
        encoded = self.model.encoder(
            batch,
            token_ids=masked.token_ids,
            frames=masked.frames,
            audio=masked.audio,
            layout=layout,
        )
        losses = pretraining_losses(
            self.heads,
            encoded,
            batch,
            masked,
            self._weights,
            counts=counts,
            focus=self._focus,
            tag_lesson=self._lessons.of(batch, encoded, step, processes),
            processes=processes,
        )
        if self._contrasts:
            found = self._contrasts.losses(batch, encoded.vectors, step, processes)
            losses |= {name: share * loss for name, loss in found.items()}
            for name in found:
                weight = getattr(self.stage, f"{name}_weight")
                losses["loss"] = losses["loss"] + weight * losses[name]
        return losses

    def tensors(self) -> dict[str, Tensor]:
        """See ``Task``."""
        return {**self._contrasts.tensors(), **self._lessons.tensors()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """See ``Task``."""
        self._contrasts.restore(tensors)
        self._lessons.restore(tensors)

    def validate(self) -> dict[str, float]:
        """Mean losses of the held-out videos; ``score`` is their weighted sum."""
        if not len(self._held):
            return {}
        sums: dict[str, Tensor] = {}
        size = self.stage.batch_size
        some = [self._held[start : start + size] for start in range(0, len(self._held), size)]
        own = self.processes.shared_out(some)
        for batch in prefetch(own, self._builder.build, device=self.device):
            for name, loss in self.losses(batch, VALIDATION_STEP).items():
                sums[name] = sums.get(name, 0.0) + loss.double() * len(batch)
        whole = {name: self.processes.total(value) for name, value in sums.items()}
        means = {name: float(value) / len(self._held) for name, value in whole.items()}
        return {**means, "score": means["loss"]}


def _grouped(
    rows: NDArray[np.int64], corpus: Corpus, parts: tuple[tuple[str, ...], ...]
) -> list[NDArray[np.int64]]:
    """Those of the rows that are in each group of parts, groups without any left out.

    Raises:
        UsageError: None of the parts has a video.
    """
    if not parts:
        return [rows]
    known = corpus.parts
    groups = []
    for group in parts:
        members = [known[part] for part in group if part in known]
        chosen = rows[np.isin(rows, np.concatenate([np.zeros(0, np.int64), *members]))]
        groups += [chosen] * bool(len(chosen))
    if not groups:
        names = ", ".join(part for group in parts for part in group)
        raise UsageError(
            f"no video of {corpus.path} is in the parts that the recipe names ({names}); it has "
            f"{', '.join(known) or 'none'}: set pretrain.parts=[] to learn from all videos"
        )
    return groups


def run_facts(
    corpus: Corpus, tokenizer: TitleTokenizer, settings: str, **more: Any
) -> dict[str, Any]:
    """What a run must have in common with the one it continues.

    Args:
        corpus: Its content.
        tokenizer: Of the model.
        settings: Hash of the recipe's settings that the stage reads.
        more: What else must not differ.
    """
    content = (corpus.content, corpus.tag_vocabulary, corpus.pairs())
    return {
        "recipe": settings,
        "corpus": hashlib.sha256(str(content).encode()).hexdigest()[:12],
        "tokenizer": tokenizer.fingerprint,
        **more,
    }


def pretrain(
    corpus_path: Path,
    run: Path,
    recipe: Recipe,
    on_step: OnStep | None = None,
    *,
    features: str = "",
) -> TrainReport:
    """Pretrains a new model on a corpus, or carries on with a run that was stopped.

    Processes that ``torchrun`` started train it together.

    Args:
        corpus_path: A complete corpus.
        run: The run's folder.
        recipe: Model and ``pretrain`` section.
        on_step: See ``train``.
        features: The corpus's feature set to learn from; empty: its own frames.
    """
    corpus = Corpus(corpus_path, features=features)
    with launched() as processes:
        model = new_model(recipe, corpus).to(processes.device or default_device())
        model.made_by = {"stage": "pretrain", "corpus": str(corpus_path)}
        more = {**split_facts(recipe.finetune.split), **trusted_facts(recipe.pretrain)}
        facts = run_facts(corpus, model.tokenizer, recipe.stage_hash("pretrain"), **more)
        task = PretrainTask(model, corpus, processes)
        report = train(task, run, facts, on_step)
    if not task.missing_parts:
        return report
    parts = ", ".join(task.missing_parts)
    return replace(report, note=f"{corpus_path} has no videos of {parts}, which the recipe names")
