"""How much each tag of each video counts, as videos with trusted tags would have it.

Letters: B videos, M trusted videos, W numbers that the tag head reads, C tags.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Logits and targets (n, C) to the loss (n, C) of each tag of each video.
EachLoss = Callable[[Tensor, Tensor], Tensor]


def class_weights(
    head: torch.nn.Linear,
    read: tuple[Tensor, Tensor],
    trusted: tuple[Tensor, Tensor],
    each_loss: EachLoss,
    *,
    rate: float,
    step: float,
    limit: float,
) -> Tensor:
    """(B, C) weights of the loss of each tag of each video, from 1 − limit to 1 + limit.

    Weights ω of 1 are put on the gradients g = ∂loss/∂logits, the head's weights θ look ahead by a
    step of gradient descent, ``θ(ω) = θ − rate · ∂θ/∂logits (ω g)``, and the weights then move down
    the gradient that the trusted videos' loss there has:
    ``ω = max(1 − clip(step · d / mean |d|, ±limit), 0)`` with ``d = ∂ trusted loss(θ(ω)) / ∂ω``.
    Given or not given tags that pull the head to where trusted videos' loss falls come to count
    more, others less.

    Source: Chen et al. 2021, "Generalized DataWeighting via Class-Level Gradient Manipulation"
    (GDW), algorithm 1 and its authors' code, where ``step`` is 0.1 and ``limit`` 0.2. Two things
    differ. The look-ahead is exact for the tag head and leaves the encoder as it is: one matrix
    product instead of a second pass through a copy of the model. Weights start from 1, not from
    those that a small network gives each video. Tags are no softmax, so that the source's
    constraint that gradients of a video sum up to 0 has nothing to hold together.

    Tags that none of the trusted videos has keep weight 1: nothing is known of them.

    Args:
        head: Linear, W to C.
        read, trusted: What the head reads, (B, W) and (M, W), and the 0…1 targets (B, C), (M, C).
        each_loss: The loss that is weighted.
        rate: Of the look-ahead, times the weight of the sum over tags of the mean over videos.
        step: How far weights move on average before clipping.
        limit: How far at most.
    """
    (inputs, targets), (others, wanted) = ((some.detach(), tags) for some, tags in (read, trusted))
    known = (wanted > 0).any(0)
    with torch.enable_grad():
        logits = (inputs @ head.weight.T + head.bias).detach().requires_grad_()
        flow = torch.autograd.grad(each_loss(logits, targets).sum(), logits)[0]
        weights = torch.ones_like(flow, requires_grad=True)
        pulled = weights * flow * (rate / max(1, len(inputs)))
        weight = head.weight.detach() - pulled.T @ inputs
        bias = head.bias.detach() - pulled.sum(0)
        loss = each_loss(others @ weight.T + bias, wanted).mean()
        slope = torch.autograd.grad(loss, weights)[0] * known
    size = slope.abs().sum() / (known.sum() * len(inputs)).clamp(min=1)
    # Where nothing pulls, nothing moves.
    moves = (step * slope / size.clamp(min=torch.finfo(slope.dtype).tiny)).clamp(-limit, limit)
    return (1 - moves).clamp(min=0)
