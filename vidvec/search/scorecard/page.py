"""The scorecard as a page that needs nothing but itself, light and dark."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidvec.data import html
from vidvec.data.html import Html, element, join
from vidvec.metrics import Interval
from vidvec.search.scorecard.copies import ALL, LABELS, Shown
from vidvec.search.scorecard.figures import Figure, Row, Scorecard, Section
from vidvec.storage import atomic_path

CSS = """
main { max-width: 84rem; }
table { width: 100%; }
th, td { white-space: nowrap; padding-right: 1.2rem; vertical-align: middle; }
td:first-child { white-space: normal; min-width: 9rem; }
.number { font-variant-numeric: tabular-nums; font-weight: 600; }
.range, .less { display: block; color: var(--soft); font-size: .8rem; line-height: 1.3; }
.less b { font-weight: 600; color: var(--ink); }
.less b.up { color: var(--good); }
.less b.down { color: var(--bad); }
p.legend { margin-top: 1rem; max-width: none; }
tr.few td, tr.few .less b { color: var(--soft); }
tr.few .number { font-weight: 400; }
tr.few svg { opacity: .5; }
.chip {
  border: 1px solid var(--line); border-radius: 1rem; padding: 0 .45rem; font-size: .72rem;
  margin-left: .4rem; color: var(--soft);
}
svg.span { display: block; width: 9rem; height: 14px; margin: .1rem 0; }
svg.span .axis { stroke: var(--line); stroke-width: 1; }
svg.span .whisker { stroke: var(--accent); stroke-width: 2.5; stroke-linecap: round; }
svg.span .middle { fill: var(--accent); stroke: var(--card); stroke-width: 1.5; }
svg.span .other { fill: none; stroke: var(--soft); stroke-width: 1.5; }
.left-out { color: var(--soft); border-left: 3px solid var(--line); padding-left: .7rem; }
.samples {
  display: grid; gap: .6rem; margin: .8rem 0;
  grid-template-columns: repeat(auto-fill, minmax(8.2rem, 1fr));
}
.samples figure { margin: 0; }
.samples img {
  width: 100%; height: 5rem; object-fit: contain; background: var(--film); border-radius: .3rem;
  display: block;
}
svg.reliability { display: block; width: 100%; max-width: 24rem; height: auto; }
svg.reliability text { font: 11px system-ui, sans-serif; fill: var(--soft); }
svg.reliability line { stroke: var(--line); }
svg.reliability .ideal { stroke: var(--soft); stroke-dasharray: 4 4; }
svg.reliability circle { fill: var(--accent); fill-opacity: .8; stroke: var(--card); }
:root { --bad: #b3392f; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a7a; } }
"""


def write(path: Path, card: Scorecard, shown: Shown | None = None) -> None:
    """Writes ``to_html``; there whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(to_html(card, shown), "utf-8", errors="replace")


def to_html(card: Scorecard, shown: Shown | None = None) -> str:
    """The page.

    Args:
        card: What was measured.
        shown: Altered copies to look at.
    """
    there = {key: each for key, each in card.sections.items() if not each.left_out}
    lead = (
        f"{card.settings['videos']:,} videos, {card.settings['pairs']:,} scored pairs "
        f"({card.settings['split']}); corpus {card.corpus}"
    )
    if card.against:
        lead += f"; compared with {card.against}"
    parts = []
    for key, each in card.sections.items():
        more: list[Html] = []
        if key == "copies" and shown is not None and not each.left_out:
            more.append(_samples(shown))
        if key == "calibration" and "bins" in each.facts:
            more.append(_reliability(each.facts["bins"]))
        parts.append(_section(key, each, bool(card.against), more))
    return html.page(
        f"Scorecard of {card.vectors}",
        lead,
        _tiles(card),
        html.contents([(key, each.title) for key, each in there.items()]),
        element("p", _legend(bool(card.against)), class_="soft legend"),
        *parts,
        css=CSS,
    )


def _legend(against: bool) -> str:
    said = "Each figure with its 95 % interval, on one axis for each column."
    if against:
        said += (
            " The ring is the other vectors' figure; the last line is the difference from it, in "
            "colour where the interval of the difference excludes 0."
        )
    return said


def _tiles(card: Scorecard) -> Html:
    """The figures that are looked at first."""
    wanted = [
        ("agreement", "spearman", ("over_clusters", "over_pairs"), "Spearman"),
        ("copies", ALL, ("micro_ap",), "µAP of altered copies"),
        ("retrieval", "pairs", ("map",), "mean average precision, by score"),
        ("retrieval", "category", ("map",), "mean average precision, by category"),
        ("calibration", "calibration_error", ("value",), "calibration error"),
    ]
    tiles = []
    for section, row, keys, name in wanted:
        found = card.sections[section].rows.get(row) if section in card.sections else None
        figure = (
            next((found.figures[k] for k in keys if k in found.figures), None) if found else None
        )
        if figure is not None and math.isfinite(figure.value):
            tiles.append((name, number(figure.value), _range(figure)))
    return html.figures(tiles)


def _section(key: str, section: Section, against: bool, more: Sequence[Html]) -> Html:
    if section.left_out:
        why = element("p", f"Left out: {section.left_out}", class_="left-out")
        return html.section(section.title, why, anchor=key)
    notes = [element("p", note, class_="soft") for note in section.notes]
    return html.section(section.title, _table(section, against), *notes, *more, anchor=key)


def _table(section: Section, against: bool) -> Html:
    bounds = {key: _bounds(section, key) for key in section.columns}
    head = ["", section.counted, *section.columns.values()]
    lines = []
    for row in section.rows.values():
        cells = [_label(row), f"{row.count:,}"]
        for key in section.columns:
            figure = row.figures.get(key)
            cells.append("" if figure is None else _figure(figure, bounds[key], against))
        kind = "few" if row.few else None
        lines.append(element("tr", *(element("td", cell) for cell in cells), class_=kind))
    top = element("thead", element("tr", *(element("th", cell, scope="col") for cell in head)))
    whole = element("table", top, element("tbody", *lines))
    label = section.title
    return element("div", whole, class_="box scroll", tabindex=0, role="region", aria_label=label)


def _label(row: Row) -> Html:
    chip = element("span", "few", class_="chip") if row.few else ""
    return join(row.label, chip)


def _bounds(section: Section, key: str) -> tuple[float, float]:
    """From the lowest to the highest end of the intervals of a column."""
    ends = []
    for row in section.rows.values():
        if key in row.figures:
            figure = row.figures[key]
            other = figure.other
            ends += [figure.value, figure.low, figure.high]
            ends += [] if other is None else [other.value]
    known = [end for end in ends if math.isfinite(end)]
    return (min(known), max(known)) if known else (0.0, 1.0)


def _figure(figure: Figure, bounds: tuple[float, float], against: bool) -> Html:
    if not math.isfinite(figure.value):
        return element("span", "not defined", class_="range")
    parts = [element("span", number(figure.value), class_="number")]
    if math.isfinite(figure.low):
        parts += [_span(figure, *bounds), element("span", _range(figure), class_="range")]
    if against and figure.difference is not None:
        parts.append(_less(figure, figure.difference))
    return join(*parts)


def _less(figure: Figure, less: Interval) -> Html:
    """The difference to the other vectors, in colour where its interval excludes 0."""
    kind = None
    if figure.differs:
        kind = "up" if less.value > 0 else "down"
    said = element("b", f"{less.value:+.4f}", class_=kind)
    ends = f" {less.low:+.3f} … {less.high:+.3f}" if math.isfinite(less.low) else ""
    return element("span", said, ends, class_="less")


def _span(figure: Figure, low: float, high: float) -> Html:
    """An interval on the axis of its column, the other vectors' value as a ring."""
    if high <= low:
        return Html("")

    def place(value: float) -> float:
        return round(5 + 134 * (min(max(value, low), high) - low) / (high - low), 1)

    parts = [
        element("line", x1=5, x2=139, y1=7, y2=7, class_="axis"),
        element("line", x1=place(figure.low), x2=place(figure.high), y1=7, y2=7, class_="whisker"),
    ]
    if figure.other is not None and math.isfinite(figure.other.value):
        parts.append(element("circle", cx=place(figure.other.value), cy=7, r=4, class_="other"))
    parts.append(element("circle", cx=place(figure.value), cy=7, r=4, class_="middle"))
    said = f"{number(figure.value)}, {_range(figure)}"
    return element("svg", *parts, viewBox="0 0 144 14", class_="span", role="img", aria_label=said)


def number(value: float) -> str:
    """A figure with four decimals; a dash where it is not defined."""
    return f"{value:.4f}" if math.isfinite(value) else "–"


def _range(figure: Figure) -> str:
    known = math.isfinite(figure.low) and math.isfinite(figure.high)
    return f"{figure.low:.3f} … {figure.high:.3f}" if known else ""


def _samples(shown: Shown) -> Html:
    """Pictures of the altered copies of one video."""
    pictures = []
    for kind, jpeg in shown.pictures.items():
        source = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
        name = LABELS.get(kind, kind)
        picture = element("img", src=source, alt=f"{shown.source}, {name}")
        pictures.append(element("figure", picture, element("figcaption", name)))
    return element("div", *pictures, class_="samples")


def _reliability(bins: Sequence[dict[str, Any]]) -> Html:
    """What was foretold of similarity against what came, ten parts of the pairs."""
    left, top, size = 40, 10, 240

    def x(value: float) -> float:
        return round(left + size * value, 1)

    def y(value: float) -> float:
        return round(top + size * (1 - value), 1)

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts += [
            element("line", x1=x(0), x2=x(1), y1=y(tick), y2=y(tick)),
            element("text", f"{tick:g}", x=left - 6, y=y(tick) + 4, text_anchor="end"),
            element("text", f"{tick:g}", x=x(tick), y=top + size + 16, text_anchor="middle"),
        ]
    parts.append(element("line", x1=x(0), x2=x(1), y1=y(0), y2=y(1), class_="ideal"))
    for each in bins:
        told, came, pairs = each["foretold"], each["similar"], each["pairs"]
        said = f"foretold {told:.3f}, similar {came:.3f}, {pairs:,} times a pair"
        parts.append(element("circle", element("title", said), cx=x(told), cy=y(came), r=5))
    words = f"probability foretold, and share that is similar above it: {len(bins)} parts"
    parts.append(element("text", "foretold", x=x(0.5), y=top + size + 32, text_anchor="middle"))
    picture = element(
        "svg",
        *parts,
        viewBox=f"0 0 {left + size + 20} {top + size + 40}",
        class_="reliability",
        role="img",
        aria_label=words,
    )
    heading = element("h3", "Share of similar pairs by foretold probability")
    return element("div", heading, picture, class_="box")
