"""Answers that lack what shards have which did not answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class MissingShard:
    """A shard that an answer lacks.

    Attributes:
        name: As the file of shards calls it.
        reason: ``unreachable``, ``timed-out``, ``damaged``, ``other-vectors`` or ``failed``.
        why: A sentence for people.
        videos: How many it had when it last answered; ``None``: it never did.
    """

    name: str
    reason: str
    why: str
    videos: int | None


@dataclass(frozen=True, slots=True)
class Missing:
    """What an answer lacks.

    Attributes:
        shards: Those that did not answer.
        of: How many shards there are.
        share: Of all videos, which theirs are, 0 … 1; ``None`` where it is not known of one of them
            how many it has.
    """

    shards: tuple[MissingShard, ...]
    of: int
    share: float | None

    def sentence(self) -> str:
        """One line for people."""
        share = "an unknown share" if self.share is None else f"about {self.share:.0%}"
        each = "; ".join(f"{one.name}: {one.why}" for one in self.shards)
        return (
            f"incomplete: {len(self.shards)} of {self.of} shards did not answer, with {share} of "
            f"the videos ({each})"
        )


class Found(list[Value]):
    """A list of hits that says what it lacks.

    Attributes:
        missing: ``None`` where every shard has answered.
    """

    def __init__(self, values: Iterable[Value] = (), missing: Missing | None = None) -> None:
        super().__init__(values)
        self.missing = missing


class Notes:
    """What the answers lacked that were asked for in a ``noted`` block."""

    def __init__(self) -> None:
        self._last: Missing | None = None
        self._shards: dict[str, MissingShard] = {}

    def take(self, missing: Missing) -> None:
        """Takes down what one answer lacks."""
        self._last = missing
        self._shards |= {one.name: one for one in missing.shards}

    @property
    def missing(self) -> Missing | None:
        """All of it together; ``None``: nothing."""
        if self._last is None or len(self._shards) == len(self._last.shards):
            return self._last
        # One came to be missing after another had been, and is back: the share is not known.
        return Missing(tuple(self._shards.values()), self._last.of, None)


_NOTES: ContextVar[Notes | None] = ContextVar("vidvec_missing_shards", default=None)


@contextmanager
def noted() -> Iterator[Notes]:
    """Gathers what all answers lack that this thread asks for inside the block."""
    notes = Notes()
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)


def note(missing: Missing | None) -> None:
    """Tells the block that asks, where there is one, what an answer lacks."""
    notes = _NOTES.get()
    if notes is not None and missing is not None:
        notes.take(missing)


def missing_of(answer: object) -> Missing | None:
    """What an answer lacks; ``None`` for one of a whole index."""
    found = getattr(answer, "missing", None)
    return found if isinstance(found, Missing) else None
