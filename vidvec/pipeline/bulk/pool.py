"""Parts of a job on a pool of Ray Data's actors.

What goes through Ray are small descriptions of parts and the receipts of those that are done; the
parts themselves lie on shared storage.
"""

from __future__ import annotations

import json
import queue
import statistics
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from vidvec import errors
from vidvec.errors import ServerError, UsageError, VidvecError

# No part that is a few times slower than the others is done twice before this.
PATIENCE_SECONDS = 60.0
_TIMES_SLOWER = 3.0
_LOOK_SECONDS = 0.5
_COPIES = 2  # of a part that is late, besides the first
_ON_HEAD = {"node:__internal_head__": 0.001}


@dataclass(frozen=True, slots=True)
class Task:
    """A part that is to be done.

    Attributes:
        number: Of the part.
        first, stop: Its rows; the last is ``stop - 1``.
        wanted: Those of them that are; empty: all.
    """

    number: int
    first: int
    stop: int
    wanted: tuple[int, ...] = ()

    @property
    def places(self) -> Sequence[int]:
        """Its rows, ascending."""
        return self.wanted or range(self.first, self.stop)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a worker says of a part.

    Attributes:
        number: Of the part.
        rows: Rows in it.
        rejected: Of these, left out.
        seconds: By what they went to, such as ``encode``; ``all``: from begin to end.
        worker: Which it was, as host and process.
        attempt: How often the part was begun, with this one.
        ended_at: When, by the worker's clock, in seconds since 1970.
        error: Name and text of the error that ends the job; empty: none.
    """

    number: int
    rows: int = 0
    rejected: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    worker: str = ""
    attempt: int = 1
    ended_at: float = 0.0
    error: tuple[str, str] | tuple[()] = ()


class Worker(Protocol):
    """Does parts, one after the other, in a process of its own."""

    def __init__(self, job: Any) -> None: ...

    def do(self, task: Task) -> Receipt:
        """Does a part, and raises ``VidvecError`` where the job cannot go on."""
        ...


@dataclass(frozen=True, slots=True)
class PoolSize:
    """How many workers there are, and what Ray sets aside for each.

    Attributes:
        workers: At most; 0: as many as the cluster has room for.
        cpus: Of each.
        gpus: Of each.
        patience_seconds: See ``PATIENCE_SECONDS``.
    """

    workers: int
    cpus: float
    gpus: float
    patience_seconds: float = PATIENCE_SECONDS

    def __post_init__(self) -> None:
        if self.workers < 0 or self.cpus < 0 or self.gpus < 0 or self.cpus + self.gpus == 0:
            raise UsageError(
                f"{self.workers} workers of {self.cpus:g} CPUs and {self.gpus:g} GPUs: expected "
                "some CPU or GPU for each"
            )


class Actor:
    """What Ray Data runs: a worker that is made with the first part.

    Args:
        kind: Class of the worker.
        job: What it is given.
    """

    def __init__(self, kind: type[Worker], job: Any) -> None:
        self._kind, self._job = kind, job
        self._worker: Worker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Does the parts of a batch."""
        return {"receipt": [json.dumps(asdict(self.one(said))) for said in batch["task"]]}

    def one(self, said: str) -> Receipt:
        """Does one part."""
        known = json.loads(said)
        task = Task(known["number"], known["first"], known["stop"], tuple(known["wanted"]))
        try:
            self._worker = self._worker or self._kind(self._job)
            return self._worker.do(task)
        except VidvecError as error:
            return Receipt(task.number, error=(type(error).__name__, str(error)))


def gpus_of(ray: Any) -> float:
    """How many GPUs a worker gets where there is a use for one: one, where the cluster has any."""
    return 1.0 if ray.cluster_resources().get("GPU", 0.0) >= 1 else 0.0


