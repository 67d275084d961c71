"""What several commands need: consoles, a progress bar, the recipe's options, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, Token
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from vidvec import storage
from vidvec.errors import UsageError
from vidvec.pipeline.child import ProgressFile

if TYPE_CHECKING:
    from vidvec.config import Recipe

# Names of files and titles are printed as they are, even with [brackets] or :colons: in them.
out = Console(markup=False, emoji=False)
err = Console(stderr=True, emoji=False)


def _located(_: Any, tokens: Sequence[Token]) -> Path:
    return storage.located(tokens[0].value)


# A folder on this disk, or s3://BUCKET/KEY; a plain Path takes folders and files alone.
Location = Annotated[Path, Parameter(converter=_located)]


def _mirrored(_: Any, tokens: Sequence[Token]) -> Path:
    where = storage.located(tokens[0].value)
    if not storage.is_remote(where):
        return where
    with progress(f"copy of {where}", transient=True) as update:
        return storage.mirrored(where, update)


# The same where files are made beside what is read, such as an index: of a URL, its copy in the
# cache, brought up to date.
Mirrored = Annotated[Path, Parameter(converter=_mirrored)]


def refuse_urls(_: Any, value: Any) -> None:
    """Refuses a URL where an option takes files of this disk, for which ``Path`` would take it.

    Raises:
        UsageError: It is one.
    """
    for each in value if isinstance(value, list | tuple) else [value]:
        if isinstance(each, Path) and each.parts[:1] == ("s3:",) and not storage.is_remote(each):
            url = storage.located(each)
            raise UsageError(
                f"{url}: a file or folder of this machine is needed here, not a URL: "
                f"vidvec pull {url} FOLDER copies it"
            )


SetOption = Annotated[list[str], Parameter(name="--set", negative="")]
NumbersOption = Annotated[list[float] | None, Parameter(negative="", consume_multiple=True)]
RecipeOption = Annotated[str, Parameter(name="--recipe")]


@contextmanager
def progress(description: str, transient: bool = False) -> Iterator[Callable[..., None]]:
    """A progress bar in a terminal's error stream; yields ``update(done, total, note)``."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    quiet = not err.is_terminal
    with Progress(*columns, console=err, transient=transient, disable=quiet) as bar:
        task = bar.add_task(description, total=None, note="")
        file = ProgressFile()

        def update(done: int, total: int | None = None, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)
            file.say(done, total)

        yield update


def settle(
    recipe: str, size: str | None, init: str | None, seed: int | None, sets: list[str]
) -> Recipe:
    """The recipe of this name or path, with what the command line says besides.

    Args:
        recipe: Name or path.
        size: Shape of the model.
        init: Hugging Face BERT or ModernBERT to start from.
        seed: Of everything drawn at random.
        sets: Settings as ``table.key=value``; what has an option of its own wins over them.
    """
    from vidvec.config import load_recipe

    overrides = list(sets)
    if size is not None:
        overrides.append(f"model.size={json.dumps(size)}")
    if init is not None:
        overrides.append(f"model.init={json.dumps(init)}")
    if seed is not None:
        overrides.append(f"seed={seed}")
    return load_recipe(recipe, overrides)


def settle_from(start: Path | None, recipe: str | None, sets: list[str]) -> Recipe:
    """The recipe of this name or path; without one that of the checkpoint to start from, or base.

    Args:
        start: Checkpoint or run; ``None``: a new model is trained.
        recipe: Name or path.
        sets: Settings as ``table.key=value``.
    """
    from vidvec.model.weights import checkpoint_folder

    default = str(checkpoint_folder(start) / "recipe.toml") if start else "base"
    return settle(recipe or default, None, None, None, sets)


def print_json(value: Any) -> None:
    """Prints a value as JSON on standard output, NaN as null."""
    print(json.dumps(_without_nan(value), ensure_ascii=False, indent=1))


def _without_nan(value: Any) -> Any:
    """The value with ``None`` for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
