"""Timing both sides in turn, and what comes out.

Machines differ and drift, so that every speed is a ratio: each round times one side and then the
other, and the median of the rounds' ratios counts, with the lowest and the highest beside it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Comparison:
    """Seconds of the plain way and of vidvec's for the same work.

    Attributes:
        name: Key among the ratios.
        what: A phrase for the report.
        plain, fast: Seconds, one a round; of one round for a side that takes minutes.
        work: Videos (or rows) that a round goes through.
        unit: What ``work`` counts.
    """

    name: str
    what: str
    plain: tuple[float, ...]
    fast: tuple[float, ...]
    work: int
    unit: str = "videos"

    @property
    def ratios(self) -> list[float]:
        """How many times faster, round by round."""
        rounds = max(len(self.plain), len(self.fast))
        plain, fast = (side * (rounds if len(side) == 1 else 1) for side in (self.plain, self.fast))
        return [slow / quick for slow, quick in zip(plain, fast, strict=True)]

    @property
    def ratio(self) -> float:
        """The median."""
        return statistics.median(self.ratios)

    def speed(self, side: Sequence[float]) -> float:
        """Work a second, by the median of a side's rounds."""
        return self.work / statistics.median(side)


def alternate(
    sides: Mapping[str, Callable[[], object]], rounds: int = ROUNDS
) -> dict[str, tuple[float, ...]]:
    """Seconds of every side in every round, in turn: A B C A B C. Each runs once beforehand."""
    for side in sides.values():
        side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            seconds[name].append(timed(side))
    return {name: tuple(values) for name, values in seconds.items()}


def timed(run: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
