"""Training over several processes: what it learns is what one process learns.

The processes are real ones, started by PyTorch's ``torchrun``, in touch by Gloo on loopback.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.corpora import made_pairs, made_videos, with_more, write_corpus
from tests.tiny import tiny_recipe
from vidvec.model.weights import load_model

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
VIDEOS, PAIRS = 66, 200
# Batches that neither 2 nor 3 divides. The last one of 56 videos has one video: others have none.
BATCH, PAIR_BATCH = 11, 13
WIDE = {"learning_rate": 1e-3, "high_learning_rate": 1e-3}

PRETRAIN: dict[str, dict[str, Any]] = {
    "published": {},
    "regularised": {
        "modality_dropout": 0.3,
        "clip_norm": 0.5,
        "ema_decay": 0.9,
        "layer_decay": 0.8,
        "adversarial": 0.1,
    },
    "in parts": {"accumulate": 3, "adversarial": 0.1, "twin_weight": 1.0},
    "contrasts": {
        "modality_dropout": 0.2,
        "twin_weight": 1.0,
        "cross_weight": 1.0,
        "cross_queue": 40,
        "cross_momentum": 0.9,
        "match_weight": 1.0,
    },
    "lessons": {
        "tag_soft_share": 0.4,
        "tag_soft_momentum": 0.9,
        "tag_weighting": "gdw",
        "trusted_batch": 8,
        "accumulate": 2,
    },
    "shards": {"sharded": True, "modality_dropout": 0.3, "clip_norm": 0.5, "ema_decay": 0.9},
    "shards in parts": {
        "sharded": True,
        "accumulate": 2,
        "adversarial": 0.1,
        "checkpointing": True,
        "clip_norm": 0.5,
    },
    "contrasts in shards": {
        "sharded": True,
        "twin_weight": 1.0,
        "cross_weight": 1.0,
        "match_weight": 1.0,
    },
}
PAIRED = {"pearson_weight": 0.5, "cosent_weight": 0.1, "soft_rank_weight": 0.2}
FINETUNE: dict[str, dict[str, Any]] = {
    "all losses": {
        **PAIRED,
        "angle_weight": 0.1,
        "contrast_weight": 0.1,
        "tag_weight": 1.0,
        "r_drop_weight": 0.5,
        "prefixes": (4,),
        "modality_dropout": 0.2,
    },
    "in parts": {**PAIRED, "accumulate": 2, "tag_weight": 1.0, "clip_norm": 0.1, "ema_decay": 0.9},
    "lora": {"adapter": "lora", "adapter_rank": 2},
    "shards": {**PAIRED, "sharded": True, "r_drop_weight": 0.5, "tag_weight": 1.0},
}
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "finetune.adapter=residual": ("finetune", {"adapter": "residual"}),
    "finetune.adapter=lora": ("finetune", {"adapter": "lora", "sharded": True}),
    "pretrain.cross_queue=8": (
        "pretrain",
        {"cross_weight": 1.0, "cross_queue": 8, "sharded": True},
    ),
    "pretrain.tag_soft_share=0.5": ("pretrain", {"tag_soft_share": 0.5, "sharded": True}),
}


# Epochs of those with 50 steps and more.
LONG = {"published": 9, "regularised": 9, "shards": 9, "all losses": 5}
# A run that 2 processes begin, 3 go on with and 1 ends, and the steps where it is halted.
ELASTIC: dict[str, dict[str, Any]] = {"copies": {}, "shards": {"sharded": True}}
HALTS = {2: 27, 3: 41}


def recipe(root: Path, stage: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The settings of a stage."""
    common = {**WIDE, "epochs": 3, "evaluate_every": 25, **changes}
    if "trusted_batch" in changes:
        common["trusted"] = (str(root / "trusted.txt"),)
    if stage == "pretrain":
        more = {"videos": "all", "validation_share": 0.15}
        common |= {"batch_size": BATCH, **more}
    elif stage == "finetune":
        common |= {"batch_size": PAIR_BATCH}
    else:
        common |= {"batch_size": BATCH, "videos": "all", "validation_share": 0.15}
    return {stage: common, "model": {"dropout": 0.0}}


def elastic_job(root: Path, processes: int, name: str) -> dict[str, Any]:
    """A stretch of a run whose processes come and go."""
    changes = {"checkpoint_every": 5, "epochs": LONG["published"]}
    changes |= ELASTIC[name] if processes > 1 else {}
    file = root / f"elastic {name} by {processes}.toml"
    file.write_text(tiny_recipe(**recipe(root, "pretrain", changes)).to_toml())
    job = {"stage": "pretrain", "corpus": str(root / "corpus"), "recipe": str(file)}
    halt = {"halt": HALTS[processes]} if processes in HALTS else {}
    return {**job, "run": str(root / f"elastic {name}"), **halt}


