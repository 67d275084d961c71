"""Ways to spend less memory, or time, on a step: parts of a batch, checkpointing, compiling."""

from __future__ import annotations

import functools
import shutil
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_recipe
from vidvec.data.corpus import Corpus
from vidvec.train import trainer
from vidvec.train.distributed import part_spans
from vidvec.train.finetune import FinetuneTask
from vidvec.train.pretrain import PretrainTask
from vidvec.train.start import new_model
from vidvec.train.task import Task

TASKS = [pytest.param(PretrainTask, id="pretrain"), pytest.param(FinetuneTask, id="finetune")]
EXACT_LOSSES = {"mfm_weight": 0.0}


def made_task(kind: Any, corpus: Corpus, model: dict[str, Any], **settings: Any) -> Task:
    stage = {k: v for k, v in settings.items() if not k.endswith("_weight")}
    recipe = tiny_recipe(model={"dropout": 0.0, **model}, pretrain=settings, finetune=stage)
    return kind(new_model(recipe, corpus), corpus)


def step_of(task: Task, seed: int = 0) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Losses and gradients of the first step."""
    torch.manual_seed(seed)
    optimizer = trainer.make_optimizer(task.model, task.stage)
    losses = trainer.train_step(task, optimizer, task.batch(0), 0)
    named = task.model.named_parameters()
    gradients = {name: p.grad for name, p in named if p.grad is not None}
    return {name: float(loss) for name, loss in losses.items()}, gradients


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor], off: float) -> None:
    """Each gradient, to a share of the length of all; some cancel out to almost nothing."""
    assert first.keys() == second.keys()
    length = float(torch.cat([gradient.flatten() for gradient in first.values()]).norm())
    for name, gradient in first.items():
        assert float((gradient - second[name]).norm()) <= off * length, name


# Parts of a batch


@pytest.mark.parametrize(
    ("items", "parts", "expected"),
    [
        (10, 2, [(0, 5), (5, 10)]),
        (10, 3, [(0, 3), (3, 7), (7, 10)]),
        (2, 5, [(0, 1), (1, 2)]),
        (7, 1, [(0, 7)]),
    ],
)
def test_part_spans(items, parts, expected):
    assert part_spans(items, parts) == expected


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("parts", [2, 3, 100])
@pytest.mark.parametrize("model", [{}, {"count_padding": True, "order": "frames_first"}])
def test_parts_sum_up_to_the_batch(corpus, kind, parts, model):
    """16 videos or pairs in parts of unlike sizes; tags, masked words and pairs, all but frames."""
    losses, gradients = step_of(made_task(kind, corpus, model, **EXACT_LOSSES))
    in_parts, summed = step_of(made_task(kind, corpus, model, **EXACT_LOSSES, accumulate=parts))
    assert in_parts == pytest.approx(losses, rel=1e-6)
    assert_same(gradients, summed, 3e-6)


def test_masked_frames_are_compared_within_their_part(corpus):
    settings = {"tag_weight": 0.0, "mlm_weight": 0.0, "mfm_weight": 1.0}
    whole = made_task(PretrainTask, corpus, {}, **settings)
    in_parts, _ = step_of(made_task(PretrainTask, corpus, {}, **settings, accumulate=2))
    batch = whole.batch(0)
    halves = [batch.take(span) for span in part_spans(len(batch), 2)]
    masked = [len(whole._masked(half, 0)[1].frame_targets) for half in halves]
    assert all(masked)
    with torch.no_grad():
        means = [float(whole.losses(half, 0)["mfm"]) for half in halves]
        all_at_once = float(whole.losses(batch, 0)["mfm"])
    weighted = sum(n * mean for n, mean in zip(masked, means, strict=True)) / sum(masked)
    assert in_parts["mfm"] == pytest.approx(weighted, rel=1e-6)
    assert in_parts["mfm"] < all_at_once


def test_a_run_in_parts_learns_the_same(corpus, tmp_path):
    """Pairs: after three epochs every weight is where it would be."""
    weights = []
    for parts in (1, 3):
        task = made_task(FinetuneTask, corpus, {}, accumulate=parts, epochs=3)
        trainer.train(task, tmp_path / str(parts), {})
        weights.append(dict(task.model.named_parameters()))
    for name, weight in weights[0].items():
        assert torch.allclose(weight, weights[1][name], atol=1e-4), name


# Checkpointing


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("model", [{}, {"trunk": "modern"}])
def test_checkpointing_gives_the_same_step(corpus, kind, model):
    """With dropout, whose draws are made anew the same."""
    model = {**model, "dropout": 0.2}
    losses, gradients = step_of(made_task(kind, corpus, model))
    again_losses, again = step_of(made_task(kind, corpus, model, checkpointing=True))
    assert again_losses == losses
    assert_same(gradients, again, 0.0)


def test_checkpointing_keeps_less(corpus):
    kept = []
    for on in (False, True):
        task = made_task(FinetuneTask, corpus, {"layers": 4}, checkpointing=on)
        sizes: list[int] = []

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            task.losses(task.batch(0), 0)
        kept.append(sum(sizes))
    assert kept[1] < 0.5 * kept[0]


# Compiling


@pytest.mark.parametrize("model", [{}, {"trunk": "modern", "layers": 5, "start": "random"}])
def test_one_compilation_serves_all_lengths_and_blocks(corpus, model, monkeypatch):
    """Counted with a backend that only looks: what the first batch needs is all there is."""
    import torch._dynamo as dynamo

    dynamo.reset()
    seen: list[Any] = []

    def looking(graph: Any, inputs: Any) -> Any:
        seen.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=looking))
    compiled = made_task(PretrainTask, corpus, model, compile=True)
    plain = made_task(PretrainTask, corpus, model)
    after: list[int] = []
    for step in range(4):
        batch = plain.batch(step)
        assert step == 0 or len(batch.token_ids) != len(plain.batch(step - 1).token_ids)
        for training in (True, False):
            for task in (compiled, plain):
                task.model.encoder.train(training)
            first, second = (task.losses(batch, step)["loss"] for task in (compiled, plain))
            assert float(first.detach()) == pytest.approx(float(second.detach()), rel=1e-5)
        after.append(len(seen))
    # A modern trunk's first block has no norm in front; dropout is on or off.
    assert 2 <= after[0] <= 4
    assert after == after[:1] * 4
    dynamo.reset()


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("g++") is None, reason="PyTorch compiles with g++, which is missing"
)
def test_compiled_blocks_give_the_same_step(corpus):
    import torch._dynamo as dynamo

    dynamo.reset()
    losses, gradients = step_of(made_task(PretrainTask, corpus, {}))
    fused_losses, fused = step_of(made_task(PretrainTask, corpus, {}, compile=True))
    assert fused_losses == pytest.approx(losses, rel=1e-5)
    assert_same(gradients, fused, 1e-5)
    dynamo.reset()
