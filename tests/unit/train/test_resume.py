"""Runs that are killed end as runs that are not: the same weights, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.tiny import tiny_recipe
from vidvec.config import Recipe

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).resolve().parents[3]
# Validations and checkpoints at steps of their own, which the ends of epochs are not either.
RECIPE = tiny_recipe(
    model={"dropout": 0.2},
    pretrain={"epochs": 6, "checkpoint_every": 5, "evaluate_every": 4},
    finetune={
        "epochs": 4,
        "checkpoint_every": 5,
        "evaluate_every": 3,
        "batch_size": 32,
        "ema_decay": 0.8,
        "adversarial": 0.1,
        "r_drop_weight": 0.5,
    },
)

PRETRAIN_DEATHS: dict[str, list[list[Any]]] = {
    "in the first step": [["step", 1]],
    "between checkpoints": [["step", 13]],
    "after a validation": [["before saving", 4]],
    "half written": [["half written", 3]],
    "before pointing": [["before pointing", 3]],
    "while pointing": [["while pointing", 2]],
    "after pointing": [["after pointing", 3]],
    "from outside": [["outside", 9]],
    "again and again": [["half written", 1], ["before pointing", 1], ["step", 9]],
}
FINETUNE_DEATHS: dict[str, list[list[Any]]] = {
    "between checkpoints": [["step", 8]],
    "half written": [["half written", 2]],
    "before pointing, twice": [["before pointing", 2], ["before pointing", 1]],
    "from outside": [["outside", 5]],
}


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """All runs, in one folder: ``pretrain/whole``, ``pretrain/DEATH``, and so on."""
    root = tmp_path_factory.mktemp("resume")
    videos = made_videos(60)
    write_corpus(root / "corpus", videos, made_pairs(videos, 250))
    (root / "recipe.toml").write_text(RECIPE.to_toml())
    start = {"start": str(root / "pretrain" / "whole")}
    jobs = []
    for stage, deaths in (("pretrain", PRETRAIN_DEATHS), ("finetune", FINETUNE_DEATHS)):
        for name, moments in [("whole", []), *deaths.items()]:
            job = {
                "stage": stage,
                "corpus": str(root / "corpus"),
                "recipe": str(root / "recipe.toml"),
                "run": str(root / stage / name),
                **(start if stage == "finetune" else {}),
            }
            jobs += [{**job, "death": moment} for moment in moments] + [job]
    (root / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.train.crash", str(root / "jobs.json")],
        cwd=PROJECT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return root


CASES = [("pretrain", name) for name in PRETRAIN_DEATHS]
CASES += [("finetune", name) for name in FINETUNE_DEATHS]


@pytest.mark.parametrize(("stage", "death"), CASES)
def test_a_killed_run_ends_like_a_whole_one(runs, stage, death):
    whole, killed = runs / stage / "whole", runs / stage / death
    assert (killed / "run.json").read_bytes() == (whole / "run.json").read_bytes()
    pointers = json.loads((whole / "run.json").read_text())
    kept = sorted(path.name for path in (whole / "checkpoints").iterdir())
    assert kept == sorted({pointers["last"], pointers["best"]})
    assert sorted(path.name for path in (killed / "checkpoints").iterdir()) == kept
    files = ["model.safetensors", "state/optimizer.safetensors", "state/rng.safetensors"]
    files += ["state/weights.safetensors"] * (stage == "finetune")
    for name in kept:
        for file in files:
            first, second = (run / "checkpoints" / name / file for run in (whole, killed))
            assert first.read_bytes() == second.read_bytes(), (name, file)

    ours, theirs = metrics(whole), metrics(killed)
    steps = [(line["step"], line["kind"]) for line in ours]
    assert len(set(steps)) == len(steps)
    assert [(line["step"], line["kind"]) for line in theirs] == steps
    validations = [line for line in ours if line["kind"] == "validation"]
    assert len(validations) > 4
    assert [line for line in theirs if line["kind"] == "validation"] == validations


@pytest.mark.parametrize(("stage", "death"), CASES)
def test_nothing_is_left_lying_about(runs, stage, death):
    leftovers = [path for path in (runs / stage / death).rglob("*") if path.suffix == ".tmp"]
    assert leftovers == []


def test_the_runs_are_worth_comparing(runs):
    """Something was learned, with dropout, and in steps that fall on no common multiple."""
    recipe = Recipe.model_validate(RECIPE.model_dump())
    assert recipe.model.dropout > 0
    for stage in ("pretrain", "finetune"):
        lines = metrics(runs / stage / "whole")
        train = [line["loss"] for line in lines if line["kind"] == "train"]
        assert train[-1] < train[0]
        last = json.loads((runs / stage / "whole" / "run.json").read_text())["last"]
        assert int(last[5:]) == lines[-1]["step"]
