"""The plain baseline of the benchmarks: the published numbers, and the same as vidvec's fast step.

A speed-up counts only against a baseline that computes the same. The baseline is held to the
published code's numbers, and vidvec's own step to the baseline on the same videos and masks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.corpus import make_corpus
from benchmarks.plain import (
    NO_LOSS,
    TASK_WEIGHTS,
    PlainModel,
    finetuning_loss,
    full_loss,
    make_optimizer,
    pretraining_losses,
    published_name,
)
from benchmarks.plain_data import (
    PlainVideos,
    draw_masks,
    make_loader,
    make_tokenizer,
    read_records,
)
from benchmarks.steps import bert_config
from vidvec.config import Recipe, load_recipe
from vidvec.data.corpus import Corpus
from vidvec.model.layout import flat_layout
from vidvec.model.published import translate
from vidvec.model.weights import put_weights
from vidvec.records import Batch
from vidvec.train.finetune import FinetuneTask
from vidvec.train.masking import Masked, mask_batch
from vidvec.train.optimizer import make_optimizer as fast_optimizer
from vidvec.train.pretrain import PretrainTask
from vidvec.train.start import new_model

JOBS = {
    1: {"order": "cls_first", "pool": "mean", "tag_from": "cls"},
    2: {"order": "frames_first", "pool": "mean", "tag_from": "embedding"},
    4: {"order": "cls_first", "pool": "attention", "tag_from": "cls"},
}
# Jobs 1 and 2 divide by the number of tasks that run, job 4 by three whichever they are.
ALWAYS_THREE = (4,)


def close(found: Tensor, expected: Tensor, relative: float) -> None:
    """Largest difference against the largest number: one entry may be near zero."""
    size = max(float(expected.abs().max()), 1e-6)
    assert float((found - expected).abs().max()) <= relative * size


# --- the published numbers ----------------------------------------------------------------------


@pytest.fixture(params=JOBS, ids=lambda job: f"job{job}")
def job(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def reference(shared: Path, job: int) -> tuple[PlainModel, dict[str, Tensor], dict[str, Tensor]]:
    """The model with the reference's weights, its inputs, and what is expected."""
    transformers = pytest.importorskip("transformers")
    folder = shared / "reference" / f"job{job}"
    config = transformers.BertConfig.from_pretrained(folder.parent / "bert_tiny")
    model = PlainModel(config, 1536, tags=50, embedding_size=32, **JOBS[job]).eval()
    weights = load_file(folder / "weights.safetensors")
    for name, parameter in model.named_parameters():
        assert parameter.shape == weights[published_name(name)].shape, name
        parameter.data.copy_(weights[published_name(name)])
    return model, *(load_file(folder / f"{name}.safetensors") for name in ("inputs", "expected"))


