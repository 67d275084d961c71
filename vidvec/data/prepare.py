"""Pictures prepared by threads, a batch ahead of the model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Prepared = TypeVar("Prepared")


def cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Preparer:
    """Prepares pictures in as many threads as there are cores.

    Resizing releases the interpreter, so that threads do; they sleep when there is nothing to do.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(cores(), "prepare")

    def batches(
        self,
        images: Sequence[NDArray[np.uint8]],
        size: int,
        prepare: Callable[[NDArray[np.uint8]], Prepared],
    ) -> Iterator[list[Prepared]]:
        """Prepared pictures in their order; while a batch is with the caller, the next is made.

        Args:
            images: Pictures, each (height, width, 3) uint8 RGB.
            size: Of a batch; the last may be smaller.
            prepare: Makes one picture into what the model takes; called from several threads.
        """
        ahead: list[Future[Prepared]] = []
        for start in range(0, len(images), size):
            coming = [self._threads.submit(prepare, each) for each in images[start : start + size]]
            if ahead:
                yield [future.result() for future in ahead]
            ahead = coming
        if ahead:
            yield [future.result() for future in ahead]