def room(ray: Any, size: PoolSize) -> int:
    """How many workers a cluster has room for, by its nodes' CPUs and GPUs.

    Raises:
        UsageError: Not for one.
    """
    most = 0
    largest = (0.0, 0.0)
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        has = (node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        largest = max(largest, has)
        wants = (size.cpus, size.gpus)
        most += int(min(have // want for have, want in zip(has, wants, strict=True) if want))
    if most == 0:
        raise UsageError(
            f"no machine of the Ray cluster has room for a worker of {size.cpus:g} CPUs and "
            f"{size.gpus:g} GPUs; the largest has {largest[0]:g} and {largest[1]:g}"
        )
    return min(most, size.workers) if size.workers else most


@dataclass(frozen=True, slots=True)
class Work:
    """Who does the parts.

    Attributes:
        ray: The module, connected.
        kind: Class of the workers.
        job: What each is given; small, and can be pickled.
        size: Of the pool.
    """

    ray: Any
    kind: type[Worker]
    job: Any
    size: PoolSize


def run_tasks(work: Work, tasks: Sequence[Task]) -> Generator[Receipt, None, None]:
    """Has parts done, and yields the first receipt of each as it comes.

    A worker that is killed, or whose machine is, is started again by Ray, there or elsewhere, and
    does its parts again. Parts that are late when all others are done are begun a second time.

    Ray Data runs in a process of the cluster's head: it cannot run outside of the cluster, and its
    threads would go on in this process when the job is given up. Closing the generator gives it up.

    Args:
        work: Who does them.
        tasks: The parts.

    Raises:
        VidvecError: As a worker raised it; or what Ray could not help.
    """
    if not tasks:
        return
    ray = work.ray
    room(ray, work.size)  # says at once where there is none
    manager = ray.remote(_Manager).options(num_cpus=0, resources=_ON_HEAD)
    running = None
    try:
        running = manager.remote(work.kind, work.job, list(tasks), work.size)
        while said := ray.get(running.next.remote()):
            receipt = _receipt(said)
            if receipt.error:
                raise _error_of(receipt)
            yield receipt
    except ray.exceptions.RayError as error:
        raise _failed(error) from None
    finally:
        if running is not None and ray.is_initialized():
            ray.kill(running)  # and with it its workers


class _Manager:
    """Runs Ray Data."""

    def __init__(self, kind: type[Worker], job: Any, tasks: Sequence[Task], size: PoolSize) -> None:
        import ray
        import ray.data

        self._coming = _run(Work(ray, kind, job, size), tasks)

    def next(self) -> str:
        """The next receipt, or that of the error which ends the job; empty: there is none."""
        try:
            receipt = next(self._coming, None)
        except VidvecError as error:
            receipt = Receipt(-1, error=(type(error).__name__, str(error)))
        return json.dumps(asdict(receipt)) if receipt else ""


def _run(work: Work, tasks: Sequence[Task]) -> Iterator[Receipt]:
    """Receipts as they come; see ``run_tasks``."""
    workers = min(room(work.ray, work.size), len(tasks))
    coming: queue.Queue[Receipt | BaseException | None] = queue.Queue()
    dataset = _dataset(work, tasks, workers)
    threading.Thread(target=_pump, args=(dataset, coming), daemon=True).start()
    late = _Late(work)
    left = {task.number: task for task in tasks}
    ended = False
    while left:
        for receipt in _next(coming, late):
            if receipt is None:
                ended = True
            elif receipt.error:
                raise _error_of(receipt)
            elif left.pop(receipt.number, None) is not None:
                late.note(receipt)
                yield receipt
        if ended and left and not late.running:
            raise ServerError(
                "unreachable",
                f"Ray ended with {len(left)} parts not done: run the command again, it goes on",
            )
        if len(left) <= 2 * workers:
            late.hurry(left)


def _next(
    coming: queue.Queue[Receipt | BaseException | None], late: _Late
) -> Iterator[Receipt | None]:
    """What has come within a moment; ``None``: nothing more will come of the pool."""
    yield from late.receipts()
    try:
        found = coming.get(timeout=_LOOK_SECONDS)
    except queue.Empty:
        return
    if isinstance(found, BaseException):
        raise _failed(found)
    yield found


def _pump(dataset: Any, coming: queue.Queue[Receipt | BaseException | None]) -> None:
    """Runs Ray Data, which blocks, and hands on what comes out."""
    try:
        for row in dataset.iter_rows():
            coming.put(_receipt(row["receipt"]))
        coming.put(None)
    except BaseException as error:
        coming.put(error)  # raised again by who reads the queue


def _dataset(work: Work, tasks: Sequence[Task], workers: int) -> Any:
    data = work.ray.data
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    items = [{"task": json.dumps(asdict(task))} for task in tasks]
    # One part a block: a block is what Ray Data gives to a worker, and does again.
    dataset = data.from_items(items, override_num_blocks=len(items))
    # All at once, as parts are many times longer than a worker's start; and Ray may do with fewer,
    # so that machines that went are not waited for.
    pool = data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers)
    return dataset.map_batches(
        Actor,
        fn_constructor_args=(work.kind, work.job),
        batch_size=1,
        compute=pool,
        num_cpus=work.size.cpus,
        num_gpus=work.size.gpus,
    )


class _Late:
    """Parts that are done a second time, as their first worker may be slow or stand still.

    Ray Data waits for a worker as long as its process lives. By the time that only such parts are
    left, its idle workers have been ended, and there is room.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._seconds: list[float] = []
        self._last = time.monotonic()
        self._copies: dict[int, int] = {}
        self.running: list[Any] = []

    def note(self, receipt: Receipt) -> None:
        """Learns from a part that is done."""
        self._seconds.append(receipt.seconds.get("all", 0.0))
        self._last = time.monotonic()

    def hurry(self, left: dict[int, Task]) -> None:
        """Begins parts again for which all have waited too long."""
        if not self._seconds:
            return
        usual = _TIMES_SLOWER * statistics.median(self._seconds)
        work, size = self._work, self._work.size
        if time.monotonic() - self._last < max(size.patience_seconds, usual):
            return
        self._last = time.monotonic()
        run = work.ray.remote(_do_one).options(
            num_cpus=size.cpus, num_gpus=size.gpus, scheduling_strategy="SPREAD"
        )
        for number, task in left.items():
            if self._copies.get(number, 0) < _COPIES:
                self._copies[number] = self._copies.get(number, 0) + 1
                said = json.dumps(asdict(task))
                self.running.append(run.remote(work.kind, work.job, said))

    def receipts(self) -> Iterator[Receipt]:
        """Those of parts that were begun again and are done."""
        if not self.running:
            return
        ray = self._work.ray
        done, self.running = ray.wait(self.running, num_returns=1, timeout=0)
        for each in done:
            try:
                yield _receipt(ray.get(each))
            except Exception as error:
                raise _failed(error) from None


def _do_one(kind: type[Worker], job: Any, said: str) -> str:
    """A part in a process of Ray's that does no other."""
    return json.dumps(asdict(Actor(kind, job).one(said)))


def _receipt(said: str) -> Receipt:
    known = json.loads(said)
    return Receipt(**{**known, "error": tuple(known["error"])})


def _error_of(receipt: Receipt) -> VidvecError:
    """The error that a worker raised, made again."""
    name, text = (*receipt.error, "", "")[:2]
    kind = getattr(errors, name, VidvecError)
    raised: VidvecError = kind.__new__(kind)
    raised.args = (text,)
    return raised


def _failed(error: BaseException) -> BaseException:
    """What the user is told of an error of Ray's."""
    if isinstance(error, VidvecError) or not isinstance(error, Exception):
        return error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    what = lines[-1] if lines else type(error).__name__
    what = f"{type(error).__name__}: {what:.300}"
    return ServerError(
        "unreachable", f"the Ray job failed ({what}): run the command again, it goes on"
    )
