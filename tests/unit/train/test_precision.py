"""Precision of the matrix products: what bfloat16 changes, what it must not, and by whom it is set.

bfloat16 keeps 8 bits of a number, so a product is off by up to 2⁻⁸ of itself, 0.4 %. Held here, on
the CPU's autocast: each loss to 2 %, the direction of all gradients together to a cosine of 0.99,
and vectors to one of 0.999.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_recipe
from vidvec.config import load_recipe
from vidvec.data.corpus import Corpus
from vidvec.model.precision import autocast, exact, in_bfloat16, tensor_float_32
from vidvec.recipe_files import recipe_names
from vidvec.train import trainer
from vidvec.train.finetune import FinetuneTask
from vidvec.train.pretrain import PretrainTask
from vidvec.train.start import new_model

TASKS = [pytest.param(PretrainTask, id="pretrain"), pytest.param(FinetuneTask, id="finetune")]
CPU, GPU = torch.device("cpu"), torch.device("cuda")


def one_step(
    kind: Any, corpus: Corpus, model: dict[str, Any] | None = None, **settings: Any
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """A step's losses and gradients, without dropout."""
    shape = {"dropout": 0.0, "hidden_size": 32, **(model or {})}
    recipe = tiny_recipe(model=shape, pretrain=settings, finetune=settings)
    task = kind(new_model(recipe, corpus), corpus)
    optimizer = trainer.make_optimizer(task.model, task.stage)
    losses = trainer.train_step(task, optimizer, task.batch(0), 0)
    named = task.model.named_parameters()
    gradients = {name: p.grad for name, p in named if p.grad is not None}
    assert {p.dtype for _, p in task.model.named_parameters()} == {torch.float32}
    assert {g.dtype for g in gradients.values()} == {torch.float32}
    return {name: float(loss) for name, loss in losses.items()}, gradients


def flat(gradients: dict[str, Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients.values()])


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize(
    "model",
    [
        pytest.param({}, id="mean"),
        pytest.param({"pool": "attention", "tag_from": "embedding"}, id="attention"),
        pytest.param({"trunk": "modern"}, id="modern"),
        pytest.param({"count_padding": True}, id="padding"),
    ],
)
def test_bfloat16_gives_about_the_same_step(corpus, kind, model):
    losses, gradients = one_step(kind, corpus, model, precision="float32")
    rough_losses, rough = one_step(kind, corpus, model, precision="bf16")
    assert rough_losses != losses
    assert rough_losses == pytest.approx(losses, rel=2e-2)
    assert rough.keys() == gradients.keys()
    assert float(torch.cosine_similarity(flat(rough), flat(gradients), dim=0)) > 0.99


@pytest.mark.parametrize("kind", TASKS)
def test_on_the_cpu_auto_is_float32(corpus, kind):
    plain, automatic = (one_step(kind, corpus, precision=p) for p in ("float32", "auto"))
    assert plain[0] == automatic[0]
    assert torch.equal(flat(plain[1]), flat(automatic[1]))


def test_vectors_are_float32_and_of_length_1(corpus):
    task = FinetuneTask(new_model(tiny_recipe(model={"dropout": 0.0}), corpus), corpus)
    batch = task.batch(0)[0]
    task.model.encoder.eval()
    found = []
    for precision in ("float32", "bf16"):
        with torch.no_grad(), autocast(CPU, precision):
            found.append(task.model.encoder(batch).vectors)
    exactly, roughly = found
    assert exactly.dtype == roughly.dtype == torch.float32
    assert torch.allclose(roughly.norm(dim=1), torch.ones(len(roughly)), atol=1e-6)
    assert not torch.equal(exactly, roughly)
    assert float((exactly * roughly).sum(1).min()) > 0.999


