"""The pretraining losses together: counted, weighted, summed (system.md, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vidvec.model.encoder import Encoded
from vidvec.model.heads import PretrainingHeads
from vidvec.records import Batch
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
        targets = masked.frame_targets
        frames = (batch.frames, batch.frame_mask)
        losses["mfm"] = masked_frame_loss(heads, encoded, targets, *frames, total=counts.mfm)
    if weights.mam and heads.mam and batch.audio is not None and masked.audio_targets is not None:
        heard = (masked.audio_targets, batch.audio)
        losses["mam"] = masked_audio_loss(heads, encoded, *heard, total=counts.mam)
    total = encoded.projected.new_zeros(())
    for name, loss in losses.items():
        total = total + getattr(weights, name) * loss
    return {**losses, "loss": total}
