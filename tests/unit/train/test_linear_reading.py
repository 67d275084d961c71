"""A linear reading beside the transformer: what it computes, is solved from, and keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.corpora import write_corpus
from tests.tiny import made_batch, randomise, taken_apart, tiny_encoder, tiny_recipe
from tests.unit.train.runs import VIDEOS
from vidvec.config import ModelConfig
from vidvec.data.batches import BatchBuilder
from vidvec.data.splits import validation_videos
from vidvec.errors import UsageError
from vidvec.model.linear_reading import LinearReading
from vidvec.model.weights import load_model
from vidvec.train import linear_start
from vidvec.train.finetune import finetune
from vidvec.train.linear_start import Features, put_solution, reduced_rank
from vidvec.train.pretrain import pretrain
from vidvec.train.start import new_model

LINEAR = {"embedding_size": 12, "linear_size": 4}


def test_it_reads_each_video_as_a_plain_loop_does():
    reading = LinearReading(frame_size=6, vocab_size=20, size=3)
    randomise(reading)
    batch = made_batch([(3, 2), (0, 4), (5, 0), (1, 1)])
    for found, (frames, tokens) in zip(reading(batch), taken_apart(batch), strict=True):
        expected = reading.constant + reading.words[tokens].sum(0) / len(tokens) ** 0.5
        if len(frames):
            expected = expected + reading.frames @ frames.mean(0) + reading.frame_offset
        assert torch.allclose(found, expected / expected.norm(), atol=1e-6)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_cosines_are_the_weighted_mean_of_both_parts(share):
    encoder = tiny_encoder(**LINEAR, linear_share=share)
    batch = made_batch([(3, 2), (2, 4), (5, 1)])
    with torch.no_grad():
        encoded = encoder(batch)
        alone = encoder.linear(batch)
    deep = torch.nn.functional.normalize(encoded.projected, dim=-1)
    assert encoded.projected.shape[1] + alone.shape[1] == encoded.vectors.shape[1] == 12
    expected = (1 - share) * deep @ deep.T + share * alone @ alone.T
    assert torch.allclose(encoded.vectors @ encoded.vectors.T, expected, atol=1e-6)


def test_nothing_solved_for_leaves_the_transformers_vector():
    encoder = tiny_encoder(**LINEAR)
    for parameter in encoder.linear.parameters():
        parameter.data.zero_()
    encoded = encoder(made_batch([(3, 2), (2, 4)]))
    deep = torch.nn.functional.normalize(encoded.projected, dim=-1)
    assert torch.allclose(encoded.vectors[:, :8], deep, atol=1e-6)
    assert not encoded.vectors[:, 8:].any()


def test_the_solution_is_that_of_a_ridge_regression_cut_to_its_rank():
    random = np.random.default_rng(0)
    features = np.hstack([random.normal(size=(300, 9)), np.ones((300, 1))])
    tags = features @ random.normal(size=(10, 7)) + random.normal(size=(300, 7))
    whole = reduced_rank(features, tags, 7)
    # Ridge as least squares with a row of roots of penalties for each feature but the constant.
    rows = np.sqrt(linear_start.RIDGE) * np.eye(10)[:9]
    plain = np.linalg.lstsq(np.vstack([features, rows]), np.vstack([tags, np.zeros((9, 7))]))[0]
    told = features @ plain
    assert (features @ whole) @ (features @ whole).T == pytest.approx(told @ told.T, abs=1e-5)
    # The best of rank 2 (Eckart and Young).
    left, values, right = np.linalg.svd(told, full_matrices=False)
    cut = features @ reduced_rank(features, tags, 2)
    best = (left[:, :2] * values[:2]) @ right[:2]
    assert cut @ cut.T == pytest.approx(best @ best.T, abs=1e-5)
    more = reduced_rank(features, tags, 9)
    assert np.abs(more[:, 7:]).max() == 0


def test_the_reading_gives_what_was_solved_for(corpus):
    model = new_model(tiny_recipe(model=LINEAR), corpus)
    rows = np.arange(40)
    builder = BatchBuilder(corpus, model.tokenizer, model.recipe.model)
    features = linear_start.read_features(builder, rows, model)
    assert isinstance(features, Features)
    solved = np.random.default_rng(1).normal(size=(features.matrix.shape[1], 4))
    put_solution(model.encoder.linear, features, solved)
    found = model.encoder.linear(builder.build(rows)).numpy()
    expected = features.matrix @ solved
    # Words that too few titles have are no features, and read as nothing.
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert found == pytest.approx(expected, abs=1e-4)


def test_videos_of_one_tag_are_near_one_another_before_any_step(corpus):
    model = new_model(tiny_recipe(model={**LINEAR, "linear_share": 0.99}), corpus)
    batch = BatchBuilder(corpus, model.tokenizer, model.recipe.model).build(np.arange(len(corpus)))
    model.encoder.eval()
    vectors = model.encoder(batch).vectors.detach().numpy()
    topics = np.array([video.category for video in VIDEOS])
    alike = topics[:, None] == topics
    cosines = vectors @ vectors.T
    np.fill_diagonal(alike, False)
    off = ~np.eye(len(topics), dtype=bool)
    assert cosines[alike].mean() > cosines[~alike & off].mean() + 0.5


def test_held_out_videos_are_not_looked_at(corpus, monkeypatch):
    held, seen = set(validation_videos(corpus, "clean")), list[int]()
    original = linear_start.read_features

    def noting(builder, rows, model):
        seen.extend(rows.tolist())
        return original(builder, rows, model)

    monkeypatch.setattr(linear_start, "read_features", noting)
    new_model(tiny_recipe(model=LINEAR), corpus)
    read = {corpus.ids[row] for row in seen}
    assert held
    assert len(read) > 20
    assert not read & held


def test_training_leaves_it_as_it_is_and_checkpoints_keep_it(corpus, tmp_path):
    settings = tiny_recipe(
        model=LINEAR,
        pretrain={"epochs": 1, "ema_decay": 0.9, "weight_decay": 0.5},
        finetune={"epochs": 1},
    )
    began = new_model(settings, corpus).encoder.linear.state_dict()
    assert began["words"].abs().sum() > 0
    pretrain(corpus.path, tmp_path / "pre", settings)
    finetune(corpus.path, tmp_path / "run", settings, tmp_path / "pre")
    for run in ("pre", "run"):
        model = load_model(tmp_path / run)
        for name, value in model.encoder.linear.state_dict().items():
            assert torch.allclose(value, began[name], atol=1e-6), name
        assert not any(value.requires_grad for value in model.encoder.linear.parameters())


def test_low_rank_updates_leave_it_and_a_residual_adapter_refuses_it(corpus, tmp_path):
    for adapter in ("lora", "residual"):
        settings = tiny_recipe(model=LINEAR, finetune={"epochs": 1, "adapter": adapter})
        if adapter == "residual":
            with pytest.raises(UsageError, match=r"linear_size"):
                finetune(corpus.path, tmp_path / adapter, settings)
            continue
        finetune(corpus.path, tmp_path / adapter, settings)
        began = new_model(settings, corpus).encoder.linear.words
        assert torch.equal(load_model(tmp_path / adapter).encoder.linear.words, began)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"embedding_size": 8, "linear_size": 8}, "smaller than a vector"),
        ({"linear_size": 4, "count_padding": True}, "count_padding"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        ModelConfig(**settings)


def test_without_tags_there_is_nothing_to_solve_for(tmp_path):
    untagged = [replace(video, tags=None) for video in VIDEOS[:20]]
    corpus = write_corpus(tmp_path / "corpus", untagged)
    model = new_model(tiny_recipe(model=LINEAR), corpus)
    assert not any(value.any() for value in model.encoder.linear.parameters())
