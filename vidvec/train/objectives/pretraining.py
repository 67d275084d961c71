"""The pretraining losses together: counted, weighted, summed (system.md, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidvec.model.encoder import Encoded
from vidvec.model.heads import PretrainingHeads
from vidvec.records import Batch
from vidvec.train.distributed import ALONE, Processes
from vidvec.train.masking import Masked
from vidvec.train.objectives.masked_features import masked_audio_loss, masked_frame_loss
from vidvec.train.objectives.masked_words import masked_language_loss
from vidvec.train.objectives.tags import Focus, tag_loss


@dataclass(frozen=True, slots=True)
class LossCounts:
    """How many items each of the pretraining losses is the mean of.

    Attributes:
        tag: () int64, videos that were tagged.
        mlm, mfm, mam: Masked tokens, masked frames, masked audio frames.
    """

    tag: Tensor
    mlm: int
    mfm: int
    mam: int = 0


def count_items(batch: Batch, masked: Masked) -> LossCounts:
    """Of a batch."""
    none = batch.frame_counts.new_zeros(())
    tagged = none if batch.tag_counts is None else (batch.tag_counts >= 0).sum()
    audio = 0 if masked.audio_targets is None else len(masked.audio_targets)
    return LossCounts(tagged, len(masked.token_targets), len(masked.frame_targets), audio)


def count_together(each: Sequence[LossCounts], processes: Processes = ALONE) -> LossCounts:
    """Of a batch by the counts of its parts, over all processes that have a share of it."""
    counts = LossCounts(
        torch.stack([count.tag for count in each]).sum(),
        sum(count.mlm for count in each),
        sum(count.mfm for count in each),
        sum(count.mam for count in each),
    )
    if not processes.several:
        return counts
    # On the device at once, so that nobody waits for it twice.
    numbers = counts.tag.new_tensor([0, counts.mlm, counts.mfm, counts.mam])
    numbers[0] = counts.tag
    whole = processes.total(numbers)
    return LossCounts(whole[0], *whole[1:].tolist())


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weights of the pretraining losses in their sum."""

    tag: float
    mlm: float
    mfm: float
    mam: float = 0.0


def pretraining_losses(
    heads: PretrainingHeads,
    encoded: Encoded,
    batch: Batch,
    masked: Masked,
    weights: LossWeights,
    *,
    counts: LossCounts | None = None,
    focus: Focus = Focus(),  # noqa: B008 - never changed
    tag_lesson: Mapping[str, Tensor] = {},
    processes: Processes = ALONE,
) -> dict[str, Tensor]:
    """The losses that have a weight, unweighted, and their weighted sum as ``loss``.

    Args:
        heads: The pretraining heads.
        encoded: Of the masked batch.
        batch: The original batch, filled as the encoder read it.
        masked: What was masked.
        weights: 0 leaves a loss out.
        counts: Of the batch that this one is a part of; the parts' losses then sum up to its own.
        focus: Of the tag loss.
        tag_lesson: Its ``targets`` and ``weights``, where they are not the tags' own and 1.
        processes: Of whose frames, and audio frames, masked ones are told from.
    """
    counts = counts or count_items(batch, masked)
    losses: dict[str, Tensor] = {}
    if weights.tag and batch.tag_positions is not None and batch.tag_counts is not None:
        logits = heads.tag_logits(encoded)
        if logits is not None:
            tags = (batch.tag_positions, batch.tag_counts)
            losses["tag"] = tag_loss(logits.float(), *tags, counts.tag, focus, **tag_lesson)
    if weights.mlm:
        targets = masked.token_targets
        losses["mlm"] = masked_language_loss(heads, encoded, targets, batch.token_ids, counts.mlm)
    if weights.mfm:
        targets, mask = masked.frame_targets, batch.frame_mask
        frames, first = processes.gather(batch.frames)
        mask = None if mask is None else processes.gather(mask).values
        means = {"total": counts.mfm, "first": first}
        losses["mfm"] = masked_frame_loss(heads, encoded, targets, frames, mask, **means)
    if weights.mam and heads.mam and batch.audio is not None and masked.audio_targets is not None:
        targets = masked.audio_targets
        audio, first = processes.gather(batch.audio)
        means = {"total": counts.mam, "first": first}
        losses["mam"] = masked_audio_loss(heads, encoded, targets, audio, **means)
    total = encoded.projected.new_zeros(())
    for name, loss in losses.items():
        total = total + getattr(weights, name) * loss
    return {**losses, "loss": total}
