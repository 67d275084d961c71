"""What each stage costs: a model of what bounds it, not a promise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from vidvec.config import Recipe, load_recipe
from vidvec.model.flops import TRAINING, encoder_flops, heads_flops, parameters
from vidvec.pipeline.scale.assumptions import Assumptions

MILLION = 1e6
VOCABULARY, TAGS = 21_128, 10_000
HOUR = 3600.0
GIGA = 1e9


@dataclass(frozen=True, slots=True)
class StageCost:
    """A stage.

    Attributes:
        name: ``ingest``, ``pretrain``, ``embed``, ``index`` or ``search``.
        read, written: Bytes from and to storage, or for ``search`` in memory.
        hours: That it takes on all machines; 0 for ``search``, which goes on.
        machines: That it keeps busy.
        money: Of the run; for ``search`` of a month.
        bounds: Hours, or for ``search`` machines, that each of its resources asks for.
    """

    name: str
    read: float
    written: float
    hours: float
    machines: float
    money: float
    bounds: dict[str, float]

    @property
    def bound_by(self) -> str:
        """The resource that it waits for."""
        return max(self.bounds, key=lambda name: self.bounds[name])


def stage_costs(videos: float, given: Assumptions) -> list[StageCost]:
    """All stages, in their order.

    Args:
        videos: How many.
        given: All else.
    """
    return [
        _ingest(videos, given),
        _pretrain(videos, given),
        _embed(videos, given),
        _index(videos, given),
        _search(videos, given),
    ]


@lru_cache(maxsize=8)
def _recipe(name: str) -> Recipe:
    """A recipe, read once: every stage of every number of videos asks for it."""
    return load_recipe(name)


def frames_kept(given: Assumptions) -> float:
    """Frames of a video that are kept: one a second, as many as the model reads at most."""
    return min(given.videos.seconds, _recipe(given.work.recipe).model.max_frames)


def corpus_bytes(given: Assumptions) -> float:
    """Of one video in a corpus."""
    frames = frames_kept(given) * given.work.frame_size * 2
    return frames + given.videos.title_bytes + given.videos.thumbnail_bytes


def core_seconds(given: Assumptions) -> float:
    """One core's time to read one video's file, its pictures not yet encoded."""
    measured, videos = given.measured, given.videos
    each = measured.keyframe_ms if given.work.keyframes else measured.decode_ms
    picture = videos.seconds * videos.frames_per_second * each
    sound = videos.seconds * measured.audio_ms * given.work.audio
    return (picture + sound + measured.file_ms) / 1000


def _ingest(videos: float, given: Assumptions) -> StageCost:
    machines = given.machines
    read = videos * given.videos.megabytes * MILLION
    written = videos * corpus_bytes(given)
    encoding = videos * frames_kept(given) * given.work.picture_gflops * GIGA
    reading = videos * core_seconds(given)
    encoder = encoding / machines.products / HOUR
    bounds = {
        "decoding": reading / machines.cores / HOUR,
        "frame encoder": encoder,
        "network": (read + written) / machines.bytes_per_second / HOUR,
    }
    if not machines.gpus:  # the same cores do both
        bounds["decoding"] += encoder
    return _run("ingest", read, written, bounds, given)


def _pretrain(videos: float, given: Assumptions) -> StageCost:
    recipe = _recipe(given.work.recipe)
    shape = recipe.model.model_copy(
        update={
            "frame_size": int(given.work.frame_size),
            "vocab_size": recipe.model.vocab_size or VOCABULARY,
            "tags": recipe.model.tags or TAGS,
        }
    )
    epochs = given.work.epochs or recipe.pretrain.epochs
    frames, words = frames_kept(given), given.videos.tokens
    batch = frames * recipe.pretrain.batch_size
    one = encoder_flops(shape, frames, words + 3)
    one += heads_flops(shape, recipe.pretrain, frames, words, batch)
    passes = videos * epochs
    machines = given.machines
    read = passes * corpus_bytes(given)
    bounds = {
        "products": TRAINING * one * passes / machines.products / HOUR,
        "network": read / machines.bytes_per_second / HOUR,
    }
    if machines.gpus > machines.gpus_each:
        # Each step all gradients pass each machine's network twice (ring all-reduce).
        steps = passes / (recipe.pretrain.batch_size * machines.gpus)
        link = machines.network_gbit * GIGA / 8
        bounds["gradients"] = steps * 2 * 4 * parameters(shape) / link / HOUR
    weights = parameters(shape) * 4
    return _run("pretrain", read, 6.0 * weights, bounds, given, lost=True)


def _embed(videos: float, given: Assumptions) -> StageCost:
    recipe = _recipe(given.work.recipe)
    shape = recipe.model.model_copy(update={"frame_size": int(given.work.frame_size)})
    one = encoder_flops(shape, frames_kept(given), given.videos.tokens + 3)
    read, machines = videos * corpus_bytes(given), given.machines
    written = videos * shape.embedding_size * 4.0
    bounds = {
        "products": videos * one / machines.products / HOUR,
        "network": (read + written) / machines.bytes_per_second / HOUR,
    }
    return _run("embed", read, written, bounds, given)


def _index(videos: float, given: Assumptions) -> StageCost:
    work, measured, machines = given.work, given.measured, given.machines
    size = _recipe(work.recipe).model.embedding_size
    shard = min(videos, work.shard_videos)
    # Each vector is compared with the 4·√n lists of its shard.
    each = measured.index_us[work.index] * (shard / MILLION) ** 0.5 + measured.record_us
    read = videos * size * 4.0
    written = videos * (measured.index_bytes[work.index] + measured.record_bytes)
    shards = max(1.0, videos / shard)
    cores = min(machines.cores, shards * machines.cores_each)
    bounds = {
        "cores": videos * each / MILLION / cores / HOUR,
        "network": (read + written) / machines.bytes_per_second / HOUR,
    }
    return _run("index", read, written, bounds, given, gpus=False, cores=cores)


def _search(videos: float, given: Assumptions) -> StageCost:
    work, measured, machines = given.work, given.measured, given.machines
    size = _recipe(work.recipe).model.embedding_size
    shard = min(videos, work.shard_videos)
    shards = max(1.0, videos / shard)
    held = videos * (measured.index_bytes[work.index] + measured.record_bytes) * work.copies
    # As many lists are looked into as ever, of √n vectors each, in every shard.
    query = measured.query_ms[work.index] * (shard / MILLION) ** 0.5 * shards / 1000
    bounds = {
        "memory": held / (0.8 * machines.memory_gb * GIGA),
        "cores": 2 * work.queries_per_second * query / machines.cores_each,
        "copies": work.copies,
    }
    count = max(bounds.values())
    month = 730 * count * machines.cores_each * given.prices.core_hour
    return StageCost("search", videos * size * 4.0, held, 0.0, count, month, bounds)


def _run(
    name: str,
    read: float,
    written: float,
    bounds: dict[str, float],
    given: Assumptions,
    *,
    lost: bool = False,
    gpus: bool = True,
    cores: float | None = None,
) -> StageCost:
    """A stage that ends; with what machines that fail cost it.

    Args:
        name, read, written, bounds: Of the stage.
        given: All else.
        lost: A machine that fails sets all of them back to the last checkpoint; else what it was
            at is done again by another.
        gpus: It has the GPUs, besides the cores.
        cores: That it has; ``None``: all.
    """
    machines, prices = given.machines, given.prices
    hours = max(bounds.values())
    busy = machines.count if cores is None else max(1.0, cores / machines.cores_each)
    if lost:
        back = (machines.checkpoint_minutes / 2 + machines.restart_minutes) / 60
        hours *= 1 + busy * back / machines.hours_between_failures
    a_core = prices.core_hour * (machines.cores if cores is None else cores)
    money = hours * (a_core + gpus * machines.gpus * prices.gpu_hour)
    return StageCost(name, read, written, hours, busy, money, bounds)
