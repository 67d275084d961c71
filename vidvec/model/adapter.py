"""What is learned on a trunk that stays as it is: low-rank updates, and an adapter on the vector.

Letters: R rank; for others see ``vidvec.records``. Both add nothing to what the model gives until a
first step was made.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ATTENTION_LAYERS = ("qkv", "out")
FEED_FORWARD_LAYERS = ("up", "down")


class ResidualAdapter(nn.Module):
    """A bottleneck on the video vector, added to it: x + s · |x| · U gelu(D x / |x|).

    Source: Gao et al. 2021, "CLIP-Adapter: Better Vision-Language Models with Feature Adapters",
    section 3.2, where two layers of a bottleneck are added to a feature with a residual ratio. Here
    U starts at 0, and nothing has a bias, so that a vector of zeros stays one.

    Args:
        width: E, numbers in the vector.
        rank: R, numbers in the bottleneck.
        scale: s.
    """

    def __init__(self, width: int, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, projected: Tensor) -> Tensor:
        """(B, E) vectors of any length to (B, E)."""
        # One number of a vector of length 1 is about 1/√E; the bottleneck is to see about 1.
        seen = F.normalize(projected, dim=-1) * math.sqrt(projected.shape[-1])
        added = self.up(F.gelu(self.down(seen)))
        return projected + self.scale * projected.norm(dim=-1, keepdim=True) * added


class LowRankLinear(nn.Linear):
    """A linear layer and a low-rank update of its weight: W + s · B A.

    Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1; s is
    their α / R, A starts as there and B at 0.

    Args:
        linear: The layer, whose weight and bias this one has.
        rank: R.
        scale: s.

    Attributes:
        lora_down: (R, in), A.
        lora_up: (out, R), B.
    """

    def __init__(self, linear: nn.Linear, rank: int, scale: float) -> None:
        weight, bias = linear.weight, linear.bias
        # On the meta device nothing is drawn and no memory taken for weights that are replaced.
        super().__init__(
            linear.in_features, linear.out_features, bias=bias is not None, device="meta"
        )
        self.weight, self.bias, self.scale = weight, bias, scale
        self.lora_down = nn.Parameter(weight.new_empty(rank, self.in_features))
        self.lora_up = nn.Parameter(weight.new_zeros(self.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))

    def forward(self, values: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        update = F.linear(F.linear(values, self.lora_down), self.lora_up)
        return super().forward(values) + self.scale * update

    def merged(self) -> Tensor:
        """(out, in): the weight with its update."""
        return self.weight + self.scale * (self.lora_up @ self.lora_down)


def add_low_rank(blocks: nn.ModuleList, rank: int, scale: float, feed_forward: bool) -> None:
    """Gives linear layers of each block a low-rank update, in place.

    The projections to queries, keys and values are one layer here and share one A.

    Args:
        blocks: BERT's or ModernBERT's.
        rank, scale: See ``LowRankLinear``.
        feed_forward: The two layers of the feed-forward as well as the two of attention.
    """
    for block in blocks:
        for name in (*ATTENTION_LAYERS, *FEED_FORWARD_LAYERS * feed_forward):
            setattr(block, name, LowRankLinear(getattr(block, name), rank, scale))


def has_low_rank(module: nn.Module) -> bool:
    """Whether there are low-rank updates in a module that are not merged."""
    return any(isinstance(part, LowRankLinear) for part in module.modules())


@torch.no_grad()
def merged_tensors(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """A module's parameters by name, with low-rank updates merged into the weights they are of."""
    tensors: dict[str, Tensor] = dict(module.named_parameters(prefix=prefix))
    for name, part in module.named_modules(prefix=prefix):
        if isinstance(part, LowRankLinear):
            tensors[f"{name}.weight"] = part.merged()
            del tensors[f"{name}.lora_down"], tensors[f"{name}.lora_up"]
    return tensors


def merge_low_rank(module: nn.Module) -> None:
    """Puts plain linear layers with the merged weights where layers with updates are, in place."""
    for parent in list(module.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, LowRankLinear):
                plain = nn.Linear(
                    part.in_features, part.out_features, bias=part.bias is not None, device="meta"
                )
                plain.weight = nn.Parameter(part.merged().detach(), requires_grad=False)
                plain.bias = part.bias
                setattr(parent, name, plain)
