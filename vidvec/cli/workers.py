"""Options of commands whose work several processes share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vidvec.errors import UsageError

if TYPE_CHECKING:
    from vidvec.workers import Workers


@contextmanager
def opened_workers(workers: int | None, on: str | None) -> Iterator[Workers | None]:
    """Yields who does the work; ``None`` where neither option is given: this process.

    Args:
        workers: ``--workers``; without ``on`` processes of this machine.
        on: ``--on``: see ``vidvec.pipeline.bulk.connection.connected``.

    Raises:
        UsageError: Fewer than one worker, or no place to run.
        MissingExtraError: Ray is not installed.
        ServerError: No cluster answers.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: expected 1 or more processes")
    if on is not None:
        from vidvec.pipeline.bulk.connection import connected
        from vidvec.pipeline.bulk.parts import RayWorkers

        with connected(on) as ray:
            yield RayWorkers(ray, workers)
    elif workers is not None:
        from vidvec.workers import LocalWorkers

        with LocalWorkers(workers) as local:
            yield local
    else:
        yield None
