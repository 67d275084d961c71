"""Training steps and embedding, the plain way and vidvec's, on the same videos.

A round is an epoch over the same few batches on both sides, from the record to the updated weights:
reading, padding or packing, masks, forward, backward, optimiser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig

from benchmarks.corpus import VOCABULARY, make_corpus
from benchmarks.measure import Comparison, alternate
from benchmarks.plain import (
    PlainModel,
    finetuning_loss,
    full_loss,
    make_optimizer,
    pretraining_losses,
)
from benchmarks.plain_data import (
    PlainPairs,
    PlainVideos,
    draw_masks,
    make_loader,
    make_tokenizer,
    read_records,
)
from vidvec.config import Backend, ModelConfig, Recipe, load_recipe
from vidvec.data.batches import BatchBuilder, prefetch
from vidvec.data.corpus import Corpus
from vidvec.data.splits import rank_normalise
from vidvec.embed.embedder import Encoder
from vidvec.train.finetune import FinetuneTask
from vidvec.train.optimizer import make_optimizer as make_fast_optimizer
from vidvec.train.pretrain import PretrainTask
from vidvec.train.start import new_model
from vidvec.train.trainer import train_step

Run = Callable[[], object]
BACKENDS: tuple[Backend, ...] = ("float32", "bf16", "int8")
BATCHES = 2
PAIRS = 32
EMBED_BATCH = 128
# Behind the names and descriptions of comparisons.
_ENDINGS = {
    "flat": ("", ""),
    "padded": ("_padded", ", padding counted as published"),
    "bf16": ("_bf16", ", bf16"),
}
# More steps than any measurement runs, so that no rate reaches 0.
EPOCHS = 1000


@dataclass(frozen=True, slots=True)
class Shape:
    """A size of the model and the batch that it is measured with.

    Attributes:
        label: For names and tables.
        size: As recipes name it.
        batch: Videos a step of pretraining.
    """

    label: str
    size: str
    batch: int

    @property
    def suffix(self) -> str:
        """Behind the names of ratios; nothing for the shape that is always measured."""
        return "" if self is SMALL else "_" + self.label.replace(" × ", "x")


SMALL = Shape("6 × 384", "small", 128)
BASE = Shape("12 × 768", "base", 32)  # a batch of 128 would take minutes a step on two cores


def make_recipe(shape: Shape, kind: str = "flat") -> Recipe:
    """The published objectives and rates.

    Args:
        shape: Of the model.
        kind: ``flat``; ``padded``: padding runs and is counted; ``bf16``: products in bfloat16.
    """
    precision = "bf16" if kind == "bf16" else "float32"
    settings = {
        "model.size": shape.size,
        "model.start": "random",
        "model.count_padding": str(kind == "padded").lower(),
        "pretrain.batch_size": shape.batch,
        "pretrain.epochs": EPOCHS,
        "pretrain.precision": precision,
        "pretrain.modality_dropout": 0.0,
        "pretrain.videos": "all",
        "pretrain.validation_share": 0.0,
        "finetune.batch_size": PAIRS,
        "finetune.epochs": EPOCHS,
        "finetune.precision": precision,
        "finetune.modality_dropout": 0.0,
        "finetune.split": "published",
    }
    return load_recipe("base", [f"{name}={value}" for name, value in settings.items()])


def bert_config(model: ModelConfig) -> BertConfig:
    """Hugging Face's configuration of the same shape, for the made corpora's vocabulary."""
    return BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=model.hidden_size,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        intermediate_size=model.ffn_size,
        max_position_embeddings=model.max_positions,
        type_vocab_size=model.type_vocab_size,
        layer_norm_eps=model.layer_norm_eps,
        hidden_dropout_prob=model.dropout,
        attention_probs_dropout_prob=model.dropout,
        pad_token_id=0,
    )


def plain_model(corpus: Corpus, shape: Shape) -> PlainModel:
    """The baseline, new."""
    torch.manual_seed(0)
    config = make_recipe(shape).model
    tags = len(corpus.tag_vocabulary)
    return PlainModel(bert_config(config), corpus.frame_size, tags, config.embedding_size)


def plain_videos(corpus: Corpus) -> PlainVideos:
    """The corpus's videos as the baseline reads them, records in memory."""
    tags = len(corpus.tag_vocabulary)
    return PlainVideos(read_records(corpus), make_tokenizer(), corpus.frame_size, tags)


def plain_pretraining(corpus: Corpus, shape: Shape) -> Run:
    """An epoch of the baseline's pretraining."""
    model = plain_model(corpus, shape).train()
    stage, tokenizer = make_recipe(shape).pretrain, make_tokenizer()
    loader = make_loader(plain_videos(corpus), shape.batch, shuffle=True)
    optimizer, schedule = make_optimizer(
        model, stage.learning_rate, stage.high_learning_rate, EPOCHS * len(loader)
    )

    def epoch() -> None:
        for batch in loader:
            masked = draw_masks(batch, tokenizer)
            full_loss(pretraining_losses(model, batch, masked)).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()

    return epoch


