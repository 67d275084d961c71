"""All shards: opened, asked side by side, and what of them is missing from an answer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from vidvec.errors import ServerError
from vidvec.search.partial import Missing, MissingShard, note
from vidvec.search.sharded.layout import ShardPlace, ShardsFile
from vidvec.search.sharded.shard import OpenShard, OtherVectorsError, Shard

ANY = 2**62
# To open all of them for the first time.
OPEN_SECONDS = 30.0

Value = TypeVar("Value")


class Shards:
    """All shards of a file.

    Attributes:
        all: In the file's order.
        dimension: E of those that are searched.
        model: What made their vectors; empty: not known.
        timeout_seconds: Of one answer.
    """

    def __init__(self, every: Sequence[Shard], timeout_seconds: float) -> None:
        self.all, self.timeout_seconds = tuple(every), timeout_seconds
        self.dimension, self.model = 0, ""

    @property
    def most_hits(self) -> int:
        """That each of them gives for one question."""
        return min(
            (each.opened.most_hits for each in self.all if each.opened is not None),
            default=ANY,
        )

    def ask(
        self,
        ask: Callable[[OpenShard], Value],
        *,
        seconds: float | None = None,
        background: bool = False,
    ) -> tuple[list[Value], Missing | None]:
        """Asks all of them side by side.

        Args:
            ask: What.
            seconds: Until then each has to answer; ``None``: ``timeout_seconds``.
            background: It is no part of an answer: nothing is said, noted, or raised where none
                answers.

        Returns:
            The answers in the shards' order, and what is missing.

        Raises:
            ServerError: None answers.
        """
        since = time.monotonic()
        limit = self.timeout_seconds if seconds is None else seconds
        started = [(each, each.start(ask)) for each in self.all]
        found: list[Value] = []
        failed: list[MissingShard] = []
        for shard, begun in started:
            answer = shard.wait(begun, since, limit, silent=background)
            if isinstance(answer, MissingShard):
                failed.append(answer)
            else:
                found.append(answer)
        missing = self.missing(failed)
        if background:
            return found, missing
        if missing is not None and not found:
            raise ServerError("unreachable", f"no shard answers; {missing.sentence()}")
        note(missing)
        return found, missing

    def missing(self, failed: Sequence[MissingShard]) -> Missing | None:
        """What an answer lacks without these shards; ``None``: nothing."""
        if not failed:
            return None
        names = {one.name for one in failed}
        counts = [(each.place.name in names, each.videos) for each in self.all]
        known = [(gone, count) for gone, count in counts if count is not None]
        total = sum(count for _, count in known)
        gone = sum(count for gone, count in known if gone)
        share = gone / total if total and len(known) == len(counts) else None
        return Missing(tuple(failed), len(self.all), share)

    def settle(self, dimension: int | None) -> None:
        """Decides on the width and the model that most have, and leaves out what has others."""
        opened = [each.opened for each in self.all if each.opened is not None]
        widths = Counter(each.dimension for each in opened)
        self.dimension = dimension or widths.most_common(1)[0][0]
        fitting = [each for each in opened if each.dimension == self.dimension]
        models = Counter(each.model for each in fitting if each.model)
        self.model = models.most_common(1)[0][0] if models else ""
        for each in self.all:
            each.fits = self._fits
            if each.opened is not None:
                try:
                    self._fits(each.opened)
                except OtherVectorsError as error:
                    each.fail(error)
        if all(each.opened is None for each in self.all):
            missing = self.missing([each.failure for each in self.all if each.failure])
            said = missing.sentence() if missing is not None else ""
            raise ServerError("unreachable", f"no shard can be searched; {said}")

    def _fits(self, opened: OpenShard) -> None:
        if opened.dimension != self.dimension:
            raise OtherVectorsError(
                f"it holds vectors of {opened.dimension} numbers, expected {self.dimension}"
            )
        model = opened.model
        if model and self.model and model != self.model:
            raise OtherVectorsError("another model made its vectors than those of the others")

    def close(self) -> None:
        """Closes all of them."""
        for each in self.all:
            each.close()


def opening(
    file: ShardsFile,
    *,
    writable: bool,
    threads: int,
    said: Callable[[str, float, str], None] | None,
) -> Shards:
    """Opens all shards of a file; see ``ShardedIndex.open``."""
    every = [
        Shard(
            place,
            partial(_open, place, writable=writable, threads=threads, seconds=file.timeout_seconds),
            file.timeout_seconds,
            file.retry_seconds,
        )
        for place in file.shards
    ]
    shards = Shards(every, file.timeout_seconds)
    try:
        shards.ask(len, seconds=OPEN_SECONDS)
        shards.settle(file.dimension)
    except BaseException:
        shards.close()
        raise
    if said is not None:
        for each in every:
            each.said = said
    return shards


def _open(place: ShardPlace, *, writable: bool, threads: int, seconds: float) -> OpenShard:
    if place.kind == "folder":
        from vidvec.search.sharded.folder import FolderShard

        return FolderShard.open(Path(place.place), writable=writable, threads=threads)
    if place.kind == "cluster":
        from vidvec.search.sharded.cluster import ClusterShard

        return ClusterShard.open(place.place, seconds=seconds)
    from vidvec.search.sharded.server import ServerShard

    return ServerShard.open(place.place, seconds=seconds)
