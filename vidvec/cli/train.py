"""Commands that train: pretrain, finetune, distill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from cyclopts import Parameter

from vidvec.cli.shared import Location, RecipeOption, SetOption, out, progress, settle
from vidvec.errors import UsageError

if TYPE_CHECKING:
    from vidvec.config import Recipe
    from vidvec.train.trainer import OnStep, TrainReport


def pretrain(
    corpus: Location,
    run: Path,
    /,
    *,
    recipe: RecipeOption = "base",
    size: Literal["tiny", "small", "base", "large"] | None = None,
    init: str | None = None,
    seed: int | None = None,
    features: str = "",
    settings: SetOption = [],  # noqa: B006 - never changed
    restart: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Learn from tags, masked words and masked frames; started again, it carries on.

    Args:
        corpus: The corpus.
        run: Folder of the run: checkpoints, metrics.jsonl, tensorboard.
        recipe: Name or path of a recipe.
        size: Shape of the model.
        init: Hugging Face BERT or ModernBERT (name or folder) to start from; its shape wins
            over --size.
        seed: Of weights, masks and order.
        features: Feature set of the corpus (vidvec reencode) to learn from, instead of its own
            frames. What is made from this run finds the set by itself.
        settings: Settings over the recipe's, such as --set pretrain.epochs=5.
        restart: Throw away what the run has and begin again.
    """
    from vidvec.train.pretrain import pretrain as train

    settled = settle(recipe, size, init, seed, settings)
    _restart(run, restart)
    with _training("pretrain") as on_step:
        report = train(corpus, run, settled, on_step, features=features)
    _trained(report, run)


def finetune(
    corpus: Location,
    run: Path,
    /,
    *,
    start: Annotated[Path | None, Parameter(name="--from")] = None,
    recipe: RecipeOption | None = None,
    size: Literal["tiny", "small", "base", "large"] | None = None,
    init: str | None = None,
    seed: int | None = None,
    features: str = "",
    adapter: Literal["none", "lora", "residual"] | None = None,
    fold: str = "",
    settings: SetOption = [],  # noqa: B006 - never changed
    restart: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Tune on scored pairs; started again, it carries on.

    Args:
        corpus: The corpus, with pairs.
        run: Folder of the run.
        start: Pretrained run or checkpoint to start from; without it a new model is trained.
        recipe: Name or path of a recipe; else the one of --from, or base.
        size: Shape of a new model.
        init: Hugging Face BERT or ModernBERT (name or folder) for a new model.
        seed: Of order and dropout (and of a new model's weights).
        features: Feature set of the corpus for a new model; --from finds its own.
        adapter: For few pairs, on a trunk that stays as it is: lora learns low-rank updates of its
            layers, residual a small layer behind the vector, in seconds.
        fold: One model of several, such as 2/5: of the pairs to learn from, the second fifth is
            validated on. Then fuse their vectors, or average their weights (vidvec soup).
        settings: Settings over the recipe's, such as --set finetune.epochs=3.
        restart: Throw away what the run has and begin again.
    """
    from vidvec.train.finetune import finetune as train

    chosen = [*settings, *([f'finetune.adapter="{adapter}"'] if adapter else []), *_fold(fold)]
    settled = _settled(start, recipe, NewModel(size, init, features), seed, chosen)
    _restart(run, restart)
    with _training("finetune") as on_step:
        report = train(corpus, run, settled, start, on_step, features=features)
    _trained(report, run)


def distill(
    corpus: Location,
    vectors: Location,
    run: Path,
    /,
    *,
    start: Annotated[Path | None, Parameter(name="--from")] = None,
    recipe: RecipeOption | None = None,
    size: Literal["tiny", "small", "base", "large"] | None = None,
    init: str | None = None,
    seed: int | None = None,
    features: str = "",
    settings: SetOption = [],  # noqa: B006 - never changed
    restart: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Train one model to give the vectors of others, such as fused ones; started again, it goes on.

    Args:
        corpus: The corpus.
        vectors: Folder of the teacher's vectors of its videos.
        run: Folder of the run.
        start: Pretrained run or checkpoint to start from; without it a new model is trained.
        recipe: Name or path of a recipe; else the one of --from, or base.
        size: Shape of a new model.
        init: Hugging Face BERT or ModernBERT (name or folder) for a new model.
        seed: Of order and dropout (and of a new model's weights).
        features: Feature set of the corpus for a new model; --from finds its own.
        settings: Settings over the recipe's, such as --set distill.epochs=30.
        restart: Throw away what the run has and begin again.
    """
    from vidvec.embed.vectors import Vectors
    from vidvec.train.distill import distill as train

    settled = _settled(start, recipe, NewModel(size, init, features), seed, settings)
    teacher = Vectors(vectors)
    _restart(run, restart)
    with _training("distill") as on_step:
        report = train(corpus, run, settled, teacher, start, on_step=on_step, features=features)
    _trained(report, run)


class NewModel(NamedTuple):
    """What only a new model can be told."""

    size: str | None
    init: str | None
    features: str


def _settled(
    start: Path | None, recipe: str | None, new: NewModel, seed: int | None, settings: list[str]
) -> Recipe:
    """The recipe, by default that of the checkpoint to start from.

    Raises:
        UsageError: A checkpoint is told what a new model is.
    """
    from vidvec.model.weights import checkpoint_folder

    if start is not None and any(new):
        raise UsageError("--size, --init and --features are for a new model; --from brings its own")
    default = str(checkpoint_folder(start) / "recipe.toml") if start else "base"
    return settle(recipe or default, new.size, new.init, seed, settings)


def _fold(given: str) -> list[str]:
    """The settings of a fold that is given as ``2/5``; none where it is empty."""
    if not given:
        return []
    number, _, count = given.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) >= 2):
        raise UsageError(f"--fold {given}: expected one of several, such as 2/5")
    return [f"finetune.fold={int(number)}", f"finetune.folds={int(count)}"]


@contextmanager
def _training(stage: str) -> Iterator[OnStep | None]:
    """Shows how far a training is, by one of the processes that do it."""
    from vidvec.train.distributed import is_main

    if not is_main():
        yield None
        return
    with progress(stage) as update:

        def on_step(step: int, steps: int, figures: dict[str, float]) -> None:
            shown = [
                f"{key} {figures[key]:.4g}" for key in ("loss", "validation") if key in figures
            ]
            speeds = (key for key in figures if key.endswith("_per_second"))
            shown += [f"{figures[key]:.0f} {key.split('_')[0]}/s" for key in speeds]
            update(step, steps, " · ".join(shown))

        yield on_step


def _restart(run: Path, restart: bool) -> None:
    import shutil

    from vidvec.train.distributed import is_main, is_restarted

    # The launcher repeats the command where a process ended, and --restart with it.
    if restart and is_main() and not is_restarted() and (run / "run.json").is_file():
        shutil.rmtree(run)


def _trained(report: TrainReport, run: Path) -> None:
    from vidvec.train.distributed import is_main

    if not is_main():
        return
    best = ""
    if report.best is not None:
        best = f", best validation {report.best:.4f} at step {report.best_step}"
    resumed = f" (carried on at {report.resumed_at})" if report.resumed_at else ""
    out.print(
        f"{run}: {report.steps} steps{resumed} in {report.seconds:.0f} s{best}",
        soft_wrap=True,
        highlight=False,
    )
    if report.note:
        out.print(f"  {report.note}", soft_wrap=True, highlight=False)
