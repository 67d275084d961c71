"""Worker processes: whatever a file does to one, it costs that file and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.unit.data.misbehaving import TASK
from vidvec.data import wire, worker
from vidvec.data.media import MediaRequest
from vidvec.data.worker import Limits
from vidvec.data.workers import WorkerPool
from vidvec.errors import BadRecord, MissingExtraError, UsageError, VidvecError

PROJECT = Path(__file__).resolve().parents[3]
ASKED = MediaRequest(short_side=5, times_seconds=(0.1, 2.5))
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - looked at, not written to
# Files that do not end are given up soon; the others here take no time to speak of.
SHORT = Limits(seconds=1, memory_mb=256)


def children(process: int) -> list[int]:
    """Processes that a process has started and that are still there."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == process and state != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_for(condition: Any) -> None:
    while not condition():
        time.sleep(0.02)


@pytest.fixture
def none_left() -> Iterator[None]:
    before, shared = set(children(os.getpid())), set(os.listdir(SHARED_MEMORY))
    yield
    assert set(children(os.getpid())) <= before
    assert set(os.listdir(SHARED_MEMORY)) <= shared


pytestmark = pytest.mark.usefixtures("none_left")


def test_what_comes_back_is_what_was_read():
    with WorkerPool(1, task=TASK) as pool:
        media = pool.submit(Path("fine"), ASKED).result()
    assert [picture.tolist() for picture in media.pictures] == np.ones((1, 5, 3, 3)).tolist()
    assert media.pictures[0].dtype == np.uint8
    path, process, has_torch, data, core = media.notes
    assert path == str(Path("fine").absolute())
    assert int(process) != os.getpid()
    assert has_torch == "False"  # which would take seconds to import
    assert (int(data) > 4096, core) == (True, "0")


@pytest.mark.parametrize(
    ("deed", "reason", "said"),
    [
        ("hang", "timeout", r"not read within 1 s \(--file-seconds\)"),
        ("spin", "timeout", "not read within"),
        ("segfault", "crashed", r"crashed with signal 11 \(SIGSEGV\)"),
        ("abort", "crashed", r"crashed with signal 6 \(SIGABRT\)"),
        ("exit", "crashed", "ended with code 3"),
        ("babbles", "crashed", "answered with nonsense"),
        ("killed", "out-of-memory", "the system killed"),
        ("eats", "out-of-memory", r"more than 256 MB of memory \(--file-memory-mb\)"),
        ("eats-at-once", "out-of-memory", "more than 256 MB"),
        ("bad", "truncated-video", "bad.mp4 is cut"),
        ("raises", "undecodable", r"raises.mp4 made a library fail \(KeyError: 'key'\)"),
    ],
)
def test_a_bad_file_is_named_and_the_next_is_read(deed, reason, said):
    with WorkerPool(1, SHORT, task=TASK) as pool:
        futures = [pool.submit(Path(name), ASKED) for name in ("a.mp4", f"{deed}.mp4", "b.mp4")]
        assert futures[0].result().pictures
        with pytest.raises(BadRecord, match=said) as caught:
            futures[1].result()
        assert caught.value.reason == reason
        assert futures[2].result().pictures
        survived = reason in {"truncated-video", "undecodable"}
        workers = {future.result().notes[1] for future in (futures[0], futures[2])}
        assert len(workers) == (1 if survived else 2)
    if not survived:
        assert f"{deed}.mp4: " in str(caught.value)


def test_what_is_the_users_to_mend_is_no_bad_file():
    with WorkerPool(1, task=TASK) as pool:
        with pytest.raises(MissingExtraError, match=r"pip install 'vidvec\[ocr\]'"):
            pool.submit(Path("needs"), ASKED).result()
        assert pool.submit(Path("fine"), ASKED).result().pictures


def test_a_crash_that_another_file_prepared_is_tried_again():
    with WorkerPool(1, task=TASK) as pool:
        first, second = (pool.submit(Path(name), ASKED).result() for name in ("fine", "second"))
    assert second.pictures[0].max() == 1  # the first file of its process
    assert first.notes[1] != second.notes[1]


