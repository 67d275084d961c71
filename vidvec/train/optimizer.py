"""Parameter groups with two learning rates, and the schedule (system.md, section 4)."""

from __future__ import annotations

import math
from typing import Any

import torch

from vidvec.config import FinetuneConfig, StageConfig
from vidvec.model.weights import VideoModel

_PARTS = {
    "encoder.frame_projection": "frames",
    "encoder.frame_embedding": "frame_embeddings",
    "encoder.audio_projection": "audio",
    "encoder.audio_embedding": "audio_embeddings",
    "encoder.text_kind": "text_kinds",
    "encoder.pool": "pool",
    "encoder.projection": "projection",
    "encoder.adapter": "adapter",
    "encoder.linear": "linear_reading",
    "heads.tag": "tag_head",
    "heads.mlm": "mlm_head",
    "heads.mfm": "mfm_head",
    "heads.mam": "mam_head",
    "heads.match": "match_head",
}


def part_of(name: str) -> str:
    """The part of the model that a parameter belongs to, as recipes name it; else ``trunk``.

    What finetuning adds (``vidvec.model.adapter``) is ``adapter``.
    """
    if ".lora_" in name:
        return "adapter"
    return _PARTS.get(".".join(name.split(".")[:2]), "trunk")


def decays(name: str) -> bool:
    """Whether weight decay applies: everywhere but to biases and LayerNorm weights."""
    return not (name.endswith(".bias") or "norm.weight" in name)


def depth_factor(name: str, layers: int, decay: float) -> float:
    """What a trunk parameter's rate is multiplied with: ``decay`` once for each block above it.

    Source: Howard and Ruder 2018 (discriminative fine-tuning), by layers as in Clark et al. 2020.

    Args:
        name: Of the parameter.
        layers: Blocks of the trunk.
        decay: ``StageConfig.layer_decay``.
    """
    parts = name.split(".")
    if parts[1] == "blocks":
        return decay ** (layers - 1 - int(parts[2]))
    return decay**layers if parts[1] in ("word", "token_embedding") else 1.0


def make_optimizer(model: VideoModel, stage: StageConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) over groups: two rates, with and without decay.

    With ``layer_decay`` each block of the trunk has a rate of its own, and so have its updates.
    What is frozen is in no group.
    Each group keeps its full rate as ``base_lr``; ``set_learning_rates`` scales it.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part = part_of(name)
        high = part in stage.high_rate_parts
        rate = stage.high_learning_rate if high else stage.learning_rate
        if part == "adapter" and isinstance(stage, FinetuneConfig):
            rate = stage.adapter_learning_rate
        if part in ("trunk", "adapter") and not high:
            rate *= depth_factor(name, model.recipe.model.layers, stage.layer_decay)
        decay = stage.weight_decay if decays(name) else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    settings: list[dict[str, Any]] = [
        {"params": parameters, "lr": rate, "base_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
    return torch.optim.AdamW(settings, eps=stage.adam_eps, fused=True)


def schedule(step: int, steps: int, warmup_share: float) -> float:
    """Factor on the learning rate at ``step`` (from 0) of ``steps``.

    Rises linearly over the first ``warmup_share`` of the steps to 1, then falls as half a cosine
    to 0.
    """
    warmup = int(warmup_share * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Sets every group's rate to its full rate times ``factor``."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
