"""The demo, small: the whole way on videos that it renders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidvec import Corpus, Vectors
from vidvec.embed.evaluate import evaluate

pytestmark = pytest.mark.slow
VIDEOS = 40


def run_demo(folder: Path) -> str:
    command = [sys.executable, "-m", "vidvec.cli", "demo", str(folder), "--videos", str(VIDEOS)]
    environment = {**os.environ, "COLUMNS": "120"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=400, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo")
    return folder, run_demo(folder)


def table(printed: str) -> dict[str, str]:
    lines = [line.split() for line in printed.splitlines()]
    names = ("untrained", "mean", "attention", "fused")
    return {line[0]: line[1] for line in lines if line and line[0] in names}


def test_the_table_is_what_the_vectors_give(demo):
    folder, printed = demo
    pairs = Corpus(folder / "corpus").pairs()
    for name, shown in table(printed).items():
        found = evaluate(Vectors(folder / "vectors" / name), pairs).spearman.value
        assert shown == f"{found:.4f}"
    assert len(table(printed)) == 4


def test_everything_is_in_or_named(demo):
    folder, printed = demo
    corpus = Corpus(folder / "corpus")
    rows = (folder / "source" / "meta.jsonl").read_text("utf-8").splitlines()
    lines = (folder / "corpus" / "rejects.jsonl").read_text("utf-8").splitlines()
    rejected = {json.loads(line)["id"] for line in lines}
    assert {json.loads(row)["id"] for row in rows} == {*corpus.ids} | rejected
    assert rejected
    assert f"{len(corpus)} videos" in printed


def test_the_report_is_one_file_with_pictures(demo):
    folder, _ = demo
    page = (folder / "report.html").read_text("utf-8")
    assert page.count("data:image/jpeg;base64") > 20
    assert "<svg" in page
    assert 'src="http' not in page
    assert (folder / "picture.png").read_bytes()[:4] == b"\x89PNG"


def test_run_again_it_gives_the_same(demo):
    folder, printed = demo
    assert table(run_demo(folder)) == table(printed)
