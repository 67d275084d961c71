"""What the stages bring: their videos and pairs, validations, and what they start from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_recipe
from tests.unit.train.runs import VIDEOS, rows_seen
from vidvec.data.splits import rank_normalise, split_pairs
from vidvec.model.weights import load_model
from vidvec.train.finetune import FinetuneTask, finetune
from vidvec.train.pretrain import PretrainTask, pretrain
from vidvec.train.start import new_model


@pytest.mark.parametrize("split", ["clean", "published"])
def test_pretraining_leaves_out_what_finetuning_validates_on(corpus, split):
    pairs = corpus.pairs()
    chosen = split_pairs(pairs, split).validation
    held = {video for p in chosen for video in (pairs[p].id_1, pairs[p].id_2)}
    assert held
    seen = rows_seen(PretrainTask(new_model(tiny_recipe(), corpus), corpus))
    assert not held & {corpus.ids[row] for row in seen}
    everything = tiny_recipe(pretrain={"videos": "all", "validation_share": 0.0})
    all_rows = rows_seen(PretrainTask(new_model(everything, corpus), corpus))
    assert sorted(all_rows) == list(range(len(corpus)))


def test_held_out_videos_are_not_trained_on_and_do_not_change(corpus):
    validated: list[int] = []

    class Noting(PretrainTask):
        def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
            validated.extend(batch.rows.tolist())
            return super().losses(batch, step)

    task = Noting(new_model(tiny_recipe(), corpus), corpus)
    first = rows_seen(task)
    with torch.no_grad():
        task.validate()
    assert len(validated) == round(0.2 * (len(first) + len(validated)))
    assert not set(validated) & set(first)
    second = rows_seen(task, epoch=1)
    assert sorted(first) == sorted(second)
    assert len(set(first)) == len(first)
    assert first != second
    other = tiny_recipe(seed=123)
    assert set(rows_seen(PretrainTask(new_model(other, corpus), corpus))) == set(first)


def test_finetuning_goes_through_the_pairs_of_the_split_in_another_order_each_epoch(corpus):
    task = FinetuneTask(new_model(tiny_recipe(), corpus), corpus)
    pairs = corpus.pairs()
    targets = rank_normalise([pair.score for pair in pairs])
    known = [
        (pairs[place].id_1, pairs[place].id_2, float(np.float32(targets[place])))
        for place in split_pairs(pairs, "clean").train
    ]
    epochs = []
    for epoch in range(2):
        seen = []
        for step in range(
            epoch * task.order.epoch_steps(0), (epoch + 1) * task.order.epoch_steps(0)
        ):
            batch, wanted = task.batch(step)
            first, second = ([corpus.ids[row] for row in half] for half in batch.rows.view(2, -1))
            seen += zip(first, second, wanted.tolist(), strict=True)
        assert sorted(seen) == sorted(known)
        epochs.append(seen)
    assert epochs[0] != epochs[1]


def test_batches_depend_on_nothing_but_the_step(corpus):
    recipe = tiny_recipe()
    for kind in (PretrainTask, FinetuneTask):
        forwards, backwards = (kind(new_model(recipe, corpus), corpus) for _ in range(2))
        steps = 2 * forwards.order.epoch_steps(0)
        rows = [rows_of(forwards.batch(step)) for step in range(steps)]
        assert [rows_of(backwards.batch(step)) for step in reversed(range(steps))] == rows[::-1]


def rows_of(batch: Any) -> list[int]:
    return (batch[0] if isinstance(batch, tuple) else batch).rows.tolist()


def test_validation_masks_stay_the_same(corpus):
    recipe = tiny_recipe()
    task = PretrainTask(new_model(recipe, corpus), corpus)
    task.model.encoder.eval()
    task.model.heads.eval()
    with torch.no_grad():
        first = task.validate()
        task.losses(task.batch(0), 0)
        assert task.validate() == first
    assert first["score"] == pytest.approx(
        sum(getattr(recipe.pretrain, f"{n}_weight") * first[n] for n in ("tag", "mlm", "mfm")),
        rel=1e-5,
    )


def test_validation_means_count_videos(corpus):
    class Counting(PretrainTask):
        def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
            return {"loss": torch.tensor(float(len(batch)))}

    task = Counting(new_model(tiny_recipe(pretrain={"batch_size": 5}), corpus), corpus)
    held = round(0.2 * len(rows_seen(task)) / 0.8)
    whole, rest = divmod(held, 5)
    assert rest
    assert task.validate()["score"] == pytest.approx((whole * 25 + rest**2) / held)


def test_masked_inputs_are_what_the_encoder_reads(corpus, monkeypatch):
    """The losses are of the masked batch, and the masks are those of the step."""
    task = PretrainTask(new_model(tiny_recipe(), corpus), corpus)
    read: list[Any] = []
    forward = task.model.encoder.forward

    def noting(batch: Any, **inputs: Tensor) -> Any:
        read.append((batch, inputs))
        return forward(batch, **inputs)

    monkeypatch.setattr(task.model.encoder, "forward", noting)
    task.losses(task.batch(0), 5)
    task.losses(task.batch(0), 6)
    (batch, first), (_, second) = read
    assert (first["token_ids"] != batch.token_ids).any()
    assert (first["token_ids"] != second["token_ids"]).any()
    masked = ~first["frames"].any(1)
    assert masked.any()
    assert batch.frames[masked].any(1).all()


def test_the_tag_head_starts_from_how_often_tags_are_given(corpus):
    bias = new_model(tiny_recipe(), corpus).heads.tag.bias.detach().double()
    tagged = [video.tags for video in VIDEOS if video.tags is not None]
    for tag, value in zip(corpus.tag_vocabulary, bias.tolist(), strict=True):
        given = sum(tag in tags for tags in tagged)
        share = (given + 0.5) / (len(tagged) + 1)
        assert value == pytest.approx(np.log(share / (1 - share)), rel=1e-4)
    at_random = tiny_recipe(model={"start": "random"})
    assert not new_model(at_random, corpus).heads.tag.bias.any()


def test_finetuning_starts_from_the_pretrained_weights(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 2}, finetune={"epochs": 1})
    pretrain(corpus.path, tmp_path / "pretrained", recipe)
    frozen = tiny_recipe(finetune={"epochs": 1, "learning_rate": 0.0, "high_learning_rate": 0.0})
    finetune(corpus.path, tmp_path / "run", frozen, tmp_path / "pretrained")
    start = dict(load_model(tmp_path / "pretrained").encoder.named_parameters())
    finetuned = load_model(tmp_path / "run")
    assert finetuned.heads is None
    for name, parameter in finetuned.encoder.named_parameters():
        assert torch.equal(parameter, start[name]), name
    # Its shape is the checkpoint's, its training settings are the recipe's.
    assert finetuned.recipe.finetune == frozen.finetune
    assert finetuned.made_by["start"] == str(tmp_path / "pretrained")
