"""Writes to the shards that ids belong to."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import ServerError, UsageError
from vidvec.search.partial import MissingShard
from vidvec.search.sharded.gathering import Shards
from vidvec.search.sharded.layout import HASH, ShardsFile, shard_of
from vidvec.search.sharded.shard import OpenShard, Shard, refreshed
from vidvec.search.types import IndexedVideo

# A write waits longer than a search: for other writers, and until it is on disk.
SECONDS = 60.0

Value = TypeVar("Value")


def add(
    shards: Shards,
    file: ShardsFile,
    ids: Sequence[str],
    vectors: NDArray[np.float32],
    videos: Sequence[IndexedVideo],
) -> None:
    """See ``ShardedIndex.add``."""
    places: dict[int, list[int]] = {}
    for at, number in enumerate(_owners(shards, file, ids)):
        places.setdefault(number, []).append(at)

    def task(rows: list[int]) -> Callable[[OpenShard], None]:
        some = [ids[at] for at in rows], vectors[rows], [videos[at] for at in rows]
        return lambda shard: shard.add(*some)

    _write(shards, {number: task(rows) for number, rows in places.items()}, "added")


def delete(shards: Shards, file: ShardsFile, ids: Collection[str]) -> int:
    """See ``ShardedIndex.delete``."""
    wanted = list(dict.fromkeys(ids))
    some: dict[int, list[str]] = {}
    if file.placing == HASH:
        for video in wanted:
            some.setdefault(shard_of(video, len(shards.all)), []).append(video)
    else:
        some = dict.fromkeys(range(len(shards.all)), wanted)

    def task(mine: list[str]) -> Callable[[OpenShard], int]:
        return lambda shard: shard.delete(mine)

    return sum(_write(shards, {number: task(mine) for number, mine in some.items()}, "deleted"))


def _owners(shards: Shards, file: ShardsFile, ids: Sequence[str]) -> list[int]:
    """The shard of each id: by its hash, or where it is already."""
    owners = [shard_of(video, len(shards.all)) for video in ids]
    if file.placing == HASH:
        return owners
    there, missing = shards.ask(lambda shard: shard.videos_among(ids))
    if missing is not None:
        raise ServerError(
            "unreachable",
            f"nothing was written: which shard has a video is not known; {missing.sentence()}",
        )
    held = {one.id: at for at, some in enumerate(there) for one in some}
    return [held.get(video, owner) for video, owner in zip(ids, owners, strict=True)]


def _write(
    shards: Shards, tasks: dict[int, Callable[[OpenShard], Value]], done: str
) -> list[Value]:
    """Writes to several shards, where all of them answer.

    Raises:
        UsageError: A shard was opened for reading, or cannot take a video.
        ServerError: One does not answer, or fails over it.
    """
    chosen = {number: shards.all[number] for number in sorted(tasks)}
    # A shard that is down is found out before anything is written.
    _all(chosen, dict.fromkeys(chosen, refreshed), shards.timeout_seconds, "")
    return _all(chosen, tasks, SECONDS, done)


def _all(
    chosen: dict[int, Shard],
    tasks: dict[int, Callable[[OpenShard], Value]],
    seconds: float,
    done: str,
) -> list[Value]:
    since = time.monotonic()
    started = {number: shard.start(tasks[number]) for number, shard in chosen.items()}
    found: dict[int, Value] = {}
    failed: dict[int, MissingShard] = {}
    refused: UsageError | None = None
    for number, shard in chosen.items():
        begun = started[number]
        if isinstance(begun, Future):
            try:
                begun.exception(max(0.0, since + seconds - time.monotonic()))
            except TimeoutError:
                pass
            else:
                if done and isinstance(error := begun.exception(), UsageError):
                    refused = error  # of the write, not of the shard
                    continue
        answer = shard.wait(begun, since, seconds)
        if isinstance(answer, MissingShard):
            failed[number] = answer
        else:
            found[number] = answer
    if refused is not None and not found and not failed:
        raise refused
    if failed or refused is not None:
        raise ServerError("unreachable", _said(chosen, found, failed, refused, done))
    return [found[number] for number in chosen]


def _said(
    chosen: dict[int, Shard],
    found: Collection[int],
    failed: dict[int, MissingShard],
    refused: UsageError | None,
    done: str,
) -> str:
    whys = [f"{one.name}: {one.why}" for one in failed.values()]
    whys += [str(refused)] if refused is not None else []
    why = "; ".join(whys)
    if not done:
        return f"nothing was written: a shard that is written to does not answer ({why})"
    names = ", ".join(chosen[number].place.name for number in sorted(found)) or "no shard"
    return (
        f"{done} in {names}, on disk; not in every other, of which one may have done so without "
        f"a word ({why}): the same again does the rest"
    )
