"""Which frames stand for a video that has more of them than there is room for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def sample_positions(count: int, limit: int) -> NDArray[np.int64]:
    """Positions of at most ``limit`` out of ``count`` frames, spread over all of them.

    All of them where ``count <= limit``; else position i is ``round((i + 0.5) * (count - 1) /
    limit)`` (system.md, section 2), halves rounded to even as Python and NumPy do.

    Returns:
        (min(count, limit),) int64, ascending.
    """
    if count <= limit:
        return np.arange(count, dtype=np.int64)
    return np.round((np.arange(limit) + 0.5) * (count - 1) / limit).astype(np.int64)
