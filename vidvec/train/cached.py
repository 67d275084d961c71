"""Finetuning behind a trunk that runs once: ``finetune.adapter`` is ``residual``.

Letters: V draws, n videos; for others see ``vidvec.records``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vidvec.data.batches import prefetch
from vidvec.data.corpus import Corpus
from vidvec.errors import UsageError
from vidvec.model.precision import autocast, tensor_float_32
from vidvec.model.weights import VideoModel
from vidvec.records import Batch
from vidvec.train.distributed import ALONE, Processes
from vidvec.train.finetune import VALIDATION_BATCH, FinetuneTask

# Times that the trunk sees each video with parts left out, where ``modality_dropout`` asks for it.
DRAWS = 4


@dataclass(frozen=True, slots=True)
class PooledVideos:
    """What a trunk made of some videos.

    Attributes:
        pooled: (B, H) pooled hidden states, float32.
        rows: (B,) int64, which video each is.
    """

    pooled: Tensor
    rows: Tensor
    tag_positions: None = None
    tag_counts: None = None

    def to(self, device: torch.device | str) -> PooledVideos:
        """The same on a device."""
        return PooledVideos(self.pooled.to(device), self.rows.to(device))

    def take(self, *spans: tuple[int, int]) -> PooledVideos:
        """The videos from the first to before the second of each span."""
        chosen = torch.cat([torch.arange(*span, device=self.rows.device) for span in spans])
        return PooledVideos(self.pooled[chosen], self.rows[chosen])


class CachedFinetuneTask(FinetuneTask):
    """Finetuning of a residual adapter, and of the projection where it is told to.

    The trunk runs over the videos of the pairs when the task is made, without dropout, and over
    those of the training pairs ``DRAWS`` times more where ``modality_dropout`` is set: epochs take
    these draws in turn. What it gives, n · H · 4 bytes a time, stays in memory on the CPU.

    Args:
        model, corpus: See ``FinetuneTask``.
        processes: This one alone.

    Raises:
        UsageError: There are several processes, or the vectors have a linear part.
    """

    def __init__(self, model: VideoModel, corpus: Corpus, processes: Processes = ALONE) -> None:
        if processes.several:
            raise UsageError(
                "finetune.adapter=residual is trained by one process, in seconds: start it without "
                "torchrun, or set finetune.adapter to lora or none"
            )
        if model.recipe.model.linear_size:
            raise UsageError(
                "finetune.adapter=residual is behind a trunk that runs once, and a vector with a "
                "linear part (model.linear_size) is more than what that gives: set "
                "finetune.adapter to lora or none"
            )
        super().__init__(model, corpus)
        used = np.concatenate([self.learned_from, self.split.validation])
        self._known = np.unique(self._rows[used])
        self._whole = self._pooled(self._known, 0.0, 0)
        rate = self.stage.modality_dropout
        self._trained = np.unique(self._rows[self.learned_from])
        self._draws = [
            self._pooled(self._trained, rate, draw) for draw in range(DRAWS * (rate > 0))
        ]

    @torch.no_grad()
    def _pooled(self, rows: NDArray[np.int64], rate: float, draw: int) -> Tensor:
        """(n, H) of these sorted rows, by the trunk as it is."""
        order = np.argsort(self._builder.lengths[rows], kind="stable")
        spans = [order[at : at + VALIDATION_BATCH] for at in range(0, len(rows), VALIDATION_BATCH)]
        seed, encoder = self.model.recipe.seed, self.model.encoder

        def build(part: int) -> Batch:
            number = draw * len(spans) + part
            return self._builder.build_with_dropout(rows[spans[part]], rate, seed, number)

        pooled = torch.empty(len(rows), self.model.recipe.model.hidden_size)
        was_training = encoder.training
        encoder.eval()
        batches = prefetch(range(len(spans)), build, device=self.device)
        with tensor_float_32(self.device):
            for span, batch in zip(spans, batches, strict=True):
                with autocast(self.device, self.stage.precision):
                    found = encoder(batch.to(self.device)).pooled
                pooled[torch.from_numpy(span)] = found.float().cpu()
        encoder.train(was_training)
        return pooled

    def _read(
        self, rows: NDArray[np.int64], step: int, own: NDArray[np.int64] | None
    ) -> PooledVideos:
        known, pooled = self._known, self._whole
        if self._draws:
            epoch = step // self.order.epoch_steps(step)
            known, pooled = self._trained, self._draws[epoch % len(self._draws)]
        at = torch.from_numpy(np.searchsorted(known, rows))
        return PooledVideos(pooled[at], torch.from_numpy(rows))

    def _forward(self, videos: PooledVideos) -> tuple[Tensor, Tensor | None]:
        return F.normalize(self.model.encoder.project(videos.pooled), dim=-1), None

    def _vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        pooled = self._whole[torch.from_numpy(np.searchsorted(self._known, rows))]
        vectors, _ = self._forward(PooledVideos(pooled.to(self.device), torch.from_numpy(rows)))
        return vectors.cpu().numpy()
