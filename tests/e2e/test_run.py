"""``vidvec run``: the whole plan on a made folder, killed at any moment, with failures, again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.plans import write_competition
from vidvec.data.corpus import Corpus
from vidvec.data.tfrecord import read_tfrecords
from vidvec.embed.vectors import Vectors

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-m", "vidvec.cli"]
SMALLEST = {
    "model.hidden_size": 32,
    "model.layers": 1,
    "model.heads": 2,
    "model.ffn_size": 64,
    "model.embedding_size": 16,
    "model.start": "random",
    "model.init": "",
    "pretrain.epochs": 1,
    "finetune.epochs": 1,
}
SETTINGS = [part for key, value in SMALLEST.items() for part in ("--set", f"{key}={value}")]
PLAN = """
name = "two"
jobs = ["aiac2021/tiny-job4", "aiac2021/tiny-job5"]
fuse_best = [2]
size = 24
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_competition(tmp_path_factory.mktemp("run") / "data", 160)


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "two.toml"
    path.write_text(PLAN)
    return path


def command(plan: Path, data: Path, out: Path, *more: str) -> list[str]:
    return [*COMMAND, "run", str(plan), "--data", str(data), "--out", str(out), *SETTINGS, *more]


def run(plan: Path, data: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(plan, data, out, *more),
        capture_output=True,
        text=True,
        env=environment,
        timeout=500,
        check=False,
    )


@pytest.fixture(scope="module")
def whole(plan, data, tmp_path_factory) -> Path:
    """The folder of a plan that ran through without a stop."""
    out = tmp_path_factory.mktemp("whole") / "out"
    ended = run(plan, data, out)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "submission:" in ended.stdout
    return out


def matrices(out: Path) -> dict[str, np.ndarray]:
    folders = sorted(path.parent for path in out.glob("*/*/manifest.json"))
    vectors = [path for path in folders if (path / "manifest.json").read_text().find("vectors") > 0]
    return {
        str(path.relative_to(out)): Vectors(path).matrix
        for path in vectors
        if json.loads((path / "manifest.json").read_text())["kind"] == "vectors"
    }


def test_the_table_is_that_of_the_vectors_by_another_way(whole):
    """Spearman by SciPy from the vectors and the label file."""
    from scipy.stats import spearmanr

    results = json.loads((whole / "results.json").read_text())
    names = [row["name"] for row in results["rows"]]
    assert names == ["tiny-job4", "tiny-job5", "fusion of the best 2"]
    pairs = Corpus(next(whole.glob("corpus-*"))).pairs()
    chosen = [p for p in pairs if int(p.id_1) % 5 == 0 and int(p.id_2) % 5 == 0]
    folders = [*whole.glob("tiny-job4/vectors-*"), *whole.glob("tiny-job5/vectors-*")]
    for row, folder in zip(results["rows"], [*folders, *whole.glob("fused/*")], strict=True):
        vectors = Vectors(folder)
        cosines = [
            float(vectors.matrix[vectors.row(p.id_1)] @ vectors.matrix[vectors.row(p.id_2)])
            for p in chosen
        ]
        expected = spearmanr(cosines, [p.score for p in chosen]).statistic
        assert row["figures"]["pairs"] == len(chosen) > 5
        assert row["figures"]["spearman"]["value"] == pytest.approx(expected, abs=1e-9)


def test_the_submission_holds_every_test_id(whole, data):
    ids = {
        row.video.id
        for part in ("test_a", "test_b")
        for file in (data / part).iterdir()
        for row in read_tfrecords(file)
    }
    with zipfile.ZipFile(json.loads((whole / "results.json").read_text())["submission"]) as file:
        assert file.namelist() == ["result.json"]
        result = json.loads(file.read("result.json"))
    assert result.keys() == ids
    values = np.array(list(result.values()))
    assert values.shape == (len(ids), 24)
    shortest = [float(str(value)) for value in values.astype(np.float16).ravel()]
    assert values.ravel().tolist() == shortest
    vectors = Vectors(next(whole.glob("fused/*")))
    for video, numbers in result.items():
        expected = vectors.matrix[vectors.row(video)]
        assert np.allclose(numbers, expected, atol=1e-3)


def test_a_second_run_does_nothing(whole, plan, data):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*.arrow")}
    ended = run(plan, data, whole)
    assert ended.returncode == 0
    assert "begun" not in ended.stdout
    assert "fusion of the best 2" in ended.stdout
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*.arrow")} == before


def test_a_dry_run_prints_the_plan_and_writes_no_corpus(plan, data, tmp_path, whole):
    ended = run(plan, data, tmp_path / "out", "--dry-run")
    assert ended.returncode == 0
    assert ended.stdout.count("to do") == 7
    assert "GB free" in ended.stdout
    assert not (tmp_path / "out").exists()
    assert run(plan, data, whole, "--dry-run").stdout.count("to do") == 0


def test_other_finetuning_keeps_the_pretraining(whole, plan, data):
    ended = run(plan, data, whole, "--set", "finetune.batch_size=16", "--dry-run")
    lines = [line for line in ended.stdout.splitlines() if "to do" in line]
    assert sorted(line.split()[0] for line in lines) == ["embed", "embed", "finetune", "finetune"]


@pytest.mark.cluster
def test_killed_at_many_moments_it_ends_the_same(whole, plan, data, tmp_path):
    """SIGKILL to the runner after ever longer times; its stages die with it."""
    out, seconds, kills = tmp_path / "out", 3.0, 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    while True:
        process = subprocess.Popen(
            command(plan, data, out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        try:
            assert process.wait(seconds) == 0
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills, seconds = kills + 1, seconds * 1.6
            assert kills < 30
    assert kills >= 2
    expected, found = matrices(whole), matrices(out)
    assert expected.keys() == found.keys()
    for name, matrix in expected.items():
        assert np.array_equal(matrix, found[name]), name


def test_a_failing_stage_names_itself_and_the_other_job_goes_on(plan, data, tmp_path, whole):
    """Job 4's pretraining cannot write its run: a file stands where its folder would be.

    Of job 5, all is done but the vectors.
    """
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (pretrained,) = (path.name for path in whole.glob("tiny-job4/pretrained-*"))
    for gone in ("tiny-job4", "fused"):
        shutil.rmtree(out / gone)
    shutil.rmtree(next(out.glob("tiny-job5/vectors-*")))
    for done in (*out.glob("stages/*tiny-job4*"), *out.glob("stages/submit-*")):
        done.unlink()
    (out / "tiny-job4").mkdir()
    (out / "tiny-job4" / pretrained).write_text("in the way")
    ended = run(plan, data, out)
    assert ended.returncode == 1
    assert "failed: pretrain tiny-job4" in ended.stderr
    assert "to repeat it: vidvec pretrain" in ended.stderr
    assert "as pretrain tiny-job4 failed: finetune tiny-job4, embed tiny-job4" in ended.stderr
    assert "tiny-job5" in ended.stdout
    assert len(matrices(out)) == 1
    (out / "tiny-job4" / pretrained).unlink()
    ended = run(plan, data, out)
    assert ended.returncode == 0, ended.stderr
    assert "pretrain tiny-job5: begun" not in ended.stdout
    assert len(matrices(out)) == 3


def test_a_runner_that_is_stopped_says_how_to_go_on(plan, data, tmp_path):
    process = subprocess.Popen(
        command(plan, data, tmp_path / "out"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background job ignores the interrupt, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    waiting = time.monotonic() + 60
    while not list((tmp_path / "out").glob("logs/*")):
        assert time.monotonic() < waiting
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command carries on" in errors
