"""Dropout (Srivastava et al. 2014) whose draws cost little on a CPU.

PyTorch draws a CPU's masks number by number on one thread, which takes an eighth of a training step
at these sizes. Here 16 random bits an element come from SFC64 (Doty-Humphrey's generator, NumPy's),
seeded by PyTorch's own generator: what restores that one restores these draws too.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 1 << 16


def dropout(values: Tensor, rate: float) -> Tensor:
    """Zeroes each number with probability ``rate`` and divides the others by ``1 - rate``.

    On a CPU ``rate`` is rounded to a multiple of 2^-16 for both, so that the mean stays. GPUs, and
    code that is being compiled, draw by PyTorch's own dropout.

    Args:
        values: Of any shape and floating type.
        rate: 0 to 1.
    """
    if rate <= 0:
        return values
    if values.device.type != "cpu" or rate >= 1 or torch.compiler.is_compiling():
        return F.dropout(values, rate)
    return values * keep_mask(values.shape, rate).to(values.dtype)


def keep_mask(shape: torch.Size, rate: float) -> Tensor:
    """What ``dropout`` multiplies with: float32 of this shape, 0 or 1 / (1 − rate)."""
    count = shape.numel()
    dropped = min(round(rate * _LEVELS), _LEVELS - 1)
    seed = int(torch.randint(2**62, ()))
    bits = np.random.SFC64(seed).random_raw((count + 3) // 4).view(np.uint16)[:count]
    scale = np.float32(_LEVELS / (_LEVELS - dropped))
    mask = np.multiply(bits >= dropped, scale, dtype=np.float32)
    return torch.from_numpy(mask).view(shape)


class Dropout(nn.Module):
    """``dropout`` while training, nothing else.

    Args:
        rate: Probability that a number is zeroed.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, values: Tensor) -> Tensor:
        """Values of any shape to values of the same."""
        return dropout(values, self.rate) if self.training else values

    def extra_repr(self) -> str:
        """The rate, for ``print(model)``."""
        return f"rate={self.rate}"
