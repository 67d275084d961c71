"""Two scorecards beside each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vidvec.search.scorecard.figures import Figure, Scorecard


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of two scorecards.

    Attributes:
        section, row, figure: Its keys.
        label, heading: What they are called.
        first, second: With the intervals that each had.
        difference: Of the second's value from the first's.
        apart: Whether the two intervals do not touch. Where they touch, the difference may still
            be real: only ``--against`` measures both on the same resamples.
    """

    section: str
    row: str
    figure: str
    label: str
    heading: str
    first: Figure
    second: Figure
    difference: float
    apart: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two scorecards have in common.

    Attributes:
        first, second: Of which vectors.
        lines: In the first one's order.
        titles: Of the sections by key.
        notes: In what they were not measured alike.
    """

    first: str
    second: str
    lines: list[Line]
    titles: dict[str, str]
    notes: list[str]


def compare(first: Scorecard, second: Scorecard) -> Comparison:
    """Puts the figures that both have beside each other."""
    lines, titles = [], {}
    for key, section in first.sections.items():
        other = second.sections.get(key)
        if other is None:
            continue
        for name, row in section.rows.items():
            twin = other.rows.get(name)
            if twin is None:
                continue
            titles[key] = section.title
            for column, heading in section.columns.items():
                if column in row.figures and column in twin.figures:
                    a, b = row.figures[column], twin.figures[column]
                    keys = (key, name, column, row.label, heading)
                    lines.append(Line(*keys, a, b, b.value - a.value, _apart(a, b)))
    return Comparison(first.vectors, second.vectors, lines, titles, _notes(first, second))


def _apart(a: Figure, b: Figure) -> bool:
    known = all(math.isfinite(end) for each in (a, b) for end in (each.low, each.high))
    return known and (a.high < b.low or b.high < a.low)


def _notes(first: Scorecard, second: Scorecard) -> list[str]:
    notes = []
    if first.corpus != second.corpus:
        notes.append(f"Of different corpora: {first.corpus} and {second.corpus}.")
    for key in sorted(first.settings.keys() | second.settings.keys()):
        one, two = first.settings.get(key), second.settings.get(key)
        if one != two:
            notes.append(f"Measured with different {key}: {one} and {two}.")
    for key in sorted(first.sections.keys() & second.sections.keys()):
        out = [bool(card.sections[key].left_out) for card in (first, second)]
        if out[0] != out[1]:
            which = "second" if out[1] else "first"
            notes.append(f"{first.sections[key].title}: left out of the {which}.")
    return notes
