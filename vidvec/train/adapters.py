"""Freezing a trunk and adding what is to be learned on it: ``finetune.adapter``."""

from __future__ import annotations

from dataclasses import dataclass

from vidvec.errors import UsageError
from vidvec.model.adapter import ResidualAdapter, add_low_rank
from vidvec.model.weights import VideoModel
from vidvec.train.optimizer import part_of


@dataclass(frozen=True, slots=True)
class Trained:
    """How much of a model is trained.

    Attributes:
        numbers: Of the parameters that are.
        of: All.
    """

    numbers: int
    of: int

    def __str__(self) -> str:
        return f"{self.numbers:,} of {self.of:,} numbers are trained ({self.numbers / self.of:.2%})"


def adapt(model: VideoModel) -> None:
    """Adds what ``finetune.adapter`` names, and freezes what is not trained, in place.

    New weights come from PyTorch's global generator.

    Raises:
        UsageError: The model has a residual adapter of another shape.
    """
    stage = model.recipe.finetune
    if stage.adapter == "none":
        return
    if stage.adapter == "residual":
        _add_residual(model)
    else:
        everywhere = stage.adapter_layers == "all"
        blocks = model.encoder.blocks
        add_low_rank(blocks, stage.adapter_rank, stage.adapter_scale, everywhere)
    for name, parameter in model.named_parameters():
        part = part_of(name)
        added = part == "adapter" and (".lora_" in name) == (stage.adapter == "lora")
        parameter.requires_grad_(added or part in stage.adapter_parts)


def _add_residual(model: VideoModel) -> None:
    stage, config = model.recipe.finetune, model.recipe.model
    shape = {"adapter_size": stage.adapter_rank, "adapter_scale": stage.adapter_scale}
    if model.encoder.adapter is not None:
        found = {name: getattr(config, name) for name in shape}
        if found != shape:
            raise UsageError(
                f"the model has a residual adapter of rank {config.adapter_size} and scale "
                f"{config.adapter_scale:g}, which is trained on: set finetune.adapter_rank="
                f"{config.adapter_size} and finetune.adapter_scale={config.adapter_scale:g}"
            )
        return
    config = config.model_copy(update=shape)
    adapter = ResidualAdapter(config.projected_size, stage.adapter_rank, stage.adapter_scale)
    model.encoder.adapter = adapter.to(next(model.encoder.parameters()).device)
    model.encoder.config = config
    model.recipe = model.recipe.model_copy(update={"model": config})


def trained(model: VideoModel) -> Trained:
    """How much of a model is trained, as ``adapt`` left it."""
    sizes = [(value.numel(), value.requires_grad) for _, value in model.named_parameters()]
    return Trained(sum(size for size, learns in sizes if learns), sum(size for size, _ in sizes))
