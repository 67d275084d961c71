"""Validation before the first step: the start is kept where nothing trained is better."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import tiny_recipe
from tests.unit.train.runs import last_weights, lines, snapshot
from vidvec import load_recipe
from vidvec.model.weights import load_model
from vidvec.train.finetune import FinetuneTask, finetune
from vidvec.train.pretrain import pretrain
from vidvec.train.start import new_model


@pytest.fixture(scope="module")
def start(corpus, tmp_path_factory):
    run = tmp_path_factory.mktemp("start") / "run"
    pretrain(corpus.path, run, tiny_recipe(pretrain={"epochs": 2}))
    return run


def recipe(**finetuning):
    settings = {"epochs": 2, "evaluate_start": True, **finetuning}
    return tiny_recipe(model={"dropout": 0.2}, finetune=settings)


def test_training_that_only_harms_leaves_the_start(corpus, start, tmp_path):
    rates = {"learning_rate": 0.5, "high_learning_rate": 0.5}
    report = finetune(corpus.path, tmp_path / "run", recipe(**rates), start)
    first, *others = lines(tmp_path / "run", "validation")
    assert (first["step"], report.best_step) == (0, 0)
    assert min(line["score"] for line in others) > first["score"] == report.best
    kept, began = (
        dict(load_model(path).encoder.named_parameters()) for path in (tmp_path / "run", start)
    )
    assert all(torch.equal(kept[name], began[name]) for name in began)


def test_the_first_figure_is_that_of_the_start(corpus, tmp_path):
    settings = recipe(ema_decay=0.9)
    report = finetune(corpus.path, tmp_path, settings)
    untrained = new_model(settings, corpus)
    untrained.encoder.eval()
    with torch.no_grad():
        expected = FinetuneTask(untrained, corpus).validate()
    found = lines(tmp_path, "validation")[0]
    assert found["mse"] == pytest.approx(expected["mse"], rel=1e-6)
    assert found["spearman"] == pytest.approx(expected["spearman"], rel=1e-6)
    assert report.best_step > 0


def test_nothing_else_about_training_changes(corpus, tmp_path):
    for name, first in (("with", True), ("without", False)):
        finetune(corpus.path, tmp_path / name, recipe(evaluate_start=first))
    assert last_weights(tmp_path / "with") == last_weights(tmp_path / "without")
    found = [lines(tmp_path / name, "validation") for name in ("with", "without")]
    assert found[0][1:] == found[1]


@pytest.mark.parametrize("stop_at", [1])
def test_a_run_stopped_right_behind_the_start_carries_on_from_it(corpus, tmp_path, stop_at):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    finetune(corpus.path, whole, recipe())

    def stop(step: int, steps: int, figures: dict[str, float]) -> None:
        if step == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(corpus.path, stopped, recipe(), on_step=stop)
    torch.manual_seed(99)
    report = finetune(corpus.path, stopped, recipe())
    assert report.resumed_at == 0
    assert last_weights(stopped) == last_weights(whole)
    assert lines(stopped, "validation") == lines(whole, "validation")
    done = snapshot(stopped)
    finetune(corpus.path, stopped, recipe())
    assert snapshot(stopped) == done


def test_new_users_recipes_keep_the_start_and_published_ones_do_not():
    for name in ("base", "vidvec/tagged", "vidvec/few", "demo/attention"):
        assert load_recipe(name).finetune.evaluate_start, name
    for name in ("aiac2021/job1", "aiac2021/job6", "aiac2021/tiny-job2"):
        published = load_recipe(name)
        assert not published.finetune.evaluate_start, name
        assert published.hash != load_recipe(name, ["finetune.evaluate_start=true"]).hash
