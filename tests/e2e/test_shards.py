"""Fusion and duplicates by real worker processes: killed, run again, on a Ray cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.failing_parts import die, hesitate
from tests.unit.search.test_dedup import made, same
from tests.unit.search.test_dedup_shards import write
from vidvec.embed import fusion
from vidvec.embed.fusion import PARTS
from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError
from vidvec.search.dedup import Deduplication, deduplicate
from vidvec.search.dedup_workers import dedup_shards
from vidvec.workers import LocalWorkers, Part, make_missing

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

ROWS, WIDTHS = 330_000, (48, 32)
VIDEOS, WIDTH = 60_000, 24
THRESHOLD = 0.97
DEADLINE = 120.0


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("shards")


@pytest.fixture(scope="module")
def members(root) -> list[str]:
    """Two models' vectors of 330,000 videos: six sums and six shards."""
    random = np.random.default_rng(0)
    ids = [f"{row:06d}" for row in range(ROWS)]
    common = random.normal(size=(ROWS, 8)).astype(np.float32)
    paths = []
    for width in WIDTHS:
        mix = random.normal(size=(8, width)).astype(np.float32)
        matrix = common @ mix + random.normal(size=(ROWS, width)).astype(np.float32)
        paths.append(str(write(root / f"model-{width}", ids, matrix, fusion.SHARD_ROWS)))
    return paths


@pytest.fixture(scope="module")
def whole(root, members) -> Path:
    Command("fuse", *members, "--out", str(root / "whole"), "--size", "16").ended()
    return root / "whole"


@pytest.fixture(scope="module")
def folders(root) -> tuple[list[str], Deduplication]:
    """60,000 videos in four folders, by lists; and what is found among all of them together."""
    matrix = made(VIDEOS, 0, WIDTH, 0.08)
    ids = [f"{(7919 * row) % VIDEOS:05d}" for row in range(VIDEOS)]
    cuts = [0, 9_000, 30_000, 31_000, VIDEOS]
    paths = [
        str(write(root / f"part-{start}", ids[start:stop], matrix[start:stop], 8_192))
        for start, stop in pairwise(cuts)
    ]
    return paths, deduplicate(ids, matrix, THRESHOLD)


class Command:
    """A vidvec command in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vidvec.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def wait_until(self, ready: Callable[[], bool]) -> None:
        ends = time.monotonic() + DEADLINE
        while not ready():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < ends
            time.sleep(0.005)

    def workers(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children()
        return [each for each in children if "spawn_main" in " ".join(each.cmdline())]

    def ended(self) -> str:
        said = self.process.communicate(timeout=DEADLINE)[0]
        assert self.process.returncode == 0, said
        return said


def check_fused(found: Path, whole: Path) -> None:
    """The same vectors; to the bit, where sums round alike whatever the number of threads."""
    one, other = Vectors(found), Vectors(whole)
    assert one.ids == other.ids
    assert np.abs(one.matrix - other.matrix).max() <= 1e-7
    assert one.manifest["shards"] == other.manifest["shards"]
    assert not (found / PARTS).exists()


def stamps(folder: Path, pattern: str) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob(pattern)}


def test_a_fusion_whose_workers_are_killed_is_the_same(root, members, whole):
    command = Command(
        "fuse", *members, "--out", str(root / "killed"), "--size", "16", "--workers=2"
    )
    command.wait_until(lambda: bool(stamps(root / "killed", "sum-*.safetensors")))
    command.workers()[0].kill()
    command.wait_until(lambda: bool(stamps(root / "killed", "*.arrow")))
    if alive := command.workers():
        alive[0].kill()
    assert "2 models, 16 numbers" in command.ended()
    check_fused(root / "killed", whole)


def test_a_killed_fusion_goes_on(root, members, whole):
    arguments = ["fuse", *members, "--out", str(root / "again"), "--size", "16", "--workers", "2"]
    first = Command(*arguments)
    first.wait_until(lambda: len(stamps(root / "again", "*.arrow")) >= 2)
    workers = first.workers()
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    done = stamps(root / "again", "*.arrow")
    assert 2 <= len(done) < 6 or (root / "again" / PARTS).exists()
    Command(*arguments).ended()
    after = stamps(root / "again", "*.arrow")
    assert {name: after[name] for name in done} == done
    check_fused(root / "again", whole)


def check_groups(found: Deduplication, wanted: Deduplication) -> None:
    same(found.groups, wanted.groups)
    assert len(wanted.groups) > 1000
    assert found.recall is not None
    assert found.recall == wanted.recall


def test_duplicates_whose_search_is_killed_and_goes_on(folders, root, tmp_path):
    paths, wanted = folders
    parts = tmp_path / "parts"
    arguments = ["dedup", *paths, "--threshold", str(THRESHOLD), "--workers", "2"]
    first = Command(*arguments, "--parts", str(parts))
    first.wait_until(lambda: bool(stamps(parts, "known-*.npy")))
    first.workers()[0].kill()
    first.wait_until(lambda: bool(stamps(parts, "probes-*.npy")))
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    done = stamps(parts, "*.*")
    made: list[str] = []

    class Watched(LocalWorkers):
        def run(self, parts):
            for part in super().run(parts):
                made.append(part.output.name)
                yield part

    with Watched(2) as workers:
        found, _ = dedup_shards(
            [Path(path) for path in paths], THRESHOLD, workers=workers, parts=parts
        )
    check_groups(found, wanted)
    assert made
    assert not set(made) & set(done)
    assert not list(parts.iterdir())


def test_parts_that_fail_are_made_again_and_not_for_ever(tmp_path):
    (tmp_path / "marks").mkdir()
    with LocalWorkers(2) as workers:
        part = Part(tmp_path / "made", hesitate, (2, tmp_path / "marks"))
        make_missing(workers, [part], 1, "made", lambda *_: None)
        assert part.output.exists()
        with pytest.raises(OSError, match="does not answer"):
            list(workers.run([Part(tmp_path / "never", hesitate, (99, tmp_path / "marks"))]))
        with pytest.raises(UsageError, match="ended 4 times while poison"):
            list(workers.run([Part(tmp_path / "poison", die)]))
        again = Part(tmp_path / "after", hesitate, (0, tmp_path / "marks"))
        assert list(workers.run([again])) == [again]


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray")
    from tests.ray_cluster import RayCluster

    with RayCluster((1, 1)) as started:
        yield started


def test_a_cluster_that_loses_a_machine_finds_the_same(cluster, root, members, whole, folders):
    paths, wanted = folders
    arguments = ["fuse", *members, "--out", str(root / "on-ray"), "--size", "16"]
    Command(*arguments, "--on", cluster.address).ended()
    check_fused(root / "on-ray", whole)
    parts, page = root / "ray-parts", root / "groups.csv"
    command = Command(
        *["dedup", *paths, "--threshold", str(THRESHOLD), "--on", cluster.address],
        *["--parts", str(parts), "--csv", str(page)],
    )
    command.wait_until(lambda: bool(stamps(parts, "known-*.npy")))
    cluster.nodes[-1].kill()
    assert "videos compared" in command.ended()
    rows = page.read_text("utf-8").splitlines()[1:]
    found: dict[str, list[str]] = {}
    for row in rows:
        number, video, *_ = row.split(",")
        found.setdefault(number, []).append(video)
    assert list(found.values()) == [[hit.id for hit in each.members] for each in wanted.groups]
