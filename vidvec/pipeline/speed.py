"""How fast this machine reads, trains and embeds a corpus with a recipe."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vidvec.data.batches import BatchBuilder
from vidvec.data.corpus import Corpus
from vidvec.embed.embedder import BATCH, Encoder
from vidvec.model.weights import VideoModel
from vidvec.train.finetune import FinetuneTask
from vidvec.train.optimizer import make_optimizer
from vidvec.train.pretrain import PretrainTask
from vidvec.train.task import Task
from vidvec.train.trainer import train_step

WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Speeds:
    """Medians over single batches.

    Attributes:
        device: Such as ``cpu``.
        loader: Videos a second that one thread makes into batches.
        pretrain: Videos a second.
        finetune: Pairs a second; ``None``: the corpus has no scored pairs to train on.
        embed: Videos a second.
    """

    device: str
    loader: float
    pretrain: float
    finetune: float | None
    embed: float


def measure_speeds(
    model: VideoModel,
    corpus: Corpus,
    steps: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> Speeds:
    """Takes some batches through each stage; the model is trained by it.

    Args:
        model: On the device to be measured.
        corpus: Its videos and pairs.
        steps: Batches of each stage, behind ``WARM_UP`` that do not count.
        progress: Called with stages done and all.
    """
    said = progress or (lambda *_: None)
    device = next(model.encoder.parameters()).device
    builder = BatchBuilder(corpus, model.tokenizer, model.recipe.model)
    random = np.random.default_rng(0)
    rows = [np.sort(random.integers(0, len(corpus), BATCH)) for _ in range(steps + WARM_UP)]
    loader = _rate(lambda step: len(builder.build(rows[step])), steps)
    said(1, 4)
    pretrain = _training_rate(PretrainTask(model, corpus), steps)
    said(2, 4)
    batches = [builder.build(some) for some in rows]
    encoder = Encoder(model, device)
    embed = _rate(lambda step: len(encoder.run(batches[step])), steps)
    said(3, 4)
    finetune = None
    if corpus.pairs():
        finetune = _training_rate(FinetuneTask(model, corpus), steps) / 2
    said(4, 4)
    return Speeds(device.type, loader, pretrain, finetune, embed)


def _training_rate(task: Task, steps: int) -> float:
    """Videos a second of a training stage, its batches made beforehand."""
    optimizer = make_optimizer(task.model, task.stage)
    batches = [task.batch(step % task.order.steps) for step in range(steps + WARM_UP)]

    def run(step: int) -> int:
        batch = batches[step]
        losses = train_step(task, optimizer, batch, step % task.order.steps)
        float(losses["loss"])  # waits for the device
        return len(batch[0] if isinstance(batch, tuple) else batch)

    return _rate(run, steps)


def _rate(run: Callable[[int], int], steps: int) -> float:
    """The median over steps of what ``run`` gives, a second."""
    rates = []
    for step in range(steps + WARM_UP):
        began = time.perf_counter()
        videos = run(step)
        rates.append(videos / (time.perf_counter() - began))
    return float(np.median(rates[WARM_UP:]))