def inputs_of(inputs: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    names = ("input_ids", "attention_mask", "frame_mask")
    batch = {name: inputs[name] for name in names}
    batch |= {name: inputs[name].float() for name in ("frames", "tag_targets")}
    masked = {name: inputs[name] for name in ("mlm_labels", "mfm_labels")}
    masked |= {
        "input_ids": inputs["masked_input_ids"],
        "frames": inputs["masked_frames"].float(),
    }
    return batch, masked


@pytest.mark.shared
def test_losses_are_the_published_ones(reference, job):
    model, inputs, expected = reference
    batch, masked = inputs_of(inputs)
    names = [name for name in expected if name.startswith("loss/")]
    assert len(names) == 4
    for name in names:
        tasks = tuple(name.removeprefix("loss/").replace("mvm", "mfm").split("+"))
        losses = pretraining_losses(model, batch, masked, tasks)
        divided = 3 if job in ALWAYS_THREE else len(tasks)
        found = sum(TASK_WEIGHTS[task] * loss.item() for task, loss in losses.items()) / divided
        assert found == pytest.approx(float(expected[name]), rel=1e-4), name


@pytest.mark.shared
def test_vectors_are_the_published_ones(reference):
    model, inputs, expected = reference
    batch, masked = inputs_of(inputs)
    with torch.no_grad():
        vectors = model.vectors(batch)
        in_pretraining = model.vectors(batch | {k: masked[k] for k in ("input_ids", "frames")})
        logits = model.tag_logits(model(batch), batch["frames"].shape[1])
    close(vectors, expected["embedding"], 1e-4)
    close(in_pretraining, expected["embedding_in_pretrain"], 1e-4)
    close(logits, expected["tag_logits"], 1e-4)
    first, second = vectors.chunk(2)
    close((first * second).sum(1), expected["cosine_pairs"], 1e-4)


@pytest.mark.shared
def test_gradients_are_the_published_ones(reference):
    model, inputs, expected = reference
    full_loss(pretraining_losses(model, *inputs_of(inputs))).backward()
    found = {
        f"grad_norm/{published_name(name)}": parameter.grad.norm()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    wanted = {name: value for name, value in expected.items() if name.startswith("grad_norm/")}
    assert len(wanted) > 50
    for name, value in wanted.items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-3, abs=1e-6), name


# --- vidvec's step on the same videos and masks -------------------------------------------------


def recipe(pool: str, order: str, tag_from: str) -> Recipe:
    """The published way in vidvec, tiny and without dropout."""
    settings = {
        "model.count_padding": "true",
        "model.hidden_size": 48,
        "model.layers": 2,
        "model.heads": 4,
        "model.ffn_size": 96,
        "model.embedding_size": 32,
        "model.dropout": 0.0,
        "model.start": "random",
        "model.pool": pool,
        "model.order": order,
        "model.tag_from": tag_from,
        "pretrain.batch_size": 12,
        "pretrain.modality_dropout": 0.0,
        "pretrain.videos": "all",
        "pretrain.validation_share": 0.0,
        "finetune.batch_size": 6,
        "finetune.modality_dropout": 0.0,
        "finetune.split": "published",
    }
    return load_recipe("base", [f"{name}={value}" for name, value in settings.items()])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("plain") / "corpus"
    return make_corpus(path, 24, frame_size=64, pairs=20)


@pytest.fixture(params=JOBS, ids=lambda job: f"as in job {job}")
def settings(request: pytest.FixtureRequest) -> Recipe:
    return recipe(**JOBS[request.param])


@pytest.fixture
def plain(corpus: Corpus, settings: Recipe) -> PlainModel:
    torch.manual_seed(7)
    shape = settings.model
    model = PlainModel(
        bert_config(shape),
        corpus.frame_size,
        len(corpus.tag_vocabulary),
        shape.embedding_size,
        order=shape.order,
        pool=shape.pool,
        tag_from=shape.tag_from,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            # Far enough from the start that no bias is 0 and no two vectors are alike.
            parameter.add_(0.1 * torch.randn(parameter.shape))
        model.bert.embeddings.word_embeddings.weight[0] = 0.0
    return model


def weights_by_our_names(model: nn.Module) -> dict[str, Tensor]:
    state = {published_name(name): value.detach() for name, value in model.named_parameters()}
    return translate(state)[0]


def gradients_by_our_names(model: nn.Module) -> dict[str, Tensor]:
    named = {published_name(name): value.grad for name, value in model.named_parameters()}
    return translate({name: grad for name, grad in named.items() if grad is not None})[0]


def plain_batch(corpus: Corpus, model: PlainModel, rows: Tensor) -> dict[str, Tensor]:
    """These rows through the baseline's own reading and padding."""
    records = read_records(corpus)
    videos = PlainVideos(
        [records[row] for row in rows.tolist()],
        make_tokenizer(),
        corpus.frame_size,
        len(corpus.tag_vocabulary),
        model.order,
    )
    return next(iter(make_loader(videos, len(rows))))


def same_gradients(model: PlainModel, task: PretrainTask | FinetuneTask) -> None:
    expected = gradients_by_our_names(model)
    parameters = dict(task.model.named_parameters())
    assert expected.keys() == {name for name, p in parameters.items() if p.grad is not None}
    differences = {name: parameters[name].grad - grad for name, grad in expected.items()}
    whole = torch.cat([grad.flatten() for grad in expected.values()]).norm()
    assert torch.cat([each.flatten() for each in differences.values()]).norm() <= 1e-5 * whole
    for name, gradient in expected.items():
        # A bias that moves all scores of a softmax alike has none: what is left is rounding. One
        # that sums over all positions cancels out in part, and rounds more coarsely for it.
        size = max(float(gradient.norm()), 1e-3 * float(whole))
        assert float(differences[name].norm()) <= 3e-5 * size, name


def masks_of(task: PretrainTask, batch: Batch, step: int) -> Masked:
    """The masks that the task's step draws."""
    return mask_batch(
        batch,
        flat_layout(batch, task.model.recipe.model.order),
        seed=task.model.recipe.seed,
        step=step,
        mlm_rate=0.15,
        mfm_rate=0.15,
        special_ids=task.model.tokenizer.special_ids,
        vocab_size=task.model.recipe.model.vocab_size,
    )


def test_a_pretraining_step_is_that_of_the_baseline(corpus, settings, plain):
    task = PretrainTask(new_model(settings, corpus), corpus)
    put_weights(task.model, weights_by_our_names(plain), "the baseline")
    step = 1
    batch = task.batch(step)
    filled = task.model.encoder.filled(batch)
    padded = plain_batch(corpus, plain, batch.rows)
    videos = len(batch)
    assert torch.equal(padded["input_ids"], filled.token_ids.view(videos, -1))
    assert torch.equal(padded["frames"], filled.frames.view(videos, 32, -1).float())
    masked = masks_of(task, filled, step)
    assert len(masked.token_targets) > 10
    assert len(masked.frame_targets) > 10
    places = torch.arange(videos * 32)
    labels = torch.full((videos * 32,), NO_LOSS)
    labels[masked.frame_targets] = places[masked.frame_targets]
    words = torch.full_like(filled.token_ids, NO_LOSS)
    words[masked.token_targets] = filled.token_ids[masked.token_targets]
    drawn = {
        "input_ids": masked.token_ids.view(videos, -1),
        "frames": masked.frames.view(videos, 32, -1).float(),
        "mlm_labels": words.view(videos, -1),
        "mfm_labels": labels.view(videos, -1),
    }
    expected = pretraining_losses(plain, padded, drawn)
    full_loss(expected).backward()
    found = task.losses(batch, step)
    found["loss"].backward()
    for name, loss in (*expected.items(), ("loss", full_loss(expected))):
        assert float(found[name].detach()) == pytest.approx(float(loss.detach()), rel=1e-5), name
    same_gradients(plain, task)


def test_a_finetuning_step_is_that_of_the_baseline(corpus, settings, plain):
    model = new_model(settings, corpus)
    put_weights(model, weights_by_our_names(plain), "the baseline")
    task = FinetuneTask(model, corpus)
    videos, targets = task.batch(0)
    loss = finetuning_loss(plain, plain_batch(corpus, plain, videos.rows), targets)
    loss.backward()
    found = task.losses((videos, targets), 0)["loss"]
    found.backward()
    assert float(found.detach()) == pytest.approx(float(loss.detach()), rel=1e-5)
    same_gradients(plain, task)


def test_an_optimiser_step_is_that_of_the_baseline(corpus, settings, plain):
    task = PretrainTask(new_model(settings, corpus), corpus)
    put_weights(task.model, weights_by_our_names(plain), "the baseline")
    stage = task.stage
    optimizer, _ = make_optimizer(plain, stage.learning_rate, stage.high_learning_rate, 1)
    fast = fast_optimizer(task.model, stage)
    for group in optimizer.param_groups:  # the schedule begins at a rate of 0
        group["lr"] = group["initial_lr"]
    ours = dict(task.model.named_parameters())
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        for parameter in plain.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        for name, gradient in gradients_by_our_names(plain).items():
            ours[name].grad = gradient.clone()
        optimizer.step()
        fast.step()
    for name, weight in weights_by_our_names(plain).items():
        assert torch.allclose(ours[name], weight, rtol=1e-5, atol=1e-7), name


# --- its masks ----------------------------------------------------------------------------------


def test_masks_are_drawn_at_the_published_rates(corpus):
    tokenizer = make_tokenizer()
    videos = PlainVideos(read_records(corpus) * 40, tokenizer, corpus.frame_size, 10_000)
    batch = next(iter(make_loader(videos, len(videos))))
    torch.manual_seed(0)
    masked = draw_masks(batch, tokenizer)
    words = batch["input_ids"] > 4
    chosen = masked["mlm_labels"] != NO_LOSS
    assert not (chosen & ~words).any()
    assert (masked["mlm_labels"] == batch["input_ids"])[chosen].all()
    assert (masked["input_ids"] == batch["input_ids"])[~chosen].all()
    assert float(chosen.sum() / words.sum()) == pytest.approx(0.15, abs=0.01)
    read = masked["input_ids"][chosen]
    assert float((read == tokenizer.mask_token_id).float().mean()) == pytest.approx(0.8, abs=0.02)
    kept = (read == batch["input_ids"][chosen]).float().mean()
    assert float(kept) == pytest.approx(0.1, abs=0.02)
    hidden = masked["mfm_labels"] != NO_LOSS
    assert float(hidden.sum() / batch["frame_mask"].sum()) == pytest.approx(0.135, abs=0.01)
    assert not (hidden & (batch["frame_mask"] == 0)).any()
    assert bool((masked["frames"][hidden] == 0).all())
    assert torch.equal(masked["frames"][~hidden], batch["frames"][~hidden])
    places = np.flatnonzero(hidden.reshape(-1))
    assert masked["mfm_labels"].reshape(-1)[places].tolist() == places.tolist()
