"""``vidvec tune`` as users run it: several processes on one search, killed, again."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.tiny import tiny_recipe
from vidvec.config import load_recipe

pytestmark = pytest.mark.slow
TRIALS = 4
RANGES = '[tune]\n"finetune.learning_rate" = {low = 1e-5, high = 2e-2, log = true}\n'


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = ["tune", str(folder / "mine.toml"), str(folder / "corpus"), str(folder / "search")]
    return subprocess.Popen(
        [sys.executable, "-m", "vidvec.cli", *command, "--trials", str(TRIALS), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def trials(search: Path) -> list[dict[str, Any]]:
    """The trials as SQLite has them."""
    if not (search / "study.db").is_file():
        return []
    with sqlite3.connect(f"file:{search / 'study.db'}?mode=ro", uri=True) as database:
        database.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in database.execute("select * from trials order by number")]
        except sqlite3.OperationalError:  # the tables are being made
            return []


@pytest.mark.cluster
def test_several_processes_share_a_search_that_is_killed_and_carried_on(tmp_path) -> None:
    videos = made_videos(70)
    write_corpus(tmp_path / "corpus", videos, made_pairs(videos, 500))
    recipe = tiny_recipe(model={"layers": 1}, finetune={"epochs": 8, "batch_size": 128})
    (tmp_path / "mine.toml").write_text(f"{recipe.to_toml()}\n{RANGES}")
    search = tmp_path / "search"

    first = start(tmp_path, "--workers", "2")
    until = time.monotonic() + 240
    while time.monotonic() < until:
        states = [trial["state"] for trial in trials(search)]
        if "COMPLETE" in states and "RUNNING" in states:
            break
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    before = trials(search)
    assert "COMPLETE" in {trial["state"] for trial in before}

    second = start(tmp_path, "--workers", "2", "--json")
    stdout, stderr = second.communicate(timeout=400)
    assert second.returncode == 0, stderr
    found, after = json.loads(stdout), trials(search)
    assert [trial["number"] for trial in after] == list(range(TRIALS))
    assert {trial["state"] for trial in after} <= {"COMPLETE", "PRUNED"}, found
    for then, now in zip(before, after, strict=False):
        if then["state"] == "COMPLETE":
            assert now == then
        assert now["datetime_start"] == then["datetime_start"]  # taken over, not begun anew
    spans = [(trial["datetime_start"], trial["datetime_complete"]) for trial in after]
    assert any(a[0] < b[0] < a[1] for a in spans for b in spans)  # side by side
    assert found["unfinished"] == 0
    best = max(
        (row for row in found["trials"] if row["state"] == "complete"), key=lambda row: row["value"]
    )
    assert found["best"] == best["number"]
    chosen = load_recipe(found["recipe"])
    assert chosen.finetune.learning_rate == best["settings"]["finetune.learning_rate"]
