"""What is trained: the published jobs and their variants, tiny and with clean splits.

A chain is one pretraining and everything that is finetuned from it, so that no pretraining is done
twice. What an arm is called here, it is called in the results.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vidvec.config import Recipe, load_recipe

JOBS = tuple(f"job{number}" for number in range(1, 7))
# Job 5 has a seed of its own in the published system, too.
JOB5_SEED = 1000
PUBLISHED_TAGS = 10_000
# What the arms vary. In job 2 the tags are read from the vector, so that pretraining teaches the
# vector itself; in job 1 they are read from `[CLS]`, and a start from text weights, which a tiny
# model does not have, and 20,000 steps of finetuning make up for it.
BASE = "tiny-job2"
# A model that was not pretrained learns best at a higher rate.
SCRATCH_RATE = ("finetune.learning_rate=3e-4", "finetune.high_learning_rate=3e-4")


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is trained.

    Attributes:
        videos: In the made corpus.
        seeds: Of training; the corpus is the same for all.
        pretrain_epochs: Where the published system has 40.
        finetune_epochs: Where it has 10.
    """

    videos: int = 20_000
    seeds: tuple[int, ...] = (1, 2, 3)
    pretrain_epochs: int = 2
    finetune_epochs: int = 4


@dataclass(frozen=True, slots=True)
class Chain:
    """One pretraining, or none, and what is finetuned from it.

    Attributes:
        name: Of its folder.
        recipe: Of ``aiac2021/``.
        settings: Over the recipe's.
        share: Of the pretraining epochs; 0: no pretraining.
        tuned: Arms, and what each one's finetuning has over the recipe.
        untuned: Name of the arm that is not finetuned, or empty.
    """

    name: str
    recipe: str = BASE
    settings: tuple[str, ...] = ()
    share: float = 1.0
    tuned: dict[str, tuple[str, ...]] = field(default_factory=dict)
    untuned: str = ""


def _chain(name: str, *settings: str, recipe: str = BASE, share: float = 1.0) -> Chain:
    """A chain with one arm of the same name."""
    return Chain(name, recipe, settings, share, {name: ()})


CHAINS = (
    _chain("job1", recipe="tiny-job1"),
    Chain(
        "job2",
        tuned={"job2": (), "raw": ("finetune.rank_normalise=false",)},
        untuned="pretrained",
    ),
    *(_chain(job, recipe=f"tiny-{job}") for job in JOBS[2:]),
    _chain("tag", "pretrain.mlm_weight=0.0", "pretrain.mfm_weight=0.0"),
    _chain("attention", "model.pool=attention"),
    _chain("cls", "model.pool=cls"),
    _chain("half", share=0.5),
    _chain("double", share=2.0),
    Chain("scratch", share=0.0, tuned={"scratch": SCRATCH_RATE}, untuned="untrained"),
)


def recipe_of(
    chain: Chain, scale: Scale, seed: int, tags: int, more: tuple[str, ...] = ()
) -> Recipe:
    """The recipe of a chain.

    What all differ in from the published recipes, beside being tiny: padding does not run, no
    validation video is seen before it is measured, and a tag weighs as much as one of the published
    10,000 does (the loss is a mean over the classes).

    Args:
        chain: Which.
        scale: Epochs.
        seed: Of the model and of everything drawn.
        tags: Classes of the tag objective.
        more: Settings over those of the chain.
    """
    job5 = chain.recipe == "tiny-job5"
    epochs = scale.pretrain_epochs * (chain.share or 1) * (32 / 40 if job5 else 1)
    weight = 1250 / 3 * tags / PUBLISHED_TAGS
    return load_recipe(
        f"aiac2021/{chain.recipe}",
        [
            f"seed={seed + JOB5_SEED if job5 else seed}",
            "model.count_padding=false",
            "model.embedding_size=256",
            f"pretrain.epochs={max(1, round(epochs))}",
            f"pretrain.tag_weight={weight!r}",
            "pretrain.videos=train",
            "pretrain.learning_rate=1e-3",
            "pretrain.high_learning_rate=1e-3",
            f"finetune.epochs={scale.finetune_epochs}",
            "finetune.split=clean",
            "finetune.learning_rate=1e-4",
            "finetune.high_learning_rate=1e-4",
            *chain.settings,
            *more,
        ],
    )
