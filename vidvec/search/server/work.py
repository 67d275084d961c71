"""Work off the event loop: bounded threads, and single queries that are encoded together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, ParamSpec, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


class Work:
    """The threads of one worker process.

    What waits for a thread is given up with the request that asked for it; what runs goes on to
    its end, and keeps its thread until then. So there is never more work than threads.

    Args:
        threads: For searching and encoding.
        readers: For waiting on the processes that read uploaded files.
    """

    def __init__(self, threads: int, readers: int) -> None:
        self.quick = ThreadPoolExecutor(threads, "search")
        self.reading = ThreadPoolExecutor(readers, "upload")

    async def run(
        self,
        function: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """Runs a function in one of the quick threads."""
        return await self.run_in(self.quick, function, *args, **kwargs)

    async def run_in(
        self,
        threads: ThreadPoolExecutor,
        function: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """Runs a function in one of these threads."""
        return await asyncio.wrap_future(threads.submit(function, *args, **kwargs))

    def close(self) -> None:
        """Drops what waits; does not wait for what runs."""
        for threads in (self.quick, self.reading):
            threads.shutdown(wait=False, cancel_futures=True)


class Batcher(Generic[Item, Result]):
    """Runs single items through a function of many.

    While one batch runs, what comes gathers for the next one: nobody waits for a batch to fill.

    Args:
        function: From items to as many results.
        threads: Where it runs.
        most: Items of a batch.
        said: Called with the size of each batch.
    """

    def __init__(
        self,
        function: Callable[[Sequence[Item]], Sequence[Result]],
        threads: ThreadPoolExecutor,
        most: int,
        said: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._function, self._threads, self._most, self._said = function, threads, most, said
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._running = False

    async def submit(self, item: Item) -> Result:
        """The result of one item."""
        coming: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, coming))
        if not self._running:
            self._start()
        return await coming

    def _start(self) -> None:
        self._waiting = [each for each in self._waiting if not each[1].done()]  # given up
        batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        self._running = bool(batch)
        if not batch:
            return
        self._said(len(batch))
        loop = asyncio.get_running_loop()
        work = self._threads.submit(self._run, [item for item, _ in batch])
        coming = [future for _, future in batch]
        work.add_done_callback(lambda done: loop.call_soon_threadsafe(self._finish, coming, done))

    def _run(self, items: list[Item]) -> list[Result | Exception]:
        try:
            return list(self._function(items))
        except Exception as error:
            if len(items) == 1:
                return [error]
        # One that cannot be done does not spoil the others.
        return [result for item in items for result in self._run([item])]

    def _finish(
        self, coming: list[asyncio.Future[Result]], done: Future[list[Result | Exception]]
    ) -> None:
        results: Sequence[Result | Exception]
        results = [asyncio.CancelledError()] * len(coming) if done.cancelled() else done.result()  # type: ignore[list-item]
        for future, result in zip(coming, results, strict=True):
            if future.done():
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)
        self._start()
