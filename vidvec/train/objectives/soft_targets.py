"""What people said, mixed with what a model makes of it."""

from __future__ import annotations

from torch import Tensor


def mixed(hard: Tensor, soft: Tensor, share: float) -> Tensor:
    """``(1 − share) · hard + share · soft``, the targets of self-distillation.

    A loss that is linear in its targets, as the cross entropy is, is then the sum of the two losses
    with these weights; the squared error is but for a constant.

    Sources: of tags, from a slow copy of the model itself, Li et al. 2021 (ALBEF), section 3.3,
    momentum distillation; of pairs, from a model trained on the same pairs before, Furlanello et
    al. 2018, "Born-again neural networks".

    Args:
        hard, soft: Of one shape.
        share: Of the soft targets, 0…1.
    """
    return (1 - share) * hard + share * soft
