"""Contrasts in pretraining: a video with itself, and its frames with its title."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vidvec.config import PretrainConfig
from vidvec.data.batches import BatchBuilder
from vidvec.model.encoder import VideoEncoder
from vidvec.records import Batch
from vidvec.train.momentum import MomentumQueue
from vidvec.train.objectives.info_nce import info_nce


class Contrasts:
    """The losses that read a video more than once.

    Args:
        encoder: What is trained.
        builder: Makes batches of frames alone and of titles alone.
        config: Weights and what the losses take.
    """

    def __init__(
        self, encoder: VideoEncoder, builder: BatchBuilder, config: PretrainConfig
    ) -> None:
        self._encoder, self._builder, self._config = encoder, builder, config
        self._queue: MomentumQueue | None = None
        if config.cross_weight and config.cross_queue:
            self._queue = MomentumQueue(encoder, config.cross_queue, config.cross_momentum)

    def __bool__(self) -> bool:
        """Whether any has a weight."""
        return bool(self._config.twin_weight or self._config.cross_weight)

    def losses(self, batch: Batch, vectors: Tensor) -> dict[str, Tensor]:
        """Those that have a weight, unweighted.

        Args:
            batch: As it is, without masks, on the device.
            vectors: (B, E) that the encoder made of it masked.
        """
        losses: dict[str, Tensor] = {}
        if self._config.twin_weight:
            losses["twin"] = self._twin(batch, vectors.float())
        if self._config.cross_weight:
            losses["cross"] = self._cross(batch)
        return losses

    def _twin(self, batch: Batch, vectors: Tensor) -> Tensor:
        """A masked video against itself whole, with dropout of its own (Gao, Yao and Chen 2021)."""
        whole = self._encoder(batch).vectors.float()
        temperature = self._config.twin_temperature
        return (info_nce(vectors, whole, temperature) + info_nce(whole, vectors, temperature)) / 2

    def _cross(self, batch: Batch) -> Tensor:
        """The frames of a video against its title and the other way round.

        Of videos with both. As CLIP (Radford et al. 2021) does it, or with a queue as ALBEF (Li et
        al. 2021): keys then come from a slow copy of the encoder, and of earlier batches, too.
        """
        frames, titles = self._alone(batch)
        if not len(frames):
            return batch.frames.new_zeros((), dtype=torch.float32)
        temperature = self._config.cross_temperature
        seen, read = (self._encoder(each).vectors.float() for each in (frames, titles))
        if self._queue is None:
            return (info_nce(seen, read, temperature) + info_nce(read, seen, temperature)) / 2
        seen_key, read_key = self._queue.keys(frames), self._queue.keys(titles)
        seen_before, read_before = self._queue.queues
        loss = (
            info_nce(seen, read_key, temperature, read_before)
            + info_nce(read, seen_key, temperature, seen_before)
        ) / 2
        if self._encoder.training:
            self._queue.push(seen_key, read_key)
            self._queue.follow(self._encoder)
        return loss

    def _alone(self, batch: Batch) -> tuple[Batch, Batch]:
        """The batch's videos that have both, by frames alone and by title alone."""
        if batch.rows is None:
            raise ValueError("the batch does not say which videos it is of")
        rows = batch.rows.cpu().numpy()
        counts = self._builder.counts
        rows = rows[(counts["frames"][rows] > 0) & (counts["title"][rows] > 0)]
        every = np.ones(len(rows), bool)
        parts = []
        for kept in ("frames", "title"):
            without = {name: every for name in counts if name != kept}
            parts.append(self._builder.build(rows, without).to(batch.frames.device))
        return parts[0], parts[1]

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs of it."""
        return {} if self._queue is None else self._queue.tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what ``tensors`` gave."""
        if self._queue is not None:
            self._queue.restore(tensors)
