"""The command that fetches pretrained weights: download."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from vidvec.cli.shared import err, out
from vidvec.errors import ConfigError, UsageError, VidvecError

if TYPE_CHECKING:
    from vidvec.model.hub import Download
    from vidvec.model.hub_listing import Kind


def download(*sources: str, to: Path | None = None) -> None:
    """Fetch the pretrained weights that recipes start from; run again, it only checks them.

    Args:
        sources: Recipes or plans; names on the hub, with @REVISION where wanted; frame encoders,
            audio encoders and speech recognisers as hf:NAME; or folders, which are only checked.
        to: A plain folder instead of the hub's cache, to be carried to a machine without a
            connection: --init FOLDER there, or --encoder, --audio or --asr hf:FOLDER.
    """
    from vidvec.model.hub import download as run

    models = _models(sources)
    if to is not None and len(models) > 1:
        names = ", ".join(name for name, _ in models)
        raise UsageError(f"--to takes one model a run, found {names}: run it once for each")
    failed: list[VidvecError] = []
    for (name, kind), askers in models.items():
        try:
            found = run(name, kind, to)
        except VidvecError as error:
            failed.append(error)
            err.print(f"{name}: not complete", markup=False, highlight=False, soft_wrap=True)
            continue
        _show(found, [asker for asker in askers if asker not in (name, f"hf:{name}")])
    if failed:
        raise VidvecError(" | ".join(f"{error}{_hint(sources, error)}" for error in failed))


def _models(sources: tuple[str, ...]) -> dict[tuple[str, Kind], list[str]]:
    """Each model that is needed, and what needs it; what needs none is said at once."""
    if not sources:
        raise UsageError("nothing to fetch: give a recipe, a model's name on the hub, or hf:NAME")
    models: dict[tuple[str, Kind], list[str]] = {}
    for source in sources:
        if source.startswith("hf:"):
            models.setdefault((source.removeprefix("hf:"), "frames"), []).append(source)
            continue
        for name in _starts(source):
            models.setdefault((name, "text"), []).append(source)
        if not any(source in askers for askers in models.values()):
            out.print(f"{source}: needs nothing, it starts from scratch", highlight=False)
    return models


def _starts(source: str) -> list[str]:
    """What a recipe, or each recipe of a plan, starts from; else the source, a model's name."""
    from vidvec.config import load_recipe
    from vidvec.pipeline.plan import load_plan
    from vidvec.recipe_files import find_recipe, is_plan

    try:
        path = find_recipe(source)
    except ConfigError:
        return [source]
    if is_plan(tomllib.loads(path.read_text("utf-8"))):
        recipes = [job.recipe for job in load_plan(source)[1]]
    else:
        recipes = [load_recipe(source)]
    return sorted({recipe.model.init for recipe in recipes} - {""})


def _show(found: Download, askers: list[str]) -> None:
    """A table of the files, and a line that says what there is."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("file")
    table.add_column("bytes", justify="right")
    table.add_column("")
    for name, size, done in found.files:
        table.add_row(name, f"{size:,}", done)
    total = sum(size for _, size, _ in found.files)
    out.print(found.source + (f" (for {', '.join(askers)})" if askers else ""), highlight=False)
    out.print(table)
    lines = [
        f"complete: {len(found.files)} files, {total:,} bytes, {found.came:,} of them came now"
    ]
    if found.checked:
        lines.append("each file has the size and the digest that were stated for it")
    else:
        lines.append("nothing says what its files should be; the weights can be read")
    if not found.reached and str(found.folder) != found.source:
        lines.append("the hub cannot be reached; this is what an earlier download left")
    for line in [*lines, str(found.folder)]:
        out.print(line, highlight=False, soft_wrap=True)


def _hint(sources: tuple[str, ...], error: VidvecError) -> str:
    """For a name that may have been meant for a recipe's."""
    from vidvec.recipe_files import recipe_names

    known = recipe_names()
    for source in sources:
        near = difflib.get_close_matches(source, known, n=1)
        if isinstance(error, UsageError) and source in str(error) and near and source not in known:
            return f"; or did you mean the recipe {near[0]!r}?"
    return ""
