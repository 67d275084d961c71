"""Runs that cannot go on, and what is said then."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.tiny import tiny_recipe
from tests.unit.train.runs import PAIRS, VIDEOS, snapshot
from vidvec.errors import FormatError, UsageError, VidvecError
from vidvec.model.weights import load_model, save_model
from vidvec.train.finetune import FinetuneTask, finetune
from vidvec.train.pretrain import PretrainTask, pretrain
from vidvec.train.start import new_model
from vidvec.train.trainer import train


class Diverging(PretrainTask):
    """Pretraining whose losses are as bad as told from a step on."""

    bad_from, bad_value = 10**9, float("nan")

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        losses = super().losses(batch, step)
        if step >= self.bad_from:
            losses["loss"] = losses["loss"] * self.bad_value
        return losses


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("every", [0, 1])
def test_a_loss_that_is_no_number_stops_the_run(corpus, tmp_path, value, every):
    recipe = tiny_recipe(pretrain={"epochs": 6, "checkpoint_every": every})
    task = Diverging(new_model(recipe, corpus), corpus)
    task.bad_from, task.bad_value = 8, value
    with pytest.raises(VidvecError, match=r"loss is (nan|inf) at step .* lower pretrain"):
        train(task, tmp_path, {})
    # What was saved is from before, so that the run can be looked at and is not poisoned.
    for _, parameter in load_model(tmp_path).named_parameters():
        assert parameter.isfinite().all()
    last = json.loads((tmp_path / "run.json").read_text())["last"]
    assert int(last.removeprefix("step-")) == 8


def test_a_validation_that_is_no_number_stops_the_run(corpus, tmp_path, monkeypatch):
    recipe = tiny_recipe(pretrain={"epochs": 5, "evaluate_every": 2, "checkpoint_every": 3})
    task = PretrainTask(new_model(recipe, corpus), corpus)
    scores = iter([2.0, float("nan")])
    monkeypatch.setattr(task, "validate", lambda: {"score": next(scores)})
    with pytest.raises(VidvecError, match="validation is nan at step 4: lower"):
        train(task, tmp_path, {})
    assert json.loads((tmp_path / "run.json").read_text())["best"] == "step-00000002"


def test_a_rate_far_too_high_says_what_to_do(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 20, "learning_rate": 1e30, "high_learning_rate": 1e30})
    with pytest.raises(VidvecError, match="clip_norm"):
        pretrain(corpus.path, tmp_path, recipe)


def test_other_settings_are_refused(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 1})
    pretrain(corpus.path, tmp_path, recipe)
    before = snapshot(tmp_path)
    for other in (
        tiny_recipe(seed=8, pretrain={"epochs": 1}),
        tiny_recipe(pretrain={"epochs": 2}),
        tiny_recipe(model={"dropout": 0.3}, pretrain={"epochs": 1}),
    ):
        with pytest.raises(FormatError, match=r"other settings \(recipe .*--restart"):
            pretrain(corpus.path, tmp_path, other)
    with pytest.raises(FormatError, match="other settings"):
        finetune(corpus.path, tmp_path, recipe)
    assert snapshot(tmp_path) == before


def test_a_pretraining_does_not_carry_on_a_finetuning(corpus, tmp_path):
    recipe = tiny_recipe(finetune={"epochs": 1})
    finetune(corpus.path, tmp_path, recipe)
    with pytest.raises(FormatError, match="other settings"):
        pretrain(corpus.path, tmp_path, recipe)


@pytest.mark.parametrize(
    ("videos", "pairs"),
    [
        pytest.param(made_videos(80, seed=1), PAIRS, id="videos"),
        pytest.param(VIDEOS, PAIRS[:-1], id="fewer pairs"),
        pytest.param(VIDEOS, made_pairs(VIDEOS, 300, seed=4), id="other pairs"),
    ],
)
def test_another_corpus_is_refused(corpus, tmp_path, videos, pairs):
    recipe = tiny_recipe(finetune={"epochs": 1})
    finetune(corpus.path, tmp_path / "run", recipe)
    other = write_corpus(tmp_path / "corpus", videos, pairs)
    other_tokenizer = other.path / "tokenizer" / "tokenizer.json"
    other_tokenizer.write_bytes((corpus.path / "tokenizer" / "tokenizer.json").read_bytes())
    with pytest.raises(FormatError, match=r"other settings \(corpus"):
        finetune(other.path, tmp_path / "run", recipe)


def test_another_tokenizer_is_refused(tmp_path):
    """Retraining it numbers the same words anew, so that old weights would read other words."""
    corpus = write_corpus(tmp_path / "corpus", VIDEOS, PAIRS)
    recipe = tiny_recipe(pretrain={"epochs": 1})
    pretrain(corpus.path, tmp_path / "run", recipe)
    file = corpus.path / "tokenizer" / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    one, other = list(vocabulary)[-2:]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    file.write_text(json.dumps(content))
    with pytest.raises(FormatError, match=r"other settings \(tokenizer"):
        pretrain(corpus.path, tmp_path / "run", recipe)


@pytest.mark.parametrize("name", ["model", "state/optimizer", "state/rng"])
def test_a_damaged_checkpoint_is_named(corpus, tmp_path, name):
    recipe = tiny_recipe(pretrain={"epochs": 1})
    pretrain(corpus.path, tmp_path, recipe)
    folder = tmp_path / "checkpoints" / json.loads((tmp_path / "run.json").read_text())["last"]
    file = folder / f"{name}.safetensors"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(FormatError, match=rf"{name}\.safetensors"):
        pretrain(corpus.path, tmp_path, recipe)


def test_a_checkpoint_that_is_gone_is_named(corpus, tmp_path):
    recipe = tiny_recipe(pretrain={"epochs": 1})
    pretrain(corpus.path, tmp_path, recipe)
    (tmp_path / "checkpoints").rename(tmp_path / "moved")
    with pytest.raises(FormatError, match="missing"):
        pretrain(corpus.path, tmp_path, recipe)


def test_nothing_to_learn_from_is_refused(corpus):
    off = {"tag_weight": 0.0, "mlm_weight": 0.0, "mfm_weight": 0.0}
    with pytest.raises(UsageError, match="nothing to learn"):
        PretrainTask(new_model(tiny_recipe(pretrain=off), corpus), corpus)
    tags_alone = tiny_recipe(pretrain={**off, "tag_weight": 1.0})
    assert PretrainTask(new_model(tags_alone, corpus), corpus).order.steps > 0


def test_a_corpus_without_pairs_is_refused(tmp_path):
    corpus = write_corpus(tmp_path, made_videos(20))
    with pytest.raises(UsageError, match="--pairs"):
        FinetuneTask(new_model(tiny_recipe(), corpus), corpus)


def test_no_pair_to_train_on_is_refused(tmp_path):
    videos = made_videos(20)
    zero = [video for video in videos if int(video.id) % 5 == 0]
    corpus = write_corpus(tmp_path, videos, made_pairs(zero, 6))
    with pytest.raises(UsageError, match="none of the 6 pairs"):
        FinetuneTask(new_model(tiny_recipe(), corpus), corpus)


def test_a_finetuned_model_is_not_pretrained(corpus):
    model = new_model(tiny_recipe(), corpus)
    model.heads = None
    with pytest.raises(UsageError, match="finetuned"):
        PretrainTask(model, corpus)


def test_frames_of_another_encoder_are_refused(corpus, tmp_path):
    model = new_model(tiny_recipe(), corpus)
    model.frame_encoder = {"name": "other", "frame_size": 24}
    save_model(tmp_path / "start", model)
    with pytest.raises(UsageError, match=r"frames of other.*frames of made"):
        finetune(corpus.path, tmp_path / "run", tiny_recipe(), tmp_path / "start")


def test_a_bert_with_too_few_positions_is_refused(corpus, tmp_path):
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=35,
    )
    BertModel(config).save_pretrained(tmp_path)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxy"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    with pytest.raises(UsageError, match="35 positions"):
        new_model(tiny_recipe(model={"init": str(tmp_path)}), corpus)
    model = new_model(tiny_recipe(model={"init": str(tmp_path), "max_tokens": 35}), corpus)
    assert model.recipe.model.hidden_size == 16
    assert torch.equal(model.encoder.word.weight, load_file(tmp_path / "model.safetensors")[WORDS])


WORDS = "embeddings.word_embeddings.weight"
