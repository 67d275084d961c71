"""Tensors of which each process of a training holds a shard, and what stands for them on disk.

PyTorch's ``DTensor`` is told by its ``full_tensor``: importing its module costs what only a
training with shards has to pay.
"""

from __future__ import annotations

import torch
from torch import Tensor


def whole(tensor: Tensor) -> Tensor:
    """A tensor as one; all processes put a sharded one together, and so must all call this."""
    gather = getattr(tensor, "full_tensor", None)
    if gather is None:
        return tensor
    found: Tensor = gather()
    return found


@torch.no_grad()
def laid_out_like(model: Tensor, tensor: Tensor) -> Tensor:
    """A whole tensor on another's device, as its shard where the other has one.

    Args:
        model: Of the same shape.
        tensor: The same in all processes.
    """
    if not hasattr(model, "full_tensor"):
        return tensor.to(model.device)
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(model, DTensor):
        raise TypeError(f"expected a sharded tensor, found {type(model).__name__}")
    mesh, places = model.device_mesh, model.placements
    # Every process has the whole of it: nothing is to be sent.
    return distribute_tensor(tensor.to(model.device), mesh, places, src_data_rank=None)
