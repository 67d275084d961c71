"""The command that measures this machine: bench."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from vidvec.cli.shared import Location, RecipeOption, SetOption, out, print_json, progress, settle
from vidvec.errors import UsageError


def bench(
    corpus: Location,
    /,
    *,
    profile: Annotated[bool, Parameter(negative="")] = False,
    recipe: RecipeOption = "base",
    settings: SetOption = [],  # noqa: B006 - never changed
    steps: int = 5,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Measure how fast this machine trains and embeds a corpus's videos with a recipe.

    Args:
        corpus: The corpus; nothing is written to it.
        profile: Where a training step's time goes instead, part by part.
        recipe: Name or path of a recipe; a new model of it is measured.
        settings: Settings over the recipe's.
        steps: Steps to be measured, behind two that are not.
        as_json: Print JSON.
    """
    from vidvec import console
    from vidvec.data.corpus import Corpus
    from vidvec.pipeline.speed import measure_speeds
    from vidvec.train.profile import profile_pretraining
    from vidvec.train.start import new_model
    from vidvec.train.task import default_device

    if steps < 1:
        raise UsageError(f"--steps {steps}: expected 1 or more")
    opened = Corpus(corpus)
    settled = settle(recipe, None, None, None, settings)
    model = new_model(settled, opened).to(default_device())
    if profile:
        found = profile_pretraining(model, opened, steps)
        if as_json:
            print_json(asdict(found))
        else:
            out.print(console.profile(found))
        return
    with progress("bench", transient=True) as update:
        speeds = measure_speeds(model, opened, steps, update)
    if as_json:
        print_json(asdict(speeds))
    else:
        out.print(console.speeds(speeds))
