"""Training with audio and three texts: masks, the masked audio loss, runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.corpora import AUDIO_WIDTH, made_pairs, made_videos, with_more, write_corpus
from tests.more import AUDIO_SIZE, COUNTS, READ, batch_of, made_parts
from tests.tiny import made_batch, tiny_model, tiny_recipe, tiny_tokenizer
from tests.unit.train.runs import FAST, falls, last_weights, lines
from vidvec.config import Recipe
from vidvec.data.corpus import Corpus
from vidvec.errors import UsageError
from vidvec.model.layout import flat_layout
from vidvec.model.weights import load_model
from vidvec.records import Batch
from vidvec.train.finetune import finetune
from vidvec.train.masking import Masked, hash_uniform, mask_batch
from vidvec.train.objectives import masked_features
from vidvec.train.objectives.masked_features import masked_audio_loss
from vidvec.train.objectives.pretraining import LossWeights, pretraining_losses
from vidvec.train.pretrain import PretrainTask, pretrain
from vidvec.train.profile import profile_pretraining
from vidvec.train.start import new_model

PROJECT = Path(__file__).resolve().parents[3]
MORE = {"max_audio": 8, "max_speech_tokens": 12, "max_screen_tokens": 8}
READS = {"model": MORE, "pretrain": {"mam_weight": 1 / 9}}


def draw(batch: Batch, order: str = "cls_first", **changes: float) -> Masked:
    rates = {"mlm_rate": 0.5, "mfm_rate": 0.5, "mam_rate": 0.5, **changes}
    layout = flat_layout(batch, order)
    special = tiny_tokenizer().special_ids
    return mask_batch(batch, layout, seed=7, step=3, special_ids=special, vocab_size=20, **rates)


# --- masks --------------------------------------------------------------------------------------


def test_masks_of_frames_and_titles_do_not_change_with_what_stands_beside():
    counts = [(3, 2), (0, 4), (5, 0), (1, 1)]
    bare = made_batch(counts, rows=torch.tensor([4, 9, 2, 7]))
    videos = [
        (frames, torch.randn(n, AUDIO_SIZE), ids.tolist(), [8, 9, 3][: 3 * (n % 2)], [10, 3])
        for n, (frames, ids) in enumerate(
            zip(
                bare.frames.split(bare.frame_counts.tolist()),
                bare.token_ids.split(bare.token_counts.tolist()),
                strict=True,
            )
        )
    ]
    more = batch_of(videos, rows=bare.rows)
    first, second = draw(bare), draw(more)
    assert torch.equal(first.frames, second.frames)
    assert torch.equal(first.frame_targets, second.frame_targets)
    titles = flat_layout(more, "cls_first").token_kinds == 0
    assert torch.equal(first.token_ids, second.token_ids[titles])
    chosen = torch.zeros(len(more.token_ids), dtype=torch.bool)
    chosen[second.token_targets] = True
    assert chosen[titles].nonzero().squeeze(1).tolist() == first.token_targets.tolist()
    assert first.audio is None
    assert first.audio_targets is None


def by_video(batch: Batch, masked: Masked) -> dict[int, tuple[list, list]]:
    """Of each row: the token ids read and which audio frames were masked."""
    hidden = torch.zeros(len(batch.audio), dtype=torch.bool)
    hidden[masked.audio_targets] = True
    assert torch.equal(masked.audio, batch.audio * ~hidden[:, None])
    return {
        row: (ids.tolist(), sound.tolist())
        for row, ids, sound in zip(
            batch.rows.tolist(),
            masked.token_ids.split(batch.token_counts.tolist()),
            hidden.split(batch.audio_counts.tolist()),
            strict=True,
        )
    }


@pytest.mark.parametrize("order", ["cls_first", "frames_first"])
def test_masks_do_not_depend_on_the_batch(order):
    videos = made_parts(COUNTS * 3, order=order)
    rows = torch.arange(100, 100 + len(videos))
    together = batch_of(videos, rows=rows)
    found = by_video(together, draw(together, order))
    for place in (0, 3, 7, 11):
        alone = batch_of([videos[place]], rows=rows[place : place + 1])
        row = int(rows[place])
        assert by_video(alone, draw(alone, order)) == {row: found[row]}


def test_masks_of_a_text_do_not_depend_on_the_texts_before_it():
    frames, audio, title, speech, screen = made_parts([(2, 2, 3, 4, 3)])[0]
    rows = torch.tensor([5])
    whole = draw(batch_of([(frames, audio, title, speech, screen)], rows=rows)).token_ids
    silent = draw(batch_of([(frames, audio, title, [], screen)], rows=rows)).token_ids
    assert whole[-len(screen) :].tolist() == silent[-len(screen) :].tolist()
    untitled = draw(batch_of([(frames, audio, [2, 3, 3], speech, screen)], rows=rows)).token_ids
    assert untitled[3:].tolist() == whole[len(title) :].tolist()


def test_masks_are_drawn_at_their_rates_and_independently():
    parts = made_parts([(1, 5, 4, 5, 3)] * 1500)
    batch = batch_of(parts, rows=torch.arange(1500))
    masked = draw(batch, mlm_rate=0.2, mfm_rate=0.4, mam_rate=0.3)
    assert len(masked.audio_targets) / len(batch.audio) == pytest.approx(0.27, abs=0.02)
    kinds = flat_layout(batch, "cls_first").token_kinds
    words = batch.token_ids >= 5
    for kind in range(3):
        chosen = (kinds[masked.token_targets] == kind).sum()
        assert float(chosen / (words & (kinds == kind)).sum()) == pytest.approx(0.2, abs=0.02)
    assert (batch.token_ids[masked.token_targets] >= 5).all()
    none = draw(batch, mam_rate=0.0)
    assert len(none.audio_targets) == 0
    assert torch.equal(none.audio, batch.audio)
    # The draw is the hash's of a stream of its own.
    positions = torch.arange(5).repeat(1500)
    owners = torch.arange(1500).repeat_interleave(5)
    expected = (hash_uniform(7, 3, 4, owners, positions) < 0.27).nonzero().squeeze(1)
    assert torch.equal(masked.audio_targets, expected)


# --- the loss -----------------------------------------------------------------------------------


def masked_by_hand(batch: Batch, targets: Tensor) -> Masked:
    audio = batch.audio.clone()
    audio[targets] = 0
    none = torch.zeros(0, dtype=torch.int64)
    return Masked(batch.token_ids, none, batch.frames, none, audio, targets)


def test_masked_audio_loss_and_its_gradients_are_those_of_the_full_matrix(monkeypatch):
    """Against logits of all audio frames at once, with the head run on all of them, in float64."""
    batch, targets = batch_of(made_parts()), torch.tensor([0, 2, 5])
    masked = masked_by_hand(batch, targets)
    found = []
    for way in ("plain", "at once", "in parts"):
        model = tiny_model(**READ)
        if way == "in parts":
            monkeypatch.setattr(masked_features, "LOGITS_AT_ONCE", len(batch.audio))
        if way == "plain":
            model.encoder.double(), model.heads.double()
            doubled = {n: v.double() for n, v in batch.tensors().items() if v.is_floating_point()}
            encoded = model.encoder(replace(batch, **doubled), audio=masked.audio.double())
            logits = model.heads.mam(encoded.audio) @ batch.audio.double().T  # (ΣA, ΣA)
            picked = torch.log_softmax(logits, 1).diagonal()[targets]
            loss = -picked.mean()
        else:
            encoded = model.encoder(batch, audio=masked.audio)
            loss = masked_audio_loss(model.heads, encoded, targets, batch.audio)
        loss.backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        found.append((float(loss.detach()), gradients))
    expected, expected_gradients = found[0]
    for loss, gradients in found[1:]:
        assert loss == pytest.approx(expected, rel=1e-5)
        assert gradients.keys() == expected_gradients.keys()
        for name, gradient in expected_gradients.items():
            scale = max(1e-3, float(gradient.norm()))
            assert (gradients[name].double() - gradient).norm() <= 1e-4 * scale, name


def test_the_sum_has_masked_audio_where_it_has_a_weight():
    model, batch = tiny_model(**READ), batch_of(made_parts())
    masked = masked_by_hand(batch, torch.tensor([1, 4]))
    with torch.no_grad():
        encoded = model.encoder(batch, audio=masked.audio)
        weights = LossWeights(tag=0, mlm=0, mfm=0, mam=0.5)
        losses = pretraining_losses(model.heads, encoded, batch, masked, weights)
        assert losses.keys() == {"mam", "loss"}
        assert float(losses["loss"]) == pytest.approx(0.5 * float(losses["mam"]))
        off = pretraining_losses(model.heads, encoded, batch, masked, LossWeights(0, 1, 0))
    assert off.keys() == {"mlm", "loss"}


def test_no_masked_audio_is_no_loss():
    model, batch = tiny_model(**READ), batch_of(made_parts())
    masked = masked_by_hand(batch, torch.zeros(0, dtype=torch.int64))
    encoded = model.encoder(batch)
    loss = masked_audio_loss(model.heads, encoded, masked.audio_targets, batch.audio)
    assert float(loss.detach()) == 0
    loss.backward()


def test_masked_audio_of_a_deaf_model_is_an_error():
    model, batch = tiny_model(), made_batch([(1, 1)])
    with pytest.raises(ValueError, match="a model that reads it"):
        masked_audio_loss(model.heads, model.encoder(batch), torch.tensor([0]), batch.frames)


# --- runs ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heard(tmp_path_factory) -> Corpus:
    videos = with_more(made_videos(60))
    path = tmp_path_factory.mktemp("heard") / "corpus"
    return write_corpus(path, videos, made_pairs(videos, 250))


def recipe(**changes: dict) -> Recipe:
    sections = {
        name: {**READS.get(name, {}), **changes.get(name, {})}
        for name in ("model", "pretrain", "finetune")
    }
    return tiny_recipe(**sections)


@pytest.mark.parametrize("trunk", ["bert", "modern"])
def test_masked_audio_is_learnt(tmp_path, trunk):
    corpus = write_corpus(tmp_path / "corpus", with_more(made_videos(120)))
    only = {"tag_weight": 0.0, "mlm_weight": 0.0, "mfm_weight": 0.0, "mam_weight": 1.0}
    settings = recipe(
        model={"trunk": trunk, "dropout": 0.0},
        pretrain={**FAST, **only, "epochs": 15, "mam_rate": 0.3},
    )
    pretrain(corpus.path, tmp_path / "run", settings)
    validations = lines(tmp_path / "run", "validation")
    assert set(validations[0]) == {"step", "kind", "score", "loss", "mam"}
    assert falls(lines(tmp_path / "run", "train"), "mam", to=0.9)
    assert falls(validations, "mam", to=0.97)


def test_a_model_for_a_corpus_with_audio(heard):
    model = new_model(recipe(), heard)
    assert model.recipe.model.audio_size == AUDIO_WIDTH
    assert (
        model.audio_encoder
        == heard.audio_encoder
        == {
            "name": "made sound",
            "frame_size": AUDIO_WIDTH,
        }
    )
    # Started from the features: what goes in is centred and of the size of what LayerNorm expects.
    audio = np.concatenate([heard.audio(row) for row in range(len(heard))]).astype(np.float32)
    with torch.no_grad():
        projected = model.encoder.audio_projection(torch.from_numpy(audio))
    assert projected.mean(0).abs().max() < 1e-2
    assert float(projected.square().mean().sqrt()) == pytest.approx(0.2, rel=0.05)
    plain = new_model(tiny_recipe(), heard)
    assert plain.recipe.model.audio_size == 0
    assert plain.audio_encoder == {"name": "none", "frame_size": 0}


def test_a_recipe_with_everything_takes_a_corpus_that_has_less(tmp_path):
    videos = made_videos(40)
    corpus = write_corpus(tmp_path / "corpus", videos, made_pairs(videos, 100))
    pretrain(corpus.path, tmp_path / "pre", recipe(pretrain={"epochs": 1}))
    assert "mam" not in lines(tmp_path / "pre", "train")[0]
    finetune(
        corpus.path, tmp_path / "tuned", recipe(finetune={"epochs": 1}), start=tmp_path / "pre"
    )
    assert load_model(tmp_path / "tuned").recipe.model.modalities == (
        "frames",
        "title",
        "speech",
        "screen",
    )


def test_nothing_but_audio_to_learn_from_and_no_audio(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", made_videos(20))
    only = {"tag_weight": 0.0, "mlm_weight": 0.0, "mfm_weight": 0.0}
    settings = recipe(pretrain=only)
    with pytest.raises(UsageError, match="nothing to learn from"):
        PretrainTask(new_model(settings, corpus), corpus)


def test_parts_of_a_batch_come_to_the_whole(heard):
    """Masked audio is left out: its candidates are those of its part, as with frames."""
    settings = recipe(pretrain={"mfm_weight": 0.0, "mam_weight": 0.0, "batch_size": 24})
    model = new_model(settings, heard)
    task = PretrainTask(model, heard)
    model.encoder.eval()
    whole = task.losses(task.batch(0), 0)
    task.stage = task.stage.model_copy(update={"accumulate": 3})
    parts = [part() for part in task.parts(task.batch(0), 0)]
    assert len(parts) == 3
    for name in ("tag", "mlm", "loss"):
        total = sum(part[name].detach() for part in parts)
        assert float(total) == pytest.approx(float(whole[name].detach()), rel=1e-5)


def test_masked_audio_in_parts_is_weighted_by_what_each_has(heard):
    only = {"tag_weight": 0.0, "mlm_weight": 0.0, "mfm_weight": 0.0, "mam_weight": 1.0}
    model = new_model(recipe(pretrain={**only, "batch_size": 24, "accumulate": 2}), heard)
    task = PretrainTask(model, heard)
    model.encoder.eval()
    batch = next(batch for step in range(9) if len(batch := task.batch(step)) == 24)
    halves = [batch.take((0, 12)), batch.take((12, 24))]
    counts = [len(task._masked(half, 0)[1].audio_targets) for half in halves]
    with torch.no_grad():
        means = [float(task.losses(half, 0)["mam"]) for half in halves]
        together = sum(float(part()["mam"]) for part in task.parts(batch, 0))
    assert min(counts) > 0
    expected = sum(c * m for c, m in zip(counts, means, strict=True)) / sum(counts)
    assert together == pytest.approx(expected, rel=1e-5)


def test_a_profile_has_audio(heard):
    profile = profile_pretraining(new_model(recipe(), heard), heard, steps=1)
    names = {part.name for part in profile.parts}
    assert {"audio projection", "head: masked audio"} <= names
    assert profile.padding_share == 0


@pytest.mark.slow
def test_a_run_with_audio_that_is_killed_ends_as_one_that_is_not(heard, tmp_path):
    settings = recipe(
        model={"dropout": 0.2},
        pretrain={
            "epochs": 4,
            "checkpoint_every": 5,
            "evaluate_every": 4,
            "modality_dropout": 0.3,
        },
    )
    (tmp_path / "recipe.toml").write_text(settings.to_toml())
    jobs = []
    for name, moments in (
        ("whole", []),
        ("between checkpoints", [["step", 8]]),
        ("half written", [["half written", 2], ["before pointing", 1]]),
    ):
        job = {
            "stage": "pretrain",
            "corpus": str(heard.path),
            "recipe": str(tmp_path / "recipe.toml"),
            "run": str(tmp_path / name),
        }
        jobs += [{**job, "death": moment} for moment in moments] + [job]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.train.crash", str(tmp_path / "jobs.json")],
        cwd=PROJECT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    whole = last_weights(tmp_path / "whole")
    assert last_weights(tmp_path / "between checkpoints") == whole
    assert last_weights(tmp_path / "half written") == whole
    assert "mam" in lines(tmp_path / "whole", "train")[0]
