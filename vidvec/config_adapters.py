"""Settings of finetuning on a trunk that stays as it is."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from vidvec.config_base import Positive, Rate, Section, TunedPart

Adapter = Literal["none", "lora", "residual"]

# What has nothing to work on, with the value at which it is off.
_NEEDS_INPUTS: dict[str, Any] = {"adversarial": 0.0}
_REFUSED: dict[str, dict[str, Any]] = {
    "none": {},
    "lora": _NEEDS_INPUTS,
    "residual": {
        **_NEEDS_INPUTS,
        "layer_decay": 1.0,
        "r_drop_weight": 0.0,
        "tag_weight": 0.0,
        "adapter_layers": "attention",
    },
}
_WHY = {
    "lora": "moves word and frame tables, which are frozen",
    "residual": "needs the trunk to run in each step, and it runs once",
}


class AdapterSettings(Section):
    """What is trained of a model for few pairs.

    Attributes:
        adapter: ``none``: the whole model. ``lora``: low-rank updates of the blocks' linear layers
            (Hu et al. 2021), merged into the weights wherever the model is saved. ``residual``: a
            bottleneck behind the vector (Gao et al. 2021); the trunk runs once over the pairs'
            videos, and what it gives is kept in memory. The rest is frozen, but for
            ``adapter_parts``.
        adapter_rank: Of the updates, or numbers in the bottleneck.
        adapter_scale: What the update is multiplied with (LoRA's α / rank), or the share in which
            the bottleneck is added.
        adapter_learning_rate: Of the updates or the bottleneck.
        adapter_layers: Which layers of a block are updated: those of attention, or all four.
        adapter_parts: Parts that are trained as well, at the rates that they have without an
            adapter. ``residual`` knows ``projection`` alone.
    """

    adapter: Adapter = "none"
    adapter_rank: Positive = 8
    adapter_scale: float = Field(1.0, gt=0)
    adapter_learning_rate: Rate = 1e-3
    adapter_layers: Literal["attention", "all"] = "attention"
    adapter_parts: tuple[TunedPart, ...] = ("projection",)

    @model_validator(mode="after")
    def _adapter_goes_with_the_rest(self) -> AdapterSettings:
        for name, off in _REFUSED[self.adapter].items():
            found = getattr(self, name, off)
            if found != off:
                raise ValueError(
                    f"{name} {found} does not go with adapter {self.adapter}: it "
                    f"{_WHY[self.adapter]}; set {name} to {off}"
                )
        beyond = sorted(set(self.adapter_parts) - {"projection"})
        if self.adapter == "residual" and beyond:
            raise ValueError(
                f"adapter_parts {', '.join(beyond)} cannot be trained with adapter residual, for "
                "which the trunk runs once: leave projection at most, or take adapter lora"
            )
        return self


ADAPTER_KEYS = tuple(AdapterSettings.__annotations__)
