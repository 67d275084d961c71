"""A step against oneself: learning from a batch whose inputs are moved up the loss.

Source: the fast gradient method on embeddings, Miyato, Dai and Goodfellow, "Adversarial training
methods for semi-supervised text classification" (2017); as there, the direction is the gradient's.
Moved are the tables that inputs come through, so that no batch need be held apart from its frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vidvec.model.weights import VideoModel

MOVED = ("encoder.word.weight", "encoder.frame_projection.weight")


@contextmanager
def moved_up(model: VideoModel, length: float) -> Iterator[None]:
    """Inside, each weight of ``MOVED`` lies this far up its gradient; behind, where it was.

    Args:
        model: Behind a backward pass; a weight that got no gradient stays.
        length: Of the move, a Euclidean norm over the weight's numbers.
    """
    own: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name in MOVED and value.grad is not None:
                own.append((value, value.detach().clone()))
                norm = value.grad.norm()
                value.add_(value.grad * (length / norm.clamp(min=torch.finfo(norm.dtype).tiny)))
    try:
        yield
    finally:
        with torch.no_grad():
            for value, before in own:
                value.copy_(before)
