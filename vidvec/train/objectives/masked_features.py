"""Masked frames and masked audio frames, told from the others (system.md, section 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vidvec.model.encoder import Encoded
from vidvec.model.heads import PretrainingHeads
from vidvec.model.precision import exact

# Of the masked frame loss: 256 MB of them, for batches of thousands of videos.
LOGITS_AT_ONCE = 2**26


def masked_frame_loss(
    heads: PretrainingHeads,
    encoded: Encoded,
    targets: Tensor,
    frames: Tensor,
    frame_mask: Tensor | None,
    *,
    total: int | None = None,
    first: int = 0,
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
        first: Where the encoded batch's own frames begin, where these are more.
    """
    predicted = encoded.layout.frame_rows[targets]
    predictions = heads.mfm(encoded.hidden.index_select(0, predicted))
    return _contrast(predictions, targets + first, frames, frame_mask, total)


def masked_audio_loss(
    heads: PretrainingHeads,
    encoded: Encoded,
    targets: Tensor,
    audio: Tensor,
    *,
    total: int | None = None,
    first: int = 0,
) -> Tensor:
    """Noise-contrastive loss of the masked audio frames, as of masked frames. 0 where none is.

    Args:
        heads: Give the predictions; they have a head for audio.
        encoded: Of the masked batch.
        targets: (M,) masked positions among the audio frames.
        audio: (ΣA, K) original features; all of them are candidates.
        total, first: As of masked frames.

    Raises:
        ValueError: The model reads no audio.
    """
    if heads.mam is None or encoded.layout.audio_rows is None:
        raise ValueError("masked audio needs a batch with audio and a model that reads it")
    predicted = encoded.layout.audio_rows[targets]
    predictions = heads.mam(encoded.hidden.index_select(0, predicted))
    return _contrast(predictions, targets + first, audio, None, total)


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
