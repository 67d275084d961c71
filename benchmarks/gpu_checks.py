"""Whether the GPU computes what the CPU does, and whether its two ways through attention agree.

Without dropout, on a few videos of a made corpus. bfloat16 keeps 8 bits of a number (steps of
0.4 %) and TF32 11 of a float32's 24, which is where the tolerances come from.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidvec.config import load_recipe
from vidvec.data.corpus import Corpus
from vidvec.model import attention
from vidvec.model.precision import autocast, tensor_float_32
from vidvec.train.finetune import FinetuneTask
from vidvec.train.optimizer import make_optimizer
from vidvec.train.pretrain import PretrainTask
from vidvec.train.start import new_model
from vidvec.train.trainer import train_step

TASKS = (PretrainTask, FinetuneTask)
CPU = torch.device("cpu")
# What two steps may differ by: losses relative, gradients of their length, 1 - cosine of vectors.
TOLERANCES = {
    "float32": {"losses": 1e-5, "gradients": 1e-4, "vectors": 1e-6},
    "tf32": {"losses": 2e-3, "gradients": 2e-2, "vectors": 1e-4},
    "bf16": {"losses": 2e-2, "gradients": 0.14, "vectors": 1e-3},
    "flash": {"losses": 1e-2, "gradients": 5e-2, "vectors": 1e-3},
}
MODELS: dict[str, tuple[str, ...]] = {
    "flat": (),
    "padding counted": ("model.count_padding=true", "model.pool=attention"),
    "modern": ("model.trunk=modern", "model.local_attention_window=16"),
}
SYNCHRONISATIONS = {"pretrain": 1, "finetune": 0}


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison.

    Attributes:
        name: What is compared.
        found: How far the two are apart.
        allowed: How far they may be.
    """

    name: str
    found: float
    allowed: float

    @property
    def holds(self) -> bool:
        """False for NaN too."""
        return self.found <= self.allowed


@dataclass(frozen=True, slots=True)
class Outcome:
    """A step's losses, all its gradients end to end, and vectors (B, E), on the CPU."""

    losses: dict[str, float]
    gradients: Tensor
    vectors: Tensor


def make_task(
    kind: type[PretrainTask | FinetuneTask],
    corpus: Corpus,
    device: torch.device,
    *settings: str,
    precision: str = "float32",
) -> Any:
    """A tiny model, the same on every device, 32 videos or 16 pairs a step, without dropout."""
    recipe = load_recipe(
        "base",
        [
            "model.size=tiny",
            "model.dropout=0.0",
            "model.start=random",
            "pretrain.batch_size=32",
            "finetune.batch_size=16",
            "finetune.split=published",
            *(f"{name}.precision={precision}" for name in ("pretrain", "finetune")),
            *settings,
        ],
    )
    return kind(new_model(recipe, corpus).to(device), corpus)


def outcome(task: Any) -> Outcome:
    """Of the first step's batch; the vectors are those before the step."""
    batch = task.batch(0)
    videos = batch[0] if isinstance(batch, tuple) else batch
    task.model.encoder.eval()
    with torch.no_grad(), autocast(task.device, task.stage.precision):
        vectors = task.model.encoder(videos.to(task.device)).vectors
    losses = train_step(task, make_optimizer(task.model, task.stage), batch, 0)
    named = task.model.named_parameters()
    gradients = torch.cat([p.grad.flatten().cpu() for _, p in named if p.grad is not None])
    return Outcome({k: float(loss) for k, loss in losses.items()}, gradients, vectors.cpu())


def compare(name: str, first: Outcome, second: Outcome, tolerance: str) -> list[Check]:
    """Three comparisons of two outcomes."""
    allowed = TOLERANCES[tolerance]
    losses = max(abs(second.losses[k] / loss - 1) for k, loss in first.losses.items())
    off = (first.gradients - second.gradients).norm() / first.gradients.norm()
    cosines = (first.vectors.double() * second.vectors.double()).sum(1)
    found = {"losses": losses, "gradients": float(off), "vectors": float((1 - cosines).max())}
    return [Check(f"{name}: {part}", found[part], allowed[part]) for part in found]


@contextmanager
def on_the_grid() -> Iterator[None]:
    """Without the flash kernel."""
    takes_flash = attention.takes_flash
    attention.takes_flash = lambda *_: False  # type: ignore[assignment]
    try:
        yield
    finally:
        attention.takes_flash = takes_flash


