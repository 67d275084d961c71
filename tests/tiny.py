"""Tiny models, batches and recipes for unit tests, and plain ways to take a batch apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vidvec.config import DistillConfig, FinetuneConfig, ModelConfig, PretrainConfig, Recipe
from vidvec.data.tokenizer import TitleTokenizer, train_tokenizer
from vidvec.model.encoder import VideoEncoder
from vidvec.model.heads import PretrainingHeads
from vidvec.model.weights import VideoModel
from vidvec.records import Batch

SHAPE: dict[str, Any] = {
    "hidden_size": 16,
    "layers": 2,
    "heads": 4,
    "ffn_size": 24,
    "max_positions": 16,
    "vocab_size": 20,
    "frame_size": 6,
    "tags": 5,
    "embedding_size": 8,
    "max_frames": 5,
    "max_tokens": 7,
}
ROOMY: dict[str, Any] = {"max_positions": 64, "max_frames": 32, "max_tokens": 36}
PAD, CLS, SEP = 0, 2, 3


def tiny_config(**changes: Any) -> ModelConfig:
    return ModelConfig(**{**SHAPE, **changes})


def randomise(module: torch.nn.Module, seed: int = 0, std: float = 0.3) -> None:
    """Weights large enough that attention is far from uniform and every bias matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * std
            parameter.copy_(noise)


def tiny_encoder(seed: int = 0, **changes: Any) -> VideoEncoder:
    encoder = VideoEncoder(tiny_config(**changes), PAD)
    randomise(encoder, seed)
    return encoder.eval()


def made_batch(
    counts: Sequence[tuple[int, int]], seed: int = 0, order: str = "cls_first", **more: Any
) -> Batch:
    """Videos with these numbers of frames and of title words, special tokens as ``order`` wants."""
    generator = torch.Generator().manual_seed(seed)
    lead = [CLS, SEP] if order == "cls_first" else [CLS]
    titles = [
        [*lead, *torch.randint(5, SHAPE["vocab_size"], (words,), generator=generator), SEP]
        for _, words in counts
    ]
    frame_counts = torch.tensor([frames for frames, _ in counts])
    frames = torch.randn(int(frame_counts.sum()), SHAPE["frame_size"], generator=generator)
    return Batch(
        frames=frames,
        frame_counts=frame_counts,
        token_ids=torch.tensor([int(token) for title in titles for token in title]),
        token_counts=torch.tensor([len(title) for title in titles]),
        **more,
    )


def taken_apart(batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """Frames (F, D) and token ids (T,) of each video."""
    frames = batch.frames.split(batch.frame_counts.tolist())
    return list(zip(frames, batch.token_ids.split(batch.token_counts.tolist()), strict=True))


def put_together(videos: Sequence[tuple[Tensor, Tensor]]) -> Batch:
    """The batch of these frames and token ids: the inverse of ``taken_apart``."""
    return Batch(
        frames=torch.cat([frames for frames, _ in videos]),
        frame_counts=torch.tensor([len(frames) for frames, _ in videos]),
        token_ids=torch.cat([tokens for _, tokens in videos]),
        token_counts=torch.tensor([len(tokens) for _, tokens in videos]),
    )


def tiny_tokenizer() -> TitleTokenizer:
    return train_tokenizer(["sea waves blue fish"] * 3)


def tiny_model(seed: int = 0, **changes: Any) -> VideoModel:
    """A whole model with random weights, as ``save_model`` takes it."""
    tokenizer = tiny_tokenizer()
    config = tiny_config(**{"vocab_size": tokenizer.vocab_size, **changes})
    model = VideoModel(
        encoder=VideoEncoder(config, tokenizer.special_ids["pad"]),
        heads=PretrainingHeads(config),
        tokenizer=tokenizer,
        recipe=Recipe(model=config),
        tag_vocabulary=[f"tag{number}" for number in range(config.tags)],
        frame_encoder={"name": "made", "frame_size": config.frame_size},
    )
    randomise(model.encoder, seed)
    randomise(model.heads, seed + 1)
    model.encoder.eval()
    model.heads.eval()
    return model


def tiny_recipe(
    seed: int = 7,
    model: dict[str, Any] | None = None,
    pretrain: dict[str, Any] | None = None,
    finetune: dict[str, Any] | None = None,
    distill: dict[str, Any] | None = None,
) -> Recipe:
    """A recipe for the made corpus of ``tests.corpora`` that trains in a second or two."""
    fast = {"batch_size": 16, "learning_rate": 2e-3, "high_learning_rate": 2e-3}
    shape = {name: SHAPE[name] for name in ("hidden_size", "layers", "heads", "ffn_size")}
    return Recipe(
        name="tiny",
        seed=seed,
        model=ModelConfig(**{**shape, **ROOMY, "embedding_size": 8, **(model or {})}),
        pretrain=PretrainConfig(**{**fast, "validation_share": 0.2, **(pretrain or {})}),
        finetune=FinetuneConfig(**{**fast, **(finetune or {})}),
        distill=DistillConfig(**{**fast, **(distill or {})}),
    )
