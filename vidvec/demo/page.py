"""Charts of the report as inline SVG, coloured by the page's own variables, light or dark.

A point is (x, y) in the units of its axis; sizes are in SVG units, about a pixel each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vidvec.data.html import Html, element, join
from vidvec.metrics import Interval

Points = Sequence[tuple[float, float]]

# Told apart from one another, and from both a white and a black page.
_PALETTE = (
    *("#4e79a7", "#f28e2b", "#e15759", "#59a14f", "#b07aa1", "#d4a017"),
    *("#2aa6c9", "#9c755f", "#ff7fa7", "#8a8f2e", "#6f6fd8", "#3aa78f"),
)

COLOURS = len(_PALETTE)

CSS = "".join(f".c{place} {{ fill: {c}; background: {c}; }}\n" for place, c in enumerate(_PALETTE))
CSS += """
main { max-width: 84rem; }
.other { fill: #8d9199; background: #8d9199; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.grid { stroke: var(--line); stroke-width: 1; }
.train { fill: none; stroke: var(--accent); stroke-width: 1.8; stroke-linejoin: round; }
.validation { fill: none; stroke: #e0762f; stroke-width: 1.8; stroke-linejoin: round; }
circle.mark { fill: #e0762f; }
.whisker { stroke: var(--accent); stroke-width: 2.5; stroke-linecap: round; }
.middle { fill: var(--accent); stroke: var(--card); stroke-width: 1.5; }
.map circle { stroke: var(--card); stroke-width: .6; }
.map circle:hover { stroke: var(--ink); stroke-width: 2; }
.legend {
  display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; font-size: .85rem; margin: .2rem 0 .8rem;
}
.swatch {
  display: inline-block; width: .75rem; height: .75rem; border-radius: 50%; margin-right: .4rem;
}
.swatch.line { width: 1.2rem; height: .2rem; border-radius: 0; vertical-align: middle; fill: none; }
.swatch.train { background: var(--accent); }
.swatch.validation { background: #e0762f; }
.charts {
  display: grid; gap: .8rem; margin-bottom: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 14.5rem), 1fr));
}
.query {
  display: grid; gap: .6rem; margin-bottom: 1.4rem;
  grid-template-columns: repeat(auto-fit, minmax(min(46%, 11.5rem), 1fr));
}
.query > :first-child { border: 2px solid var(--accent); }
.match { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 .6rem; }
.match b { font-variant-numeric: tabular-nums; }
.match .scored { color: var(--good); font-weight: 600; }
.card .title { font-size: .92rem; }
.results td { overflow-wrap: normal; white-space: nowrap; padding-right: 1.4rem; }
.results svg { width: 14rem; }
.results tbody tr:last-child { font-weight: 600; }
"""


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round numbers within bounds: multiples of 1, 2 or 5 times a power of ten."""
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(m * power for m in (1, 2, 5, 10, 20) if span / (m * power) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [place * step for place in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Powers of ten within bounds, with their doubles and fives where there is room."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high]
        if len(found) <= most + 1:
            break
    return found


class _Axis:
    """From values to places on paper, straight or, where values span decades, by logarithm."""

    def __init__(self, values: Sequence[float], start: float, end: float, logs: bool) -> None:
        self._log = logs and min(values) > 0 and max(values) > 20 * min(values)
        self._start, self._end = start, end
        self.low, self.high = min(values), max(values)
        if not self._log and logs:
            margin = 0.06 * (self.high - self.low) or 0.1 * abs(self.high) or 1.0
            self.low, self.high = self.low - margin, self.high + margin
        make = log_ticks if self._log else ticks
        self.ticks = make(self.low, self.high)

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self._log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self._start + share * (self._end - self._start), 2)


def line_chart(name: str, series: Mapping[str, Points]) -> Html:
    """A box with a chart over steps.

    Args:
        name: What is shown.
        series: Points of ``train`` and ``validation``, one of them or both; validation is marked
            at each point, as it is measured seldom.
    """
    width, height, left, top, bottom = 300, 180, 44, 8, 22
    points = [point for each in series.values() for point in each]
    across = _Axis([0.0, *(x for x, _ in points)], left, width - 8, logs=False)
    up = _Axis([y for _, y in points], height - bottom, top, logs=True)
    parts = [
        join(
            element("line", x1=left, x2=width - 8, y1=up(y), y2=up(y), class_="grid"),
            element("text", f"{y:.4g}", x=left - 6, y=up(y) + 4, text_anchor="end"),
        )
        for y in up.ticks
    ]
    parts += [
        element("text", f"{x:,.0f}", x=across(x), y=height - 5, text_anchor="middle")
        for x in across.ticks
    ]
    for kind, each in series.items():
        path = " ".join(f"{across(x)},{up(y)}" for x, y in each)
        parts.append(element("polyline", points=path, class_=kind))
        if kind == "validation":
            parts += [
                element("circle", cx=across(x), cy=up(y), r=2.4, class_="mark") for x, y in each
            ]
    picture = element(
        "svg", *parts, viewBox=f"0 0 {width} {height}", role="img", aria_label=f"{name} over steps"
    )
    return element("div", element("h3", name), picture, class_="box")


def interval_chart(interval: Interval, low: float, high: float) -> Html:
    """An interval with its value marked, on an axis from ``low`` to ``high``."""
    width = 200
    values = [interval.low, interval.value, interval.high]
    if not all(map(math.isfinite, values)) or high <= low:
        return Html("")
    first, middle, last = (round(6 + (width - 12) * (v - low) / (high - low), 2) for v in values)
    return element(
        "svg",
        element("line", x1=6, x2=width - 6, y1=9, y2=9, class_="grid"),
        element("line", x1=first, x2=last, y1=9, y2=9, class_="whisker"),
        element("circle", cx=middle, cy=9, r=5, class_="middle"),
        viewBox=f"0 0 {width} 18",
        role="img",
        aria_label=str(interval),
    )


def scatter(places: NDArray[np.float32], labels: Sequence[str], classes: Sequence[str]) -> Html:
    """A map: a dot for each place, its label shown when pointed at.

    Args:
        places: (n, 2).
        labels: (n,) texts.
        classes: (n,) style classes.
    """
    width, height, margin = 1000, 640, 14
    low, high = places.min(axis=0), places.max(axis=0)
    span = np.where(high > low, high - low, 1)
    room = np.array([width - 2 * margin, height - 2 * margin])
    shown = margin + (places - low) / span * room
    radius = 5.5 if len(places) <= 700 else 4
    dots = [
        element(
            "circle",
            element("title", label),
            cx=f"{x:.1f}",
            cy=f"{height - y:.1f}",
            r=radius,
            class_=kind,
        )
        for (x, y), label, kind in zip(shown, labels, classes, strict=True)
    ]
    return element(
        "svg", *dots, viewBox=f"0 0 {width} {height}", class_="map", role="img", aria_label="map"
    )


def legend(entries: Sequence[tuple[str, str]]) -> Html:
    """Names beside their colours: (style class, name)."""
    items = [
        element("span", element("span", class_=f"swatch {kind}"), name) for kind, name in entries
    ]
    return element("div", *items, class_="legend")
