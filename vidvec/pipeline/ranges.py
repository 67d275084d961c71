"""Ranges of a recipe's settings, as ``vidvec tune`` searches them: the ``[tune]`` table.

For example::

    [tune]
    "finetune.learning_rate" = {low = 1e-6, high = 1e-3, log = true}
    "finetune.batch_size" = {low = 16, high = 64, step = 16}
    "model.pool" = {choices = ["mean", "attention"]}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vidvec.config import Recipe, load_recipe
from vidvec.errors import ConfigError
from vidvec.recipe_files import merge, parse_override, with_bases

if TYPE_CHECKING:
    from optuna.trial import Trial

TABLE = "tune"
_NUMBERS = ("low", "high", "step", "log")
_FORMS = "{low = 1e-5, high = 1e-3, log = true}, {low = 16, high = 64, step = 16}, {choices = […]}"


@dataclass(frozen=True, slots=True)
class Range:
    """Values that a setting may take.

    Attributes:
        key: Of the setting, such as ``finetune.learning_rate``.
        choices: One of these; empty: a number between ``low`` and ``high``, both included.
        low, high: Whole numbers for a setting that is one.
        step: Distance of the numbers from ``low`` on; 0: any.
        log: The logarithm is searched.
        whole: Whether only whole numbers are meant.
    """

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float = 0.0
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Trial) -> Any:
        """A value that a trial proposes."""
        if self.choices:
            labels = [label(choice) for choice in self.choices]
            return self.choices[labels.index(trial.suggest_categorical(self.key, labels))]
        if self.whole:
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return trial.suggest_int(self.key, low, high, step=step, log=self.log)
        apart = self.step or None
        return trial.suggest_float(self.key, self.low, self.high, step=apart, log=self.log)

    def parameter(self, value: Any) -> Any:
        """A value as a study keeps it."""
        return label(value) if self.choices else value

    def holds(self, value: Any) -> bool:
        """Whether a value is in the range."""
        if self.choices:
            return label(value) in [label(choice) for choice in self.choices]
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return math.isclose(steps, round(steps), abs_tol=1e-9)

    def override(self, value: Any) -> str:
        """The setting as ``load_recipe`` takes it."""
        return f"{self.key}={json.dumps(value, ensure_ascii=False)}"

    @property
    def facts(self) -> dict[str, Any]:
        """What a continued search must have in common."""
        return {**asdict(self), "choices": [label(choice) for choice in self.choices]}


def label(value: Any) -> Any:
    """A choice as a study keeps it: itself, or as JSON where it is a list."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | tuple) else value


def read_ranges(source: str, overrides: Sequence[str] = ()) -> tuple[Recipe, list[Range]]:
    """A recipe and the ranges in its ``[tune]`` table, and in those of its bases.

    Args:
        source: Name or path of the recipe.
        overrides: As ``load_recipe`` takes them; ``tune.KEY={…}`` is a range, too.

    Raises:
        ConfigError: There is no range; or one has an unknown key, has no values, or has values that
            the setting does not take.
    """
    recipe = load_recipe(source, overrides)
    values = with_bases(source, [])
    for override in overrides:
        values = merge(values, parse_override(override))
    tables = dict(_tables(values.get(TABLE, {}), ""))
    if not tables:
        raise ConfigError(f"recipe {source} has no ranges: give it a table [{TABLE}] of {_FORMS}")
    ranges = [_range(key, table, recipe) for key, table in sorted(tables.items())]
    for one in ranges:
        for value in one.choices or (one.low, one.high):
            number = int(value) if one.whole and not one.choices else value
            load_recipe(source, [*overrides, one.override(number)])
    return recipe, ranges


def _tables(found: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Keys and what is said of them; keys may be quoted or nested."""
    plain = isinstance(found, dict) and not set(found) & {*_NUMBERS, "choices"}
    if path and not (plain and found and all(isinstance(one, dict) for one in found.values())):
        yield path, found
        return
    for key, value in found.items() if isinstance(found, dict) else ():
        yield from _tables(value, f"{path}.{key}" if path else key)


def _range(key: str, table: Any, recipe: Recipe) -> Range:
    if not isinstance(table, dict):
        raise ConfigError(f"[{TABLE}] {key} is {table!r}, expected one of {_FORMS}")
    unknown = sorted(set(table) - {*_NUMBERS, "choices"})
    if unknown or ("choices" in table) == bool(set(table) & set(_NUMBERS)):
        raise ConfigError(f"[{TABLE}] {key} has {_list(table)}, expected one of {_FORMS}")
    if key.partition(".")[0] not in ("model", "pretrain", "finetune"):
        _known(key, recipe)
        raise ConfigError(f"[{TABLE}] {key}: settings of model, pretrain and finetune are searched")
    if "choices" in table:
        choices = table["choices"]
        if not isinstance(choices, list) or not choices:
            raise ConfigError(f"[{TABLE}] {key}: choices {choices!r} are no list of values")
        return Range(key, choices=tuple(choices))
    return _numbers(key, table, _known(key, recipe))


def _known(key: str, recipe: Recipe) -> Any:
    """The recipe's own value of a setting.

    Raises:
        ConfigError: There is no such setting; names the nearest.
    """
    value: Any = recipe.model_dump()
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise ConfigError(_refusal(key))
        value = value[part]
    return value


def _refusal(key: str) -> str:
    try:
        load_recipe("base", [f"{key}=0"])
    except ConfigError as error:
        return f"[{TABLE}] " + str(error).removeprefix("recipe base: ")
    return f"[{TABLE}] unknown key {key}"


def _numbers(key: str, table: dict[str, Any], own: Any) -> Range:
    if isinstance(own, bool) or not isinstance(own, int | float):
        raise ConfigError(f"[{TABLE}] {key} is no number (but {own!r}): give it choices = […]")
    low, high, step = (table.get(name) for name in ("low", "high", "step"))
    log, whole = table.get("log", False), isinstance(own, int)
    if low is None or high is None:
        raise ConfigError(f"[{TABLE}] {key} has {_list(table)}: give both low and high")
    kind = int if whole else (int, float)
    for name, value in (("low", low), ("high", high), ("step", step)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            expected = "a whole number" if whole else "a number"
            raise ConfigError(f"[{TABLE}] {key}: {name} is {value!r}, expected {expected}")
    if low >= high:
        raise ConfigError(f"[{TABLE}] {key}: low {low} is not below high {high}")
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise ConfigError(f"[{TABLE}] {key}: log is true or false, for low above 0 and no step")
    if step is not None and not 0 < step <= high - low:
        raise ConfigError(f"[{TABLE}] {key}: step {step} is not between 0 and {high - low}")
    if not whole:
        low, high = float(low), float(high)
    return Range(key, (), low, high, step or 0.0, log, whole)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
