"""Parts of a job made by the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from vidvec.errors import ServerError
from vidvec.workers import AHEAD, ATTEMPTS, Part, make


class RayWorkers:
    """Workers of a cluster: a core each, on whichever machine has one.

    A part whose worker or machine is lost, or whose file cannot be read or written, is made again
    elsewhere. All machines must see the same folders under the same paths.

    Args:
        ray: What ``vidvec.pipeline.bulk.connection.connected`` gives.
        count: Workers at most; ``None``: as many as the cluster has cores when a job begins.
    """

    def __init__(self, ray: Any, count: int | None = None) -> None:
        self._ray, self._count = ray, count

    def run(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Makes all parts, and yields each when its file is there.

        Raises:
            ServerError: A part's worker was lost ``ATTEMPTS`` times.
            VidvecError, OSError: What a part ended with; an ``OSError`` the last time of several.
        """
        ray = self._ray
        count = self._count or max(1, int(ray.cluster_resources().get("CPU", 1)))
        again: dict[str, Any] = {"max_retries": ATTEMPTS - 1, "retry_exceptions": [OSError]}
        remote = ray.remote(num_cpus=1, **again)(make)
        waiting, running = iter(parts), dict[Any, Part]()
        # With a limit on workers none is handed a part ahead, which would be one more at work.
        most = count if self._count else AHEAD * count
        while True:
            while len(running) < most and (part := next(waiting, None)) is not None:
                handle = remote.remote(part)
                running[handle] = part
            if not running:
                return
            done, _ = ray.wait(list(running), num_returns=1)
            for handle in done:
                part = running.pop(handle)
                self._check(handle, part)
                yield part

    def _check(self, handle: Any, part: Part) -> None:
        """Raises what a part ended with."""
        errors = self._ray.exceptions
        try:
            self._ray.get(handle)
        except errors.RayTaskError as error:
            raise error.cause from None
        except errors.RayError as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ServerError(
                "lost",
                f"the worker at {part.output.name} was lost {ATTEMPTS} times: {first}. What is "
                "done is kept: run the command again",
            ) from None
