"""Searching a recipe's ranges: real runs of tiny models."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.tiny import tiny_recipe
from vidvec import metrics
from vidvec.config import load_recipe
from vidvec.data.splits import split_pairs
from vidvec.embed.embedder import Encoder
from vidvec.errors import FormatError, UsageError
from vidvec.pipeline import tune as tuning
from vidvec.pipeline.study import Search
from vidvec.pipeline.trials import DEATHS, Work, work_on
from vidvec.pipeline.tune import TuneReport, tune

TRIALS, EPOCHS = 7, 3
RATES = '"finetune.high_learning_rate" = {choices = [2e-3, 0.0]}\n'
SHARED = "[tune]\n" + RATES + '"finetune.learning_rate" = {low = 1e-7, high = 2e-2, log = true}\n'


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    videos = made_videos(70)
    folder = tmp_path_factory.mktemp("tuned") / "corpus"
    return write_corpus(folder, videos, made_pairs(videos, 500)).path


def written(folder: Path, ranges: str, **finetune: Any) -> str:
    shape = {"layers": 1, "dropout": 0.1}
    recipe = tiny_recipe(
        model=shape,
        pretrain={"epochs": 1},
        finetune={"epochs": EPOCHS, "batch_size": 128, **finetune},
    )
    path = folder / "recipe.toml"
    path.write_text(f"{recipe.to_toml()}\n{ranges}")
    return str(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, corpus) -> tuple[Path, TuneReport, list[str]]:
    """A search in one go, and what it said."""
    folder = tmp_path_factory.mktemp("whole")
    said: list[str] = []
    work = Work(written(folder, SHARED), (), corpus)
    return folder, tune(work, folder / "search", trials=TRIALS, say=said.append), said


def kept(report: TuneReport) -> list[tuple[Any, ...]]:
    """What must be the same however a search was stopped."""
    return [
        (row.number, row.state, row.value, row.settings, row.validations) for row in report.trials
    ]


def validations(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "validation"]


def test_the_best_trial_is_what_its_model_gives(whole, corpus) -> None:
    _, report, _ = whole
    values = {row.number: row.value for row in report.trials if row.state == "complete"}
    assert len(report.trials) == TRIALS
    assert report.unfinished == 0
    assert values[report.best] == max(values.values())
    from vidvec.data.corpus import Corpus

    pairs = Corpus(corpus).pairs()
    chosen = [pairs[int(row)] for row in split_pairs(pairs, "clean").validation]
    assert len(chosen) == report.validation_pairs
    encoder, opened = Encoder.load(report.run), Corpus(corpus)
    sides = [
        encoder.encode([opened.video(opened.row(name)) for name in names])
        for names in zip(*((pair.id_1, pair.id_2) for pair in chosen), strict=True)
    ]
    cosines = metrics.cosines(*sides)
    expected = metrics.spearman(cosines, [pair.score for pair in chosen])
    assert values[report.best] == pytest.approx(expected, abs=1e-4)
    assert [row.own for row in report.trials] == [True] + [False] * (TRIALS - 1)
    assert report.trials[0].settings == {
        "finetune.high_learning_rate": 2e-3,
        "finetune.learning_rate": 2e-3,
    }


def test_its_recipe_can_be_used(whole) -> None:
    _, report, _ = whole
    recipe = load_recipe(report.recipe)
    best = report.trials[report.best]
    assert recipe.finetune.learning_rate == best.settings["finetune.learning_rate"]
    assert recipe.finetune.high_learning_rate == best.settings["finetune.high_learning_rate"]
    assert recipe.name.endswith(f"trial {report.best}")


def test_a_trial_that_is_behind_is_stopped(whole) -> None:
    folder, report, said = whole
    stopped = [row for row in report.trials if row.state == "pruned"]
    assert stopped
    for row in report.trials:
        found = validations(folder / "search" / "trials" / f"{row.number:04d}" / "run")
        assert len(found) == row.validations
        assert (row.validations == EPOCHS) == (row.state == "complete")
    last = [line for line in said if line.startswith(f"trial {stopped[0].number}: step")][-1]
    step, steps = (int(word) for word in last.split("step ")[1].split(" of "))
    assert step < steps


def test_what_it_leaves_behind(whole) -> None:
    folder, report, _ = whole
    search = folder / "search"
    names = {path.name for path in search.iterdir()}
    assert names == {"manifest.json", "study.db", "lock", "trials", "trials.json", "best.toml"}
    for row in report.trials:
        held = (search / "trials" / f"{row.number:04d}" / "run" / "checkpoints").is_dir()
        assert held == (row.number == report.best)
    table = json.loads((search / "trials.json").read_text())
    assert [row["value"] for row in table["trials"]] == [row.value for row in report.trials]
    if report.mattered:
        assert sum(report.mattered.values()) == pytest.approx(1)


def test_a_search_that_was_stopped_goes_on(whole, tmp_path, corpus) -> None:
    _, expected, _ = whole
    work = Work(written(tmp_path, SHARED), (), corpus)
    for limit in (4, 20, 10**9):
        left = [limit]

        def says(line: str, left: list[int] = left) -> None:
            left[0] -= "step" in line
            if left[0] < 0:
                raise KeyboardInterrupt

        try:
            report = tune(work, tmp_path / "search", trials=TRIALS, say=says)
        except KeyboardInterrupt:
            continue
    assert kept(report) == kept(expected)


def test_time_runs_out_and_there_is_more(whole, tmp_path, corpus) -> None:
    _, expected, _ = whole
    work = Work(written(tmp_path, SHARED), (), corpus)
    report = tune(work, tmp_path / "search", trials=2, hours=0.02 / 3600)
    assert report.unfinished == 2
    assert report.best is None
    report = tune(work, tmp_path / "search", trials=2)
    assert kept(report) == kept(expected)[:2]
    more = tune(work, tmp_path / "search", trials=3)
    assert kept(more) == kept(expected)[:3]
    assert kept(tune(work, tmp_path / "search", trials=3)) == kept(more)


def test_a_trial_that_fails_is_noted_and_the_rest_goes_on(tmp_path, corpus) -> None:
    ranges = '[tune]\n"finetune.learning_rate" = {choices = [1e-3, 1e38]}\n'
    work = Work(written(tmp_path, ranges, high_learning_rate=1e38, epochs=1), (), corpus)
    report = tune(work, tmp_path / "first", trials=2)
    assert {row.state for row in report.trials} == {"failed"}
    assert all("lower finetune.learning_rate" in row.reason for row in report.trials)
    assert (report.best, report.run) == (None, None)

    combined = (
        '[tune]\n"model.hidden_size" = {choices = [24, 16]}\n"model.heads" = {choices = [4, 3]}\n'
    )
    recipe = Path(written(tmp_path, combined, epochs=1))
    recipe.write_text(recipe.read_text().replace("hidden_size = 16", "hidden_size = 24"))
    report = tune(Work(str(recipe), (), corpus), tmp_path / "second", trials=6)
    for row in report.trials:
        fits = row.settings != {"model.hidden_size": 16, "model.heads": 3}
        assert (row.state == "failed") != fits
        assert fits or "hidden_size 16 is not a multiple of heads 3" in row.reason
    assert {row.state for row in report.trials} >= {"failed", "complete"}


def test_a_trial_that_kills_its_process_counts_as_failed_in_the_end(tmp_path, corpus) -> None:
    work = Work(written(tmp_path, "[tune]\n" + RATES), (), corpus)
    recipe, ranges = tuning.read_ranges(work.source)
    own = {"finetune.high_learning_rate": 2e-3}
    for deaths in range(DEATHS):
        search = Search(tmp_path / "search", ranges, recipe.seed, {}, own)
        claim = search.claim(5)
        assert (claim.trial.number, claim.deaths) == (0, deaths)
        assert Search(tmp_path / "search", ranges, recipe.seed, {}, own).claim(1) is None
        claim.lock.close()  # as the kernel does when the process is killed
    work_on(search, work, 1, time.monotonic() + 60, lambda _: None)
    (row,) = search.rows()
    assert (row.state, row.reason) == (
        "failed",
        "3 processes died at it, perhaps for want of memory",
    )


def test_pretraining_is_shared_by_trials_that_do_not_differ_in_it(tmp_path, corpus) -> None:
    ranges = '[tune]\n"pretrain.tag_weight" = {choices = [100.0, 10.0]}\n' + RATES
    work = Work(written(tmp_path, ranges, epochs=1), (), corpus, "pretrain+finetune")
    report = tune(work, tmp_path / "search", trials=4)
    assert {row.state for row in report.trials} == {"complete"}
    weights = {row.settings["pretrain.tag_weight"] for row in report.trials}
    assert len(list((tmp_path / "search" / "pretrained").iterdir())) == len(weights) < 4
    by_rate = {row.settings["finetune.high_learning_rate"] for row in report.trials}
    assert len(by_rate) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": "finetune", "ranges": '"pretrain.epochs" = {low = 1, high = 2}'}, "--stages"),
        ({"start": "whole", "ranges": '"model.layers" = {low = 1, high = 2}'}, "of its own"),
        ({"start": "whole", "stages": "pretrain+finetune"}, "leave out --stages"),
        ({"overrides": ("finetune.split=published",)}, "finetune.split=clean"),
        ({"ranges": '"finetune.split" = {choices = ["clean"]}'}, "different pairs"),
    ],
)
def test_what_cannot_be_searched_is_refused(tmp_path, corpus, whole, change, message) -> None:
    ranges = "[tune]\n" + change.pop("ranges", RATES)
    start = change.pop("start", None)
    work = Work(
        written(tmp_path, ranges),
        change.pop("overrides", ()),
        corpus,
        change.pop("stages", "finetune"),
        None if start is None else whole[1].run,
    )
    with pytest.raises(UsageError, match=message):
        tune(work, tmp_path / "search")


def test_a_corpus_without_enough_to_measure_on(tmp_path) -> None:
    videos = made_videos(20)
    corpus = write_corpus(tmp_path / "corpus", videos, made_pairs(videos, 30))
    with pytest.raises(UsageError, match="a search needs at least 10"):
        tune(Work(written(tmp_path, "[tune]\n" + RATES), (), corpus.path), tmp_path / "search")


def test_a_folder_of_something_else_is_left_alone(tmp_path, corpus, whole) -> None:
    work = Work(written(tmp_path, "[tune]\n" + RATES), (), corpus)
    with pytest.raises(FormatError, match=r"search with other settings \(ranges .*--restart"):
        tune(work, whole[0] / "search")
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "notes.txt").write_text("mine")
    with pytest.raises(FormatError, match="holds something else"):
        tune(work, tmp_path / "search")


def test_seeds_of_proposals_differ_and_repeat(whole) -> None:
    _, report, _ = whole
    tried = [row.settings["finetune.learning_rate"] for row in report.trials]
    assert len(np.unique(tried)) == TRIALS
