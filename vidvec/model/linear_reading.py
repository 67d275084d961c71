"""What a linear model makes of a video, as a part of its vector beside the transformer's.

"Wide and deep" (Cheng et al. 2016, "Wide & Deep Learning for Recommender Systems") keeps a linear
model beside a deep one, for they err differently. Here the linear one is not trained by steps: it
is solved for when a model is made (``vidvec.train.linear_start``) and stays as it is.

Letters: K numbers of the linear part, V words of the vocabulary; for others see ``vidvec.records``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidvec.model.layout import owners
from vidvec.model.precision import exact
from vidvec.records import Batch


class LinearReading(nn.Module):
    """Mean frame times a matrix, plus a sum of words' rows over the root of their number.

    Args:
        frame_size: D.
        vocab_size: V.
        size: K.

    Attributes:
        frames: (K, D); ``frame_offset`` (K,) is added where a video has frames.
        words: (V, K).
        constant: (K,), added to every video.
    """

    def __init__(self, frame_size: int, vocab_size: int, size: int) -> None:
        super().__init__()

        def still(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(*shape), requires_grad=False)

        self.frames, self.frame_offset = still(size, frame_size), still(size)
        self.words, self.constant = still(vocab_size, size), still(size)

    def forward(self, batch: Batch) -> Tensor:
        """(B, K) of a batch without padding; of length 1, or 0 where nothing was solved for."""
        with exact(self.frames):
            videos, counts = len(batch.frame_counts), batch.frame_counts
            frames = batch.frames.to(self.frames.dtype)
            means = frames.new_zeros(videos, frames.shape[1])
            means = means.index_add(0, owners(counts, len(frames)), frames)
            means = means / counts.clamp(min=1)[:, None]
            seen = F.linear(means, self.frames) + self.frame_offset * (counts > 0)[:, None]
            words, numbers = F.embedding(batch.token_ids, self.words), batch.token_counts
            said = seen.new_zeros(seen.shape).index_add(0, owners(numbers, len(words)), words)
            read = seen + said / numbers.clamp(min=1).sqrt()[:, None] + self.constant
            return F.normalize(read, dim=-1)
