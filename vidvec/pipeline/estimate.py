"""How long a plan will take and how much disk, before anything is run.

A model of the work, not a promise: matrix products counted from the recipes' shapes and the data's
lengths, over the speed that this machine shows in a short trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from vidvec.config import ModelConfig, StageConfig
from vidvec.data.competition import PARTS, find_labels, record_files
from vidvec.data.pairs import read_pairs
from vidvec.data.tfrecord import read_tfrecords
from vidvec.model.bert import bert_shape
from vidvec.model.flops import TRAINING, encoder_flops, heads_flops, parameters
from vidvec.pipeline.plan import Job, Stage
from vidvec.records import SourceRow

SAMPLED_RECORDS = 200
# Of the matrix rate in a trial, what a training step reaches: its products are smaller, and norms,
# activations and the optimiser come on top.
EFFICIENCY = 0.45
STEP_SECONDS = 0.015
START_SECONDS = 8.0
INGEST_BYTES_PER_SECOND = 150e6
VOCABULARY, TAGS = 21_128, 10_000
WEIGHT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a stage will take: seconds on one device, and bytes that stay on disk."""

    seconds: float
    bytes: float


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What a data folder holds, from file sizes and its first records.

    Attributes:
        videos: By part.
        bytes: Of all records.
        frames, characters: Means a video.
        frame_size: Numbers a frame.
        pairs: Rows of the label file.
    """

    videos: dict[str, int]
    bytes: int
    frames: float
    characters: float
    frame_size: int
    pairs: int


def data_facts(data: Path) -> DataFacts:
    """Looks at a data folder; reads no more than some records and the labels."""
    videos: dict[str, int] = {}
    frames, characters, widths, total = [0.0], [0.0], [1536], 0
    for part in PARTS:
        files = record_files(data / part)
        size = sum(file.stat().st_size for file in files)
        if not size:
            continue
        sample: list[SourceRow] = []
        rows = (row for file in files for row in read_tfrecords(file))
        for row in islice(rows, SAMPLED_RECORDS):
            if isinstance(row, SourceRow):
                sample.append(row)
        frames += [float(len(row.video.frames)) for row in sample]
        characters += [float(len(row.video.title)) for row in sample]
        widths += [row.video.frames.shape[1] for row in sample if len(row.video.frames)]
        weight = np.mean([row.video.frames.nbytes + 300 for row in sample] or [50_000])
        videos[part] = max(len(sample), round(size / float(weight)))
        total += size
    labels = find_labels(data)
    pairs = len(read_pairs(labels)[0]) if labels else 0
    return DataFacts(
        videos, total, float(np.mean(frames)), float(np.mean(characters)), widths[-1], pairs
    )


def estimates(
    stages: Sequence[Stage], jobs: Sequence[Job], facts: DataFacts, rate: float
) -> dict[str, Estimate]:
    """An estimate for every stage, by its name.

    Args:
        stages, jobs: The plan's.
        facts: The data's.
        rate: From ``matrix_rate``.
    """
    shapes = {job.name: _shape(job.recipe.model, facts) for job in jobs}
    by_name = {job.name: job for job in jobs}
    return {
        stage.name: _estimate(stage, by_name.get(stage.job), shapes.get(stage.job), facts, rate)
        for stage in stages
    }


def _shape(config: ModelConfig, facts: DataFacts) -> ModelConfig:
    """The model's settings with the sizes that start weights on this disk or the data bring."""
    sizes = {
        "frame_size": facts.frame_size,
        "vocab_size": config.vocab_size or VOCABULARY,
        "tags": config.tags or TAGS,
    }
    if config.init and Path(config.init).is_dir():
        sizes |= bert_shape(Path(config.init))
    return config.model_copy(update=sizes)


def _estimate(
    stage: Stage, job: Job | None, shape: ModelConfig | None, facts: DataFacts, rate: float
) -> Estimate:
    if stage.kind == "ingest":
        return Estimate(START_SECONDS + facts.bytes / INGEST_BYTES_PER_SECOND, facts.bytes)
    if job is None or shape is None:
        return Estimate(START_SECONDS, 0)
    frames, words = min(facts.frames, shape.max_frames), min(facts.characters, shape.max_tokens - 3)
    video = encoder_flops(shape, frames, words + 3)
    weights = parameters(shape) * WEIGHT_BYTES
    if stage.kind == "embed":
        rows = sum(facts.videos.get(part, 0) for part in stage.command[5:])
        return Estimate(
            START_SECONDS + rows * video / (rate * EFFICIENCY),
            rows * shape.embedding_size * WEIGHT_BYTES,
        )
    passes, settings = _passes(stage.kind, job, facts)
    if stage.kind == "pretrain":
        pretrain = job.recipe.pretrain
        video += heads_flops(shape, pretrain, frames, words, frames * pretrain.batch_size)
    work = passes * TRAINING * video / (rate * EFFICIENCY)
    pair = 2 if stage.kind == "finetune" else 1
    steps = passes / (pair * settings.batch_size)
    # The last checkpoint and the best one, each with two moments a weight.
    return Estimate(START_SECONDS + work + steps * STEP_SECONDS, 2 * 3 * weights)


def _passes(kind: str, job: Job, facts: DataFacts) -> tuple[float, StageConfig]:
    """Videos that run through the model in all of a stage, and its settings."""
    if kind == "finetune":
        finetune = job.recipe.finetune
        share = 0.96 if finetune.split == "published" else 0.64
        return 2 * share * facts.pairs * finetune.epochs, finetune
    pretrain = job.recipe.pretrain

    def epoch(groups: tuple[tuple[str, ...], ...]) -> int:
        if not groups:
            return sum(facts.videos.values())
        return sum(facts.videos.get(part, 0) for group in groups for part in group)

    then = pretrain.then
    seen = pretrain.epochs * epoch(pretrain.parts) + then.epochs * epoch(then.parts)
    return float(seen), pretrain
