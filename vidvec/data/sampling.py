"""Which frames stand for a video that has more of them than there is room for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def sample_positions(count: int, limit: int) -> NDArray[np.int64]:
    """Positions of at most ``limit`` out of ``count`` frames, spread over all of them.

    All of them where ``count <= limit``; else position i is ``round((i + 0.5) * (count - 1) /
    limit)`` (system.md, section 2), halves rounded to even as Python and NumPy do. One frame too
    many would make every position a half, and rounding would take every other frame twice: there
    the middle frame is left out instead.

    Returns:
        (min(count, limit),) int64, ascending, each position once.
    """
    if count <= limit:
        return np.arange(count, dtype=np.int64)
    if count == limit + 1:
        return np.delete(np.arange(count, dtype=np.int64), count // 2)
    return np.round((np.arange(limit) + 0.5) * (count - 1) / limit).astype(np.int64)