def test_what_a_library_prints_does_not_get_into_the_answers():
    with WorkerPool(1, task=TASK) as pool:
        assert pool.submit(Path("prints"), ASKED).result().pictures


def test_no_more_workers_than_there_is_to_do():
    with WorkerPool(4, task=TASK) as pool:
        before = len(children(os.getpid()))
        for _ in range(5):
            pool.submit(Path("fine"), ASKED).result()
        assert len(children(os.getpid())) == before + 1
        futures = [pool.submit(Path(f"hang_{n}"), ASKED) for n in range(9)]
        wait_for(lambda: len(children(os.getpid())) == before + 4)
        assert not any(future.done() for future in futures)


def test_closing_ends_what_is_under_way():
    pool = WorkerPool(2, task=TASK)
    futures = [pool.submit(Path(f"hang_{n}"), ASKED) for n in range(7)]
    wait_for(lambda: len(pool._running) == 2)
    pool.close()
    for future in futures:
        with pytest.raises((VidvecError, CancelledError)):
            future.result()


def test_a_borrowed_file_is_given_back_after_a_crash():
    lent = []

    @contextmanager
    def lend(name: str) -> Iterator[Path]:
        lent.append(name)
        yield Path(name)
        lent.remove(name)

    with WorkerPool(1, task=TASK) as pool:
        assert pool.submit(lend("fine"), ASKED).result().pictures
    with WorkerPool(1, task=TASK) as pool:
        future = pool.submit(lend("abort"), ASKED)
        with pytest.raises(BadRecord):
            future.result()
    assert lent == ["abort"]  # its context was left by the error


def test_slow_arrivals_do_not_hold_up_those_that_are_there():
    arrived = threading.Event()

    @contextmanager
    def late() -> Iterator[Path]:
        arrived.wait()
        yield Path("fine")

    with WorkerPool(1, task=TASK) as pool:
        waiting = pool.submit(late(), ASKED)
        assert pool.submit(Path("fine"), ASKED).result().pictures
        assert not waiting.done()
        arrived.set()
        assert waiting.result().pictures


@pytest.mark.parametrize(
    ("limits", "said"),
    [({"seconds": 0}, "above 0 s, found 0"), ({"memory_mb": 100}, "at least 256 MB, found 100")],
)
def test_limits_that_nothing_meets(limits, said):
    with pytest.raises(UsageError, match=said):
        Limits(**limits)


def test_the_time_in_which_all_is_stopped_does_not_count(monkeypatch):
    jumps = iter([0.0, 5000.0])

    def monotonic() -> float:
        return time.monotonic() + next(jumps, 5000.0)

    with WorkerPool(1, Limits(seconds=100), task=TASK) as pool:
        assert pool.submit(Path("fine"), ASKED).result().pictures
        monkeypatch.setattr(worker, "time", SimpleNamespace(monotonic=monotonic))
        assert pool.submit(Path("slow"), ASKED).result().pictures
    assert next(jumps, None) is None  # the clock has jumped


def test_large_files_have_more_time(tmp_path):
    file = tmp_path / "large.mp4"
    with file.open("wb") as opened:
        opened.truncate(2_000_000_000)
    assert Limits(seconds=30).seconds_for(file) == 230
    assert Limits(seconds=30).seconds_for(tmp_path / "missing") == 30


def test_a_worker_that_cannot_start_is_said(monkeypatch):
    with (
        WorkerPool(1, task="vidvec.data.media:read_smells") as pool,
        pytest.raises(VidvecError, match=r"cannot work: AttributeError.*read_smells"),
    ):
        pool.submit(Path("fine"), ASKED).result()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with (
        WorkerPool(1, task=TASK) as pool,
        pytest.raises(VidvecError, match="cannot start a decode worker with '/nowhere/python'"),
    ):
        pool.submit(Path("fine"), ASKED).result()


