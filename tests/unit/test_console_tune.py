"""What a search over settings looks like in a terminal."""

from __future__ import annotations

from pathlib import Path

from tests.unit.test_console import printed
from vidvec import console_tune
from vidvec.pipeline.study import TrialRow
from vidvec.pipeline.tune import TuneReport

RATE, LAYERS, DEEP = "finetune.learning_rate", "model.layers", "pretrain.learning_rate"


def row(number: int, state: str, value: float | None, **more: object) -> TrialRow:
    settings = {RATE: 0.00012345, LAYERS: number, DEEP: 1e-5}
    return TrialRow(number, state, value, settings, 4, 7.0, **more)  # type: ignore[arg-type]


def report(*rows: TrialRow, best: int | None = None) -> TuneReport:
    return TuneReport(list(rows), best, Path("best.toml"), None, {}, 1234, 9)


def test_the_best_come_first_and_what_failed_last() -> None:
    rows = [
        row(0, "failed", None, reason="out of [memory]"),
        row(1, "complete", 0.5, own=True),
        row(2, "pruned", 0.9),
        row(3, "complete", 0.75),
        row(4, "running", None),
    ]
    found = report(*rows, best=3)
    lines = printed(console_tune.trials(found), width=140).splitlines()
    assert "1,234 validation pairs" in lines[0]
    # Names that two sections have are written out.
    assert lines[2].split()[2:5] == [RATE, "layers", DEEP]
    assert [line.split()[0] for line in lines[4:9]] == ["3", "1", "2", "4", "0"]
    assert lines[4].split() == ["3", "0.7500", "0.000123", "3", "1e-05", "4", "7", "s", "best"]
    assert lines[5].rstrip().endswith("(the recipe's own settings)")
    assert lines[8].rstrip().endswith("failed: out of [memory]")
    assert found.unfinished == 9 - 4


def test_many_trials_are_cut_and_counted() -> None:
    rows = [row(number, "complete", number / 100) for number in range(25)]
    assert "and 5 more in trials.json" in printed(console_tune.trials(report(*rows, best=24)))


def test_how_much_settings_mattered() -> None:
    lines = printed(console_tune.mattered({LAYERS: 0.25, RATE: 0.75})).splitlines()
    assert [line.split() for line in lines if "." in line] == [[RATE, "75%"], [LAYERS, "25%"]]
