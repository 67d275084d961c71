"""Tags that are not taken at their word: softened by the model itself, weighted by trusted videos.

Letters: see ``vidvec.records``; M trusted videos of a batch.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidvec.config import PretrainConfig
from vidvec.data.batches import BatchBuilder
from vidvec.model.encoder import Encoded, VideoEncoder
from vidvec.model.heads import PretrainingHeads, TagHead
from vidvec.model.precision import exact
from vidvec.records import Batch
from vidvec.train.distributed import ALONE, Processes
from vidvec.train.momentum import SlowCopy, below
from vidvec.train.objectives.soft_targets import mixed
from vidvec.train.objectives.tag_weighting import class_weights
from vidvec.train.objectives.tags import Focus, class_losses, tag_targets

# Of the generator that shuffles trusted videos, so that it is no other's.
SHUFFLE = 3


class TagLessons:
    """What the tag loss takes instead of the tags as they are.

    See ``pretrain.tag_soft_share`` and ``pretrain.tag_weighting``.

    Args:
        encoder, heads: What is trained.
        builder: Makes batches of trusted videos.
        stage: What is asked for.
        focus: Of the tag loss.
        trusted: Rows of the trusted videos, where weights are asked for.
        seed: Of the recipe.
        ramp: Steps over which the share of soft tags rises.
    """

    def __init__(
        self,
        encoder: VideoEncoder,
        heads: PretrainingHeads,
        builder: BatchBuilder,
        stage: PretrainConfig,
        *,
        focus: Focus,
        trusted: NDArray[np.int64],
        seed: int,
        ramp: int,
    ) -> None:
        self._encoder, self._heads, self._stage, self._focus = encoder, heads, stage, focus
        head = heads.tag if stage.tag_weight else None
        self._soft: _SoftTags | None = None
        self._trusted: _TrustedTags | None = None
        if head is not None and stage.tag_soft_share:
            self._soft = _SoftTags(encoder, heads, head, stage, ramp)
        if head is not None and stage.tag_weighting != "none":
            self._trusted = _TrustedTags(
                encoder, heads, builder, trusted, size=stage.trusted_batch, seed=seed
            )

    def of(
        self, batch: Batch, encoded: Encoded, step: int, processes: Processes = ALONE
    ) -> dict[str, Tensor]:
        """``targets`` and ``weights`` of the tag loss, (B, C) each, where they are asked for.

        A validation, which has a step below 0, takes the tags as they are.

        Args:
            batch: As it is, without masks, on the device.
            encoded: Of it masked.
            step: Of the batch.
            processes: That have a share of a larger batch each, by whose videos weights are found.
        """
        head, positions, counts = self._heads.tag, batch.tag_positions, batch.tag_counts
        if step < 0 or head is None or positions is None or counts is None:
            return {}
        if self._soft is None and self._trusted is None:
            return {}
        with exact(encoded.projected):
            read = self._heads.tag_inputs(encoded).detach().to(head.weight.dtype)
            targets = tag_targets(read.new_zeros(len(read), len(head.weight)), positions, counts)
            lesson: dict[str, Tensor] = {}
            if self._soft is not None:
                targets = lesson["targets"] = self._soft.mixed_in(targets, batch, step)
            if self._trusted is not None:
                known = torch.nonzero(counts >= 0).squeeze(1)
                learned, first = processes.gather(read[known])
                wanted = processes.gather(targets[known]).values
                found = self._weights(head, (learned, wanted), self._trusted.read(step))
                own = found[first : first + len(known)]
                lesson["weights"] = torch.ones_like(targets).index_copy(0, known, own)
        return lesson

    def _weights(
        self,
        head: torch.nn.Linear,
        read: tuple[Tensor, Tensor],
        trusted: tuple[Tensor, Tensor],
    ) -> Tensor:
        stage = self._stage
        high = "tag_head" in stage.high_rate_parts
        rate = stage.high_learning_rate if high else stage.learning_rate
        return class_weights(
            head,
            read,
            trusted,
            partial(class_losses, focus=self._focus),
            # The loss is a mean over tags.
            rate=rate * stage.tag_weight / len(head.weight),
            step=stage.tag_weighting_step,
            limit=stage.tag_weighting_limit,
        )

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs of it."""
        return {} if self._soft is None else self._soft.tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what ``tensors`` gave."""
        if self._soft is not None:
            self._soft.restore(tensors)


class _SoftTags:
    """What a slow copy of the model makes of the videos, whole."""

    def __init__(
        self,
        encoder: VideoEncoder,
        heads: TagHead,
        tag: torch.nn.Linear,
        stage: PretrainConfig,
        ramp: int,
    ) -> None:
        self._own = {"encoder": encoder, "tag": tag}
        momentum = stage.tag_soft_momentum
        self._slow = {name: SlowCopy(module, momentum) for name, module in self._own.items()}
        self._heads, self._share, self._ramp = heads, stage.tag_soft_share, max(1, ramp)
        self._followed = -1

    @torch.no_grad()
    def mixed_in(self, targets: Tensor, batch: Batch, step: int) -> Tensor:
        """(B, C) targets, a share of them the slow copy's probabilities.

        The share rises from 0: at first the copy knows nothing. The copy follows once in a step,
        in however many parts its batch comes.
        """
        if step != self._followed:
            for name, copy in self._slow.items():
                copy.follow(self._own[name])
            self._followed = step
        encoder, tag = (self._slow[name].module for name in ("encoder", "tag"))
        soft = torch.sigmoid(tag(self._heads.tag_inputs(encoder(batch)).float()))
        return mixed(targets, soft, self._share * min(1.0, step / self._ramp))

    def tensors(self) -> dict[str, Tensor]:
        each = {f"soft.{name}": copy.tensors() for name, copy in self._slow.items()}
        return {f"{name}.{key}": v for name, some in each.items() for key, v in some.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        for name, copy in self._slow.items():
            copy.restore(below(f"soft.{name}", tensors))


class _TrustedTags:
    """Batches of the trusted videos, whole, in an order that the seed fixes."""

    def __init__(
        self,
        encoder: VideoEncoder,
        heads: TagHead,
        builder: BatchBuilder,
        rows: NDArray[np.int64],
        *,
        size: int,
        seed: int,
    ) -> None:
        self._encoder, self._heads, self._builder = encoder, heads, builder
        self._rows, self._size, self._seed = rows, size, seed
        self._read: tuple[int, tuple[Tensor, Tensor]] | None = None

    def rows(self, step: int) -> NDArray[np.int64]:
        """Those of a step; over some steps, each once."""
        batches = -(-len(self._rows) // self._size)
        turn, place = divmod(step, batches)
        generator = np.random.default_rng([self._seed, turn, SHUFFLE])
        return np.array_split(generator.permutation(self._rows), batches)[place]

    @torch.no_grad()
    def read(self, step: int) -> tuple[Tensor, Tensor]:
        """(M, W) what the tag head reads of a step's videos, and their (M, C) tags.

        Read once in a step, in however many parts its batch comes.
        """
        if self._read is None or self._read[0] != step:
            tag = self._heads.tag
            batch = self._builder.build(self.rows(step))
            if tag is None or batch.tag_positions is None or batch.tag_counts is None:
                raise ValueError("there are no tags to trust")
            device = tag.weight.device
            read = self._heads.tag_inputs(self._encoder(batch.to(device))).to(tag.weight.dtype)
            none = read.new_zeros(len(read), len(tag.weight))
            places = (batch.tag_positions.to(device), batch.tag_counts.to(device))
            self._read = step, (read, tag_targets(none, *places))
        return self._read[1]
