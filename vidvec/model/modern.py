"""The second trunk: ModernBERT's blocks (Warner et al. 2024, "Smarter, Better, Faster, Longer").

Against BERT's (``vidvec.model.encoder``): positions are rotations of queries and keys instead of a
table, norms stand in front of each layer, the feed-forward is gated, nothing has a bias, and most
layers attend only to what is near. Same flat tokens in and out. Letters: see ``vidvec.records``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidvec.config import ModelConfig
from vidvec.model.attention import attend
from vidvec.model.dropout import Dropout
from vidvec.model.layout import FlatLayout


def modern_norm(config: ModelConfig) -> nn.LayerNorm:
    """A LayerNorm over H with a weight and no bias."""
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, bias=False)


class ModernEmbedding(nn.Module):
    """Normalises what is given and drops out; where it stands is for the blocks to see."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = modern_norm(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, values: Tensor, positions: Tensor) -> Tensor:
        """(n, H) values to (n, H); the positions are not read."""
        return self.dropout(self.norm(values))


class ModernBlock(nn.Module):
    """Attention with rotary positions and a gated feed-forward, each behind a norm, with residual.

    Args:
        config: Of a modern trunk.
        layer: From 0; every ``config.global_attention_every``-th attends to the whole video, the
            others within half of ``config.local_attention_window``.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads, self.attention_dropout = config.heads, config.dropout
        everywhere = layer % config.global_attention_every == 0
        self.window = None if everywhere else config.local_attention_window // 2
        self.theta = config.global_rope_theta if everywhere else config.local_rope_theta
        # What comes into the first block is normalised already.
        self.attention_norm = modern_norm(config) if layer else nn.Identity()
        self.qkv = nn.Linear(size, 3 * size, bias=False)
        self.out = nn.Linear(size, size, bias=False)
        self.ffn_norm = modern_norm(config)
        self.up = nn.Linear(size, 2 * config.ffn_size, bias=False)
        self.down = nn.Linear(config.ffn_size, size, bias=False)
        self.dropout = Dropout(config.dropout)

    def forward(self, hidden: Tensor, layout: FlatLayout) -> Tensor:
        """(N, H) to (N, H)."""
        qkv = self.ahead(hidden, layout.positions)
        dropout = self.attention_dropout if self.training else 0.0
        return self.behind(hidden, attend(qkv, layout, dropout, self.window))

    def ahead(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """What comes ahead of attention: (N, H) to (N, 3, heads, H / heads)."""
        qkv = self.qkv(self.attention_norm(hidden)).view(
            len(hidden), 3, self.heads, hidden.shape[1] // self.heads
        )
        return rotate(qkv, positions, self.theta)

    def behind(self, hidden: Tensor, attended: Tensor) -> Tensor:
        """What comes behind attention: two (N, H) to one."""
        hidden = hidden + self.dropout(self.out(attended))
        inner, gate = self.up(self.ffn_norm(hidden)).chunk(2, dim=-1)
        return hidden + self.down(self.dropout(F.gelu(inner) * gate))


def rotate(qkv: Tensor, positions: Tensor, theta: float) -> Tensor:
    """Rotary positions (Su et al. 2021, "RoFormer", eq. 34) on queries and keys.

    Number i of a head's first half and number i of its second half are turned as a pair by the
    angle position · theta^(-2i / width), so that the product of a query and a key depends on how
    far apart they stand.

    Args:
        qkv: (N, 3, heads, width) queries, keys and values; the width is even.
        positions: (N,) int64.
        theta: Base of the angles; the larger, the further the slowest pairs tell apart.

    Returns:
        (N, 3, heads, width), of the same dtype; the angles are in float32.
    """
    width = qkv.shape[-1]
    exponents = torch.arange(0, width, 2, device=qkv.device, dtype=torch.float32) / width
    angles = (positions[:, None].float() * theta**-exponents)[:, None, None]
    cos, sin = angles.cos(), angles.sin()
    first, second = qkv[:, :2].chunk(2, dim=-1)
    turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return torch.cat([turned.to(qkv.dtype), qkv[:, 2:]], dim=1)


def shrink_residuals(blocks: nn.ModuleList) -> None:
    """Starts what blocks add to the stream smaller by √(2 · layers), in place.

    Without a norm behind each layer the stream would grow with depth (Radford et al. 2019, section
    2.3; ModernBERT starts so too).
    """
    factor = (2 * len(blocks)) ** -0.5
    with torch.no_grad():
        for name, weight in blocks.named_parameters():
            if name.endswith(("out.weight", "down.weight")):
                weight.mul_(factor)
