"""`make reproduce` on very few videos: stopped hard, carried on, and done once only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.reproduction.arms import CHAINS
from benchmarks.reproduction.claims import CLAIMS, CONTRASTS, TITLES

PROJECT = Path(__file__).resolve().parents[2]
SMALL = ["--videos", "150", "--seeds", "1", "--pretrain-epochs", "1", "--finetune-epochs", "1"]


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.reproduce", str(folder), *SMALL]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=PROJECT, text=True, **pipes)


def results(folder: Path) -> dict[str, int]:
    """When each chain was done."""
    found = folder.glob("results/seed1/*/results.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


@pytest.mark.benchmark
def test_reproduce_carries_on_and_ends(tmp_path):
    killed = start(tmp_path)
    assert killed.stdout is not None
    assert killed.stdout.readline().startswith("seed 1 ")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    wait_for_its_workers(tmp_path)
    before = results(tmp_path)
    assert 0 < len(before) < len(CHAINS)

    again = start(tmp_path)
    printed, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    after = results(tmp_path)
    assert len(after) == len(CHAINS)
    assert before.items() <= after.items()
    assert printed.count("\nseed 1 ") + printed.startswith("seed 1 ") == len(after) - len(before)
    assert (tmp_path / "reproduction.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "reproduction.md").read_text("utf-8")
    assert page.count("\n| ") == len(CONTRASTS) + len(TITLES) + 4  # and two heads, two for context
    for number, claim in CLAIMS.items():
        assert f"- ({number}) {claim}" in page

    once_more = start(tmp_path)
    printed, errors = once_more.communicate(timeout=120)
    assert once_more.returncode == 0, errors
    assert "\nseed 1 " not in f"\n{printed}"
    assert results(tmp_path) == after
    assert (tmp_path / "reproduction.md").read_text("utf-8") == page


def wait_for_its_workers(folder: Path) -> None:
    """Workers end at their next step once the process that started them is gone."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and working_in(folder):
        time.sleep(0.2)
    assert not working_in(folder)


def working_in(folder: Path) -> bool:
    """Whether any process has a file below the folder open."""
    for process in Path("/proc").iterdir():
        try:
            opened = [os.readlink(link) for link in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(path.startswith(f"{folder}/") for path in opened):
            return True
    return False
