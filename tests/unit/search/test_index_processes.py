"""Several processes at one index: writers that are killed, readers beside, one writer at a time."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import PROJECT
from tests.unit.search.indexed import assert_nearest, clustered, write_vectors
from tests.unit.search.writing import WIDTH, next_write, vectors_of
from vidvec.errors import UsageError
from vidvec.search import store
from vidvec.search.engine import SearchIndex, build_index

IDS = [f"v{number}" for number in range(40)]
VECTORS = clustered(40, WIDTH)


@pytest.fixture
def folder(tmp_path) -> Path:
    path = write_vectors(tmp_path / "vectors", IDS, VECTORS)
    build_index(path)
    return path


def writer(folder: Path, seed: int, fold_at: int) -> subprocess.Popen[str]:
    """A writing process that has opened the index."""
    command = [sys.executable, "-m", "tests.unit.search.writing", str(folder)]
    process = subprocess.Popen(
        [*command, str(seed), str(fold_at)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def killed(process: subprocess.Popen[str]) -> int:
    """Kills a writer; how many of its writes were acknowledged."""
    process.send_signal(signal.SIGKILL)
    lines = process.communicate()[0].splitlines()
    return len(lines)


def after(held: dict[str, np.ndarray], seed: int, writes: int) -> dict[str, np.ndarray]:
    """What an index holds after so many writes of a process."""
    held, random = dict(held), np.random.default_rng(seed)
    for number in range(writes):
        write = next_write(random, number)
        if write[0] == "add":
            held |= dict(zip(write[1], vectors_of(write), strict=True))
        else:
            held = {video: vector for video, vector in held.items() if video not in write[1]}
    return held


def same(index: SearchIndex, held: dict[str, np.ndarray]) -> bool:
    """Whether an index holds these vectors."""
    ids, matrix = index.matrix()
    if set(ids) != set(held):
        return False
    wanted = np.stack([held[video] / np.linalg.norm(held[video]) for video in ids])
    return bool(np.abs(matrix - wanted).max() < 1e-6)


@pytest.mark.slow
def test_a_killed_writer_loses_nothing_that_was_acknowledged(folder):
    held = dict(zip(IDS, VECTORS, strict=True))
    random = np.random.default_rng(0)
    total = 0
    for seed in range(5):
        # Every second writer makes a new FAISS file at each write, so that kills hit that, too.
        process = writer(folder, seed, 10**9 if seed % 2 else 1)
        time.sleep(float(random.uniform(0.05, 0.5)))
        writes = killed(process)
        total += writes
        with SearchIndex.open(folder, writable=True) as index:
            # The write under way may have been acknowledged without having been said so.
            states = [after(held, seed, writes), after(held, seed, writes + 1)]
            matching = [state for state in states if same(index, state)]
            assert matching
            held = matching[0]
            ids, matrix = list(held), np.stack(list(held.values()))
            query = random.standard_normal(WIDTH).astype(np.float32)
            assert_nearest(index.search(query[None], 9)[0], ids, matrix, query, 9)
            assert index.words("title", 99) is not None
        with sqlite3.connect(folder / "index" / "records.sqlite") as connection:
            connection.execute("INSERT INTO titles (titles, rank) VALUES ('integrity-check', 1)")
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
    assert total > 5
    build_index(folder)
    with SearchIndex.open(folder) as index:
        assert same(index, held)
    assert len(list((folder / "index").glob("*.faiss"))) == 1
    assert not list((folder / "index").glob(".*.tmp"))


def test_readers_beside_a_writer_never_see_half_a_write(folder):
    process = writer(folder, 1, 20)
    try:
        with SearchIndex.open(folder) as index:
            seen = set()
            until = time.monotonic() + 1.5
            while time.monotonic() < until or len(seen) < 5:
                hits = index.search(VECTORS[:3], 70)
                seen.add(index.generation)
                assert len({len(some) for some in hits}) == 1
                for some in hits:
                    assert len({hit.id for hit in some}) == len(some) > 20
                assert time.monotonic() < until + 60
    finally:
        writes = killed(process)
    held = dict(zip(IDS, VECTORS, strict=True))
    with SearchIndex.open(folder) as index:
        assert same(index, after(held, 1, writes)) or same(index, after(held, 1, writes + 1))


def test_a_second_writer_waits_and_then_gives_up_with_a_word(folder, monkeypatch):
    monkeypatch.setattr(store, "WAIT_SECONDS", 0.2)
    with SearchIndex.open(folder, writable=True) as index:
        other = sqlite3.connect(folder / "index" / "records.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UsageError, match="another process has been writing to"):
            index.delete(["v1"])
        assert index.search(VECTORS[1:2], 1)[0][0].id == "v1"  # readers need not wait
        other.execute("ROLLBACK")
        other.close()
        assert index.delete(["v1"]) == 1


def test_a_killed_build_is_begun_again(folder):
    (folder / "index").rename(folder.parent / "aside")
    leftover = folder / ".index.0123abcd.tmp"
    leftover.mkdir()
    (leftover / "records.sqlite").write_bytes(b"half")
    assert build_index(folder).videos == 40
    assert not leftover.exists()
