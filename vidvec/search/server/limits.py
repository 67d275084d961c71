"""How much one client, and all of them, may ask for."""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from vidvec.search.server.failures import ApiError

SLOTS = 2**18
_SLOT = struct.Struct("dd")  # tokens left, when that was
RATE_FILE = "rates"


class RateLimiter:
    """A token bucket for each client, which all workers share.

    The buckets lie in a mapped file. A client's is found by a keyed hash of its address: two
    clients share one with a chance of 1 in 262,144, and nobody can choose with whom.

    Args:
        folder: Of the file.
        rate: Tokens a second that a bucket gets; 0: nothing is limited.
        burst: Tokens that it holds.
        clock: In seconds; the same for all processes.
    """

    def __init__(
        self, folder: Path, rate: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        if not rate:
            return
        path = folder / RATE_FILE
        if not path.exists():
            create_rates(folder)
        self._file = path.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), 0)
        self._key = self._map[:16]

    def take(self, client: str, tokens: float = 1.0) -> float:
        """Takes tokens out of a client's bucket.

        Returns:
            0 where they were there, else the seconds after which they will be.
        """
        if not self._rate:
            return 0.0
        digest = hashlib.blake2b(client.encode("utf-8", "replace"), digest_size=4, key=self._key)
        place = 16 + int.from_bytes(digest.digest(), "big") % SLOTS * _SLOT.size
        with self._locked(place):
            held, then = _SLOT.unpack_from(self._map, place)
            now = self._clock()
            if then == 0:
                held = self._burst
            held = min(self._burst, held + max(0.0, now - then) * self._rate)
            enough = held >= tokens
            _SLOT.pack_into(self._map, place, held - tokens if enough else held, now)
        return 0.0 if enough else (tokens - held) / self._rate

    @contextmanager
    def _locked(self, place: int) -> Iterator[None]:
        """Keeps other processes away from a slot; within one, only the event loop comes here."""
        try:
            import fcntl
        except ImportError:  # Windows, which runs one worker
            yield
            return
        fcntl.lockf(self._file, fcntl.LOCK_EX, _SLOT.size, place)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, _SLOT.size, place)


def create_rates(folder: Path) -> None:
    """Makes the file of buckets, before the workers start."""
    with (folder / RATE_FILE).open("xb") as file:
        file.write(os.urandom(16))
        file.truncate(16 + SLOTS * _SLOT.size)


class Gate:
    """How many requests may be worked on or wait at once.

    Args:
        most: So many; more are refused.
        what: They are, for the message.
    """

    def __init__(self, most: int, what: str) -> None:
        self._most, self._what, self.inside = most, what, 0

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Holds a place.

        Raises:
            ApiError: There is none (``busy``).
        """
        if self.inside >= self._most:
            raise ApiError(
                "busy",
                f"{self.inside} {self._what} are being worked on, which is all that fit",
                "ask again in a moment",
                retry_after=1,
            )
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


class BodyTooLarge(HTTPException):
    """A body has more bytes than are taken."""

    def __init__(self, most: int) -> None:
        super().__init__(
            413, f"the body has more than {most:,} bytes, which is the most that is taken"
        )


def counted(receive: Receive, most: int, length: bytes | None) -> Receive:
    """A body that fails as soon as it has more bytes than are taken, whatever its head says.

    Raises:
        BodyTooLarge: Its head says already that it is too large.
    """
    if length is not None and length.isdigit() and int(length) > most:
        raise BodyTooLarge(most)
    taken = 0

    async def take() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise BodyTooLarge(most)
        return message

    return take