def jobs_for(root: Path, runs: Path, processes: int) -> list[dict[str, Any]]:
    """All jobs, into one folder of runs: ``pretrain/NAME`` and so on."""
    jobs = [elastic_job(root, processes, name) for name in ELASTIC]
    cases = [("pretrain", name, some) for name, some in PRETRAIN.items()]
    cases += [("pretrain", "all that is heard and read", {"mam_weight": 0.1})]
    cases += [("pretrain", "padded", {})]
    cases += [("finetune", name, some) for name, some in FINETUNE.items()]
    cases += [("distill", "fused", {"accumulate": 2})]
    if processes == 2:
        cases += [(stage, f"refused {key}", some) for key, (stage, some) in REFUSED.items()]
    for stage, name, changes in cases:
        settings = recipe(root, stage, {"epochs": LONG.get(name, 3), **changes})
        corpus = "corpus"
        if "heard" in name:
            corpus = "more"
            room = {"max_audio": 4, "max_speech_tokens": 8, "max_screen_tokens": 6}
            settings["model"] |= {**room, "trunk": "modern", "pool": "attention"}
        if name == "padded":
            settings["model"] |= {"count_padding": True, "order": "frames_first", "pool": "cls"}
        file = root / f"{stage} {name}.toml"
        file.write_text(tiny_recipe(**settings).to_toml())
        job = {"stage": stage, "corpus": str(root / corpus), "recipe": str(file)}
        job["run"] = str(runs / stage / name)
        if stage == "finetune":
            job["start"] = str(root / "start")
        if stage == "distill":
            job["vectors"] = str(root / "vectors.npz")
        jobs.append(job)
    return jobs


def torchrun(processes: int, *arguments: str) -> list[str]:
    """The command; as ``torchrun``, which may lie on no path here."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    where = ["--local-addr", "127.0.0.1", "--nproc-per-node", str(processes)]
    return [*launcher, *where, *arguments]


def begun(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """The command running in a session of its own, so that it can be ended with its workers."""
    with log.open("wb") as sink:
        return subprocess.Popen(
            command, cwd=PROJECT, env=ENVIRONMENT, stdout=sink, stderr=sink, start_new_session=True
        )


def ended(running: subprocess.Popen[bytes], log: Path, seconds: float = 400) -> str:
    """What it said, once it has ended well."""
    try:
        status = running.wait(seconds)
    except BaseException:
        os.killpg(running.pid, signal.SIGKILL)
        raise
    said = log.read_text(errors="replace")
    assert status == 0, said[-5000:]
    return said


def finished(command: list[str], log: Path) -> str:
    return ended(begun(command, log), log)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """What is trained on."""
    root = tmp_path_factory.mktemp("distributed")
    videos = made_videos(VIDEOS)
    corpus = write_corpus(root / "corpus", videos, made_pairs(videos, PAIRS))
    write_corpus(root / "more", with_more(videos))
    (root / "trusted.txt").write_text("\n".join(video.id for video in videos[:30]))
    vectors = np.random.default_rng(3).normal(size=(VIDEOS, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.savez(root / "vectors.npz", matrix=vectors, ids=np.array(corpus.ids))
    start = tiny_recipe(model={"dropout": 0.0}, pretrain={"epochs": 1})
    (root / "start.toml").write_text(start.to_toml())
    job = {"stage": "pretrain", "corpus": str(root / "corpus"), "recipe": str(root / "start.toml")}
    (root / "start.json").write_text(json.dumps([{**job, "run": str(root / "start")}]))
    finished(
        [sys.executable, "-m", "tests.e2e.train_jobs", str(root / "start.json")], root / "start.log"
    )
    return root


@pytest.fixture(scope="module")
def runs(root) -> dict[int, Path]:
    """Folders of the same runs by 1, 2 and 3 processes."""
    folders = {}
    for processes in (2, 3, 1):
        folder = folders[processes] = root / f"by {processes}"
        folder.mkdir()
        for stage in ("pretrain", "finetune", "distill"):
            (folder / stage).mkdir()
        file = folder / "jobs.json"
        file.write_text(json.dumps(jobs_for(root, folder, processes)))
        module = ["-m", "tests.e2e.train_jobs", str(file)]
        command = [sys.executable, *module] if processes == 1 else torchrun(processes, *module)
        finished(command, folder / "log")
    return folders


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def last(run: Path) -> Path:
    name = json.loads((run / "run.json").read_text())["last"]
    return run / "checkpoints" / name


def curve(run: Path) -> dict[tuple[int, str, str], float]:
    """Every figure but the speed, by step, kind and name."""
    return {
        (line["step"], line["kind"], name): value
        for line in lines(run)
        for name, value in line.items()
        if name not in ("step", "kind") and not name.endswith("_per_second")
    }


CASES = [("pretrain", name) for name in (*PRETRAIN, "all that is heard and read", "padded")]
CASES += [*(("finetune", name) for name in FINETUNE), ("distill", "fused")]


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize(("stage", "name"), CASES)
def test_the_curve_and_the_weights_are_those_of_one_process(runs, stage, name, processes):
    alone, together = (runs[count] / stage / name for count in (1, processes))
    ours, theirs = curve(together), curve(alone)
    assert len({step for step, _, _ in theirs}) >= (50 if name in LONG else 18)
    assert ours.keys() == theirs.keys()
    assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    first, second = (load_file(last(run) / "model.safetensors") for run in (together, alone))
    assert first.keys() == second.keys()
    for key, value in first.items():
        np.testing.assert_allclose(value, second[key], rtol=0, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("key", REFUSED)
def test_what_cannot_be_is_refused_by_its_key(runs, key):
    stage = REFUSED[key][0]
    for rank in (0, 1):
        said = (runs[2] / stage / f"refused {key}.{rank}.error").read_text()
        assert key in said
    assert not (runs[2] / stage / f"refused {key}").exists()


@pytest.mark.parametrize("name", ["published", "shards"])
def test_a_checkpoint_is_one_that_one_process_loads(runs, name):
    model = load_model(runs[3] / "pretrain" / name)
    alone = load_model(runs[1] / "pretrain" / name)
    assert model.recipe.pretrain == alone.recipe.pretrain
    state = load_file(last(runs[3] / "pretrain" / name) / "state" / "optimizer.safetensors")
    for key, value in dict(model.named_parameters()).items():
        if f"{key}/exp_avg" in state:
            assert state[f"{key}/exp_avg"].shape == tuple(value.shape)


@pytest.mark.parametrize("name", ELASTIC)
def test_processes_may_come_and_go(runs, root, name):
    alone, together = runs[1] / "pretrain" / "published", root / f"elastic {name}"
    steps = [line["step"] for line in lines(together) if line["kind"] == "train"]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= 50
    assert curve(together) == pytest.approx(curve(alone), rel=1e-5, abs=1e-6)
    first, second = (load_file(last(run) / "model.safetensors") for run in (together, alone))
    for key, value in first.items():
        np.testing.assert_allclose(value, second[key], rtol=0, atol=1e-5, err_msg=key)


def worker(launcher: int, rank: int) -> int:
    """The process id of a rank's worker."""
    for process in Path("/proc").iterdir():
        try:
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            if parent == str(launcher) and f"RANK={rank}".encode() in (
                process / "environ"
            ).read_bytes().split(b"\0"):
                return int(process.name)
        except (OSError, IndexError):
            continue
    raise AssertionError(f"no worker of rank {rank}")


