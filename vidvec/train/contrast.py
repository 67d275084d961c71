"""Contrasts in pretraining: a video with itself, and its frames with its title."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidvec.config import PretrainConfig
from vidvec.data.batches import BatchBuilder
from vidvec.model.encoder import VideoEncoder
from vidvec.records import Batch
from vidvec.train.distributed import ALONE, Processes
from vidvec.train.momentum import MomentumQueue
from vidvec.train.objectives.info_nce import info_nce
from vidvec.train.objectives.matching import (
    different_titles,
    matching_loss,
    other_titles,
    with_titles_of,
)


class Contrasts:
    """The losses that read a video more than once.

    Args:
        encoder: What is trained.
        builder: Makes batches of frames alone and of titles alone.
        config: Weights and what the losses take.
        match_head: Tells from ``[CLS]`` whether title and frames belong together, where that has a
            weight.
        seed: Of the recipe.
    """

    def __init__(
        self,
        encoder: VideoEncoder,
        builder: BatchBuilder,
        config: PretrainConfig,
        match_head: torch.nn.Module | None = None,
        seed: int = 0,
    ) -> None:
        self._encoder, self._builder, self._config = encoder, builder, config
        self._match_head, self._seed = match_head, seed
        # Where a pass of the encoder puts shards together, all processes make it, of no video too.
        self._always = config.sharded
        self._queue: MomentumQueue | None = None
        if config.cross_weight and config.cross_queue:
            self._queue = MomentumQueue(encoder, config.cross_queue, config.cross_momentum)

    def __bool__(self) -> bool:
        """Whether any has a weight."""
        config = self._config
        return bool(config.twin_weight or config.cross_weight or config.match_weight)

    def losses(
        self, batch: Batch, vectors: Tensor, step: int, processes: Processes = ALONE
    ) -> dict[str, Tensor]:
        """Those that have a weight, unweighted.

        Args:
            batch: As it is, without masks, on the device.
            vectors: (B, E) that the encoder made of it masked.
            step: Of the batch.
            processes: That have a share of a larger batch each; their losses sum up to its own.
        """
        losses: dict[str, Tensor] = {}
        cosines: Tensor | None = None
        if self._config.twin_weight:
            losses["twin"] = self._twin(batch, vectors.float(), processes)
        if self._config.cross_weight:
            losses["cross"], cosines = self._cross(batch, processes)
        if processes.several:
            losses = {name: loss / processes.size for name, loss in losses.items()}
        if self._config.match_weight:
            losses["match"] = self._match(batch, step, cosines, processes)
        return losses

    def _twin(self, batch: Batch, vectors: Tensor, processes: Processes) -> Tensor:
        """A masked video against itself whole, with dropout of its own (Gao, Yao and Chen 2021)."""
        whole = processes.gather(self._encoder(batch).vectors.float()).values
        vectors = processes.gather(vectors).values
        temperature = self._config.twin_temperature
        return (info_nce(vectors, whole, temperature) + info_nce(whole, vectors, temperature)) / 2

    def _cross(self, batch: Batch, processes: Processes) -> tuple[Tensor, Tensor | None]:
        """The frames of a video against its title and the other way round, and their cosines.

        Of videos with both. As CLIP (Radford et al. 2021) does it, or with a queue as ALBEF (Li et
        al. 2021): keys then come from a slow copy of the encoder, and of earlier batches, too.
        """
        frames, titles = self._alone(batch)
        none = batch.frames.new_zeros((), dtype=torch.float32)
        if not (len(frames) or processes.several or self._always):
            return none, None
        temperature = self._config.cross_temperature
        seen, read = (
            processes.gather(self._encoder(each).vectors.float()).values
            for each in (frames, titles)
        )
        if not len(seen):
            return none, None
        cosines = seen.detach() @ read.detach().T
        if self._queue is None:
            loss = (info_nce(seen, read, temperature) + info_nce(read, seen, temperature)) / 2
            return loss, cosines
        seen_key, read_key = (
            processes.gather(self._queue.keys(each)).values for each in (frames, titles)
        )
        seen_before, read_before = self._queue.queues
        loss = (
            info_nce(seen, read_key, temperature, read_before)
            + info_nce(read, seen_key, temperature, seen_before)
        ) / 2
        if self._encoder.training:
            self._queue.push(seen_key, read_key)
            self._queue.follow(self._encoder)
        return loss, cosines

    def _match(
        self, batch: Batch, step: int, cosines: Tensor | None, processes: Processes
    ) -> Tensor:
        """A video's frames with its title against the same frames with another video's title.

        Of videos with both, read by nothing else, and all in one pass. The other title is one of
        the batch that differs, where there is the contrast of frames and titles one that is hard to
        tell by it.
        """
        if self._match_head is None:
            raise ValueError("the model has no head for frames and titles that match")
        own_rows, device = self._with_both(batch), batch.frames.device
        own = titles = self._only(own_rows, "frames", "title")
        rows, first = processes.gather(torch.from_numpy(own_rows).to(device))
        if processes.several:
            titles = self._only(rows.cpu().numpy(), "title")
        allowed = different_titles(titles.token_ids.numpy(), titles.token_counts.numpy())
        logits = None if cosines is None else cosines / self._config.cross_temperature
        every = other_titles(
            rows, torch.from_numpy(allowed).to(device), self._seed, step, logits
        ).cpu()
        total, givers = int((every >= 0).sum()), every[first : first + len(own)]
        if not (total or self._always):
            return batch.frames.new_zeros((), dtype=torch.float32)
        kept = torch.nonzero(givers >= 0).squeeze(1).tolist()
        swapped = with_titles_of(own, givers.clamp(min=0), titles)
        if len(kept) < len(own):
            spans = [(at, at + 1) for at in kept] or [(0, 0)]
            own, swapped = own.take(*spans), swapped.take(*spans)
        both = _joined(own, swapped).to(device)
        found = self._match_head(self._encoder(both).cls).squeeze(1)
        return matching_loss(found[: len(kept)], found[len(kept) :], total)

    def _with_both(self, batch: Batch) -> NDArray[np.int64]:
        """Rows of the batch's videos that have frames and a title."""
        if batch.rows is None:
            raise ValueError("the batch does not say which videos it is of")
        rows: NDArray[np.int64] = batch.rows.cpu().numpy()
        counts = self._builder.counts
        return rows[(counts["frames"][rows] > 0) & (counts["title"][rows] > 0)]

    def _only(self, rows: NDArray[np.int64], *kept: str) -> Batch:
        """Videos by some of what they have, on the CPU."""
        every = np.ones(len(rows), bool)
        without = {name: every for name in self._builder.counts if name not in kept}
        return self._builder.build(rows, without)

    def _alone(self, batch: Batch) -> tuple[Batch, Batch]:
        """The batch's videos that have both, by frames alone and by title alone."""
        rows, device = self._with_both(batch), batch.frames.device
        return self._only(rows, "frames").to(device), self._only(rows, "title").to(device)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs of it."""
        return {} if self._queue is None else self._queue.tensors()

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what ``tensors`` gave."""
        if self._queue is not None:
            self._queue.restore(tensors)


def _joined(first: Batch, second: Batch) -> Batch:
    """Two batches of the same fields as one, without what they know of tags."""
    others = second.tensors()
    joined: dict[str, Any] = {
        name: torch.cat([values, others[name]]) for name, values in first.tensors().items()
    }
    return replace(first, **{**joined, "sizes": None, "tag_positions": None, "tag_counts": None})
