"""Where the time of a training step goes, measured on one's own corpus and machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from vidvec.config import ModelConfig
from vidvec.data.corpus import Corpus
from vidvec.model.flops import TRAINING, encoder_flops, heads_flops, matrix_rate
from vidvec.model.precision import autocast
from vidvec.model.weights import VideoModel
from vidvec.records import Batch
from vidvec.train.optimizer import make_optimizer
from vidvec.train.pretrain import PretrainTask

WARM_UP = 2
# What a module is part of, by the last part of its name; the first that fits counts.
_PARTS = (
    ("word", "embeddings"),
    ("token_embedding", "embeddings"),
    ("frame_projection", "frame projection"),
    ("frame_embedding", "embeddings"),
    ("audio_projection", "audio projection"),
    ("audio_embedding", "embeddings"),
    ("qkv", "attention: projections"),
    ("out", "attention: projections"),
    ("up", "feed-forward: products"),
    ("down", "feed-forward: products"),
    ("attention_norm", "norms"),
    ("ffn_norm", "norms"),
    ("final_norm", "norms"),
    ("pool", "pool and projection"),
    ("projection", "pool and projection"),
    ("tag", "head: tags"),
    ("mlm", "head: masked words"),
    ("mfm", "head: masked frames"),
    ("mam", "head: masked audio"),
)
_BLOCKS = "blocks"
REST_OF_BLOCKS = "attention, activations, residuals"
REST_OF_FORWARD = "masks and losses"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a step.

    Attributes:
        name: What is done.
        seconds: A step, median.
        inside: Whether it is a part of ``forward``.
    """

    name: str
    seconds: float
    inside: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """Where a pretraining step's time goes.

    Attributes:
        parts: In the order of a step.
        seconds: Of a whole step: all parts that are not inside another.
        videos_per_second: Of training alone; batches are made ahead by another thread.
        tokens_per_second: Frames, audio frames and tokens, padding not counted.
        padding_share: Of the positions that run, those that hold nothing.
        flops: Of a step's matrix products on real positions, backward included.
        matrix_rate: Products a second that this device reaches on one large matrix.
        utilisation: What of that rate the step's real work comes to, 0…1.
        device: Such as ``cpu``.
        steps: Steps measured.
    """

    parts: list[Part]
    seconds: float
    videos_per_second: float
    tokens_per_second: float
    padding_share: float
    flops: float
    matrix_rate: float
    utilisation: float
    device: str
    steps: int


