"""AnglE: the pairs' order by an angle in complex space, which saturates less than a cosine."""

from __future__ import annotations

import torch
from torch import Tensor

from vidvec.train.objectives.pairs import ScoredPairs


def angle_loss(pairs: ScoredPairs, scale: float) -> Tensor:
    """CoSENT's loss of the pairs' order by ``complex_similarity``.

    Source: Li and Li, "AnglE-optimized text embeddings" (2023), section 3.4.

    Args:
        pairs: Of the batch; E is even.
        scale: As in ``cosent``.
    """
    return pairs.order_loss(complex_similarity(pairs.first, pairs.second), scale)


def complex_similarity(first: Tensor, second: Tensor) -> Tensor:
    """(P,) absolute sum of the real and imaginary parts of the quotients of two complex vectors.

    The first half of a vector holds its real parts, the second half its imaginary ones. Quotients
    are z/w = z·w̄/|w|², with |w|² of the whole vector, and are divided by |z|/|w|.

    Args:
        first, second: (P, E).
    """
    real, imaginary = first.chunk(2, dim=-1)
    other_real, other_imaginary = second.chunk(2, dim=-1)
    # Divided by |z|/|w|, a quotient z·w̄/|w|² is z·w̄/(|z||w|).
    lengths = (first.norm(dim=-1) * second.norm(dim=-1)).clamp(min=1e-12)
    products = (
        real * other_real
        + imaginary * other_imaginary
        + imaginary * other_real
        - real * other_imaginary
    )
    return torch.abs(products.sum(-1) / lengths)