def test_the_frame_losses_products_are_not_rounded(corpus):
    """Predictions of the same encoder, multiplied in float32 by hand, are what the loss is of."""
    recipe = tiny_recipe(
        model={"dropout": 0.0}, pretrain={"precision": "bf16", "tag_weight": 0, "mlm_weight": 0}
    )
    task = PretrainTask(new_model(recipe, corpus), corpus)
    batch = task.batch(0)
    with torch.no_grad(), autocast(CPU, "bf16"):
        filled, masked, layout = task._masked(batch, 0)
        found = task.losses(batch, 0)["mfm"]
        encoded = task.model.encoder(filled, masked.token_ids, masked.frames, layout)
        predictions = task.heads.mfm(encoded.frames[masked.frame_targets])
    assert predictions.dtype == torch.bfloat16
    logits = predictions.double() @ filled.frames.double().T
    expected = torch.nn.functional.cross_entropy(logits, masked.frame_targets)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("kind", TASKS)
def test_validation_runs_in_the_same_precision(corpus, kind, monkeypatch, tmp_path):
    seen = []
    recipe = tiny_recipe(
        pretrain={"epochs": 1, "precision": "bf16"}, finetune={"epochs": 1, "precision": "bf16"}
    )
    task = kind(new_model(recipe, corpus), corpus)
    monkeypatch.setattr(
        task, "validate", lambda: seen.append(torch.is_autocast_enabled("cpu")) or {}
    )
    trainer.train(task, tmp_path, {})
    assert seen == [True]
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    ("precision", "has_it", "expected"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("float32", True, False),
        ("bf16", False, True),
    ],
)
def test_what_runs_in_bfloat16_on_a_gpu(precision, has_it, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_it)
    assert in_bfloat16(GPU, precision) is expected


def test_exact_switches_autocast_off_for_what_is_inside():
    one = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (one @ one).dtype == torch.bfloat16
        with exact(one):
            assert (one @ one).dtype == torch.float32
        assert (one @ one).dtype == torch.bfloat16
    with exact(one):
        assert (one @ one).dtype == torch.float32


def test_tf32_is_put_back(monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    before = torch.get_float32_matmul_precision()
    with tensor_float_32(CPU):
        assert asked == []
    with tensor_float_32(GPU):
        assert asked[-1] == "high"
    assert asked[-1] == before
    with suppress(KeyError), tensor_float_32(GPU):
        raise KeyError
    assert asked[-2:] == ["high", before]


def test_the_published_recipes_run_in_float32():
    names = [name for name in recipe_names() if name.startswith("aiac2021/")]
    assert len(names) >= 7
    for name in names:
        recipe = load_recipe(name)
        assert (recipe.pretrain.precision, recipe.finetune.precision) == ("float32", "float32")
    assert load_recipe("base").pretrain.precision == "auto"


@pytest.mark.gpu
@pytest.mark.parametrize("kind", TASKS)
def test_a_step_on_a_gpu_is_that_of_the_cpu(corpus, kind, monkeypatch):
    """Float32: losses to 10⁻⁵, gradients to 10⁻⁴ of their length; bfloat16 as above."""
    monkeypatch.undo()  # of the fixture that hides the GPU
    expected, gradients = one_step(kind, corpus, precision="float32")
    recipe = tiny_recipe(model={"dropout": 0.0, "hidden_size": 32})
    for precision, loss_off, gradients_off in (("float32", 1e-5, 1e-4), ("bf16", 2e-2, 0.14)):
        stage = {"precision": precision}
        some = recipe.model_copy(
            update={
                name: getattr(recipe, name).model_copy(update=stage)
                for name in ("pretrain", "finetune")
            }
        )
        task = kind(new_model(some, corpus).to("cuda"), corpus)
        optimizer = trainer.make_optimizer(task.model, task.stage)
        losses = trainer.train_step(task, optimizer, task.batch(0), 0)
        found = {name: float(loss) for name, loss in losses.items()}
        assert found == pytest.approx(expected, rel=loss_off)
        named = dict(task.model.named_parameters())
        there = torch.cat([named[name].grad.flatten().cpu() for name in gradients])
        off = np.linalg.norm(there - flat(gradients)) / np.linalg.norm(flat(gradients))
        assert off < gradients_off
