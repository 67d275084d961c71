"""The README's commands and code, run as they stand there."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

from tests.plans import write_competition
from tests.unit.test_public import COMMANDS
from vidvec.data.splits import fold
from vidvec.demo.render import make_videos

pytestmark = pytest.mark.slow
README = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")


def blocks(language: str, count: int) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", README, re.S)
    assert len(found) == count, f"the README has {len(found)} blocks of {language}"
    return found


def commands(block: str) -> list[str]:
    return [line for line in block.splitlines() if line.startswith("vidvec ")]


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vidvec.cli", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def own_videos(tmp_path_factory) -> Path:
    """A folder as the README describes it: videos/meta.csv, pairs.csv, new.mp4."""
    folder = tmp_path_factory.mktemp("readme")
    make_videos(folder / "made", videos=60, pairs=240, seed=5)
    shutil.copytree(folder / "made" / "videos", folder / "videos" / "videos")
    lines = (folder / "made" / "meta.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    first = rows[0]["id"]
    pairs = (folder / "made" / "pairs.tsv").read_text("utf-8").replace(first, "12345")
    # A calibration needs more that were not trained on, some of them similar.
    held = [row["id"] for row in rows if fold(row["id"]) == 0]
    for place, (one, other) in enumerate(combinations(held, 2)):
        pairs += f"{one}\t{other}\t{float(place % 2)}\n"
    (folder / "pairs.csv").write_text(
        "id_1,id_2,score\n" + pairs.replace("\t", ","), encoding="utf-8"
    )
    rows[0]["id"] = "12345"
    shutil.copy(folder / "videos" / rows[0]["file"], folder / "new.mp4")
    with (folder / "videos" / "meta.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "tags": ";".join(row["tags"])} for row in rows)
    return folder


def test_the_commands_run_in_their_order(own_videos):
    lines = commands(blocks("sh", 2)[0])
    assert len(lines) >= 9
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        if words[0] == "fuse":
            shutil.copytree(own_videos / "vectors", own_videos / "other-vectors")
        done = run(words, own_videos)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert done.stdout.strip()
    assert (own_videos / "corpus.html").stat().st_size > 10_000


def test_the_python_code_runs(own_videos, tmp_path):
    for name in ("videos", "pairs.csv", "new.mp4"):
        (tmp_path / name).symlink_to(own_videos / name)
    done = subprocess.run(
        [sys.executable, "-c", blocks("python", 1)[0]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", done.stdout)]
    assert len(numbers) == 2
    assert all(-1.001 <= number <= 1.001 for number in numbers)


def test_the_plans_of_those_who_come_from_the_original(tmp_path):
    """As they stand there, but for size: they are days on a GPU, so the plans are dry runs here."""
    write_competition(tmp_path / "input" / "data")
    lines = commands(blocks("sh", 2)[1])
    assert [line.split()[1] for line in lines] == ["run", "run", "make-competition", "run"]
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        small = ["--videos", "100"] if words[0] == "make-competition" else ["--dry-run"]
        done = run([*words, *(word for word in small if word not in words)], tmp_path)
        assert done.returncode == 0 or "GB needed" in done.stderr, f"{line}\n{done.stderr}"
        assert "pretrain" in done.stdout or words[0] != "run"


def test_every_command_that_it_names_is_there():
    named = set(re.findall(r"`vidvec ([a-z-]+)", README))
    assert {"run", "submit", "import-checkpoint", "download"} <= named
    assert named <= COMMANDS.keys()
