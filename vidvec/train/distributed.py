"""Training over several processes that PyTorch's launcher, ``torchrun``, has started.

Each process takes its share of every batch's videos. What the processes' losses are normalised by
is of the whole batch, so that they sum up to the loss of one process with that batch, and so do
their gradients. A loss that compares videos with each other is taken by all processes of all
vectors (``Processes.gather``), and each counts an Nth of it.

Letters: N processes; for others see ``vidvec.records``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from vidvec.errors import UsageError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

Value = TypeVar("Value")


class Gathered(NamedTuple):
    """Rows of all processes.

    Attributes:
        values: (n, …), process after process.
        first: Where this process's begin.
    """

    values: Tensor
    first: int


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes that train one model together, as one of them sees them.

    Attributes:
        rank: Which this one is, from 0, which writes and prints.
        size: N.
        device: Where this one computes; ``None``: the GPU where there is one.
    """

    rank: int = 0
    size: int = 1
    device: torch.device | None = None

    @property
    def main(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.size > 1

    def spans(self, items: int, parts: int = 1) -> list[tuple[int, int]]:
        """Where this process's share of each part of a batch begins and ends in the batch.

        Shares are of almost one size; with fewer items than processes some are empty.
        """
        rank, size = self.rank, self.size
        return [
            (first + (end - first) * rank // size, first + (end - first) * (rank + 1) // size)
            for first, end in part_spans(items, parts)
        ]

    def own(self, items: int, parts: int = 1) -> NDArray[np.int64]:
        """Positions of this process's share of a batch, part after part."""
        return np.concatenate([np.arange(*span) for span in self.spans(items, parts)])

    def own_parts(self, items: int, parts: int) -> list[tuple[tuple[int, int], float]]:
        """Of each part, where it lies in this process's share, and its share of the whole batch.

        Args:
            items: Of this process.
            parts: Asked for; there are fewer where the whole batch has fewer items.
        """
        if parts == 1:
            return [((0, items), 1.0)]
        whole = items
        if self.several:
            whole = int(self.total(torch.tensor(items, device=self.device)))
        lengths = [end - first for first, end in self.spans(whole, parts)]
        spans = pairwise(np.cumsum([0, *lengths]).tolist())
        shares = [(end - first) / whole for first, end in part_spans(whole, parts)]
        return list(zip(spans, shares, strict=True))

    def shared_out(self, batches: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """This process's of some batches of rows: every Nth.

        All processes get equally many; one that would have fewer gets an empty one.
        """
        own = list(batches[self.rank :: self.size])
        if len(own) < -(-len(batches) // self.size):
            own.append(batches[0][:0])
        return own

    def dealt(self, batches: Sequence[Value]) -> list[Value]:
        """All batches in the order in which ``gather`` gives what was made of ``shared_out``."""
        return [batch for rank in range(self.size) for batch in batches[rank :: self.size]]

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes, of the same shape; it has no gradient."""
        if self.several:
            values = values.detach().clone()
            dist.all_reduce(values)
        return values

    def gather(self, values: Tensor) -> Gathered:
        """The rows of all processes, of which those of this one have a gradient.

        The gradient is N times that of the process's own rows: it fits a loss that all processes
        take alike of all rows and count an Nth of. No process then waits for another's gradient.

        Args:
            values: (n, …), where n may differ between processes, also be 0.
        """
        if not self.several:
            return Gathered(values, 0)
        counts = values.new_zeros(self.size, dtype=torch.int64)
        counts[self.rank] = len(values)
        each = self.total(counts).tolist()
        found: Tensor = _Gather.apply(values, each, self.rank)  # type: ignore[no-untyped-call]
        return Gathered(found, sum(each[: self.rank]))

    def from_main(self, value: Value) -> Value:
        """The value of rank 0."""
        if not self.several:
            return value
        held: list[Any] = [value if self.main else None]
        dist.broadcast_object_list(held, src=0, device=self.device)
        result: Value = held[0]
        return result

    def same(self, value: int) -> bool:
        """Whether a number is the same in all processes."""
        if not self.several:
            return True
        ends = torch.tensor([value, -value], device=self.device)
        dist.all_reduce(ends, dist.ReduceOp.MAX)
        return bool(ends.sum() == 0)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.several:
            index = None if self.device is None else self.device.index
            dist.barrier(device_ids=None if index is None else [index])

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """What is inside rank 0 does first, the others when it is through."""
        if not self.main:
            self.wait()
        yield
        if self.main:
            self.wait()

    def seed(self, seed: int, step: int) -> None:
        """Seeds what dropout draws from, by step and rank: a resumed run draws as a whole one."""
        if self.several:
            state = np.random.SeedSequence([seed, step, self.rank]).generate_state(1, np.uint64)
            torch.manual_seed(int(state[0]) >> 1)


ALONE = Processes()


class _Gather(torch.autograd.Function):
    """See ``Processes.gather``."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, counts: list[int], rank: int) -> Tensor:
        ctx.counts, ctx.rank = counts, rank
        # Gloo wants equal sizes, and knows no bool.
        sent = values.detach().contiguous()
        sent = sent.to(torch.uint8) if sent.dtype == torch.bool else sent
        room = sent.new_zeros(max(counts), *sent.shape[1:])
        room[: len(sent)] = sent
        rooms = [torch.empty_like(room) for _ in counts]
        dist.all_gather(rooms, room)
        found = torch.cat([some[:count] for some, count in zip(rooms, counts, strict=True)])
        return found.to(values.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        first = sum(ctx.counts[: ctx.rank])
        own = gradients[0][first : first + ctx.counts[ctx.rank]]
        return own * len(ctx.counts), None, None


def part_spans(items: int, parts: int) -> list[tuple[int, int]]:
    """Where parts begin and end, of almost one size; fewer where there are fewer items."""
    ends = np.linspace(0, items, min(parts, items) + 1).round().astype(int).tolist()
    return list(pairwise(ends))


def is_main() -> bool:
    """Whether this process is the one that prints: the only one, or rank 0 of several."""
    return not dist.is_torchelastic_launched() or os.environ.get("RANK", "0") == "0"


def is_restarted() -> bool:
    """Whether the launcher has started this process again after another one ended."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def launched() -> Iterator[Processes]:
    """The processes that ``torchrun`` started, in touch with each other; else ``ALONE``.

    By NCCL on GPUs, each process its own (``LOCAL_RANK``), by Gloo on CPUs. A group that is there
    already is used and stays.

    Raises:
        UsageError: There are more processes on this machine than GPUs; or several machines could
            not start again.
    """
    if dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size(), _device())
        return
    if not dist.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield ALONE
        return
    device = _device()
    store, rank, size = _meeting_place()
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    processes = Processes(dist.get_rank(), dist.get_world_size(), device)
    processes.wait()
    yield processes
    # Not where an error came up: the others may never come here, and the launcher ends them.
    processes.wait()
    dist.destroy_process_group()


def _meeting_place() -> tuple[Store, int, int]:
    """Where processes leave their addresses, this one's rank, and their number.

    The launcher keeps one store for all its starts, in which those started again would find the
    addresses of the dead (https://github.com/pytorch/pytorch/issues/135712). On one machine its
    count of starts tells them apart; on several, machines count for themselves.
    """
    from torch._C._distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(rendezvous("env://"))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return store, rank, size
    if size == int(os.environ.get("LOCAL_WORLD_SIZE", "0")):
        count = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return PrefixStore(f"start {count}", store), rank, size
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")):
        raise UsageError(
            "torchrun with --max-restarts on several machines: set "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 on each, else processes that are started again "
            "find the addresses of those that died"
        )
    return store, rank, size


def _device() -> torch.device:
    """Where this process computes; on a GPU that is then PyTorch's default."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local, found = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= found:
        raise UsageError(
            f"process {local} of this machine has no GPU: there are {found}; start torchrun with "
            f"--nproc-per-node {found}, or hide them all (CUDA_VISIBLE_DEVICES=) to train on CPUs"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