def kill_when(run: Path, step: int, launcher: int, rank: int) -> None:
    """Kills a worker once the run's last checkpoint is that of this step or a later one."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            if int(json.loads((run / "run.json").read_text())["last"][len("step-") :]) >= step:
                break
        except OSError:
            pass
        time.sleep(0.01)
    os.kill(worker(launcher, rank), signal.SIGKILL)


def test_a_killed_worker_costs_nothing_but_time(root, tmp_path):
    """Two workers die, one after the other; the launcher starts all of them again."""
    changes = {"checkpoint_every": 7, "modality_dropout": 0.2, "epochs": 9}
    settings = recipe(root, "pretrain", changes)
    settings["model"]["dropout"] = 0.1
    file = tmp_path / "recipe.toml"
    file.write_text(tiny_recipe(**settings).to_toml())
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def command(run: Path) -> list[str]:
        restart = ["--restart", "--recipe", str(file)]
        module = ["-m", "vidvec.cli", "pretrain", str(root / "corpus"), str(run), *restart]
        return torchrun(2, "--max-restarts", "2", *module)

    finished(command(whole), tmp_path / "whole.log")
    running = begun(command(killed), tmp_path / "killed.log")
    kill_when(killed, 7, running.pid, 1)
    kill_when(killed, 28, running.pid, 0)
    assert "carried on at" in ended(running, tmp_path / "killed.log")

    assert (killed / "run.json").read_bytes() == (whole / "run.json").read_bytes()
    for name in ("model.safetensors", "state/optimizer.safetensors"):
        assert (last(killed) / name).read_bytes() == (last(whole) / name).read_bytes(), name
    ours, theirs = curve(killed), curve(whole)
    assert ours.keys() == theirs.keys()
    # A line's losses are means of the steps since the one before, or since the run went on.
    for (step, kind, name), value in theirs.items():
        if kind == "validation" or name in ("epoch", "learning_rate"):
            assert ours[step, kind, name] == value
    steps = [(line["step"], line["kind"]) for line in lines(killed)]
    assert len(set(steps)) == len(steps)
    assert steps == [(line["step"], line["kind"]) for line in lines(whole)]
