"""Which frames stand for a video that has more of them than there is room for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import UsageError

# How a corpus's frames were chosen: those on screen at evenly spread times, or the nearest key
# frames. The manifest says ``frame_sampling`` only where it is the latter.
EVEN, KEYFRAMES = "even", "keyframes"


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


def settle_sampling(path: Path, manifest: dict[str, Any], sampling: str) -> None:
    """Notes how the first frames of a corpus were chosen, and refuses others beside them.

    Args:
        path: The corpus folder.
        manifest: Of the corpus; changed.
        sampling: ``EVEN`` or ``KEYFRAMES``, of frames that are to go in.

    Raises:
        UsageError: The corpus has frames that were chosen in the other way.
    """
    held = manifest.get("frame_sampling", EVEN)
    if manifest["frame_encoder"]["name"] == "none":
        if sampling != EVEN:
            manifest["frame_sampling"] = sampling
    elif held != sampling:
        names = {EVEN: "frames at evenly spread times", KEYFRAMES: "key frames (--keyframes)"}
        way = "with --keyframes" if held == KEYFRAMES else "without --keyframes"
        raise UsageError(
            f"{path} holds {names[held]}; {names[sampling]} cannot join them: ingest {way}, or "
            "into a new corpus"
        )