# A script without a main guard, from another folder than the project's, in a thread of its own.
SCRIPT = """
import sys, threading, time
sys.path[:0] = [{project!r}]
from pathlib import Path
from vidvec.data.media import MediaRequest
from vidvec.data.workers import WorkerPool

def read():
    pool = WorkerPool(2, task={task!r})
    assert pool.submit(Path("fine"), MediaRequest()).result().pictures
    print("read", flush=True)
    futures = [pool.submit(Path(name), MediaRequest()) for name in {files!r}]
    for future in futures:
        future.result()
    pool.close()

thread = threading.Thread(target=read)
thread.start()
thread.join()
print("done", flush=True)
"""


def start(tmp_path: Path, files: list[str]) -> subprocess.Popen[str]:
    (tmp_path / "av.py").write_text("raise SystemExit('not this one')")
    script = tmp_path.parent / f"{tmp_path.name}.py"
    script.write_text(SCRIPT.format(project=str(PROJECT), task=TASK, files=files))
    return subprocess.Popen(
        [sys.executable, str(script)], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )


def test_a_script_needs_no_main_guard(tmp_path):
    process = start(tmp_path, ["a", "b"])
    assert process.communicate()[0] == "read\ndone\n"


@pytest.mark.parametrize(
    ("files", "how"),
    [(["hang"] * 2, signal.SIGKILL), (["spin"] * 2, signal.SIGKILL), (["hang"], signal.SIGTERM)],
)
def test_workers_end_with_their_parent(tmp_path, files, how):
    process = start(tmp_path, files)
    assert process.stdout is not None
    assert process.stdout.readline() == "read\n"
    wait_for(lambda: len(children(process.pid)) == len(files))
    workers = children(process.pid)
    process.send_signal(how)
    process.wait()
    process.stdout.close()
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def test_ctrl_c_is_the_parents():
    with WorkerPool(1, task=TASK) as pool:
        before = pool.submit(Path("fine"), ASKED).result()
        os.kill(int(before.notes[1]), signal.SIGINT)
        after = pool.submit(Path("fine"), ASKED).result()
    assert before.notes[1] == after.notes[1]


# --- messages -----------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
ARRAYS = arrays.arrays(
    arrays.floating_dtypes(endianness="<", sizes=(16, 32))
    | arrays.integer_dtypes()
    | arrays.boolean_dtypes(),
    arrays.array_shapes(min_dims=0, min_side=0),
)
VALUES = st.recursive(
    SCALARS | st.binary() | ARRAYS,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def same(one: Any, other: Any) -> bool:
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        return one.tobytes() == other.tobytes()
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


@given(VALUES)
def test_a_message_arrives_as_it_was_sent(value):
    sent = b"".join(wire.pack(value))
    at = 0

    def fill(buffer: memoryview) -> None:
        nonlocal at
        buffer[:] = sent[at : at + len(buffer)]
        at += len(buffer)

    assert same(wire.receive(fill), value)
    assert at == len(sent)


def test_what_is_kept_of_a_message_does_not_keep_the_rest():
    large, small = np.ones(1 << 24, np.uint8), np.ones(3, np.float32)
    sent = b"".join(wire.pack({"large": large, "small": small}))
    at = 0

    def fill(buffer: memoryview) -> None:
        nonlocal at
        buffer[:] = sent[at : at + len(buffer)]
        at += len(buffer)

    tracemalloc.start()
    try:
        kept = wire.receive(fill)["small"]
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept.tolist() == [1, 1, 1]
    assert most > large.nbytes > 100 * held


def test_objects_are_not_sent():
    with pytest.raises(TypeError, match="cannot be sent: PosixPath"):
        wire.pack([Path("a")])
    with pytest.raises(TypeError, match="cannot be sent: ndarray"):
        wire.pack(np.array([object()]))
    with pytest.raises(TypeError, match="cannot be sent: object"):
        wire.pack({"a": object()})
