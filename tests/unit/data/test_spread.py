"""Histograms against counting by hand and by the bounds that their labels name."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from vidvec.data.spread import describe, spread


def test_of_nothing() -> None:
    nothing = spread([])
    assert nothing.count == 0
    assert nothing.histogram == ()
    assert describe(nothing) == "none known"


def test_figures_in_words() -> None:
    assert describe(spread([1, 2, 6])) == "1 to 6, median 2, mean 3"


def bounds(label: str, *, whole: bool) -> tuple[float, float]:
    low, _, high = label.removesuffix("+").partition("–")
    if label.endswith("+"):
        return float(low), float("inf")
    return float(low), float(high or low) + whole


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("whole", [True, False])
def test_every_bin_holds_what_its_label_says(seed: int, whole: bool) -> None:
    random = np.random.default_rng(seed)
    values = random.gamma(2, 10.0 ** random.integers(0, 4), int(random.integers(1, 500)))
    values = values.astype(np.int64) if whole else np.round(values, 2)
    histogram = spread(values).histogram
    assert 1 <= len(histogram) <= 14
    assert sum(count for _, count in histogram) == len(values)
    edges = [bounds(label, whole=whole) for label, _ in histogram]
    assert all(a[1] == b[0] for a, b in pairwise(edges))
    for place, (low, high) in enumerate(edges):
        last = place == len(edges) - 1
        held = (values >= low) & ((values < high) | (last & (values == high)))
        assert held.sum() == histogram[place][1]


@pytest.mark.parametrize(
    ("values", "histogram"),
    [
        ([3, 3, 3], (("3", 3),)),
        ([0, 1, 1, 2], (("0", 1), ("1", 2), ("2", 1))),
        ([*range(24)], tuple((f"{low}–{low + 1}", 2) for low in range(0, 24, 2))),
        ([0.0, 0.5, 1.0, 2.0], (("0–0.2", 1), ("0.2–0.4", 0), ("0.4–0.6", 1))),
    ],
)
def test_histogram_by_hand(values: list[float], histogram: tuple[tuple[str, int], ...]) -> None:
    assert spread(values).histogram[: len(histogram)] == histogram


def test_one_very_long_title_does_not_flatten_the_histogram() -> None:
    histogram = spread([5, 6, 7, 8] * 100 + [10_000]).histogram
    assert histogram[-1] == ("8+", 101)
    assert len(histogram) == 4
