"""The plain way (``benchmarks.plain``) on a GPU: float32 with TF32's products, as published.

Its batches lie ready on the device and their masks are drawn beforehand, which spares it all
reading, tokenizing and masking that the published code does in each step.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

import torch

from benchmarks import plain, plain_data
from benchmarks.gpu_speed import EPOCHS, Amounts, Bench, Work
from benchmarks.steps import Shape, plain_model, plain_videos

Step = Callable[[Any, Any], object]


def _batches(bench: Bench, videos: int) -> list[tuple[Any, Any]]:
    """``bench.steps`` padded batches of so many videos, and their masks, on the device."""
    tokenizer = plain_data.make_tokenizer()
    loader = plain_data.make_loader(plain_videos(bench.corpus), videos, shuffle=True)
    some = list(islice(cycle(loader), bench.steps))
    pairs = [(batch, plain_data.draw_masks(batch, tokenizer)) for batch in some]
    return [
        tuple({name: values.to(bench.device) for name, values in part.items()} for part in pair)
        for pair in pairs
    ]  # type: ignore[misc]


def _model(bench: Bench) -> Any:
    return plain_model(bench.corpus, Shape(bench.label, bench.size, bench.batch)).to(bench.device)


def _work(bench: Bench, step: Step, videos: int, stage: str = "") -> Work:
    batches = _batches(bench, videos)

    def run() -> None:
        for batch, masked in batches:
            step(batch, masked)

    frames = sum(int(batch["frame_mask"].sum()) for batch, _ in batches)
    tokens = sum(int(batch["attention_mask"].sum()) for batch, _ in batches)
    return Work(run, Amounts(videos * len(batches), frames, tokens, len(batches)), stage)


def _training(model: Any, loss_of: Callable[[Any, Any], Any], rates: tuple[float, float]) -> Step:
    optimizer, schedule = plain.make_optimizer(model, *rates, EPOCHS)

    def step(batch: Any, masked: Any) -> None:
        loss_of(batch, masked).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

    return step


def pretraining(bench: Bench) -> Work:
    """A round of steps."""
    model = _model(bench).train()

    def loss_of(batch: Any, masked: Any) -> Any:
        return plain.full_loss(plain.pretraining_losses(model, batch, masked))

    return _work(bench, _training(model, loss_of, (5e-5, 5e-4)), bench.batch, "pretrain")


def finetuning(bench: Bench) -> Work:
    """A round of steps, with targets as good as any."""
    model = _model(bench).train()
    targets = torch.linspace(0, 1, bench.pairs, device=bench.device)

    def loss_of(batch: Any, _: Any) -> Any:
        return plain.finetuning_loss(model, batch, targets)

    return _work(bench, _training(model, loss_of, (1e-5, 5e-5)), 2 * bench.pairs, "finetune")


def embedding(bench: Bench) -> Work:
    """A round of vectors."""
    model = _model(bench).eval()

    @torch.inference_mode()
    def step(batch: Any, _: Any) -> None:
        model.vectors(batch).cpu()

    return _work(bench, step, bench.batch)
