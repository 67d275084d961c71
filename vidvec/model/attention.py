"""Self-attention over a flat batch: each position attends within its own video only."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vidvec.model.layout import FlatLayout


def attend(qkv: Tensor, layout: FlatLayout, dropout: float, window: int | None = None) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) within each video.

    Positions are gathered into a padded grid, since PyTorch's CPU kernel takes no ragged lengths;
    at these lengths attention is about 1 % of the work, so the padding costs little.

    Args:
        qkv: (N, 3, heads, H / heads) queries, keys and values.
        layout: Of the batch; keys where ``layout.real`` is false are hidden.
        dropout: Probability, on the attention weights.
        window: Keys further away than this, by ``layout.positions``, are hidden too.

    Returns:
        (N, H).
    """
    n, _, heads, width = qkv.shape
    videos = len(layout.lengths)
    cells = videos * layout.max_length
    full = cells == n
    grid = qkv if full else qkv.new_zeros(cells, *qkv.shape[1:]).index_copy(0, layout.slots, qkv)
    q, k, v = grid.view(videos, layout.max_length, 3, heads, width).permute(2, 0, 3, 1, 4)
    mask = None
    if not full or layout.real is not None:
        keys = qkv.new_zeros(cells, dtype=bool)  # type: ignore[call-overload]
        keys[layout.slots] = True if layout.real is None else layout.real
        mask = keys.view(videos, 1, 1, layout.max_length)
    if window is not None and window < layout.max_length - 1:
        near = _near(layout, window)
        mask = near if mask is None else mask & near
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    flat = attended.transpose(1, 2).reshape(cells, heads * width)
    return flat if full else flat.index_select(0, layout.slots)


def _near(layout: FlatLayout, window: int) -> Tensor:
    """(B, 1, L, L) bool: which keys each query of the padded grid has within its window."""
    videos, width = len(layout.lengths), layout.max_length
    empty = layout.positions.new_full((videos * width,), -1)
    places = empty.index_copy(0, layout.slots, layout.positions).view(videos, 1, width)
    apart = (places[..., :, None] - places[..., None, :]).abs()
    # What an empty cell asks for is thrown away, but a query without any key would give NaN.
    return (apart <= window) | (places < 0)[..., :, None]
