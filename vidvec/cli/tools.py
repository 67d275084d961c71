"""Commands beside the stages: demo, import-checkpoint, check-reference, recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vidvec.cli.shared import RecipeOption, SetOption, out, progress, settle
from vidvec.errors import VidvecError


def demo(
    folder: Path = Path("demo"),
    /,
    *,
    videos: int = 800,
    seed: int = 2021,
) -> None:
    """Make videos, then do everything with them, and write a report.

    Args:
        folder: Where it all goes.
        videos: How many videos to render.
        seed: Of the videos and of training.
    """
    from vidvec import console, console_search
    from vidvec.data.corpus import Corpus
    from vidvec.demo.run import run_demo
    from vidvec.search.in_memory import indexed

    result = run_demo(
        folder,
        videos=videos,
        seed=seed,
        say=lambda line: out.print(line, soft_wrap=True, highlight=False),
        step=lambda name: progress(name, transient=True),
    )
    out.print(console.evaluations(result.table))
    opened = Corpus(folder / "corpus")
    for words, hits in result.found:
        out.print(f"nearest to the words {words!r}:", highlight=False)
        known = {hit.id: indexed(opened.video(opened.row(hit.id))) for hit in hits}
        out.print(console_search.found(known, hits))
    out.print(f"{result.seconds:.0f} s in all; open {folder / 'report.html'}", highlight=False)


def import_checkpoint(
    file: Path,
    checkpoint: Path,
    /,
    *,
    recipe: RecipeOption,
    bert: Path | None = None,
    tag_list: Path | None = None,
    settings: SetOption = [],  # noqa: B006 - never changed
) -> None:
    """Turn a published-style checkpoint (.pth) into one of vidvec's.

    Args:
        file: The state dict; nothing but tensors is read from it.
        checkpoint: Folder of the new checkpoint.
        recipe: Recipe of the job that it comes from, such as aiac2021/job1.
        bert: Folder with config.json and tokenizer of the BERT that it was started from; else
            looked for beside the file.
        tag_list: The competition's tag_list.txt, for the names of the tag classes.
        settings: Settings over the recipe's.
    """
    from vidvec.model.importing import import_checkpoint as run

    settled = settle(recipe, None, None, None, settings)
    report = run(file, settled, checkpoint, bert, tag_list)
    out.print(f"{checkpoint}: {report.taken} parameters from {file}", soft_wrap=True)
    for what, names in (("left random", report.missing), ("not known", report.unknown)):
        for name in names:
            out.print(f"  {what}: {name}", markup=False, soft_wrap=True)


def check_reference(
    folder: Path,
    /,
    *,
    recipe: RecipeOption,
    settings: SetOption = [],  # noqa: B006 - never changed
    show_all: Annotated[bool, Parameter(name="--all", negative="")] = False,
) -> None:
    """Hold a recipe against reference numbers of the published code; exit 1 where one differs.

    Args:
        folder: weights, inputs with the masks already drawn, expected numbers, meta.json.
        recipe: Name or path of the recipe that they belong to.
        settings: Settings over the recipe's.
        show_all: Print every number, not only the largest difference of each kind and what fails.
    """
    from vidvec import console
    from vidvec.train.reference import check_reference as check

    differences = check(folder, settle(recipe, None, None, None, settings))
    out.print(console.differences(differences, show_all))
    failed = [each.name for each in differences if not each.holds]
    if failed:
        raise VidvecError(
            f"{len(failed)} of {len(differences)} outside the tolerance: {', '.join(failed[:5])}"
        )


def recipes() -> None:
    """List the recipes that come with vidvec."""
    from vidvec.recipe_files import recipe_names

    for name in recipe_names():
        out.print(name, highlight=False)
