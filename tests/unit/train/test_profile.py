"""Where a step's time goes: the parts are those of a step, and the amounts those of its batches."""

from __future__ import annotations

import numpy as np
import pytest

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.tiny import tiny_recipe
from vidvec.model.flops import TRAINING, encoder_flops, heads_flops
from vidvec.pipeline.speed import measure_speeds
from vidvec.train.pretrain import PretrainTask
from vidvec.train.profile import profile_pretraining
from vidvec.train.start import new_model


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    videos = made_videos(60)
    return write_corpus(
        tmp_path_factory.mktemp("profile") / "corpus", videos, made_pairs(videos, 90)
    )


@pytest.mark.parametrize("count_padding", [False, True])
@pytest.mark.parametrize("trunk", ["bert", "modern"])
def test_parts_and_amounts(corpus, count_padding, trunk):
    recipe = tiny_recipe(model={"count_padding": count_padding, "trunk": trunk})
    model = new_model(recipe, corpus)
    found = profile_pretraining(model, corpus, steps=3)
    names = [part.name for part in found.parts if not part.inside]
    assert names == ["read", "batch", "copy", "forward", "backward", "optimiser"]
    assert all(part.seconds >= 0 for part in found.parts)
    forward = next(part.seconds for part in found.parts if part.name == "forward")
    inside = sum(part.seconds for part in found.parts if part.inside)
    assert inside == pytest.approx(forward, rel=0.5)
    assert sum(p.seconds for p in found.parts if not p.inside) == pytest.approx(found.seconds)
    # The same amounts from the batches that those steps took.
    task = PretrainTask(new_model(recipe, corpus), corpus)
    batches = [task.batch(step) for step in range(2, 5)]
    videos = np.mean([len(batch) for batch in batches])
    frames = np.mean([int(batch.frame_counts.sum()) for batch in batches])
    tokens = np.mean([int(batch.token_counts.sum()) for batch in batches])
    expected = 1 - (frames + tokens) / (videos * (32 + 36)) if count_padding else 0.0
    assert found.padding_share == pytest.approx(expected)
    plain = model.recipe.model.model_copy(update={"count_padding": False})
    each = encoder_flops(plain, frames / videos, tokens / videos)
    words = tokens / videos - 3
    each += heads_flops(plain, recipe.pretrain, frames / videos, words, frames)
    assert found.flops == pytest.approx(TRAINING * videos * each)
    assert 0 < found.utilisation < 1
    assert not [m for m in model.encoder.modules() if m._forward_hooks]


def test_speeds_of_every_stage(corpus, tmp_path):
    told = []
    model = new_model(tiny_recipe(), corpus)
    found = measure_speeds(model, corpus, 2, lambda *at: told.append(at))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert min(found.loader, found.pretrain, found.finetune, found.embed) > 0
    without = write_corpus(tmp_path / "corpus", made_videos(20))
    assert measure_speeds(new_model(tiny_recipe(), without), without, 1).finetune is None
