"""Which videos an epoch goes through, in which order, and a second phase behind the first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.tiny import tiny_recipe
from tests.unit.train.runs import lines
from vidvec.config import load_recipe
from vidvec.errors import UsageError
from vidvec.train import trainer
from vidvec.train.pretrain import PretrainTask, pretrain
from vidvec.train.start import new_model
from vidvec.train.task import Phase, StepOrder

PARTS = {"pointwise": 40, "pairwise": 20, "test_a": 6, "test_b": 5}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    videos = made_videos(80)
    pairs = made_pairs(videos[40:60], 60)
    return write_corpus(tmp_path_factory.mktemp("parts") / "corpus", videos, pairs, parts=PARTS)


def task_of(corpus, **pretrain) -> PretrainTask:
    settings = {"batch_size": 4, "epochs": 2, "validation_share": 0.0, "videos": "all", **pretrain}
    return PretrainTask(new_model(tiny_recipe(pretrain=settings), corpus), corpus)


def epoch_rows(task: PretrainTask, epoch_steps: int, first: int = 0) -> list[int]:
    return [row for step in range(first, first + epoch_steps) for row in task.order(step).tolist()]


def test_parts_are_the_rows_in_the_order_of_the_source(corpus):
    assert {part: rows.tolist() for part, rows in corpus.parts.items()} == {
        "pointwise": list(range(40)),
        "pairwise": list(range(40, 60)),
        "test_a": list(range(60, 66)),
        "test_b": list(range(66, 71)),
    }


def test_no_parts_are_all_videos(corpus):
    task = task_of(corpus)
    assert sorted(epoch_rows(task, task.order.epoch_steps(0))) == list(range(80))


def test_a_mix_takes_its_parts_alone_and_mixes_them(corpus):
    task = task_of(corpus, parts=(("pointwise", "pairwise"),))
    rows = epoch_rows(task, task.order.epoch_steps(0))
    assert sorted(rows) == list(range(60))
    assert any(row >= 40 for row in rows[:20])


def test_groups_come_one_after_the_other_in_every_epoch(corpus):
    task = task_of(corpus, parts=(("pointwise",), ("pairwise",), ("test_a", "test_b")))
    steps = task.order.epoch_steps(0)
    assert steps == 10 + 5 + 3
    assert task.order.steps == 2 * steps
    epochs = [epoch_rows(task, steps, first) for first in (0, steps)]
    for rows in epochs:
        assert sorted(rows[:40]) == list(range(40))
        assert sorted(rows[40:60]) == list(range(40, 60))
        assert sorted(rows[60:]) == list(range(60, 71))
    assert epochs[0] != epochs[1]


def test_validation_videos_stay_out_of_every_group(corpus):
    task = task_of(corpus, parts=(("pairwise",), ("test_a",)), videos="train")
    seen = set(epoch_rows(task, task.order.epoch_steps(0)))
    assert seen
    assert not any(40 <= row < 60 and (1000 + row) % 5 == 0 for row in seen)


def test_the_second_phase_has_its_own_parts_and_its_own_schedule(corpus, tmp_path):
    then = {"epochs": 3, "parts": (("pairwise",),)}
    settings = {
        "batch_size": 4,
        "epochs": 2,
        "parts": (("pointwise", "pairwise"),),
        "then": then,
        "videos": "all",
        "validation_share": 0.0,
    }
    recipe = tiny_recipe(pretrain=settings)
    report = pretrain(corpus.path, tmp_path, recipe)
    assert report.steps == 2 * 15 + 3 * 5
    rates = {line["step"]: line["learning_rate"] for line in lines(tmp_path, "train")}
    for step, rate in rates.items():
        before = step - 1
        local, total = (before, 30) if before < 30 else (before - 30, 15)
        assert rate == pytest.approx(2e-3 * trainer.schedule(local, total, 0.06))
    assert {10, 15, 20, 30, 35, 40, 45} <= rates.keys()
    assert lines(tmp_path, "train")[-1]["epoch"] == 5
    task = PretrainTask(new_model(recipe, corpus), corpus)
    assert sorted(epoch_rows(task, 5, 30)) == list(range(40, 60))


def test_a_new_phase_keeps_the_moments(corpus):
    then = {"epochs": 1, "parts": (("pairwise",),)}
    task = task_of(corpus, epochs=1, parts=(("pointwise",),), then=then)
    optimizer = trainer.make_optimizer(task.model, task.stage)
    for step in range(11):
        trainer.train_step(task, optimizer, task.batch(step), step)
    steps = {int(state["step"]) for state in optimizer.state.values()}
    assert max(steps) == 11


def test_untagged_videos_give_no_tag_loss(tmp_path):
    videos = made_videos(30)
    videos = videos[:20] + [replace(video, tags=None) for video in videos[20:]]
    corpus = write_corpus(tmp_path / "corpus", videos, parts={"pointwise": 20, "test_a": 10})
    task = task_of(corpus, parts=(("pointwise",), ("test_a",)))
    task.model.encoder.eval()
    assert float(task.losses(task.batch(0), 0)["tag"].detach()) > 0
    losses = task.losses(task.batch(6), 6)
    assert float(losses["tag"].detach()) == 0
    assert float(losses["loss"].detach()) == pytest.approx(
        float(losses["mlm"].detach()) / 3.75 + float(losses["mfm"].detach()) / 9, rel=1e-5
    )


def test_a_part_that_is_missing_is_named_and_the_others_are_learnt_from(corpus, tmp_path):
    task = task_of(corpus, parts=(("pointwise", "elsewhere"), ("nowhere",)))
    assert task.missing_parts == ["elsewhere", "nowhere"]
    settings = {"epochs": 1, "parts": (("pairwise", "nowhere"),)}
    report = pretrain(corpus.path, tmp_path, tiny_recipe(pretrain=settings))
    assert "no videos of nowhere" in report.note
    assert sorted(epoch_rows(task, task.order.epoch_steps(0))) == list(range(40))


def test_no_part_at_all_is_refused(corpus):
    with pytest.raises(UsageError, match=r"\(nowhere\).*pointwise.*pretrain\.parts=\[\]"):
        task_of(corpus, parts=(("nowhere",),))


def test_step_order_by_hand():
    phases = [Phase(2, lambda epoch: [np.array([epoch, 0]), np.array([epoch, 1])])]
    phases.append(Phase(1, lambda epoch: [np.array([epoch, place]) for place in range(3)]))
    order = StepOrder(phases)
    assert order.steps == 7
    expected = [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1], [2, 2]]
    assert [order(step).tolist() for step in range(7)] == expected
    assert [order(step).tolist() for step in reversed(range(7))] == expected[::-1]
    assert [order.in_phase(step) for step in (0, 3, 4, 6)] == [(0, 4), (3, 4), (0, 3), (2, 3)]
    assert [order.epochs_done(step) for step in (0, 1, 2, 4, 7)] == [0, 0.5, 1, 2, 3]
    assert order.epochs_done(5) == pytest.approx(2 + 1 / 3)


@pytest.mark.parametrize("job", range(1, 7))
def test_a_tiny_twin_differs_from_its_job_only_where_the_others_do(job):
    whole, tiny = (load_recipe(f"aiac2021/{kind}job{job}") for kind in ("", "tiny-"))
    for section, shared in (
        ("model", ("order", "pool", "tag_from", "count_padding", "max_frames", "max_tokens")),
        ("pretrain", ("parts", "tag_weight", "mlm_weight", "mfm_weight", "mlm_rate", "mfm_rate")),
        ("finetune", ("rank_normalise", "split", "batch_size", "warmup_share")),
    ):
        for name in shared:
            assert getattr(getattr(tiny, section), name) == getattr(getattr(whole, section), name)
    assert tiny.seed == whole.seed
    assert tiny.pretrain.then.parts == whole.pretrain.then.parts
    assert bool(tiny.pretrain.then.epochs) == bool(whole.pretrain.then.epochs)
