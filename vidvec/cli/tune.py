"""The command that searches a recipe's ranges: tune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vidvec.cli.shared import SetOption, err, out, print_json
from vidvec.errors import UsageError

if TYPE_CHECKING:
    from vidvec.pipeline.tune import TuneReport


def tune(
    recipe: str,
    corpus: Path,
    search: Path,
    /,
    *,
    start: Annotated[Path | None, Parameter(name="--from")] = None,
    stages: Literal["finetune", "pretrain+finetune"] = "finetune",
    trials: int = 30,
    hours: float | None = None,
    workers: int = 1,
    features: str = "",
    settings: SetOption = [],  # noqa: B006 - never changed
    restart: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Search the ranges of a recipe's [tune] table; started again, it carries on.

    Args:
        recipe: Name or path of a recipe with ranges.
        corpus: The corpus, with pairs; trials are told apart on the clean validation pairs.
        search: Folder of the search. It ends with best.toml, to be used as --recipe.
        start: Pretrained run or checkpoint that each trial starts from.
        stages: What a trial runs; pretraining is shared by trials that do not differ in it.
        trials: At most, with those of earlier calls.
        hours: Of this call; what it stops is carried on by the next.
        workers: Processes side by side.
        features: Feature set of the corpus for a new model.
        settings: Settings over the recipe's, such as --set finetune.epochs=3.
        restart: Throw away what the folder has and begin again.
        json: Print the trials as JSON.
    """
    import shutil

    from vidvec.pipeline.trials import Work
    from vidvec.pipeline.tune import FOREVER
    from vidvec.pipeline.tune import tune as run

    for name, value in (("trials", trials), ("workers", workers), ("hours", hours)):
        if value is not None and value <= 0:
            raise UsageError(f"--{name} {value}: expected more than 0")
    if restart and (search / "study.db").is_file():
        shutil.rmtree(search)
    work = Work(recipe, tuple(settings), corpus, stages, start, features)
    limit = FOREVER if hours is None else hours
    with err.status("", spinner="dots") as status:
        report = run(work, search, trials=trials, hours=limit, workers=workers, say=status.update)
    if json:
        print_json(_as_json(report))
    else:
        _print(report)


def _print(report: TuneReport) -> None:
    from vidvec import console_tune

    out.print(console_tune.trials(report))
    if report.mattered:
        out.print(console_tune.mattered(report.mattered))
    if report.best is not None:
        out.print(
            f"{report.recipe}: the recipe of trial {report.best}, whose run is {report.run}. These "
            "pairs chose it, so that other pairs will be ranked a little worse.",
            soft_wrap=True,
            highlight=False,
        )
    if report.unfinished:
        out.print(f"{report.unfinished} trials are left: the same command carries on")


def _as_json(report: TuneReport) -> dict[str, object]:
    from dataclasses import asdict

    found = {**asdict(report), "unfinished": report.unfinished}
    found["recipe"] = str(report.recipe)
    found["run"] = None if report.run is None else str(report.run)
    return found
