"""Attempts at a part, so that what ends the process that does it does not end the job.

A file that crashes its decoder costs a decode worker, not the process that has it (see
``data/workers.py``). What is left is what ends that process itself: a model out of memory, a
library that crashes on one record, a machine that goes. An attempt notes that it began. Where
``WHOLE`` of them did not end, the part's rows are done one by one, each noted before it is begun; a
row that was begun ``ROWS`` times and not ended is left out by name.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from vidvec import storage
from vidvec.errors import FormatError

WHOLE = 2
ROWS = 2
# Of a part that is not done row by row; machines that go cost attempts, too.
WHOLES = 6


class Attempt:
    """One attempt at a part.

    Args:
        folder: The job's folder of attempts.
        number: Of the part.

    Attributes:
        begun: Which attempt it is, from 1 on.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._path = folder / f"{number:06d}.json"
        held = self._read()
        self.begun = int(held.get("begun", 0)) + 1
        self._poison = {int(place) for place in held.get("poison", ())}
        at, times = held.get("at"), int(held.get("times", 0))
        if at is not None and times >= ROWS:
            self._poison.add(int(at))
            at, times = None, 0
        self._last: tuple[int | None, int] = (None if at is None else int(at), times)
        self._write(*self._last)

    def _read(self) -> dict[str, Any]:
        with suppress(FormatError):  # there is none
            return dict(storage.read_json(self._path))
        return {}

    def _write(self, at: int | None, times: int) -> None:
        known = {"begun": self.begun, "at": at, "times": times, "poison": sorted(self._poison)}
        storage.write_json(self._path, known)

    @property
    def row_by_row(self) -> bool:
        """Whether the part's rows are to be done one by one."""
        return self.begun > WHOLE

    @property
    def is_hopeless(self) -> bool:
        """Whether a part that cannot be done in pieces has been begun as often as it may."""
        return self.begun > WHOLES

    def is_poison(self, place: int) -> bool:
        """Whether a row has ended the process that did it as often as it may."""
        return place in self._poison

    def begin(self, place: int) -> None:
        """Notes that a row is begun."""
        at, times = self._last
        if at != place:
            self._write(place, 1)
        else:
            self._write(place, times + 1)

    def end(self) -> None:
        """Forgets the attempts: the part is done."""
        self._path.unlink(missing_ok=True)
