"""Files that misbehave when they are read, and whose pictures follow from their names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.unit.data import misbehaving
from vidvec.data.media import Media, MediaRequest

TASK = f"{__name__}:read"


def read(path: Path, request: MediaRequest) -> Media:
    """Does what the file's stem says; see ``misbehaving.read``."""
    media = misbehaving.read(path, request)
    random = np.random.default_rng([*path.stem.encode()])
    picture = random.integers(0, 256, (request.short_side, request.short_side, 3), np.uint8)
    return replace(media, pictures=[picture], times_seconds=np.zeros(1, np.float32), notes=())
