"""Ranges of settings: what is understood, what is refused and how."""

from __future__ import annotations

import pytest

from vidvec.config import load_recipe
from vidvec.errors import ConfigError
from vidvec.pipeline.ranges import Range, read_ranges

RANGES = """
name = "mine"
[tune]
"finetune.learning_rate" = {low = 1e-6, high = 1e-3, log = true}
finetune.batch_size = {low = 16, high = 64, step = 16}
"finetune.prefixes" = {choices = [[], [32, 64]]}
"model.pool" = {choices = ["mean", "attention"]}
[tune.finetune]
epochs = {low = 2, high = 5}
"""


class Proposes:
    """What an Optuna trial is asked, with the lowest or the last of each as its answer."""

    def __init__(self) -> None:
        self.asked: dict[str, object] = {}

    def suggest_float(self, name, low, high, *, step, log):
        self.asked[name] = (low, high, step, log)
        return low

    def suggest_int(self, name, low, high, *, step, log):
        self.asked[name] = (low, high, step, log)
        return low

    def suggest_categorical(self, name, choices):
        self.asked[name] = choices
        return choices[-1]


def write(path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_all_forms_are_read_and_proposed(tmp_path) -> None:
    # TOML has no table twice, so nested keys are written in one way or the other.
    text = RANGES.replace("finetune.batch_size", '"finetune.batch_size"')
    source = write(tmp_path / "mine.toml", text)
    recipe, ranges = read_ranges(source)
    assert recipe == load_recipe(source)  # which leaves the table out
    assert recipe.name == "mine"
    trial = Proposes()
    proposed = {one.key: one.suggest(trial) for one in ranges}
    assert trial.asked == {
        "finetune.batch_size": (16, 64, 16, False),
        "finetune.epochs": (2, 5, 1, False),
        "finetune.learning_rate": (1e-6, 1e-3, None, True),
        "finetune.prefixes": ["[]", "[32, 64]"],
        "model.pool": ["mean", "attention"],
    }
    settled = load_recipe(source, [one.override(proposed[one.key]) for one in ranges])
    assert settled.finetune.prefixes == (32, 64)
    assert settled.finetune.learning_rate == 1e-6
    assert (settled.model.pool, settled.finetune.epochs) == ("attention", 2)


def test_ranges_come_from_bases_and_from_the_command_line(tmp_path) -> None:
    write(tmp_path / "low.toml", '[tune]\n"finetune.epochs" = {low = 2, high = 5}\n')
    source = write(tmp_path / "top.toml", 'base = "low"\n[tune]\n"finetune.epochs" = {high = 9}\n')
    _, ranges = read_ranges(source, ["tune.finetune.warmup_share={low=0.0, high=0.5}"])
    assert [(one.key, one.low, one.high) for one in ranges] == [
        ("finetune.epochs", 2, 9),
        ("finetune.warmup_share", 0.0, 0.5),
    ]


def test_what_a_range_holds() -> None:
    stepped = Range("finetune.batch_size", (), 16, 64, 16, whole=True)
    assert [value for value in range(10, 70) if stepped.holds(value)] == [16, 32, 48, 64]
    assert Range("a", (), 0.0, 1.0).holds(0.3)
    assert not Range("a", (), 0.0, 1.0).holds(1.5)
    assert not Range("a", (), 0.0, 1.0).holds("x")
    assert Range("a", ([32, 64], 1)).holds([32, 64])
    assert not Range("a", ("x",)).holds("y")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "has no ranges: give it a table"),
        (
            '"finetune.learning_rat" = {low = 1e-6, high = 1.0}',
            "unknown key finetune.learning_rat; did you mean finetune.learning_rate",
        ),
        ('"finetune.poool" = {choices = [1]}', "unknown key finetune.poool"),
        ('"fintune.epochs" = {low = 1, high = 2}', "unknown key fintune"),
        ('"finetune.epochs" = {low = 1, hihg = 2}', "has low, hihg, expected one of"),
        ('"finetune.epochs" = {low = 1, choices = [2]}', "has low, choices, expected one of"),
        ('"finetune.epochs" = {low = 1}', "has low: give both low and high"),
        ('"finetune.epochs" = 7', "finetune.epochs is 7, expected one of"),
        ('"finetune.epochs" = {low = 1.5, high = 3}', "low is 1.5, expected a whole number"),
        ('"finetune.epochs" = {low = 5, high = 2}', "low 5 is not below high 2"),
        ('"finetune.epochs" = {low = 0, high = 2}', "finetune.epochs: Input should be greater"),
        ('"finetune.warmup_share" = {low = 0.5, high = 2}', "warmup_share: Input should be less"),
        ('"finetune.adam_eps" = {low = 0, high = 1, log = true}', "log is true or false, for low"),
        ('"finetune.epochs" = {low = 1, high = 5, step = 9}', "step 9 is not between 0 and 4"),
        ('"finetune.epochs" = {low = true, high = 5}', "low is True, expected a whole number"),
        ('"model.pool" = {low = 1, high = 2}', "is no number"),
        ('"model.pool" = {choices = []}', "are no list of values"),
        ('"model.pool" = {choices = ["mean", "max"]}', "model.pool: Input should be 'mean'"),
        ('"distill.epochs" = {low = 1, high = 2}', "settings of model, pretrain and finetune"),
        ('"seed" = {low = 1, high = 2}', "settings of model, pretrain and finetune"),
    ],
)
def test_a_range_that_does_not_fit_is_refused_by_its_key(tmp_path, line, message) -> None:
    with pytest.raises(ConfigError) as caught:
        read_ranges(write(tmp_path / "bad.toml", f"[tune]\n{line}\n"))
    assert message in str(caught.value)
