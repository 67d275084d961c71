"""Single items that are worked on together, and what is given up."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.search.server.loops import finished
from vidvec.search.server.overview import Kept
from vidvec.search.server.work import Batcher, Work


class Held:
    """A function of many that runs when it is told to, and notes what it was given."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.batches: list[list[int]] = []

    def __call__(self, items):
        self.go.acquire()
        self.batches.append(list(items))
        if -1 in items:
            raise ValueError("no -1")
        return [item * 10 for item in items]


async def until(condition) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_what_comes_while_a_batch_runs_goes_together():
    async def run():
        held, sizes = Held(), []
        with ThreadPoolExecutor(2) as threads:
            batcher = Batcher(held, threads, 3, sizes.append)
            tasks = [asyncio.create_task(batcher.submit(n)) for n in range(6)]
            await asyncio.sleep(0)
            held.go.release(4)
            assert await asyncio.gather(*tasks) == [0, 10, 20, 30, 40, 50]
        return held.batches, sizes

    batches, sizes = finished(run())
    assert batches == [[0], [1, 2, 3], [4, 5]]
    assert sizes == [1, 3, 2]


def test_one_that_cannot_be_done_does_not_spoil_the_others():
    async def run():
        held = Held()
        held.go.release(100)
        with ThreadPoolExecutor(1) as threads:
            batcher = Batcher(held, threads, 8)
            tasks = [asyncio.create_task(batcher.submit(n)) for n in (1, 2, -1, 3)]
            return await asyncio.gather(*tasks, return_exceptions=True)

    one, two, bad, three = finished(run())
    assert (one, two, three) == (10, 20, 30)
    assert isinstance(bad, ValueError)


def test_what_is_given_up_is_not_worked_on():
    async def run():
        held = Held()
        with ThreadPoolExecutor(1) as threads:
            batcher = Batcher(held, threads, 8)
            tasks = [asyncio.create_task(batcher.submit(n)) for n in range(4)]
            await asyncio.sleep(0)
            tasks[2].cancel()
            await asyncio.sleep(0)
            held.go.release(2)
            assert await tasks[0] == 0
            assert await asyncio.gather(tasks[1], tasks[3]) == [10, 30]
            again = asyncio.create_task(batcher.submit(7))
            held.go.release(1)
            assert await again == 70
        return held.batches

    assert finished(run()) == [[0], [1, 3], [7]]


def test_work_that_waits_is_given_up_with_its_request():
    async def run():
        work, begun, go = Work(1, 1), threading.Event(), threading.Event()
        ran = []

        def slow():
            begun.set()
            go.wait()

        first = asyncio.create_task(work.run(slow))
        await until(begun.is_set)
        second = asyncio.create_task(work.run(ran.append, 2))
        third = asyncio.create_task(work.run(ran.append, 3))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await second
        go.set()
        await first
        await third
        work.close()
        return ran

    assert finished(run()) == [3]


def test_what_takes_long_is_made_once_and_the_oldest_forgotten():
    async def run():
        kept: Kept[int] = Kept(2, "test")
        made = []

        def make(n):
            return lambda: made.append(n) or n * 10

        found = await asyncio.gather(*(kept.get(n, make(n)) for n in (1, 1, 2, 1)))
        assert found == [10, 10, 20, 10]
        assert await kept.get(3, make(3)) == 30
        assert await kept.get(2, make(2)) == 20
        assert await kept.get(1, make(1)) == 10
        kept.close()
        return made

    assert finished(run()) == [1, 2, 3, 1]