def device_checks(corpus: Corpus, device: torch.device) -> list[Check]:
    """The device against the CPU, by task, model and precision."""
    checks = []
    for kind in TASKS:
        for model, settings in MODELS.items():
            expected = outcome(make_task(kind, corpus, CPU, *settings))
            name = f"{kind.name}, {model}, device against CPU"
            for precision in ("float32", "bf16"):
                task = make_task(kind, corpus, device, *settings, precision=precision)
                checks += compare(f"{name}, {precision}", expected, outcome(task), precision)
            with tensor_float_32(device):
                found = outcome(make_task(kind, corpus, device, *settings))
            checks += compare(f"{name}, tf32", expected, found, "tf32")
    return checks


def attention_checks(corpus: Corpus, device: torch.device) -> list[Check]:
    """The flash kernel against the padded grid, in bfloat16."""
    checks = []
    for kind in TASKS:
        for model, settings in MODELS.items():
            tasks = [make_task(kind, corpus, device, *settings, precision="bf16") for _ in "ab"]
            with on_the_grid():
                expected = outcome(tasks[0])
            name = f"{kind.name}, {model}, flash against grid"
            checks += compare(name, expected, outcome(tasks[1]), "flash")
    return checks


def dropout_check(device: torch.device) -> list[Check]:
    """Of two equal keys each is kept with its probability, and the mean stays."""
    from vidvec.model.layout import flat_layout
    from vidvec.records import Batch

    videos, share = 4000, 0.3
    counts = torch.full((videos,), 2)
    batch = Batch(torch.zeros(0, 1), 0 * counts, torch.zeros(2 * videos).long(), counts)
    layout = flat_layout(batch.to(device), "frames_first")
    qkv = torch.zeros(2 * videos, 3, 2, 16, device=device, dtype=torch.bfloat16)
    qkv[:, 2] = 1.0
    out = attention.attend(qkv, layout, share).float()[:, ::16]
    kept = (out * (1 - share) * 2).round()
    return [
        Check(
            "attention dropout: share of weights dropped", abs(kept.mean().item() / 2 - 0.7), 0.02
        ),
        Check("attention dropout: mean of what is left", abs(out.mean().item() - 1), 0.03),
    ]


def mask_check(corpus: Corpus, device: torch.device) -> list[Check]:
    """The same tokens and frames are masked on the device and on the CPU."""
    there, here = (make_task(PretrainTask, corpus, where) for where in (device, CPU))
    different = 0
    for step in range(3):
        masks = [task._masked(task.batch(step), step)[1] for task in (there, here)]
        for name in ("token_ids", "token_targets", "frames", "frame_targets"):
            first, second = (getattr(mask, name).cpu() for mask in masks)
            different += not torch.equal(first, second)
    return [Check("masks on the device against the CPU's, fields that differ", different, 0)]


def waiting_checks(corpus: Corpus, device: torch.device) -> list[Check]:
    """How often in a step the host waits for the GPU."""
    checks = []
    for kind in TASKS:
        task = make_task(kind, corpus, device, precision="bf16")
        optimizer = make_optimizer(task.model, task.stage)
        batch = task.batch(0)
        moved = tuple(p.to(device) for p in batch) if isinstance(batch, tuple) else batch.to(device)
        train_step(task, optimizer, moved, 0)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                train_step(task, optimizer, moved, 1)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        times = [str(each.message) for each in said if "synchroniz" in str(each.message)]
        places = sorted({f"{each.filename}:{each.lineno}" for each in said})
        name = f"{kind.name}: waits for the GPU in a step {places if times else ''}"
        checks.append(Check(name, len(times), SYNCHRONISATIONS[kind.name]))
    return checks


def check_groups(corpus: Corpus, device: torch.device) -> dict[str, Callable[[], list[Check]]]:
    """The checks, each to be run on its own, so that one that fails stops no other."""
    groups: dict[str, Callable[[], list[Check]]] = {
        "device": lambda: device_checks(corpus, device),
        "attention": lambda: attention_checks(corpus, device),
        "dropout": lambda: dropout_check(device),
        "masks": lambda: mask_check(corpus, device),
    }
    if device.type == "cuda":
        groups["waiting"] = lambda: waiting_checks(corpus, device)
    return groups
