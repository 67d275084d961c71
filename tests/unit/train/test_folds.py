"""Folds: which pairs each learns from, and what is made of their models together."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.tiny import tiny_recipe
from vidvec.cli import main
from vidvec.config import Recipe, load_recipe
from vidvec.data.splits import fold, split_pairs
from vidvec.embed.embedder import Encoder
from vidvec.embed.vectors import Vectors
from vidvec.errors import ConfigError, UsageError
from vidvec.records import Pair
from vidvec.train.finetune import FinetuneTask
from vidvec.train.folds import in_fold
from vidvec.train.pretrain import pretrain
from vidvec.train.start import new_model


def recipe(number: int = 0, count: int = 0, **more: object) -> Recipe:
    return tiny_recipe(finetune={"fold": number, "folds": count, "epochs": 2, **more})


def videos(pairs, rows) -> set[str]:
    return {video for row in rows for video in (pairs[row].id_1, pairs[row].id_2)}


@pytest.mark.parametrize("name", ["clean", "published"])
def test_a_fold_learns_from_no_video_that_it_validates_on(corpus, name):
    pairs = corpus.pairs()
    whole = split_pairs(pairs, name)
    validated: list[int] = []
    for number in (1, 2):
        split = in_fold(whole, pairs, recipe(number, 2).finetune)
        assert not videos(pairs, split.train) & videos(pairs, split.validation)
        assert set(split.train) | set(split.validation) <= set(whole.train)
        assert len(split.train) + len(split.validation) + split.dropped == len(pairs) - len(
            whole.validation
        )
        validated += split.validation.tolist()
    assert len(validated) == len(set(validated))
    if name == "clean":
        held = {video for pair in pairs for video in (pair.id_1, pair.id_2) if fold(video) == 0}
        assert not videos(pairs, validated) & held


def test_without_folds_the_split_is_whole(corpus):
    whole = split_pairs(corpus.pairs(), "clean")
    assert in_fold(whole, corpus.pairs(), recipe().finetune) is whole


def test_training_takes_the_pairs_of_its_fold(corpus):
    pairs = corpus.pairs()
    chosen = recipe(2, 2)
    split = in_fold(split_pairs(pairs, "clean"), pairs, chosen.finetune)
    task = FinetuneTask(new_model(chosen, corpus), corpus)
    learned = {int(row) for step in range(task.order.epoch_steps(0)) for row in task.order(step)}
    assert learned == set(split.train.tolist())
    assert task.split.validation.tolist() == split.validation.tolist()
    other_seed = chosen.model_copy(update={"seed": 99})
    again = FinetuneTask(new_model(other_seed, corpus), corpus)
    assert np.array_equal(again.split.train, split.train)


def test_too_many_folds_for_the_pairs():
    pairs = [Pair("1", "2", 0.5), Pair("3", "4", 1.0)]
    whole = split_pairs(pairs, "clean")
    found = []
    for number in (1, 2, 3):
        try:
            in_fold(whole, pairs, recipe(number, 3).finetune)
        except UsageError as error:
            found.append(str(error))
    assert found
    assert all("of the 2 that the clean split trains on: take fewer folds" in e for e in found)


@pytest.mark.parametrize(("number", "count"), [(1, 0), (0, 3), (4, 3), (1, 1)])
def test_a_fold_that_cannot_be(number, count):
    with pytest.raises(ConfigError, match=f"fold {number} of folds {count}"):
        load_recipe("base", [f"finetune.fold={number}", f"finetune.folds={count}"])


def test_runs_of_before_there_were_folds_are_the_same_runs():
    plain = load_recipe("base")
    assert "fold" not in plain._told_apart_by()["finetune"]
    other = load_recipe("base", ["finetune.fold=1", "finetune.folds=3"])
    assert plain.stage_hash("finetune") != other.stage_hash("finetune")
    assert plain.stage_hash("pretrain") == other.stage_hash("pretrain")


@pytest.mark.parametrize("given", ["2", "0/3", "4/3", "1/1", "a/b", "-1/3"])
def test_a_fold_that_is_not_said_so(corpus, tmp_path, capsys, given):
    with pytest.raises(SystemExit) as ended:
        main(["finetune", str(corpus.path), str(tmp_path / "run"), f"--fold={given}"])
    assert ended.value.code == 1
    assert f"--fold {given}: expected one of several" in capsys.readouterr().err


def ran(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    assert not ended.value.code


@pytest.mark.slow
def test_folds_are_trained_fused_and_averaged(corpus, tmp_path, capsys):
    settings = tiny_recipe(pretrain={"epochs": 1}, finetune={"epochs": 2})
    pretrain(corpus.path, tmp_path / "pre", settings)
    runs, vectors = [], []
    for number in (1, 2):
        run = tmp_path / f"fold-{number}"
        given = ["finetune", corpus.path, run, "--from", tmp_path / "pre", "--fold", f"{number}/2"]
        ran(*given, "--set", "finetune.epochs=2")
        ran("embed", run, corpus.path, tmp_path / f"vectors-{number}")
        runs.append(run)
        vectors.append(tmp_path / f"vectors-{number}")
    one, other = (Encoder.load(run).encode("sea waves") for run in runs)
    assert not np.array_equal(one, other)
    facts = [json.loads((run / "run.json").read_text())["facts"]["recipe"] for run in runs]
    assert facts[0] != facts[1]
    ran("fuse", *vectors, "--out", tmp_path / "fused", "--fit-weights", "--corpus", corpus.path)
    ran("soup", *runs, "--out", tmp_path / "soup", "--corpus", corpus.path, "--greedy")
    capsys.readouterr()
    ran("evaluate", tmp_path / "fused", tmp_path / "soup", "--corpus", corpus.path, "--json")
    told = json.loads(capsys.readouterr().out)
    assert all(np.isfinite(figures["spearman"]["value"]) for figures in told.values())
    assert len(told) == 2
    assert Vectors(tmp_path / "fused").dimension == 2 * Encoder.load(tmp_path / "soup").dimension
