"""Reading the collection that a name in a cluster stands for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from vidvec.errors import ServerError
from vidvec.search.cluster import generations
from vidvec.search.cluster.address import Address
from vidvec.search.cluster.connection import told
from vidvec.search.cluster.rows import ID_BYTES, PARTS, both, by_ids

if TYPE_CHECKING:
    from pymilvus import MilvusClient

# The cluster gives at most so many rows for one call.
MOST_ROWS = 16_384
PIECE = 8_192
# Seconds after which a write is seen everywhere, whatever the level.
SETTLED = 10.0
# Ids of one call.
CHUNK = 1_000

Value = TypeVar("Value")


class Reader:
    """Asks a cluster about a name, whichever collection that stands for.

    Args:
        address: The name.
        client: A connection, which ``close`` closes.
        pinned: Stay with the collection that the name stands for at first.

    Attributes:
        held: The generation that is asked.

    Raises:
        UsageError, FormatError, ServerError: See ``generations.current``.
    """

    def __init__(self, address: Address, client: MilvusClient, *, pinned: bool = False) -> None:
        self.address, self.client, self._pinned = address, client, pinned
        self.held = generations.current(client, address)
        self._wrote = -math.inf

    @property
    def level(self) -> str:
        """How new an answer has to be, by the cluster's word for it.

        What was written here has to be seen here. The cluster's own level for that does not wait
        for deletions, so that after a write everybody's are waited for, for a while.
        """
        return "Strong" if time.monotonic() - self._wrote < SETTLED else "Bounded"

    def wrote(self) -> None:
        """Says that something was written here."""
        self._wrote = time.monotonic()

    def follow(self) -> bool:
        """Asks the collection from here on that the name stands for; whether it is another.

        Raises:
            FormatError, ServerError: See ``generations.read``.
        """
        if self._pinned or not (collection := self.newer()):
            return False
        self.held = generations.read(self.client, self.address, collection)
        return True

    def newer(self) -> str:
        """The collection that the name stands for, where it is another one; else empty.

        Raises:
            ServerError: See ``told``.
        """
        collection = generations.target(self.client, self.address, self.address.name)
        return "" if collection in (None, self.held.collection) else str(collection)

    def call(self, ask: Callable[[str], Value]) -> Value:
        """Calls with the collection; once more with another that has taken its place.

        Raises:
            ServerError: See ``told``.
        """
        try:
            with told(self.address):
                return ask(self.held.collection)
        except ServerError as error:
            if error.code != "unknown" or not self.follow():
                raise
        with told(self.address):
            return ask(self.held.collection)

    def query(self, condition: str, fields: list[str], limit: int = MOST_ROWS) -> list[Any]:
        """Fields of rows that fulfil a condition, in no order, at most so many.

        Raises:
            ServerError: See ``told``.
        """

        def ask(collection: str) -> list[Any]:
            found = self.client.query(
                collection,
                filter=condition,
                output_fields=fields,
                limit=limit,
                consistency_level=self.level,
            )
            return list(found)

        return self.call(ask)

    def count(self, condition: str = "") -> int:
        """How many rows fulfil a condition.

        Raises:
            ServerError: See ``told``.
        """

        def ask(collection: str) -> int:
            found = self.client.query(
                collection,
                filter=condition,
                output_fields=["count(*)"],
                consistency_level=self.level,
            )
            return int(found[0]["count(*)"])

        return self.call(ask)

    def walk(self, condition: str, fields: list[str], most: int | None = None) -> Iterator[Any]:
        """Fields of all rows that fulfil a condition, in no order, piece by piece.

        Args:
            condition: Empty: all rows.
            fields: Their names.
            most: Stop after a piece that has brought so many.

        Raises:
            ServerError: See ``told``.
        """
        total = self.count(condition)
        pieces = max(1, -(-total // PIECE))
        waiting = list(pairwise(PARTS * at // pieces for at in range(pieces + 1)))
        given = 0
        while waiting and (most is None or given < most):
            low, high = waiting.pop()
            found = self.query(both(f"part >= {low} and part < {high}", condition), fields)
            if len(found) == MOST_ROWS and high - low > 1:
                middle = (low + high) // 2
                waiting += [(low, middle), (middle, high)]
                continue
            given += len(found)
            yield from found

    def by_ids(self, ids: Sequence[str], fields: list[str]) -> Iterator[Any]:
        """Fields of those of these videos that are there, each once.

        Raises:
            ServerError: See ``told``.
        """
        asked = [video for video in dict.fromkeys(ids) if _possible(video)]
        for start in range(0, len(asked), CHUNK):
            yield from self.query(by_ids(asked[start : start + CHUNK]), fields)

    def close(self) -> None:
        """Closes the connection."""
        self.client.close()


def _possible(video: str) -> bool:
    """Whether a collection can hold such an id."""
    try:
        return bool(video) and len(video.encode()) <= ID_BYTES
    except UnicodeEncodeError:
        return False
