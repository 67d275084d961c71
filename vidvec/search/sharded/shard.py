"""One of several shards: opened when it is needed, given up on for a while when it fails."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import FormatError, MissingExtraError, ServerError, UsageError, VidvecError
from vidvec.search.filters import Facets
from vidvec.search.partial import MissingShard
from vidvec.search.sharded.layout import ShardPlace
from vidvec.search.sharded.words import WordCounts
from vidvec.search.types import Filter, Hit, IndexedVideo

LOG = logging.getLogger("vidvec.search")
# Calls of one shard that run side by side; what hangs keeps one of them.
THREADS = 8
# A pause doubles with each failure in a row, up to so many times.
LONGEST_PAUSE = 8

Value = TypeVar("Value")
# What a shard is asked in a thread of its own, and the seconds that it took.
Started = Future[tuple[Value, float]]


class OpenShard(Protocol):
    """What a shard has to offer; see ``FolderShard``."""

    @property
    def dimension(self) -> int:
        """E."""

    @property
    def kind(self) -> str:
        """How candidates are found."""

    @property
    def model(self) -> str:
        """What made the vectors."""

    @property
    def generation(self) -> int:
        """Grows with every change that was taken in."""

    @property
    def most_hits(self) -> int:
        """Of one question."""

    def __len__(self) -> int: ...

    def current(self) -> bool:
        """Whether it need not be opened anew."""

    def refresh(self) -> None:
        """Takes in what has changed."""

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        filter: Filter = Filter(),  # noqa: A002, B008
        without: Sequence[Collection[str]] | None = None,
        exact: bool = False,
    ) -> list[list[Hit]]:
        """The videos nearest to each query."""

    def vectors_among(self, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Those of these videos that are there, and their vectors."""

    def videos_among(self, ids: Sequence[str]) -> list[IndexedVideo]:
        """What is known of those of these videos that are there."""

    def word_counts(self, text: str) -> WordCounts:
        """What BM25 takes of the titles."""

    def scored_words(self, text: str, k: int, asked: Filter, counts: WordCounts) -> list[Hit]:
        """Videos with words in their titles, by the counts of all shards."""

    def all_facets(self, asked: Filter) -> Facets:
        """Counts of all values."""

    def matrix(self) -> tuple[list[str], NDArray[np.float32]]:
        """Ids and unit vectors of all videos."""

    def add(
        self, ids: Sequence[str], vectors: NDArray[np.float32], videos: Sequence[IndexedVideo]
    ) -> None:
        """Adds videos, or replaces them."""

    def delete(self, ids: Collection[str]) -> int:
        """Deletes videos."""

    def close(self) -> None:
        """Closes files and connections."""


class OtherVectorsError(VidvecError):
    """A shard has vectors of another width or model than the others."""


