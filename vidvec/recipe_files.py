"""Recipes as files: found by name, laid over their bases; settings as TOML, read and written."""

from __future__ import annotations

import difflib
import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from vidvec.errors import ConfigError

SHIPPED = Path(str(resources.files("vidvec") / "recipes"))
Size = Literal["tiny", "small", "base", "large"]


def recipe_names() -> list[str]:
    """Names of the recipes that come with vidvec; neither plans nor parts of recipes."""
    files = {path.relative_to(SHIPPED).with_suffix(""): path for path in SHIPPED.rglob("*.toml")}
    return sorted(
        name.as_posix()
        for name, path in files.items()
        if name.parts[0] != "sizes"
        and not name.name.startswith("_")
        and not is_plan(read_toml(path))
    )


def is_plan(values: dict[str, Any]) -> bool:
    """Whether a TOML file names several recipes to be run (``vidvec run``) and is none itself."""
    return "jobs" in values


def find_recipe(source: str, asked_by: Path | None = None) -> Path:
    """The recipe's file: beside the one that asks for it (not that one itself), else shipped."""
    folder = asked_by.parent if asked_by else Path()
    # ``recipes/aiac2021/job1.toml`` is how a recipe is called where its files are read.
    shipped = SHIPPED / source.removeprefix("recipes/")
    for place in (folder / source, folder / f"{source}.toml", shipped, Path(f"{shipped}.toml")):
        if place.is_file() and (asked_by is None or place.resolve() != asked_by):
            return place
    near = difflib.get_close_matches(source, recipe_names(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ConfigError(
        f"no recipe {source!r}{hint} Known: {', '.join(recipe_names())}; or give a path"
    )


def with_bases(source: str, chain: list[Path]) -> dict[str, Any]:
    """A recipe's settings on top of those of its bases.

    Args:
        source: Name or path.
        chain: The recipes that led here, each the base of the one before.

    Raises:
        ConfigError: One of them is missing or no recipe, or is its own base.
    """
    path = find_recipe(source, chain[-1] if chain else None).resolve()
    if path in chain:
        loop = " → ".join(str(step) for step in [*chain, path])
        raise ConfigError(f"recipes are each other's base: {loop}")
    values = with_shape(read_toml(path))
    if is_plan(values):
        raise ConfigError(f"{source} is a plan of several recipes, not one: vidvec run {source}")
    bases = values.pop("base", [])
    below: dict[str, Any] = {}
    for base in bases if isinstance(bases, list) else [bases]:
        below = merge(below, with_bases(str(base), [*chain, path]))
    return merge(below, values)


def with_shape(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe's own settings with the shape that its ``model.size`` names below them.

    A size replaces the numbers of the recipe's base, but not those set beside it.
    """
    model = values.get("model")
    size = model.get("size") if isinstance(model, dict) else None
    if size is None:
        return values
    if size not in get_args(Size):
        raise ConfigError(f"model.size is {size!r}, expected one of {', '.join(get_args(Size))}")
    return merge(read_toml(SHIPPED / "sizes" / f"{size}.toml"), values)


def read_toml(path: Path) -> dict[str, Any]:
    """A file's tables.

    Raises:
        ConfigError: It is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None


def merge(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    """Both, table by table; where both say something, what ``high`` says."""
    merged = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def parse_override(override: str) -> dict[str, Any]:
    """``section.key=value`` as tables; a value that is not TOML is taken as text.

    Raises:
        ConfigError: It has no key or no value.
    """
    key, sign, text = override.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"--set {override!r}: expected section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    nested: Any = value
    for part in reversed(key.strip().split(".")):
        nested = {part: nested}
    return dict(nested)


def toml_table(values: dict[str, Any], path: str = "") -> str:
    """A table's own lines, then the tables in it.

    Args:
        values: Of the table.
        path: Of the table, with a dot behind; empty: the outermost.
    """
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    lines = [
        f"{key} = {_toml_value(value)}\n" for key, value in values.items() if key not in tables
    ]
    for key, value in tables.items():
        lines.append(f"\n[{path}{key}]\n{toml_table(value, f'{path}{key}.')}")
    return "".join(lines)


def _toml_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    if isinstance(value, float):
        return repr(value)
    # TOML's basic strings are JSON's, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