def plain_finetuning(corpus: Corpus, shape: Shape) -> Run:
    """An epoch of the baseline's finetuning."""
    model = plain_model(corpus, shape).train()
    stage, pairs = make_recipe(shape).finetune, corpus.pairs()
    rows = [(corpus.row(pair.id_1), corpus.row(pair.id_2)) for pair in pairs]
    ranks = rank_normalise(np.array([pair.score for pair in pairs]))
    targets = torch.from_numpy(ranks).float()
    loader = make_loader(PlainPairs(plain_videos(corpus), rows, targets), PAIRS, shuffle=True)
    optimizer, schedule = make_optimizer(
        model, stage.learning_rate, stage.high_learning_rate, EPOCHS * len(loader)
    )

    def epoch() -> None:
        for first, second, wanted in loader:
            both = {name: torch.cat([first[name], second[name]]) for name in first}
            finetuning_loss(model, both, wanted).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()

    return epoch


def fast_training(task: PretrainTask | FinetuneTask) -> Run:
    """An epoch of vidvec's training, as its loop runs it."""
    optimizer = make_fast_optimizer(task.model, task.stage)
    done = 0

    def epoch() -> None:
        nonlocal done
        end = done + task.order.epoch_steps(done)
        for batch in prefetch(range(done, end), task.batch):
            train_step(task, optimizer, batch, done)
            done += 1

    return epoch


def plain_embedding(corpus: Corpus, shape: Shape) -> Run:
    """Vectors of all videos by the baseline."""
    model = plain_model(corpus, shape).eval()
    loader = make_loader(plain_videos(corpus), EMBED_BATCH)

    @torch.inference_mode()
    def embed() -> None:
        np.concatenate([model.vectors(batch).numpy() for batch in loader])

    return embed


def fast_embedding(corpus: Corpus, encoder: Encoder) -> Run:
    """Vectors of all videos by vidvec, batched by length as ``vidvec embed`` does."""
    builder = BatchBuilder(corpus, encoder.model.tokenizer, encoder.model.recipe.model)
    order = np.argsort(builder.lengths, kind="stable")
    batches = [order[i : i + EMBED_BATCH] for i in range(0, len(order), EMBED_BATCH)]

    def embed() -> None:
        np.concatenate([encoder.run(batch) for batch in prefetch(batches, builder.build)])

    return embed


def compare_training(folder: Path, shape: Shape, rounds: int) -> Iterator[Comparison]:
    """Pretraining with and without counted padding, and finetuning.

    bfloat16 is tried where the processor has matrix units for it; others are slower in it.

    Args:
        folder: For the made corpus.
        shape: Of the model.
        rounds: How often each side is timed.
    """
    videos = BATCHES * shape.batch
    corpus = make_corpus(folder / f"train-{shape.size}", videos, pairs=BATCHES * PAIRS)
    kinds = ["flat", "padded"] + ["bf16"] * has_bf16_units()
    recipes = {kind: make_recipe(shape, kind) for kind in kinds}
    sides = {"plain": plain_pretraining(corpus, shape)}
    for name, recipe in recipes.items():
        sides[name] = fast_training(PretrainTask(new_model(recipe, corpus), corpus))
    seconds = alternate(sides, rounds)
    what = f"pretraining step, {shape.label}, batch {shape.batch}"
    plain = seconds["plain"]
    for kind in kinds:
        name, words = f"pretrain_step{_ENDINGS[kind][0]}", what + _ENDINGS[kind][1]
        yield Comparison(name + shape.suffix, words, plain, seconds[kind], videos)
    kinds.remove("padded")
    sides = {"plain": plain_finetuning(corpus, shape)}
    for kind in kinds:
        sides[kind] = fast_training(FinetuneTask(new_model(recipes[kind], corpus), corpus))
    seconds = alternate(sides, rounds)
    what, plain = f"finetuning step, {shape.label}, {PAIRS} pairs", seconds["plain"]
    for kind in kinds:
        name, words = f"finetune_step{_ENDINGS[kind][0]}", what + _ENDINGS[kind][1]
        pairs = BATCHES * PAIRS
        yield Comparison(name + shape.suffix, words, plain, seconds[kind], pairs, "pairs")


def has_bf16_units() -> bool:
    """Whether the processor multiplies matrices of bfloat16 in hardware."""
    found = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(found.get("amx_bf16"))


def compare_embedding(folder: Path, shape: Shape, rounds: int) -> Iterator[Comparison]:
    """Vectors in float32, bfloat16 and int8; arguments as ``compare_training``."""
    videos = 4 * shape.batch
    corpus = make_corpus(folder / f"embed-{shape.size}", videos)
    model = new_model(make_recipe(shape), corpus)
    encoders = {backend: Encoder(model, "cpu", backend) for backend in BACKENDS}
    sides = {name: fast_embedding(corpus, encoder) for name, encoder in encoders.items()}
    seconds = alternate({"plain": plain_embedding(corpus, shape), **sides}, rounds)
    for name in encoders:
        yield Comparison(
            f"embed_{name}{shape.suffix}",
            f"embedding, {shape.label}, {name}",
            seconds["plain"],
            seconds[name],
            videos,
        )
