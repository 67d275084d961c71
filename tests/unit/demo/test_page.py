"""Charts: every point at its place, ticks round, nothing drawn off the paper."""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from vidvec.demo.page import interval_chart, line_chart, log_ticks, scatter, ticks
from vidvec.metrics import Interval


def svg(markup: str) -> ET.Element:
    root = ET.fromstring(markup)  # noqa: S314 - our own output
    return root if root.tag == "svg" else root.find("svg")  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.5, 1]),
        (0, 100, [0, 50, 100]),
        (0.31, 0.79, [0.4, 0.6]),
        (-3, 3, [-2, 0, 2]),
        (7, 7, [7]),
    ],
)
def test_ticks(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(30))
def test_ticks_lie_within_and_are_few(seed: int) -> None:
    random = np.random.default_rng(seed)
    low = float(random.normal()) * 10.0 ** random.integers(-4, 5)
    high = low + float(random.gamma(1)) * 10.0 ** random.integers(-4, 5)
    found = ticks(low, high)
    assert 1 <= len(found) <= 5
    assert all(low - 1e-9 * abs(low) <= tick <= high + 1e-9 * abs(high) for tick in found)


def test_log_ticks() -> None:
    assert log_ticks(1, 30) == pytest.approx([1, 2, 5, 10, 20])
    assert log_ticks(0.02, 500) == pytest.approx([0.1, 1, 10, 100])


def test_line_chart_puts_points_in_proportion() -> None:
    points = [(0, 1.0), (50, 3.0), (100, 2.0)]
    root = svg(line_chart("loss", {"train": points}))
    shown = root.find("polyline").get("points").split()  # type: ignore[union-attr]
    (x0, y0), (x1, y1), (x2, y2) = (tuple(map(float, each.split(","))) for each in shown)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.02)
    assert y0 > y2 > y1  # up is more
    assert y2 - y1 == pytest.approx(y0 - y2, abs=0.02)
    assert all(0 <= x <= 300 for x in (x0, x1, x2))
    assert all(0 <= y <= 180 for y in (y0, y1, y2))


def test_line_chart_over_decades_is_logarithmic_and_marks_validation() -> None:
    points = [(1, 1000.0), (2, 100.0), (3, 10.0), (4, 1.0)]
    root = svg(line_chart("loss", {"validation": points}))
    heights = [float(each.get("cy", "nan")) for each in root.iter("circle")]
    assert len(heights) == 4
    assert np.diff(heights) == pytest.approx([heights[1] - heights[0]] * 3, abs=0.03)


@pytest.mark.parametrize("points", [[(10, 0.5)], [(1, 2.0), (2, 2.0)], [(1, 0.0), (2, -0.0)]])
def test_line_chart_of_one_value(points: list[tuple[float, float]]) -> None:
    root = svg(line_chart("loss", {"train": points}))
    for each in root.find("polyline").get("points").split():  # type: ignore[union-attr]
        assert all(math.isfinite(float(number)) for number in each.split(","))


def test_interval_chart() -> None:
    root = svg(interval_chart(Interval(0.6, 0.5, 0.8), 0.5, 0.9))
    whisker = next(each for each in root.iter("line") if each.get("class") == "whisker")
    circle = root.find("circle")
    assert circle is not None
    x1, x2, cx = (
        float(whisker.get("x1", "")),
        float(whisker.get("x2", "")),
        float(circle.get("cx", "")),
    )
    assert (cx - x1) / (x2 - x1) == pytest.approx(1 / 3, abs=1e-3)
    assert interval_chart(Interval(0.5, float("nan"), float("nan")), 0, 1) == ""


def test_scatter_keeps_places_labels_and_colours_together() -> None:
    places = np.array([[0, 0], [2, 1], [1, 3]], np.float32)
    root = svg(scatter(places, ["<a>", "b", "c"], ["c0", "c1", "other"]))
    dots = root.findall("circle")
    assert [dot.findtext("title") for dot in dots] == ["<a>", "b", "c"]
    assert [dot.get("class") for dot in dots] == ["c0", "c1", "other"]
    across = [float(dot.get("cx", "")) for dot in dots]
    down = [float(dot.get("cy", "")) for dot in dots]
    assert across[0] < across[2] < across[1]
    assert down[0] > down[1] > down[2]
    one = svg(scatter(np.zeros((1, 2), np.float32), ["one"], ["c0"]))
    assert len(one.findall("circle")) == 1
