"""Cells of a table that hold features already computed: of pictures, or of sound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import BadRecord
from vidvec.records import Video

Kind = Literal["frame", "audio"]
_NAMES: dict[Kind, tuple[str, str]] = {
    "frame": ("frame", "frames"),
    "audio": ("audio frame", "audio frames"),
}


@dataclass(slots=True)
class Widths:
    """Numbers in a frame and in an audio frame; ``None``: as in the first good row."""

    frames: int | None = None
    audio: int | None = None

    def note(self, video: Video) -> None:
        """Takes the widths of a good row's features where they were not known."""
        if self.frames is None and len(video.frames):
            self.frames = video.frames.shape[1]
        if self.audio is None and len(video.audio):
            self.audio = video.audio.shape[1]


def feature_rows(rows: Any, width: int | None, kind: Kind = "frame") -> NDArray[np.float16]:
    """(count, width) float16 from an Arrow array of lists; none from what is something else.

    Raises:
        BadRecord: ``bad-record``, ``frame-width``, ``audio-width`` or ``nan``.
    """
    one, several = _NAMES[kind]
    if isinstance(rows, list):
        raise BadRecord("bad-record", f"{several} are read from Parquet and Arrow tables only")
    if rows is None or isinstance(rows, int | float | str | bytes | dict) or len(rows) == 0:
        return np.zeros((0, width or 0), np.float16)
    widths = {length.as_py() or 0 for length in rows.value_lengths().unique()}
    found = width or max(widths)
    if widths != {found} or found == 0:
        sizes = ", ".join(str(size) for size in sorted(widths)[:5])
        detail = f"{several} of {sizes} numbers, expected {width or 'one size'}"
        raise BadRecord(f"{kind}-width", detail)
    numbers = rows.flatten().to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        features: NDArray[np.float16] = numbers.astype(np.float16).reshape(len(rows), found)
    if len(bad := np.flatnonzero(~np.isfinite(features))):
        value = f"{one} {bad[0] // found} holds {numbers[bad[0]]}"
        raise BadRecord("nan", f"{value}, expected numbers that float16 can hold")
    return features


def feature_times(value: Any, count: int, kind: Kind = "frame") -> NDArray[np.float32]:
    """(count,) float32 seconds; where there is no value, one a second from 0 on.

    Raises:
        BadRecord: ``bad-record``.
    """
    is_nan = isinstance(value, float) and math.isnan(value)  # as data frames write nothing
    if count == 0 or value is None or value == "" or is_nan:
        return np.arange(count, dtype=np.float32)
    times = floats(value)
    if times.shape != (count,) or not np.isfinite(times).all():
        column, one = f"{kind}_times_seconds", _NAMES[kind][0]
        found = f"{column} is {value!r:.60}, expected {count} numbers, one each {one}"
        raise BadRecord("bad-record", found)
    return times.astype(np.float32)


def floats(value: Any) -> NDArray[np.float64]:
    """Numbers in the shape they come in; a lone NaN where they are none."""
    try:
        return np.array(value, np.float64)
    except (TypeError, ValueError):
        return np.array(math.nan)
