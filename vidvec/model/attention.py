"""Self-attention over a flat batch: each position attends within its own video only.

Two ways, one result. On a GPU that has it, in half precision, PyTorch's flash attention (Dao 2023,
"FlashAttention-2") runs over the flat batch as it is. Everywhere else positions are gathered into a
padded grid; at these lengths attention is about 1 % of the work, so the padding costs little.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from vidvec.model.dropout import dropout as keep_or_zero
from vidvec.model.layout import FlatLayout

# What the flash kernel takes (torch.nn.attention.varlen).
_FLASH_DTYPES = (torch.float16, torch.bfloat16)
_FLASH_WIDTH, _FLASH_WIDTHS_OF = 256, 8
_FLASH_CAPABILITY = (8, 0)


def attend(qkv: Tensor, layout: FlatLayout, dropout: float, window: int | None = None) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) within each video.

    Args:
        qkv: (N, 3, heads, H / heads) queries, keys and values.
        layout: Of the batch; keys where ``layout.real`` is false are hidden.
        dropout: Probability, on the attention weights.
        window: Keys further away than this, by ``layout.positions``, are hidden too.

    Returns:
        (N, H).
    """
    if window is not None and window >= layout.max_length - 1:
        window = None
    if takes_flash(qkv, layout, window):
        return _attend_flat(qkv, layout, dropout, window)
    return _attend_padded(qkv, layout, dropout, window)


def takes_flash(qkv: Tensor, layout: FlatLayout, window: int | None) -> bool:
    """Whether the flash kernel computes this.

    Its window counts positions of the sequence, hidden ones too, where ours does not count them.
    """
    width = qkv.shape[-1]
    return (
        qkv.is_cuda
        and len(qkv) > 0
        and qkv.dtype in _FLASH_DTYPES
        and width <= _FLASH_WIDTH
        and width % _FLASH_WIDTHS_OF == 0
        and (window is None or layout.key_rows is None)
        and _has_flash(qkv.device)
    )


@lru_cache
def _has_flash(device: torch.device) -> bool:
    """PyTorch has the kernel from 2.10 on, for NVIDIA's Ampere and later."""
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return False
    return torch.cuda.get_device_capability(device) >= _FLASH_CAPABILITY


def _attend_flat(qkv: Tensor, layout: FlatLayout, dropout: float, window: int | None) -> Tensor:
    """Hidden positions ask as queries, as the padded way has it, but are not among the keys."""
    queries, keys, values = qkv.unbind(1)
    if layout.key_rows is not None:
        keys, values = qkv[:, 1:].index_select(0, layout.key_rows).unbind(1)
    reach = -1 if window is None else window
    offsets = (layout.offsets, layout.key_offsets)
    attended = flash_kernel(
        (queries, keys, values), offsets, layout.max_length, dropout=dropout, reach=reach
    )
    return attended.flatten(1)


def flash_kernel(
    qkv: tuple[Tensor, Tensor, Tensor],
    offsets: tuple[Tensor, Tensor],
    longest: int,
    *,
    dropout: float,
    reach: int,
) -> Tensor:
    """PyTorch's flash attention over ragged sequences laid end to end.

    ``varlen_attn`` knows no dropout, and windows in later versions only. The operator that it
    calls, through which nested tensors train, knows both.

    Args:
        qkv: Queries (N, heads, width), keys and values (K, heads, width).
        offsets: (B + 1,) int32 each, where sequences start among queries and among keys.
        longest: No sequence has more queries or keys.
        dropout: On the attention weights.
        reach: How far to either side a query sees; −1: everywhere.

    Returns:
        (N, heads, width).
    """
    places = (*offsets, longest, longest)
    if dropout or reach >= 0:
        operator = torch.ops.aten._flash_attention_forward
        sides = {"window_size_left": reach, "window_size_right": reach}
        return operator(*qkv, *places, dropout, False, False, **sides)[0]
    # Imported here: it takes two seconds, and only GPUs need it.
    from torch.nn.attention.varlen import varlen_attn

    attended: Tensor = varlen_attn(*qkv, *offsets, longest, longest)  # type: ignore[assignment]
    return attended


def _attend_padded(qkv: Tensor, layout: FlatLayout, dropout: float, window: int | None) -> Tensor:
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
    if window is not None:
        near = _near(layout, window)
        mask = near if mask is None else mask & near
    if dropout and not qkv.is_cuda:
        attended = _attend_dropping(q, k, v, mask, dropout)
    else:
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    flat = attended.transpose(1, 2).reshape(cells, heads * width)
    return flat if full else flat.index_select(0, layout.slots)


def _attend_dropping(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, rate: float) -> Tensor:
    """The equation written out, with dropout that is cheap on a CPU.

    PyTorch's CPU kernel knows no dropout either; what it falls back to draws slowly and looks for
    queries without any key, of which there are none here.
    """
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-2, -1))
    if mask is not None:
        scores = scores.masked_fill_(~mask, -torch.inf)
    weights = keep_or_zero(torch.softmax(scores, -1), rate)
    return torch.matmul(weights.to(v.dtype), v)


def _near(layout: FlatLayout, window: int) -> Tensor:
    """(B, 1, L, L) bool: which keys each query of the padded grid has within its window."""
    videos, width = len(layout.lengths), layout.max_length
    empty = layout.positions.new_full((videos * width,), -1)
    places = empty.index_copy(0, layout.slots, layout.positions).view(videos, 1, width)
    apart = (places[..., :, None] - places[..., None, :]).abs()
    # What an empty cell asks for is thrown away, but a query without any key would give NaN.
    return (apart <= window) | (places < 0)[..., :, None]
