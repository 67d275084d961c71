"""What is trained on the made corpus: the published job, the best recipe found, and students."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from benchmarks.reproduction.arms import CHAINS, Chain, Scale, recipe_of
from benchmarks.reproduction.measure import RESAMPLES
from vidvec.config import Recipe

# What results are called; ``DEEP`` is the best recipe's transformer alone.
PUBLISHED, DEEP, BEST = "job2", "best", "best-linear"
PUBLISHED_CHAIN = replace(
    next(chain for chain in CHAINS if chain.name == PUBLISHED),
    tuned={PUBLISHED: ()},
    untuned="pretrained",
)

# Chosen on a made corpus of another seed (docs/experiments.md); steps and batches are job 2's.
DEEP_CHAIN = Chain(
    DEEP,
    settings=(
        "model.pool=attention",
        "model.tag_input=direction",
        "model.dropout=0.0",
        "pretrain.mlm_weight=0.0",
        "pretrain.mfm_weight=0.0",
        "pretrain.learning_rate=2e-3",
        "pretrain.high_learning_rate=2e-3",
    ),
    tuned={DEEP: ()},
    untuned=f"{DEEP}-pretrained",
)
BEST_CHAIN = replace(
    DEEP_CHAIN,
    name=BEST,
    settings=(*DEEP_CHAIN.settings, "model.linear_size=32"),
    tuned={BEST: ()},
    untuned=f"{BEST}-pretrained",
)


@dataclass(frozen=True, slots=True)
class Student:
    """A model of the published job's shape that learns vectors, without any label.

    Attributes:
        name: Of its row.
        teacher: Whose vectors: ``fused`` or ``truth`` (the hidden points behind the corpus, which
            no system has).
        size: Numbers in a vector of the teacher and of the student.
        once: Trained with the first seed alone.
    """

    name: str
    teacher: str
    size: int = 256
    once: bool = False


STUDENTS = (Student("student", "fused"), Student("taught", "truth", 32, once=True))


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done.

    Attributes:
        scale: Videos, seeds and epochs.
        distill_epochs: Of every student.
        workers: Trainings at a time, a core each; ``None``: as many as there are cores.
        resamples: That intervals are taken from.
    """

    scale: Scale = field(default_factory=Scale)
    distill_epochs: int = 5
    workers: int | None = None
    resamples: int = RESAMPLES


def student_recipe(student: Student, plan: Plan, seed: int, tags: int) -> Recipe:
    """Job 2's shape without anything left out, at the rates of the other arms' pretraining."""
    settings = (
        f"model.embedding_size={student.size}",
        f"distill.epochs={plan.distill_epochs}",
        "distill.batch_size=64",
        "distill.learning_rate=1e-3",
        "distill.high_learning_rate=1e-3",
    )
    return recipe_of(Chain(student.name), plan.scale, seed, tags, settings)
