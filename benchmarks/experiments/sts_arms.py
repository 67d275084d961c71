"""What is trained from a language's start: a loss an arm, at the same cost.

A step has the same number of pairs in every arm. An arm that runs each batch twice has half the
epochs. Each arm's learning rate is the one of a small grid, the same for all arms, that ranks the
held-out pairs best with the first seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vidvec.config import PAIR_LOSSES, Recipe, load_recipe

PUBLISHED = "mse"


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to tune.

    Attributes:
        name: Of its results.
        title: In the table.
        weights: Of vidvec's losses of pairs; those that are not named have none.
        settings: Of vidvec's recipe, besides.
        passes: How often a step runs its batch.
        theirs: The loss of sentence-transformers, trained there; empty: trained by vidvec.
    """

    name: str
    title: str
    weights: Mapping[str, float] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    passes: int = 1
    theirs: str = ""


# As sentence-transformers clips. In the first 14 steps from the Chinese start, gradients of CoSENT
# have lengths that fall from 341 to 15, and Adam's steps stay small long after large gradients;
# Pearson's have 4 to 10, the published loss's 0.8 to 1.3, and that one has no clipping.
CLIPPED = ("finetune.clip_norm=1",)


def _alone(name: str, title: str) -> Arm:
    return Arm(name, title, {name: 1.0}, CLIPPED)


MSE = Arm(PUBLISHED, "cosine MSE on ranks, as published", {"mse": 1.0})
PEARSON = _alone("pearson", "Pearson")
COSENT = _alone("cosent", "CoSENT")
SOFT_RANK = _alone("soft_rank", "soft ranks")
MIXED = Arm("mse-cosent", "MSE + 0.02 CoSENT", {"mse": 1.0, "cosent": 0.02}, CLIPPED)
THEIR_COSENT = Arm("st-cosent", "sentence-transformers, `CoSENTLoss`", theirs="cosent")
THEIR_MSE = Arm("st-cosine", "sentence-transformers, `CosineSimilarityLoss`", theirs="cosine")
ARMS = (
    MSE,
    COSENT,
    THEIR_COSENT,
    PEARSON,
    THEIR_MSE,
    MIXED,
    SOFT_RANK,
    _alone("angle", "AnglE"),
    _alone("contrast", "graded contrast"),
)
# Where a step costs more.
FEWER = (MSE, COSENT, THEIR_COSENT, PEARSON, THEIR_MSE, MIXED, SOFT_RANK)
# What could set sentence-transformers' MSE apart from ours, step by step.
ASIDE = (
    Arm("mse-clipped", "cosine MSE on ranks, clipped", {"mse": 1.0}, CLIPPED),
    Arm(
        "mse-scores",
        "cosine MSE on scores, clipped",
        {"mse": 1.0},
        (*CLIPPED, "finetune.rank_normalise=false"),
    ),
    Arm(
        "mse-plain",
        "cosine MSE on scores, clipped, without weight decay",
        {"mse": 1.0},
        (*CLIPPED, "finetune.rank_normalise=false", "finetune.weight_decay=0"),
    ),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a language's arms are trained.

    Attributes:
        rates: The grid.
        epochs: Of an arm with one pass.
        pairs: To learn from, at most; 0: all.
        held: To choose by, about.
        batch: Pairs a step.
        seeds: Of order and dropout.
        arms: What is trained.
        aside: What is trained with the first seed alone.
    """

    rates: tuple[float, ...]
    epochs: int = 2
    pairs: int = 0
    held: int = 400
    batch: int = 32
    seeds: tuple[int, ...] = (1, 2, 3)
    arms: tuple[Arm, ...] = ARMS
    aside: tuple[Arm, ...] = ()


PLANS = {
    "zh": Plan(rates=(1.5e-4,), pairs=2400),
    "en": Plan(rates=(1e-4,), pairs=1200, arms=FEWER, aside=ASIDE),
}


def recipe_of(arm: Arm, plan: Plan, rate: float, seed: int) -> Recipe:
    """The recipe of an arm that vidvec trains; only losses and what an arm is about differ."""
    weights = [f"finetune.{name}_weight={arm.weights.get(name, 0.0)}" for name in PAIR_LOSSES]
    return load_recipe(
        "base",
        [
            f"seed={seed}",
            f"finetune.epochs={epochs_of(arm, plan)}",
            f"finetune.batch_size={plan.batch}",
            f"finetune.learning_rate={rate}",
            f"finetune.high_learning_rate={rate}",
            "finetune.modality_dropout=0",
            "finetune.precision=bf16",
            "finetune.best_by=spearman",
            "finetune.evaluate_start=false",  # as sentence-transformers begins
            *weights,
            *arm.settings,
        ],
    )


def epochs_of(arm: Arm, plan: Plan) -> int:
    """As many as cost what the others' cost."""
    return max(1, plan.epochs // arm.passes)


def settings_of(arm: Arm, plan: Plan, rate: float, seed: int) -> dict[str, Any]:
    """What sentence-transformers trains an arm with; the rest is its trainer's own."""
    return {
        "num_train_epochs": epochs_of(arm, plan),
        "per_device_train_batch_size": plan.batch,
        "learning_rate": rate,
        "warmup_steps": load_recipe("base").finetune.warmup_share,
        "bf16": True,
        "seed": seed,
    }
