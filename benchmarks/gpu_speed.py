"""Seconds of training steps and embeddings on one device, vidvec's and the plain way's.

Batches lie ready on the device unless a row says otherwise, so that what is timed is the device's
work and its launching; a round goes through ``Bench.steps`` of them, and every round is waited for.
"""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from benchmarks.corpus import VOCABULARY
from vidvec.config import Recipe, load_recipe
from vidvec.data.batches import BatchBuilder, prefetch
from vidvec.data.corpus import Corpus
from vidvec.embed.embedder import Encoder
from vidvec.model.flops import TRAINING, encoder_flops, heads_flops
from vidvec.model.precision import tensor_float_32
from vidvec.model.weights import VideoModel
from vidvec.records import Batch
from vidvec.train.finetune import FinetuneTask
from vidvec.train.optimizer import make_optimizer
from vidvec.train.pretrain import PretrainTask
from vidvec.train.start import new_model
from vidvec.train.trainer import train_step

Run = Callable[[], object]
Settings = dict[str, Any]
# More steps than any measurement runs, so that no rate reaches 0.
EPOCHS = 1000
SPECIAL_TOKENS = 3


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured on.

    Attributes:
        device: A GPU; the CPU for trying the benchmark itself.
        corpus: Made, see ``benchmarks.corpus``.
        size: Of the model, as recipes name it.
        label: Layers × hidden size.
        batch: Videos a step of pretraining and of embedding.
        pairs: A step of finetuning.
        steps: A round.
        rounds: Timed, behind one that is not.
    """

    device: torch.device
    corpus: Corpus
    size: str
    label: str
    batch: int = 128
    pairs: int = 32
    steps: int = 8
    rounds: int = 5


@dataclass(frozen=True, slots=True)
class Amounts:
    """What a round goes through: videos, their frames and tokens without padding, batches."""

    videos: int
    frames: int
    tokens: int
    batches: int


@dataclass(frozen=True, slots=True)
class Work:
    """A round's work.

    Attributes:
        run: Does it.
        amounts: That go through.
        stage: ``pretrain`` or ``finetune``; empty: embedding.
    """

    run: Run
    amounts: Amounts
    stage: str = ""


@dataclass(frozen=True, slots=True)
class Timing:
    """A round's work and its seconds.

    Attributes:
        name: Of the row.
        label: Layers × hidden size.
        seconds: Of each round.
        videos, positions: That went through, padding not counted.
        flops: Matrix products that these ask for.
        peak_bytes: Most memory on the device; 0 where it is the CPU.
    """

    name: str
    label: str
    seconds: tuple[float, ...]
    videos: int
    positions: int
    flops: float
    peak_bytes: int

    @property
    def videos_per_second(self) -> float:
        """By the median round."""
        return self.videos / statistics.median(self.seconds)

    def row(self, matrix_rate: float) -> dict[str, Any]:
        """Figures for the report; ``share`` is of a matrix rate in products a second."""
        middle = statistics.median(self.seconds)
        return {
            "name": self.name,
            "model": self.label,
            "videos_per_second": self.videos / middle,
            "lowest": self.videos / max(self.seconds),
            "highest": self.videos / min(self.seconds),
            "tokens_per_second": self.positions / middle,
            "share": self.flops / middle / matrix_rate,
            "peak_gb": self.peak_bytes / 1e9,
        }


def synchronize(device: torch.device) -> None:
    """Waits for all that the device was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(name: str, bench: Bench, make: Callable[[Bench], Work]) -> Timing:
    """Makes the work, does one round that is not timed, times the others, and frees its memory."""
    on_gpu = bench.device.type == "cuda"
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(bench.device)
    with tensor_float_32(bench.device):
        work = make(bench)
        seconds = []
        for _ in range(bench.rounds + 1):
            synchronize(bench.device)
            began = time.perf_counter()
            work.run()
            synchronize(bench.device)
            seconds.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated(bench.device) if on_gpu else 0
    some = work.amounts
    flops = count_flops(some, bench, work.stage)
    positions = some.frames + some.tokens
    return Timing(name, bench.label, tuple(seconds[1:]), some.videos, positions, flops, peak)


def make_recipe(bench: Bench, **settings: Any) -> Recipe:
    """The published objectives and rates without its precision, padding or split.

    Args:
        bench: Gives size and batches.
        settings: ``count_padding`` and ``dropout`` of the model; the others of both stages.
    """
    model = {"size": bench.size, "start": "random"}
    for name in ("count_padding", "dropout"):
        if name in settings:
            model[name] = settings.pop(name)
    stage = {"epochs": EPOCHS, "modality_dropout": 0.0, **settings}
    pretrain = {"batch_size": bench.batch, "videos": "all", "validation_share": 0.0, **stage}
    finetune = {"batch_size": bench.pairs, "split": "published", **stage}
    tables = {"model": model, "pretrain": pretrain, "finetune": finetune}
    values = [(f"{table}.{name}", v) for table, some in tables.items() for name, v in some.items()]
    return load_recipe("base", [f"{name}={str(value).lower()}" for name, value in values])


def make_model(bench: Bench, **settings: Any) -> VideoModel:
    """A new model, its weights drawn on the device, which is a hundred times as fast."""
    with bench.device:
        return new_model(make_recipe(bench, **settings), bench.corpus).to(bench.device)


