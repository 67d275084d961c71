"""Two views of the same videos, each told from the views of others.

Letters: B videos, E numbers in a vector, Q vectors in a queue.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(
    views: Tensor, keys: Tensor, temperature: float, queue: Tensor | None = None
) -> Tensor:
    """Cross entropy of each video's key among all keys, mean over the batch; 0 for no video.

    Source: van den Oord, Li and Vinyals 2018; the queue: He et al. 2020 (MoCo).

    Args:
        views: (B, E) of length 1.
        keys: (B, E) of length 1, of the same videos in the same order.
        temperature: What cosines are divided by.
        queue: (Q, E) keys of other videos.
    """
    candidates = keys if queue is None else torch.cat([keys, queue])
    cosines = views @ candidates.T / temperature
    place = torch.arange(len(views), device=views.device)
    return F.cross_entropy(cosines, place, reduction="sum") / max(1, len(views))
