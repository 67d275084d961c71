"""The corpus as a whole: groups, scored pairs, the map; kept once they were found."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from vidvec.embed.vectors import Vectors
from vidvec.search.dedup import find_groups
from vidvec.search.groups import default_threshold, groups_of
from vidvec.search.map import FILE as MAP_FILE
from vidvec.search.map import load_map
from vidvec.search.server.failures import not_available
from vidvec.search.server.watched import stamp
from vidvec.search.types import Group
from vidvec.search.worst import RankedPairs

if TYPE_CHECKING:
    from vidvec.search.server.state import State

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """The last few values of something that takes long, made one at a time in a thread of its own.

    Args:
        most: So many.
        name: Of the thread.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, name)

    async def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key; made where it is not there, in nobody's way."""
        if key in self._values:
            return self._values[key]
        return await asyncio.wrap_future(self._thread.submit(self._made, key, make))

    def _made(self, key: Hashable, make: Callable[[], Value]) -> Value:
        if key not in self._values:
            value = make()
            while len(self._values) >= self._most:
                self._values.popitem(last=False)
            self._values[key] = value
            return value
        return self._values[key]

    def close(self) -> None:
        """Drops what waits."""
        self._thread.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of near duplicates, and the cosine from which two videos are alike."""

    groups: list[Group]
    threshold: float


class Overview:
    """What takes longer than a search; each is found once for a state of index and corpus.

    Args:
        state: The worker's.
    """

    def __init__(self, state: State) -> None:
        self._state, self._vectors = state, state.config.folder
        self._groups: Kept[Groups] = Kept(4, "groups")
        self._pairs: Kept[RankedPairs] = Kept(3, "pairs")
        self._map: Kept[bytes] = Kept(1, "map")

    @property
    def has_map(self) -> bool:
        """Whether a map was made."""
        return (self._vectors / MAP_FILE).is_file()

    async def groups(self, threshold: float | None) -> Groups:
        """Groups of near duplicates; see ``groups_of``."""
        cosine = threshold or default_threshold(self._vectors)
        corpus = self._state.config.corpus
        key = (cosine, self._state.index.generation, self._state.corpus)

        def find() -> Groups:
            if self._state.config.index:
                return Groups(find_groups(*self._state.index.matrix(), cosine), cosine)
            return Groups(groups_of(self._vectors, cosine, corpus=corpus), cosine)

        return await self._groups.get(key, find)

    async def pairs(self, split: str) -> RankedPairs:
        """The scored pairs of a split, ranked.

        Raises:
            ApiError: There are none.
        """
        served = self._state.required_corpus("no scored pairs")
        if not served.has_pairs:
            raise not_available(
                f"{served.corpus.path} has no scored pairs", "vidvec ingest --pairs takes them in"
            )

        def rank() -> RankedPairs:
            return RankedPairs(Vectors(self._vectors), served.corpus, split)

        return await self._pairs.get((split, served), rank)

    async def map(self) -> bytes:
        """The map as JSON.

        Raises:
            ApiError: There is none.
        """
        return await self._map.get(stamp(self._vectors / MAP_FILE), self._read_map)

    def _read_map(self) -> bytes:
        found = load_map(self._vectors)
        if found is None:
            raise not_available(
                "no map of these videos was made", f"vidvec map {self._vectors.name} makes one"
            )
        return json.dumps(found.document(), ensure_ascii=False).encode()

    def close(self) -> None:
        """Drops what waits."""
        for kept in (self._groups, self._pairs, self._map):
            kept.close()
