"""What a scorecard holds: sections of rows of figures; as JSON, and back.

    SCORECARD.json
      sections.<section>.rows.<row>.figures.<figure>   value, low, high, other, difference

Keys of sections, rows and figures are stable (docs/formats.md lists them); NaN is null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec import storage
from vidvec.errors import FormatError
from vidvec.metrics import Interval
from vidvec.search.scorecard.resampling import Drawn

KIND = "scorecard"
FORMAT_VERSION = 1
FEW = 30  # a slice with fewer is shown in grey

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its 95 % interval, and how it differs from other vectors'.

    Attributes:
        value: NaN where it is not defined.
        low, high: NaN where there is no interval.
        other: Of the other vectors; ``None`` where there are none.
        difference: ``value`` less the other's, its interval over the same resamples.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    other: Interval | None = None
    difference: Interval | None = None

    @classmethod
    def of(cls, own: Drawn, other: Drawn | None = None) -> Figure:
        """A figure with its interval; and the other vectors', drawn on the same resamples."""
        first = own.interval()
        if other is None:
            return cls(first.value, first.low, first.high)
        difference = own.less(other).interval()
        return cls(first.value, first.low, first.high, other.interval(), difference)

    @property
    def differs(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        found = self.difference
        return found is not None and (found.low > 0 or found.high < 0)


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one thing.

    Attributes:
        label: For people.
        count: Of what the section counts.
        figures: By a key of the section's columns; those without are empty cells.
        few: So few that the figures say little.
    """

    label: str
    count: int
    figures: dict[str, Figure]
    few: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a scorecard.

    Attributes:
        title: For people.
        counted: What rows count, such as ``pairs``.
        columns: Headings of the figures by key.
        rows: By key.
        notes: Sentences that belong to it.
        left_out: Why there are no rows; empty where there are.
        facts: What else was measured, plain values.
    """

    title: str
    counted: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left_out: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scorecard:
    """All that was measured of a folder of vectors.

    Attributes:
        vectors: The folder.
        stamp: Of the vectors (``vectors_stamp``).
        corpus: The corpus's folder.
        against: The folder of the other vectors, or empty.
        settings: What decides the figures: split, seed, resamples and so on.
        sections: By key, in the order to show.
    """

    vectors: str
    stamp: str
    corpus: str
    against: str
    settings: dict[str, Any]
    sections: dict[str, Section]

    def save(self, path: Path) -> None:
        """Writes it as JSON; there whole or not at all."""
        facts = {"kind": KIND, "format_version": FORMAT_VERSION, **asdict(self)}
        storage.write_json(path, without_nan(facts))

    @classmethod
    def load(cls, path: Path) -> Scorecard:
        """Reads what ``save`` wrote.

        Raises:
            FormatError: It is missing, damaged, something else, or of another version.
        """
        found = storage.read_json(path)
        if not isinstance(found, dict) or found.pop("kind", None) != KIND:
            raise FormatError(f"{path} is no scorecard: expected what vidvec evaluate --scorecard")
        version = found.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise FormatError(
                f"{path} has format version {version}; this vidvec reads version {FORMAT_VERSION}"
            )
        try:
            sections = {key: _section(each) for key, each in found.pop("sections").items()}
            return cls(**found, sections=sections)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"{path} is damaged: {error!r}") from None


def _section(found: Mapping[str, Any]) -> Section:
    rows = {
        key: Row(**{**row, "figures": {name: _figure(f) for name, f in row["figures"].items()}})
        for key, row in found["rows"].items()
    }
    return Section(**{**found, "rows": rows})


def _figure(found: Mapping[str, Any]) -> Figure:
    value, low, high = (_number(found[key]) for key in ("value", "low", "high"))
    return Figure(value, low, high, _interval(found["other"]), _interval(found["difference"]))


def _interval(found: Mapping[str, Any] | None) -> Interval | None:
    if found is None:
        return None
    return Interval(*(_number(found[key]) for key in ("value", "low", "high")))


def _number(found: Any) -> float:
    return math.nan if found is None else float(found)


def without_nan(value: Any) -> Any:
    """The value with ``None`` for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