class _Clock:
    """Seconds by name, one list entry a step; waits for the device before it looks."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, list[float]] = {}

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def new_step(self) -> None:
        for values in self.seconds.values():
            values.append(0.0)

    def add(self, name: str, seconds: float) -> None:
        self.seconds.setdefault(name, [0.0])[-1] += seconds

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = self.now()
        yield
        self.add(name, self.now() - began)

    def median(self, name: str) -> float:
        return float(np.median(self.seconds[name][-max(1, len(self.seconds[name]) - WARM_UP) :]))


def profile_pretraining(model: VideoModel, corpus: Corpus, steps: int = 5) -> Profile:
    """Takes some steps of pretraining and times their parts; the model is trained by them.

    Args:
        model: On the device to be measured.
        corpus: Its videos.
        steps: To be measured, behind ``WARM_UP`` that are not.

    Raises:
        UsageError: See ``PretrainTask``.
    """
    task = PretrainTask(model, corpus)
    optimizer = make_optimizer(model, task.stage)
    device = next(model.encoder.parameters()).device
    clock = _Clock(device)
    seen: list[Batch] = []
    model.encoder.train()
    with _timed_modules(model, clock):
        for step in range(steps + WARM_UP):
            clock.new_step()
            seen.append(_step(task, corpus, optimizer, clock, step % task.order.steps))
    parts = _parts(clock)
    seconds = sum(part.seconds for part in parts if not part.inside)
    training = seconds - sum(part.seconds for part in parts if part.name in ("read", "batch"))
    videos, real, run, flops = _amounts(seen[WARM_UP:], model)
    rate = matrix_rate()
    return Profile(
        parts,
        seconds,
        videos / training,
        real / training,
        1 - real / run,
        flops,
        rate,
        flops / training / rate,
        device.type,
        steps,
    )


def _step(
    task: PretrainTask,
    corpus: Corpus,
    optimizer: torch.optim.Optimizer,
    clock: _Clock,
    step: int,
) -> Batch:
    """One step, part by part; the batch that it took."""
    with clock.part("read"):
        for row in task.order(step):
            np.array(corpus.frames(int(row)))
    with clock.part("batch"):
        batch = task.batch(step)
    clock.add("batch", -min(clock.seconds["read"][-1], clock.seconds["batch"][-1]))
    with clock.part("copy"):
        moved = batch.to(clock.device)
    with clock.part("forward"), autocast(task.device, task.stage.precision):
        losses = task.losses(moved, step)
    with clock.part("backward"):
        losses["loss"].backward()  # type: ignore[no-untyped-call]
    with clock.part("optimiser"):
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return batch


@contextmanager
def _timed_modules(model: VideoModel, clock: _Clock) -> Iterator[None]:
    """Times every module that ``_PARTS`` names, and whole blocks, as they run forward."""
    handles = []
    modules = [*model.encoder.named_modules()]
    modules += [*model.heads.named_modules()] if model.heads else []
    for name, module in modules:
        part = _part_of(name)
        if part is not None:
            handles += _hooks(module, part, clock)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _part_of(name: str) -> str | None:
    path = name.split(".")
    if path[0] == _BLOCKS and len(path) == 2:
        return _BLOCKS
    if path[0] == _BLOCKS and len(path) != 3:
        return None
    if path[0] != _BLOCKS and len(path) != 1:
        return None
    return next((part for last, part in _PARTS if path[-1] == last), None)


def _hooks(module: nn.Module, part: str, clock: _Clock) -> list[Any]:
    began: list[float] = []

    def before(*_: Any) -> None:
        began.append(clock.now())

    def after(*_: Any) -> None:
        clock.add(part, clock.now() - began.pop())

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]


def _parts(clock: _Clock) -> list[Part]:
    """The step's parts in order, with what is left of blocks and of the forward pass."""
    median: Callable[[str], float] = clock.median
    inner: dict[str, float] = {}
    for _, name in _PARTS:
        if name in clock.seconds:
            inner[name] = median(name)
    in_blocks = ("attention: projections", "feed-forward: products", "norms")
    if _BLOCKS in clock.seconds:
        left = median(_BLOCKS) - sum(inner.get(name, 0.0) for name in in_blocks)
        inner[REST_OF_BLOCKS] = max(0.0, left)
    inner[REST_OF_FORWARD] = max(0.0, median("forward") - sum(inner.values()))
    parts = [Part(name, median(name)) for name in ("read", "batch", "copy", "forward")]
    parts += [Part(name, seconds, inside=True) for name, seconds in inner.items()]
    return parts + [Part(name, median(name)) for name in ("backward", "optimiser")]


def _amounts(batches: list[Batch], model: VideoModel) -> tuple[float, float, float, float]:
    """Videos, real positions, positions that run, and products of real positions, a step."""
    config: ModelConfig = model.recipe.model
    plain = config.model_copy(update={"count_padding": False})
    settings = model.recipe.pretrain
    videos = float(np.mean([len(batch) for batch in batches]))
    frames = float(np.mean([len(batch.frames) for batch in batches])) / videos
    tokens = float(np.mean([len(batch.token_ids) for batch in batches])) / videos
    heard = [0 if batch.audio is None else len(batch.audio) for batch in batches]
    audio = float(np.mean(heard)) / videos
    real = videos * (frames + audio + tokens)
    run = videos * (config.max_frames + config.max_tokens) if config.count_padding else real
    words = max(0.0, tokens - 3)
    each = encoder_flops(plain, frames, tokens, audio)
    heard_by = {"audio": audio, "batch_audio": audio * videos}
    each += heads_flops(plain, settings, frames, words, frames * videos, **heard_by)
    return videos, real, run, TRAINING * videos * each
