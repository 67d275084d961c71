"""A student's vectors against a teacher's.

Letters: B videos, E numbers in a vector.
"""

from __future__ import annotations

from torch import Tensor


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """One less the cosine of each video's two vectors, mean over the batch.

    Args:
        student, teacher: (B, E), of length 1. A teacher's vector of zeros has no say.
    """
    known = teacher.square().sum(-1) > 0
    distances = (1 - (student * teacher).sum(-1)) * known
    return distances.sum() / known.sum().clamp(min=1)


def relation_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the two cosines of every two videos of the batch.

    It asks for the same similarities and leaves the vectors' directions open, so that sizes may
    differ. 0 for a single video.

    Source: relational knowledge distillation (Park et al. 2019), with cosines as the relation.

    Args:
        student: (B, E), of length 1.
        teacher: (B, any), of length 1.
    """
    errors = (student @ student.T - teacher @ teacher.T).square()
    count = len(student)
    between = errors.sum() - errors.diagonal().sum()
    return between / max(1, count * (count - 1))
