"""In which precision matrix products run, by what a recipe asks and a device has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from vidvec.config import Precision


def in_bfloat16(device: torch.device, precision: Precision) -> bool:
    """Whether products run in bfloat16: where asked to, or by ``auto`` on a GPU made for it."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context for forward passes. Weights stay as they are; backward passes need no context."""
    return torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16(device, precision))


def exact(tensor: Tensor) -> AbstractContextManager[object]:
    """A context for what autocast would round too much, on the tensor's device."""
    device = tensor.device.type
    if device in ("cpu", "cuda") and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


@contextmanager
def tensor_float_32(device: torch.device) -> Iterator[None]:
    """On a GPU, float32 products with TF32's 10 bits of mantissa: several times as fast.

    The switch is PyTorch's own and global; it is put back in the end.
    """
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
