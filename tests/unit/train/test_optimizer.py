"""Parameter groups, the schedule, and the step of AdamW."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from tests.tiny import tiny_model
from vidvec.config import FinetuneConfig, PretrainConfig
from vidvec.train.optimizer import decays, make_optimizer, part_of, schedule, set_learning_rates

STAGE = PretrainConfig(learning_rate=1e-3, high_learning_rate=1e-2, weight_decay=0.1)


def settings_by_name(model, stage) -> dict[str, tuple[float, float]]:
    """(rate, decay) of every parameter, which must be in one group and no other."""
    groups = make_optimizer(model, stage).param_groups
    found: dict[int, tuple[float, float]] = {}
    for group in groups:
        for parameter in group["params"]:
            assert id(parameter) not in found
            found[id(parameter)] = (group["lr"], group["weight_decay"])
    names = {name: id(parameter) for name, parameter in model.named_parameters()}
    assert set(names.values()) == set(found)
    return {name: found[key] for name, key in names.items()}


@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_every_parameter_is_in_one_group(pool):
    model = tiny_model(pool=pool)
    assert len(settings_by_name(model, STAGE)) == len(dict(model.named_parameters()))
    model.heads = None
    assert len(settings_by_name(model, FinetuneConfig())) > 0


def test_parts():
    names = {
        "encoder.word.weight": "trunk",
        "encoder.token_embedding.position.weight": "trunk",
        "encoder.blocks.1.qkv.bias": "trunk",
        "encoder.frame_projection.weight": "frames",
        "encoder.frame_embedding.norm.weight": "frame_embeddings",
        "encoder.pool.score.weight": "pool",
        "encoder.projection.bias": "projection",
        "heads.tag.weight": "tag_head",
        "heads.mlm.decoder.weight": "mlm_head",
        "heads.mfm.inner.bias": "mfm_head",
    }
    known = dict(tiny_model(pool="attention").named_parameters())
    for name, part in names.items():
        assert name in known
        assert part_of(name) == part
    assert {part_of(name) for name in known} == set(names.values())


def test_the_published_parts_get_the_high_rate():
    model = tiny_model(pool="attention")
    high = {name for name, (rate, _) in settings_by_name(model, STAGE).items() if rate == 1e-2}
    expected = ("encoder.pool.", "encoder.projection.", "heads.tag.")
    assert high == {name for name, _ in model.named_parameters() if name.startswith(expected)}


def test_other_parts_can_be_named():
    stage = STAGE.model_copy(update={"high_rate_parts": ("frames", "mfm_head")})
    high = {
        name for name, (rate, _) in settings_by_name(tiny_model(), stage).items() if rate == 1e-2
    }
    assert len(high) == 2 + 6
    assert all(name.startswith(("encoder.frame_projection.", "heads.mfm.")) for name in high)


def test_only_matrices_and_tables_decay():
    model = tiny_model(pool="attention")
    found = settings_by_name(model, STAGE)
    for name, parameter in model.named_parameters():
        # Biases and LayerNorm weights are the only parameters of one dimension.
        assert (found[name][1] == 0.1) == (parameter.ndim == 2) == decays(name), name


def test_the_schedule_by_hand():
    # 100 steps, 6 of warm-up: a seventh more each step, 1 at the seventh, then half a cosine.
    factors = [schedule(step, 100, 0.06) for step in range(100)]
    assert factors[:7] == pytest.approx([1 / 7, 2 / 7, 3 / 7, 4 / 7, 5 / 7, 6 / 7, 1])
    assert max(factors) == factors[6] == 1
    assert factors[6 + 47] == pytest.approx(0.5)
    assert factors[99] == pytest.approx(0.5 * (1 - math.cos(math.pi / 94)))
    assert 0 < factors[99] < 3e-4
    assert all(a > b for a, b in pairwise(factors[6:]))


@pytest.mark.parametrize(("steps", "share"), [(1, 0.06), (1, 0.0), (1, 1.0), (5, 1.0), (3, 0.5)])
def test_short_schedules_move(steps, share):
    factors = [schedule(step, steps, share) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)


def test_rates_scale_each_group_by_its_own():
    optimizer = make_optimizer(tiny_model(), STAGE)
    for factor in (0.5, 0.25, 1.0):
        set_learning_rates(optimizer, factor)
        assert {group["lr"] for group in optimizer.param_groups} == {1e-3 * factor, 1e-2 * factor}


def test_steps_are_those_of_adamw_written_out():
    model = tiny_model()
    optimizer = make_optimizer(model, STAGE)
    rates = settings_by_name(model, STAGE)
    parameters = dict(model.named_parameters())
    plain = {name: p.detach().double() for name, p in parameters.items()}
    mean = {name: torch.zeros_like(p) for name, p in plain.items()}
    square = {name: torch.zeros_like(p) for name, p in plain.items()}
    generator = torch.Generator().manual_seed(4)
    for step in range(1, 4):
        set_learning_rates(optimizer, 1 / step)
        for name, parameter in parameters.items():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            gradient = parameter.grad.double()
            rate, decay = rates[name][0] / step, rates[name][1]
            mean[name] = 0.9 * mean[name] + 0.1 * gradient
            square[name] = 0.999 * square[name] + 0.001 * gradient**2
            first, second = mean[name] / (1 - 0.9**step), square[name] / (1 - 0.999**step)
            plain[name] *= 1 - rate * decay
            plain[name] -= rate * first / (second.sqrt() + STAGE.adam_eps)
        optimizer.step()
    for name, parameter in parameters.items():
        assert torch.allclose(parameter.double(), plain[name], atol=2e-6), name


def test_steps_are_those_of_the_unfused_optimizer():
    ours, theirs = tiny_model(), tiny_model()
    fused = make_optimizer(ours, STAGE)
    groups = make_optimizer(theirs, STAGE).param_groups
    plain = torch.optim.AdamW(
        [{key: group[key] for key in ("params", "lr", "weight_decay")} for group in groups],
        eps=STAGE.adam_eps,
        fused=False,
        foreach=False,
    )
    generator = torch.Generator().manual_seed(5)
    for _ in range(4):
        pairs = zip(ours.named_parameters(), theirs.named_parameters(), strict=True)
        for (_, a), (_, b) in pairs:
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        fused.step()
        plain.step()
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name
