"""The losses, each a function of what a batch was encoded to (system.md, sections 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vidvec.model.encoder import Encoded
from vidvec.model.heads import PretrainingHeads
from vidvec.model.layout import owners
from vidvec.model.precision import exact
from vidvec.records import Batch
from vidvec.train.masking import Masked

# Of the masked frame loss: 256 MB of them, for batches of thousands of videos.
LOGITS_AT_ONCE = 2**26


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


def tag_loss(
    logits: Tensor, tag_positions: Tensor, tag_counts: Tensor, total: Tensor | None = None
) -> Tensor:
    """Binary cross entropy, averaged over the videos that were tagged and over all classes.

    Args:
        logits: (B, C).
        tag_positions: (Σtags,) classes, video after video.
        tag_counts: (B,); −1 where nobody tagged the video, which then has no say.
        total: () tagged videos to average over, where these are but a part; ``None``: those here.

    Returns:
        A scalar, 0 where no video was tagged.
    """
    tagged = tag_counts >= 0
    targets = torch.zeros_like(logits)
    video = owners(tag_counts.clamp(min=0), len(tag_positions))
    targets[video, tag_positions] = 1
    each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
    total = tagged.sum() if total is None else total
    return (each * tagged).sum() / total.clamp(min=1)


def masked_language_loss(
    heads: PretrainingHeads,
    encoded: Encoded,
    targets: Tensor,
    token_ids: Tensor,
    total: int | None = None,
) -> Tensor:
    """Cross entropy of the masked tokens; the head runs on these alone. 0 where none is masked.

    Args:
        heads: Give the logits.
        encoded: Of the masked batch.
        targets: (M,) masked positions among the tokens.
        token_ids: (ΣT,) original tokens.
        total: Masked tokens to average over, where these are but a part; ``None``: those here.
    """
    rows = encoded.layout.token_rows[targets]
    logits = heads.mlm(encoded.hidden.index_select(0, rows))
    losses = F.cross_entropy(logits.float(), token_ids[targets], reduction="sum")
    return losses / max(1, len(targets) if total is None else total)


def masked_frame_loss(
    heads: PretrainingHeads,
    encoded: Encoded,
    targets: Tensor,
    frames: Tensor,
    frame_mask: Tensor | None,
    *,
    total: int | None = None,
) -> Tensor:
    """Noise-contrastive loss of the masked frames. 0 where none is masked.

    The prediction for a masked frame is multiplied (dot product, no temperature) with the original
    features of every real frame of the batch; its own is the class.

    Args:
        heads: Give the predictions.
        encoded: Of the masked batch.
        targets: (M,) masked positions among the frames.
        frames: (ΣF, D) original features.
        frame_mask: (ΣF,) bool, false on padding, which is no candidate; ``None``: all are real.
        total: Masked frames to average over, where these are but a part; ``None``: those here.
    """
    predicted = encoded.layout.frame_rows[targets]
    predictions = heads.mfm(encoded.hidden.index_select(0, predicted))
    return _contrast(predictions, targets, frames, frame_mask, total)


def masked_audio_loss(
    heads: PretrainingHeads,
    encoded: Encoded,
    targets: Tensor,
    audio: Tensor,
    *,
    total: int | None = None,
) -> Tensor:
    """Noise-contrastive loss of the masked audio frames, as of masked frames. 0 where none is.

    Args:
        heads: Give the predictions; they have a head for audio.
        encoded: Of the masked batch.
        targets: (M,) masked positions among the audio frames.
        audio: (ΣA, K) original features; all of them are candidates.
        total: As of masked frames.

    Raises:
        ValueError: The model reads no audio.
    """
    if heads.mam is None or encoded.layout.audio_rows is None:
        raise ValueError("masked audio needs a batch with audio and a model that reads it")
    predicted = encoded.layout.audio_rows[targets]
    predictions = heads.mam(encoded.hidden.index_select(0, predicted))
    return _contrast(predictions, targets, audio, None, total)


def _contrast(
    predictions: Tensor, targets: Tensor, originals: Tensor, mask: Tensor | None, total: int | None
) -> Tensor:
    """Mean cross entropy of dot products with all originals, of which the target is the class.

    Args:
        predictions: (M, D).
        targets: (M,) rows of ``originals``.
        originals: (n, D).
        mask: (n,) bool, false where a row is no candidate; ``None``: all are.
        total: To average over; ``None``: M.
    """
    predictions = predictions.float()
    candidates = originals.to(predictions.dtype).T

    def part(some: Tensor, classes: Tensor) -> Tensor:
        # Not under autocast: products of 1536 numbers are large, bfloat16 would round them to whole
        # numbers or halves, and the softmax lives on their differences.
        with exact(some):
            logits = some @ candidates
        if mask is not None:
            logits = logits.masked_fill(~mask, -torch.inf)
        return F.cross_entropy(logits, classes, reduction="sum")

    total = len(targets) if total is None else total
    rows = max(1, LOGITS_AT_ONCE // max(1, len(originals)))
    if len(targets) <= rows:
        return part(predictions, targets) / max(1, total)
    # Each part's logits are made anew in the backward pass instead of all being kept.
    losses = [
        checkpoint(part, *each, use_reentrant=False)
        for each in zip(torch.split(predictions, rows), torch.split(targets, rows), strict=True)
    ]
    return torch.stack(losses).sum() / total


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
) -> dict[str, Tensor]:
    """The losses that have a weight, unweighted, and their weighted sum as ``loss``.

    Args:
        heads: The pretraining heads.
        encoded: Of the masked batch.
        batch: The original batch, filled as the encoder read it.
        masked: What was masked.
        weights: 0 leaves a loss out.
        counts: Of the batch that this one is a part of; the parts' losses then sum up to its own.
    """
    counts = counts or count_items(batch, masked)
    losses: dict[str, Tensor] = {}
    if weights.tag and batch.tag_positions is not None and batch.tag_counts is not None:
        logits = heads.tag_logits(encoded)
        if logits is not None:
            tags = (batch.tag_positions, batch.tag_counts)
            losses["tag"] = tag_loss(logits.float(), *tags, counts.tag)
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


def cosine_mse(vectors: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error between the cosine of each pair and its target.

    Args:
        vectors: (2P, E) of length 1, all first videos and then all second ones.
        targets: (P,) rank-normalised scores.
    """
    first, second = vectors.chunk(2)
    return F.mse_loss((first * second).sum(-1), targets.to(vectors.dtype))
