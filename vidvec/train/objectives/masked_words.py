"""Masked words (system.md, section 3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vidvec.model.encoder import Encoded
from vidvec.model.heads import PretrainingHeads


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