class Shard:
    """A shard, whatever its state. Its methods may be called from several threads.

    One that fails is not asked for ``retry_seconds``; after them it is tried in the background,
    so that no question waits for it, and asked again when that succeeded.

    Args:
        place: Where it is.
        opens: Opens it.
        timeout_seconds: Of one answer.
        retry_seconds: How long it is left alone after a failure.

    Attributes:
        fits: Refuses what was opened, by an error, where it does not fit the other shards.
        said: Called with the name, the seconds that an answer took, and why it failed or nothing.
    """

    def __init__(
        self,
        place: ShardPlace,
        opens: Callable[[], OpenShard],
        timeout_seconds: float,
        retry_seconds: float,
    ) -> None:
        self.place, self.timeout_seconds = place, timeout_seconds
        self._opens, self._retry = opens, retry_seconds
        self.fits: Callable[[OpenShard], None] = lambda _: None
        self.said: Callable[[str, float, str], None] = lambda *_: None
        self._lock, self._opening = threading.Lock(), threading.Lock()
        self._opened: OpenShard | None = None
        self._failure: MissingShard | None = None
        self._failures, self._again, self._probing = 0, 0.0, False
        self._videos = place.videos
        self._threads = ThreadPoolExecutor(THREADS, f"shard {place.name}")

    @property
    def failure(self) -> MissingShard | None:
        """Why it is not asked at the moment; ``None``: it is."""
        return self._failure

    @property
    def videos(self) -> int | None:
        """How many it had when it last answered; ``None``: it never did."""
        return self._videos

    @property
    def opened(self) -> OpenShard | None:
        """Itself, where it is open and is asked."""
        return self._opened if self._failure is None else None

    def start(self, ask: Callable[[OpenShard], Value]) -> Started[Value] | MissingShard:
        """Asks it something, in a thread of its own; or says why not."""
        with self._lock:
            if self._failure is None:
                return self._threads.submit(self._timed, ask)
            if not self._probing and time.monotonic() >= self._again:
                self._probing = True
                self._threads.submit(self._probe)
            return self._failure

    def wait(
        self,
        started: Started[Value] | MissingShard,
        since: float,
        seconds: float,
        *,
        silent: bool = False,
    ) -> Value | MissingShard:
        """What it answers; or why it does not.

        Args:
            started: By ``start``.
            since: When, by ``time.monotonic``.
            seconds: From then on it may take.
            silent: ``said`` is not called.

        Raises:
            UsageError: What is asked cannot be.
        """
        answer = self._answer(started, since, seconds)
        if isinstance(answer, MissingShard):
            if not silent:
                self.said(self.place.name, 0.0, answer.reason)
            return answer
        value, took = answer
        if not silent:
            self.said(self.place.name, took, "")
        return value

    def _answer(
        self, started: Started[Value] | MissingShard, since: float, seconds: float
    ) -> tuple[Value, float] | MissingShard:
        if isinstance(started, MissingShard):
            return started
        try:
            answer = started.result(max(0.0, since + seconds - time.monotonic()))
        except TimeoutError as error:
            if started.done():  # its own: a call of it took too long
                return self.fail(error)
            started.cancel()
            return self.fail(TimeoutError(f"no answer within {seconds:g} s"))
        except UsageError:  # of what is asked, and not of the shard
            raise
        except Exception as error:
            return self.fail(error)
        self._failures = 0
        return answer

    def fail(self, error: Exception) -> MissingShard:
        """Leaves it alone for a while."""
        reason, why = _told(error)
        with self._lock:
            if self._failure is None:
                LOG.warning("shard %s is left out: %s", self.place.name, why)
                self._failures += 1
            pause = self._retry * min(LONGEST_PAUSE, 2 ** max(0, self._failures - 1))
            self._again = time.monotonic() + pause
            self._failure = MissingShard(self.place.name, reason, why, self._videos)
            return self._failure

    def _probe(self) -> None:
        """Opens it anew and asks a little; from then on it is asked again, or left alone again."""
        began = time.monotonic()
        try:
            self._close()
            self._run(refreshed)
            if (took := time.monotonic() - began) > self.timeout_seconds:
                raise TimeoutError(f"it took {took:.1f} s to answer")
        except Exception as error:
            self._failures += 1
            self.fail(error)
        else:
            with self._lock:
                self._failure = None
            LOG.warning("shard %s answers again", self.place.name)
        finally:
            self._probing = False

    def _timed(self, ask: Callable[[OpenShard], Value]) -> tuple[Value, float]:
        began = time.monotonic()
        return self._run(ask), time.monotonic() - began

    def _run(self, ask: Callable[[OpenShard], Value]) -> Value:
        found = ask(self._ready())
        if ask in (len, refreshed) and isinstance(found, int):
            self._videos = found
        return found

    def _ready(self) -> OpenShard:
        opened = self._opened
        if opened is not None and opened.current():
            self.fits(opened)  # a name or a server may go over to another model's vectors
            return opened
        with self._opening:
            if self._opened is not opened and self._opened is not None:
                return self._opened
            try:
                found = self._opens()
            except UsageError as error:
                raise FormatError(str(error)) from error
            try:
                self.fits(found)
                self._videos = len(found)
            except BaseException:
                found.close()
                raise
            self._opened = found
            return found

    def _close(self) -> None:
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            try:
                opened.close()
            except (VidvecError, OSError, sqlite3.Error):
                LOG.info("shard %s was not closed well", self.place.name)

    def close(self) -> None:
        """Closes it; does not wait for what hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._close()


def refreshed(opened: OpenShard) -> int:
    """Takes in what has changed; how many videos there are."""
    opened.refresh()
    return len(opened)


def _told(error: Exception) -> tuple[str, str]:
    """A reason for machines and a sentence for people."""
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, TimeoutError):
        return "timed-out", said
    if isinstance(error, OtherVectorsError):
        return "other-vectors", said
    if isinstance(error, ServerError):
        code = error.code if error.code in ("timed-out", "unreachable") else "failed"
        return ("unreachable" if error.code == "unknown" else code), said
    if isinstance(error, FormatError | UsageError):
        return "damaged", said
    if isinstance(error, OSError):
        return "unreachable", said
    if not isinstance(error, MissingExtraError):
        LOG.error("a shard failed", exc_info=error)
        said = f"{type(error).__name__}: {said}"
    return "failed", said
