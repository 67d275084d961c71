"""The loop: what is learned, kept and written, and what a run may depend on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import tiny_recipe
from tests.unit.train.runs import FAST, falls, last_weights, lines, snapshot
from vidvec import metrics
from vidvec.config import Recipe
from vidvec.data.corpus import Corpus
from vidvec.data.splits import rank_normalise, split_pairs
from vidvec.embed.embedder import Encoder
from vidvec.model.weights import load_model
from vidvec.train import trainer
from vidvec.train.finetune import FinetuneTask, finetune
from vidvec.train.pretrain import PretrainTask, pretrain
from vidvec.train.start import new_model
from vidvec.train.trainer import TrainReport, train


class Scripted(PretrainTask):
    """Pretraining whose validation scores are given, and whose weights at each are noted."""

    def script(self, scores: Iterable[float]) -> None:
        self.scores, self.weights = iter(scores), []

    def validate(self) -> dict[str, float]:
        self.weights.append({n: p.detach().clone() for n, p in self.model.named_parameters()})
        return {"score": next(self.scores)}


def train_scripted(corpus: Corpus, run: Path, recipe: Recipe, scores: list[float]):
    task = Scripted(new_model(recipe, corpus), corpus)
    task.script(scores)
    report = train(task, run, {"recipe": recipe.hash})
    return task, report


# Learning


def test_pretraining_learns(corpus, tmp_path):
    report = pretrain(corpus.path, tmp_path, tiny_recipe(pretrain={"epochs": 15, **FAST}))
    validations = lines(tmp_path, "validation")
    assert falls(lines(tmp_path, "train"), "loss", to=0.95)
    assert falls(validations, "score", to=0.97)
    assert report.best == min(line["score"] for line in validations)


@pytest.mark.parametrize("objective", ["tag", "mlm", "mfm"])
def test_each_objective_learns_alone(corpus, tmp_path, objective):
    weights = {f"{name}_weight": float(name == objective) for name in ("tag", "mlm", "mfm")}
    pretrain(corpus.path, tmp_path, tiny_recipe(pretrain={"epochs": 15, **FAST, **weights}))
    validations = lines(tmp_path, "validation")
    assert set(validations[0]) == {"step", "kind", "score", "loss", objective}
    assert falls(lines(tmp_path, "train"), objective, to=0.93)
    assert falls(validations, objective, to=0.97)


def test_finetuning_learns_what_validation_measures(corpus, tmp_path):
    recipe = tiny_recipe(finetune={"epochs": 8})
    report = finetune(corpus.path, tmp_path, recipe)
    validations = lines(tmp_path, "validation")
    untrained = new_model(recipe, corpus)
    untrained.encoder.eval()
    with torch.no_grad():
        before = FinetuneTask(untrained, corpus).validate()
    assert report.best < 0.7 * before["mse"]
    assert lines(tmp_path, "train")[-1]["loss"] < 0.5 * lines(tmp_path, "train")[0]["loss"]

    # The kept checkpoint's figures, once more, from vectors made one video at a time.
    encoder = Encoder.load(tmp_path, "cpu")
    pairs = corpus.pairs()
    targets = rank_normalise([pair.score for pair in pairs])
    chosen = split_pairs(pairs, "clean").validation
    first, second = (
        np.concatenate([encoder.encode([corpus.video(corpus.row(video))]) for video in ids])
        for ids in (
            [pairs[place].id_1 for place in chosen],
            [pairs[place].id_2 for place in chosen],
        )
    )
    cosines = metrics.cosines(first, second)
    best = next(line for line in validations if line["step"] == report.best_step)
    assert best["mse"] == pytest.approx(float(np.mean((cosines - targets[chosen]) ** 2)), rel=1e-4)
    scores = [pairs[place].score for place in chosen]
    assert best["spearman"] == pytest.approx(metrics.spearman(cosines, scores), abs=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param({"count_padding": True, "max_frames": 8, "max_tokens": 12}, id="padding"),
        pytest.param({"order": "frames_first", "pool": "attention"}, id="frames first"),
        pytest.param({"tag_from": "embedding"}, id="tags from embedding"),
    ],
)
def test_other_models_learn(corpus, tmp_path, model):
    recipe = tiny_recipe(model={**model, "start": "random"}, pretrain={"epochs": 6})
    pretrain(corpus.path, tmp_path, recipe)
    assert falls(lines(tmp_path, "train"), "loss", to=0.95)


def test_pretraining_changes_every_weight_that_it_should(corpus, tmp_path):
    recipe = tiny_recipe(model={"pool": "attention"}, pretrain={"epochs": 1})
    before = {n: p.detach().clone() for n, p in new_model(recipe, corpus).named_parameters()}
    pretrain(corpus.path, tmp_path, recipe)
    same = {n for n, p in load_model(tmp_path).named_parameters() if torch.equal(p, before[n])}
    # With tags from [CLS], nothing asks for the pooled vector.
    expected = ("encoder.pool.", "encoder.projection.")
    assert same == {name for name in before if name.startswith(expected)}


# Checkpoints


def test_the_best_checkpoint_is_kept_though_later_ones_are_worse(corpus, tmp_path):
    # Validations fall on steps 2, 4, 6, …, and regular checkpoints on 5, 10, …
    recipe = tiny_recipe(pretrain={"epochs": 5, "evaluate_every": 2, "checkpoint_every": 5})
    scores = [5.0, 3.0, 4.0, 3.0, 7.0, 6.0, *[9.0] * 50]
    task, report = train_scripted(corpus, tmp_path, recipe, scores)
    assert (report.best, report.best_step) == (3.0, 4)
    kept = dict(load_model(tmp_path).named_parameters())
    assert all(torch.equal(kept[name], weight) for name, weight in task.weights[1].items())
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"step-00000004", f"step-{report.steps:08d}"}


def test_a_last_checkpoint_can_be_the_best(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 2, "evaluate_every": 2, "checkpoint_every": 100})
    task, report = train_scripted(corpus, tmp_path, recipe, list(range(50, 0, -1)))
    assert report.best_step == report.steps
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    kept = dict(load_model(tmp_path).named_parameters())
    assert all(torch.equal(kept[name], weight) for name, weight in task.weights[-1].items())


def test_without_anything_held_out_the_last_checkpoint_counts(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 2, "validation_share": 0.0})
    report = pretrain(corpus.path, tmp_path, recipe)
    assert report.best is None
    assert lines(tmp_path, "validation") == []
    load_model(tmp_path)


def test_a_stopped_run_carries_on_to_the_same_weights(corpus, tmp_path):
    recipe = tiny_recipe(
        model={"dropout": 0.2},
        pretrain={"epochs": 4, "evaluate_every": 3, "checkpoint_every": 4},
    )
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    pretrain(corpus.path, whole, recipe)

    class Stop(Exception):  # noqa: N818
        pass

    def stop(step: int, steps: int, figures: dict[str, float]) -> None:
        if step == 7:
            raise Stop

    with pytest.raises(Stop):
        pretrain(corpus.path, stopped, recipe, stop)
    torch.manual_seed(99)
    report = pretrain(corpus.path, stopped, recipe)
    # The checkpoint of step 4, or that of a new best at step 6.
    assert report.resumed_at in (4, 6)
    assert last_weights(stopped) == last_weights(whole)
    assert lines(stopped, "validation") == lines(whole, "validation")
    steps = [line["step"] for line in lines(stopped, "train")]
    assert steps == [line["step"] for line in lines(whole, "train")]
    assert sorted(set(steps)) == steps


def test_a_finished_run_started_again_does_nothing(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 2})
    first = pretrain(corpus.path, tmp_path, recipe)
    before = snapshot(tmp_path)
    again = pretrain(corpus.path, tmp_path, recipe)
    assert (again.steps, again.resumed_at) == (first.steps, first.steps)
    assert (again.best, again.best_step) == (first.best, first.best_step)
    assert snapshot(tmp_path) == before


def test_a_lost_metrics_file_is_begun_anew(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 4, "checkpoint_every": 4, "evaluate_every": 4})

    def stop(step: int, steps: int, figures: dict[str, float]) -> None:
        if step == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(corpus.path, tmp_path, recipe, stop)
    (tmp_path / "metrics.jsonl").unlink()
    report = pretrain(corpus.path, tmp_path, recipe)
    assert lines(tmp_path, "train")[0]["step"] > report.resumed_at == 8


# What must not matter


def test_validation_does_not_change_training(corpus, tmp_path):
    runs = []
    for every in (3, 7):
        recipe = tiny_recipe(
            model={"dropout": 0.2}, pretrain={"epochs": 4, "evaluate_every": every}
        )
        pretrain(corpus.path, tmp_path / str(every), recipe)
        runs.append(last_weights(tmp_path / str(every)))
    assert runs[0] == runs[1]


def test_the_seed_decides(corpus, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        pretrain(corpus.path, tmp_path / name, tiny_recipe(seed, pretrain={"epochs": 1}))
    assert last_weights(tmp_path / "a") == last_weights(tmp_path / "b")
    assert last_weights(tmp_path / "a") != last_weights(tmp_path / "c")


# Steps


def test_clipping_limits_the_gradient(corpus):
    recipe = tiny_recipe(pretrain={"clip_norm": 0.5})
    task = PretrainTask(new_model(recipe, corpus), corpus)
    optimizer = trainer.make_optimizer(task.model, task.stage)
    for step in range(2):
        trainer.train_step(task, optimizer, task.batch(step), step)
        squares = [
            p.grad.pow(2).sum() for _, p in task.model.named_parameters() if p.grad is not None
        ]
        assert float(torch.stack(squares).sum().sqrt()) == pytest.approx(0.5, rel=1e-3)


def test_rates_follow_the_schedule(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 5, "learning_rate": 1e-3, "high_learning_rate": 4e-3})
    report = pretrain(corpus.path, tmp_path, recipe)
    for line in lines(tmp_path, "train"):
        # The line is of the step before, counted from 0.
        factor = trainer.schedule(line["step"] - 1, report.steps, 0.06)
        assert line["learning_rate"] == pytest.approx(4e-3 * factor)
    assert lines(tmp_path, "train")[-1]["learning_rate"] < 1e-3 * 0.2


def test_progress_is_told(corpus, tmp_path):
    told: list[tuple[int, int]] = []
    recipe = tiny_recipe(pretrain={"epochs": 2})
    report = pretrain(corpus.path, tmp_path, recipe, lambda *args: told.append(args[:2]))
    assert told == [(step, report.steps) for step in range(1, report.steps + 1)]
    assert isinstance(report, TrainReport)
    events = list((tmp_path / "tensorboard").iterdir())
    assert len(events) == 1
    assert events[0].stat().st_size > 500
