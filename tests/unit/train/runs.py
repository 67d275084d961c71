"""The made corpus that training tests share, and ways to look into a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.corpora import made_pairs, made_videos
from vidvec.train.pretrain import PretrainTask

VIDEOS = made_videos(80)
PAIRS = made_pairs(VIDEOS, 300)
FAST = {"learning_rate": 5e-3, "high_learning_rate": 5e-3}


def lines(run: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def last_weights(run: Path) -> bytes:
    name = json.loads((run / "run.json").read_text())["last"]
    return (run / "checkpoints" / name / "model.safetensors").read_bytes()


def snapshot(run: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time of change and its bytes."""
    files = [path for path in run.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def falls(some: list[dict[str, Any]], name: str, to: float) -> bool:
    """Whether a figure's last value is at most this share of its first."""
    return some[-1][name] < to * some[0][name]


def rows_seen(task: PretrainTask, epoch: int = 0) -> list[int]:
    """Rows of an epoch's batches, and those it validates on behind them."""
    steps = range(epoch * task.order.epoch_steps(0), (epoch + 1) * task.order.epoch_steps(0))
    return [row for step in steps for row in task.batch(step).rows.tolist()]
