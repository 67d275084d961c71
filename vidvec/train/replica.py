"""A model that several processes train together: a copy in each (DDP), or shards (FSDP2).

Both of PyTorch's own ways average gradients over N processes. Losses of shares sum up to the
batch's, so each is multiplied with N ahead of its backward pass. Gradients that are there already,
as behind the first of two passes (``adversarial``), are averages of equal ones and stay what they
are.

Sources: Li et al. 2020, "PyTorch distributed: experiences on accelerating data parallel training";
Zhao et al. 2023, "PyTorch FSDP"; its second version is ``torch.distributed.fsdp.fully_shard``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vidvec.config import FinetuneConfig, PretrainConfig, StageConfig
from vidvec.errors import UsageError
from vidvec.model.shards import whole
from vidvec.model.weights import VideoModel
from vidvec.train.averaging import WeightAverage
from vidvec.train.checkpoint import WholeState, optimizer_tensors
from vidvec.train.distributed import Processes

Value = TypeVar("Value")
Losses = dict[str, Tensor]


class _Run(nn.Module):
    """A model whose forward pass is whatever function it is given, so that hooks see all of it."""

    def __init__(self, model: VideoModel) -> None:
        super().__init__()
        self.encoder, self.heads = model.encoder, model.heads

    def forward(self, act: Callable[[], Value]) -> Value:
        """What ``act`` gives, which calls the encoder and the heads."""
        return act()


class Replica:
    """What one of several processes has of a model.

    Args:
        model: Becomes that of rank 0 in all processes; with ``sharded``, in place, its parameters
            become shards.
        processes: That train it.
        stage: How.

    Raises:
        UsageError: What is asked for cannot be done with shards; names the key.
    """

    def __init__(self, model: VideoModel, processes: Processes, stage: StageConfig) -> None:
        self._model, self._processes, self.sharded = model, processes, stage.sharded
        run = _Run(model)
        self._run: nn.Module
        if stage.sharded:
            _require_shardable(stage)
            self._run = _sharded(run, model, processes)
        else:
            # Some heads have nothing to do, others in some shares: those are looked for.
            self._run = nn.parallel.DistributedDataParallel(run, find_unused_parameters=True)

    def backward(
        self, part: Callable[[], Losses], precision: AbstractContextManager[object], last: bool
    ) -> Losses:
        """The losses of a part of a batch; adds its gradients to those that are there.

        Args:
            part: See ``Task.parts``.
            precision: The context for the forward pass.
            last: Whether the gradients of all processes are summed up behind it, and with them
                those of the parts before.
        """
        with self._apart(not last):
            with precision:
                found: Losses = self._run(part)
            (found["loss"] * self._processes.size).backward()  # type: ignore[no-untyped-call]
        return found

    def _apart(self, apart: bool) -> AbstractContextManager[object]:
        """Inside, gradients stay this process's own."""
        if isinstance(self._run, nn.parallel.DistributedDataParallel):
            return self._run.no_sync() if apart else nullcontext()
        self._run.set_requires_gradient_sync(not apart)  # type: ignore[operator]
        return nullcontext()

    def run(self, act: Callable[[], Value]) -> Value:
        """What ``act`` gives, which may call the model; shards are put together for it."""
        if not self.sharded:
            return act()
        found: Value = self._run(act)
        return found

    def together(
        self, optimizer: torch.optim.Optimizer, average: WeightAverage | None
    ) -> WholeState | None:
        """The state out of the shards of all processes, who all call this; ``None`` with copies."""
        if not self.sharded:
            return None
        keep = self._processes.main
        own = _put_together(dict(self._model.named_parameters()), keep)
        mean = None if average is None else _put_together(average.weights, keep)
        return WholeState(own, mean, optimizer_tensors(self._model, optimizer, keep))


def _sharded(run: nn.Module, model: VideoModel, processes: Processes) -> nn.Module:
    """The model with its parameters in shards, each block's put together when it runs."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    device = processes.device or torch.device("cpu")
    mesh = init_device_mesh(device.type, (processes.size,))
    with torch.no_grad():
        for _, value in model.named_parameters():
            dist.broadcast(value, 0)
    for block in model.encoder.blocks:
        fully_shard(block, mesh=mesh)
    # Else its shards stay together behind a validation, and the optimizer's would not be those.
    fully_shard(run, mesh=mesh, reshard_after_forward=True)
    return run


def _put_together(tensors: dict[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Whole tensors on the CPU; one at a time, and where they are not kept, none stays."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        one = whole(value.detach())
        if keep:
            found[name] = one.cpu().contiguous()
    return found


def _require_shardable(stage: StageConfig) -> None:
    """What keeps a second whole model beside the shards would undo them."""
    refused: dict[str, object] = {}
    if isinstance(stage, FinetuneConfig):
        refused = {"finetune.adapter": stage.adapter != "none" and stage.adapter}
    if isinstance(stage, PretrainConfig):
        refused = {
            "pretrain.cross_queue": stage.cross_weight > 0 and stage.cross_queue,
            "pretrain.tag_soft_share": stage.tag_weight > 0 and stage.tag_soft_share,
        }
    for key, value in refused.items():
        if value:
            section = key.split(".")[0]
            raise UsageError(
                f"{key}={value} does not go with {section}.sharded=true, which leaves no process a "
                f"whole model: set {section}.sharded=false, or leave {key} at its default"
            )
