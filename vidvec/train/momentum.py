"""Slow copies, and a queue of what one made of the last videos (He et al. 2020)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from vidvec.model.encoder import VideoEncoder
from vidvec.records import Batch


class SlowCopy:
    """A copy of a module that follows it; it learns nothing itself and has no dropout.

    Args:
        module: Copied.
        momentum: Share that the copy keeps of itself in a step.

    Attributes:
        module: The copy.
    """

    def __init__(self, module: nn.Module, momentum: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self._momentum = momentum

    @torch.no_grad()
    def follow(self, module: nn.Module) -> None:
        """Takes a step towards the module."""
        for own, other in zip(self.module.parameters(), module.parameters(), strict=True):
            own.lerp_(other.detach(), 1 - self._momentum)

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint needs of it, by the parameters' names."""
        return dict(self.module.named_parameters())

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what ``tensors`` gave."""
        for name, value in self.module.named_parameters():
            value.copy_(tensors[name])


class MomentumQueue:
    """Keys of frames and of titles, and where the next ones go.

    Args:
        encoder: Copied; its copy follows it.
        size: Q, keys of each kind that are kept.
        momentum: Share that the copy keeps of itself in a step.
    """

    def __init__(self, encoder: VideoEncoder, size: int, momentum: float) -> None:
        self._slow = SlowCopy(encoder, momentum)
        weight = encoder.projection.weight
        self._keys = torch.zeros(2, size, len(weight), device=weight.device)
        self._pushed = 0

    @property
    def encoder(self) -> nn.Module:
        """The slow copy."""
        return self._slow.module

    def follow(self, encoder: VideoEncoder) -> None:
        """Takes a step towards the encoder."""
        self._slow.follow(encoder)

    @torch.no_grad()
    def keys(self, batch: Batch) -> Tensor:
        """(B, E) keys of a batch, of length 1."""
        vectors: Tensor = self.encoder(batch).vectors
        return vectors.float()

    @property
    def queues(self) -> tuple[Tensor, Tensor]:
        """Keys of frames and of titles, each (at most Q, E), in no order that matters."""
        held = min(self._pushed, self._keys.shape[1])
        return self._keys[0, :held], self._keys[1, :held]

    def push(self, frames: Tensor, titles: Tensor) -> None:
        """Puts (B, E) keys of each kind in the place of the oldest."""
        size = self._keys.shape[1]
        some = torch.stack([frames, titles])[:, -size:]
        places = (self._pushed + torch.arange(some.shape[1], device=some.device)) % size
        self._keys[:, places] = some
        self._pushed += some.shape[1]

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint needs of it."""
        own = {f"encoder.{name}": value for name, value in self._slow.tensors().items()}
        return {**own, "keys": self._keys, "pushed": torch.tensor(self._pushed)}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what ``tensors`` gave."""
        self._slow.restore(below("encoder", tensors))
        self._keys.copy_(tensors["keys"])
        self._pushed = int(tensors["pushed"])


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix and a dot, named without."""
    start = f"{prefix}."
    return {name[len(start) :]: v for name, v in tensors.items() if name.startswith(start)}
