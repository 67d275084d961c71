"""How a measure is spread over videos: its figures, and a histogram with bins of a round width."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = tuple[tuple[str, int], ...]

BINS = 12


@dataclass(frozen=True, slots=True)
class Spread:
    """How a measure is spread over the videos that have it; figures are NaN where none has.

    Attributes:
        count: How many values.
        minimum, median, mean, maximum: Of the values.
        histogram: Label and count of each bin, in order. Bins are wide enough for 99 % of the
            values; the last one takes the few beyond, and its label then ends in ``+``.
    """

    count: int
    minimum: float
    median: float
    mean: float
    maximum: float
    histogram: Counts


def spread(values: ArrayLike, bins: int = BINS) -> Spread:
    """Spread of (n,) numbers, in at most about ``bins`` bins of a round width."""
    array = np.asarray(values)
    if not len(array):
        nan = float("nan")
        return Spread(0, nan, nan, nan, nan, ())
    whole = np.issubdtype(array.dtype, np.integer)
    array = array.astype(np.float64)
    return Spread(
        count=len(array),
        minimum=float(array.min()),
        median=float(np.median(array)),
        mean=float(array.mean()),
        maximum=float(array.max()),
        histogram=_histogram(array, bins, whole=whole),
    )


def describe(measured: Spread) -> str:
    """The figures of a spread on one line."""
    if not measured.count:
        return "none known"
    values = (measured.minimum, measured.maximum, measured.median, measured.mean)
    low, high, median, mean = (f"{round(value, 2):,.10g}" for value in values)
    return f"{low} to {high}, median {median}, mean {mean}"


def _round_step(span: float, bins: int, *, whole: bool) -> float:
    """The least width 1, 2 or 5 times a power of ten with which ``bins`` bins cover a span."""
    if span <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(span / bins))
    step = next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power * bins >= span * (1 - 1e-9))
    return float(max(1.0, step) if whole else step)


def _histogram(values: NDArray[np.float64], bins: int, *, whole: bool) -> Counts:
    low, high = values.min(), np.quantile(values, 0.99, method="higher")
    step = _round_step(high - low + whole, bins, whole=whole)
    # Counted in steps, so that edges are whole numbers; what a division left short is made up for.
    scaled = values / step + 1e-9
    first = np.floor(scaled.min())
    last = np.floor(high / step + 1e-9) + 1 if whole else np.ceil(high / step - 1e-9)
    edges = np.arange(first, max(last, first + 1) + 1)
    counts = np.histogram(np.minimum(scaled, edges[-1]), edges)[0]
    labels = [_label(a * step, b * step, whole=whole) for a, b in pairwise(edges)]
    if scaled.max() > edges[-1] + 2e-9:
        labels[-1] = f"{edges[-2] * step:g}+"
    return tuple(zip(labels, counts.tolist(), strict=True))


def _label(low: float, high: float, *, whole: bool) -> str:
    if whole:
        return f"{low:.0f}" if high - low == 1 else f"{low:.0f}–{high - 1:.0f}"
    return f"{low:.6g}–{high:.6g}"


def by_count(values: list[str], counts: list[int]) -> Counts:
    """Values with their counts, most frequent first, ties by name."""
    return tuple(sorted(zip(values, counts, strict=True), key=lambda item: (-item[1], item[0])))
