"""Frames with their own title told from frames with another video's title.

Letters: B videos, ΣT tokens of their titles.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vidvec.data.texts import ranges
from vidvec.records import Batch
from vidvec.train.masking import hash_uniform

# Of ``hash_uniform``, far from those of the masks.
STREAM = 100


def matching_loss(own: Tensor, other: Tensor, total: int | None = None) -> Tensor:
    """Mean binary cross entropy of "this title belongs to these frames"; 0 for no video.

    ``−½ mean of (log σ(own) + log σ(−other))``: the two classes of the source, as one logit, with
    one other title a video; the source also draws other frames for each title.

    Source: Li et al. 2021 (ALBEF), section 3.2, image-text matching.

    Args:
        own, other: (B,) logits of videos with their own and with another title.
        total: Videos to average over, where these are but a part; ``None``: those here.
    """
    each = F.softplus(-own.float()) + F.softplus(other.float())
    return each.sum() / max(1, 2 * (len(own) if total is None else total))


def other_titles(
    rows: Tensor, allowed: Tensor, seed: int, step: int, cosines: Tensor | None = None
) -> Tensor:
    """(B,) which video's title each video gets; −1 where none is allowed.

    Drawn with probability in proportion to ``exp(cosines)``, or all alike. A draw is the largest
    of ``cosine + Gumbel noise`` (Gumbel 1954), with noise from a hash of seed, step and the two
    videos' rows: it depends on which videos are there and not on their order.

    Args:
        rows: (B,) int64, the videos' rows in the corpus.
        allowed: (B, B) bool, whose titles a video (a row) may get.
        seed, step: Fix the draw.
        cosines: (B, B) of each video's frames with each title, over a temperature.
    """
    count = len(rows)
    if not count:
        return rows
    owner, giver = rows.repeat_interleave(count), rows.repeat(count)
    drawn = hash_uniform(seed, step, STREAM, owner, giver).reshape(count, count)
    # A draw of exactly 0 would give an infinite noise.
    values = -torch.log(-torch.log(drawn.clamp(min=2.0**-54)))
    if cosines is not None:
        values = values + cosines.detach().double()
    values = values.masked_fill(~allowed, -torch.inf)
    return torch.where(allowed.any(1), values.argmax(1), -1)


def different_titles(token_ids: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(B, B) bool: whether two videos' titles differ in any token.

    Args:
        token_ids: (ΣT,), video after video.
        counts: (B,) tokens of each.
    """
    parts = np.split(np.ascontiguousarray(token_ids, np.int64), np.cumsum(counts)[:-1])
    numbers: dict[bytes, int] = {}
    kinds = [numbers.setdefault(part.tobytes(), len(numbers)) for part in parts[: len(counts)]]
    kind = np.array(kinds, np.int64)
    return kind[:, None] != kind[None, :]


def with_titles_of(batch: Batch, givers: Tensor, titles: Batch | None = None) -> Batch:
    """The batch's frames with other videos' titles.

    Args:
        batch: Of frames and titles alone, without padding, on the CPU.
        givers: (B,) whose title each video gets.
        titles: The videos that ``givers`` counts, likewise; ``None``: those of the batch.
    """
    titles = batch if titles is None else titles
    counts = titles.token_counts.numpy()
    taken = givers.cpu().numpy()
    at = ranges((np.cumsum(counts) - counts)[taken], counts[taken])
    changed: dict[str, Any] = {
        "token_ids": titles.token_ids[torch.from_numpy(at)],
        "token_counts": titles.token_counts[torch.from_numpy(taken)],
    }
    return replace(batch, **changed, sizes=None)