def amounts(batches: list[Batch]) -> Amounts:
    """Of batches as they come from the corpus."""
    frames = sum(len(batch.frames) for batch in batches)
    tokens = sum(len(batch.token_ids) for batch in batches)
    return Amounts(sum(map(len, batches)), frames, tokens, len(batches))


def count_flops(some: Amounts, bench: Bench, stage: str = "") -> float:
    """Matrix products that these videos ask for without padding; ``stage``: pretrain, finetune."""
    recipe = make_recipe(bench)
    sizes = {"frame_size": bench.corpus.frame_size, "tags": len(bench.corpus.tag_vocabulary)}
    config = recipe.model.model_copy(update={**sizes, "vocab_size": VOCABULARY})
    frames, tokens = some.frames / some.videos, some.tokens / some.videos
    each = encoder_flops(config, frames, tokens)
    if stage == "pretrain":
        words, in_batch = tokens - SPECIAL_TOKENS, some.frames / some.batches
        each += heads_flops(config, recipe.pretrain, frames, words, in_batch)
    return some.videos * each * (TRAINING if stage else 1)


def training(kind: type[PretrainTask | FinetuneTask], fed: bool = False, **settings: Any) -> Any:
    """A maker of rounds of training steps.

    Args:
        kind: Of task.
        fed: Batches come from the corpus as in training, instead of lying ready.
        settings: See ``make_recipe``.
    """

    def make(bench: Bench) -> Work:
        task = kind(make_model(bench, **settings), bench.corpus)
        optimizer = make_optimizer(task.model, task.stage)
        built = [task.batch(step) for step in range(bench.steps)]
        ready = list(prefetch(built, lambda batch: batch, device=bench.device))
        done = 0

        def run() -> None:
            nonlocal done
            steps = range(done, done + bench.steps)
            batches = prefetch(steps, task.batch, device=bench.device) if fed else iter(ready)
            for batch in batches:
                train_step(task, optimizer, batch, done)
                done += 1

        videos = [batch[0] if isinstance(batch, tuple) else batch for batch in built]
        return Work(run, amounts(videos), task.name)

    return make


def embedding(fed: bool = False, **options: Any) -> Any:
    """A maker of rounds of embeddings, batched by length as ``vidvec embed`` does.

    Args:
        fed: As for ``training``.
        options: Of ``Encoder``.
    """

    def make(bench: Bench) -> Work:
        encoder = Encoder(make_model(bench), bench.device, **options)
        builder = BatchBuilder(bench.corpus, encoder.model.tokenizer, encoder.model.recipe.model)
        order = np.argsort(builder.lengths, kind="stable")
        # Of all lengths: a batch from here and there.
        parts = np.array_split(order, max(1, len(order) // bench.batch))
        some = [part[: bench.batch] for part in parts[:: max(1, len(parts) // bench.steps)]]
        built = [builder.build(rows) for rows in some]
        ready = [batch.to(bench.device) for batch in built]

        def run() -> None:
            batches = prefetch(some, builder.build, device=bench.device) if fed else iter(ready)
            for batch in batches:
                encoder.run(batch)

        return Work(run, amounts(built))

    return make


def graphed_training(bench: Bench) -> Work:
    """Forward and backward of one batch, recorded once and replayed, and the optimiser behind it.

    Batches differ in shape, so that a training could not replay one graph; this tells what of a
    step is launching and no work.
    """
    task = PretrainTask(make_model(bench, precision="bf16"), bench.corpus)
    optimizer = make_optimizer(task.model, task.stage)
    batch = task.batch(0)
    piece = task._masked(batch.to(bench.device), 0)

    def forward_backward() -> None:
        # Casts kept from outside a graph would be stale in its replays.
        with torch.autocast(bench.device.type, torch.bfloat16, cache_enabled=False):
            losses = task._losses(*piece)
        losses["loss"].backward()  # type: ignore[no-untyped-call]

    side = torch.cuda.Stream(bench.device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(bench.device))
    with torch.cuda.stream(side):
        for _ in range(3):
            optimizer.zero_grad(set_to_none=True)
            forward_backward()
    torch.cuda.current_stream(bench.device).wait_stream(side)
    optimizer.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        forward_backward()

    def run() -> None:
        for _ in range(bench.steps):
            graph.replay()
            optimizer.step()

    return Work(run, amounts([batch] * bench.steps), "pretrain")


def matrix_rates(device: torch.device, size: int) -> dict[str, float]:
    """Products a second of a square matrix product, by precision; medians of ten on noise."""
    rates = {}
    for name, dtype, allowed in (
        ("bf16", torch.bfloat16, contextlib.nullcontext()),
        ("tf32", torch.float32, tensor_float_32(device)),
        ("float32", torch.float32, contextlib.nullcontext()),
    ):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        with allowed:
            seconds = []
            for _ in range(13):
                synchronize(device)
                began = time.perf_counter()
                a @ b
                synchronize(device)
                seconds.append(time.perf_counter() - began)
        rates[name] = 2 * size**3 / statistics.median(seconds[3:])
    return rates


def with_batch(bench: Bench, videos: int) -> Bench:
    """The same with batches of another size."""
    return replace(bench, batch=videos)
