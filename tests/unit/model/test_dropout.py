"""Dropout against its definition, and attention with it against the equation written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vidvec.config import ModelConfig
from vidvec.model import attention
from vidvec.model.attention import attend
from vidvec.model.dropout import Dropout, dropout, keep_mask
from vidvec.model.encoder import Block
from vidvec.model.layout import flat_layout
from vidvec.records import Batch


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_as_many_are_dropped_as_asked_for_and_the_mean_stays(rate: float) -> None:
    torch.manual_seed(0)
    n = 400_000
    kept = dropout(torch.ones(4, n // 4), rate)
    values = kept.unique().tolist()
    assert values[0] == 0
    assert values[1:] == pytest.approx([1 / (1 - rate)], rel=1e-4)
    spread = math.sqrt(rate * (1 - rate) / n)
    assert abs(float((kept == 0).float().mean()) - rate) < 5 * spread
    # No row, no column and no neighbour knows of another: correlations as small as chance has them.
    dropped = (kept == 0).double() - rate
    for shifted in (dropped.roll(1, 0), dropped.roll(1, 1), dropped.roll(4, 1)):
        assert abs(float((dropped * shifted).mean())) < 5 * rate * (1 - rate) / math.sqrt(n)


def test_draws_follow_the_generator_of_torch() -> None:
    torch.manual_seed(3)
    first, second = keep_mask(torch.Size((5, 7)), 0.5), keep_mask(torch.Size((5, 7)), 0.5)
    state = torch.get_rng_state()
    third = keep_mask(torch.Size((5, 7)), 0.5)
    torch.set_rng_state(state)
    assert torch.equal(keep_mask(torch.Size((5, 7)), 0.5), third)
    torch.manual_seed(3)
    assert torch.equal(keep_mask(torch.Size((5, 7)), 0.5), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_pass_where_values_do(dtype: torch.dtype) -> None:
    values = torch.randn(50, 40, dtype=dtype, requires_grad=True)
    kept = dropout(values, 0.25)
    assert kept.dtype == dtype
    kept.sum().backward()
    gradient = values.grad
    assert gradient is not None
    assert torch.equal(kept, values * gradient)
    assert set(gradient.unique().tolist()) == {0.0, float(torch.tensor(4 / 3, dtype=dtype))}


def test_nothing_is_dropped_at_rate_0_or_in_evaluation_and_all_at_rate_1() -> None:
    values = torch.randn(8, 8)
    assert dropout(values, 0) is values
    assert Dropout(0.5).eval()(values) is values
    assert not dropout(values, 1).any()
    assert not torch.equal(Dropout(0.5).train()(values), values)


def test_sizes_that_are_no_multiple_of_what_is_drawn_at_once() -> None:
    for count in range(6):
        assert keep_mask(torch.Size((count,)), 0.5).shape == (count,)


def _batch(counts: list[tuple[int, int]]) -> Batch:
    frames, tokens = (torch.tensor(some) for some in zip(*counts, strict=True))
    return Batch(
        frames=torch.zeros(int(frames.sum()), 4),
        frame_counts=frames,
        token_ids=torch.zeros(int(tokens.sum()), dtype=torch.int64),
        token_counts=tokens,
    )


@pytest.mark.parametrize("counts", [[(3, 4), (0, 2), (5, 5)], [(2, 3), (2, 3)]])
def test_attention_with_dropout_is_the_equation(
    counts: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With weights dropped by a rule that a loop over videos can follow: the odd keys."""
    monkeypatch.setattr(attention, "keep_or_zero", lambda weights, _: weights * _even(weights))
    torch.manual_seed(1)
    layout = flat_layout(_batch(counts), "cls_first")
    qkv = torch.randn(sum(map(sum, counts)), 3, 2, 8, dtype=torch.float64, requires_grad=True)
    found = attend(qkv, layout, 0.1)
    expected, start = [], 0
    for length in map(sum, counts):
        q, k, v = (part.transpose(0, 1) for part in qkv[start : start + length].unbind(1))
        weights = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(8), -1)
        expected.append((weights * _even(weights) @ v).transpose(0, 1).flatten(1))
        start += length
    torch.testing.assert_close(found, torch.cat(expected))
    gradient = torch.autograd.grad(found.square().sum(), qkv)[0]
    plain = torch.autograd.grad(torch.cat(expected).square().sum(), qkv)[0]
    torch.testing.assert_close(gradient, plain)


def test_a_windowed_attention_with_dropout_is_finite_and_near_the_exact_one_on_average() -> None:
    torch.manual_seed(2)
    layout = flat_layout(_batch([(9, 6), (1, 4)]), "cls_first")
    qkv = torch.randn(20, 3, 2, 8)
    exact = attend(qkv, layout, 0.0, window=3)
    mean = torch.stack([attend(qkv, layout, 0.1, window=3) for _ in range(4000)]).mean(0)
    assert torch.isfinite(mean).all()
    assert float((mean - exact).abs().max()) < 0.05


def test_a_block_trains_with_dropout_as_with_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same draws in the same places: only who draws differs."""
    config = ModelConfig(hidden_size=16, heads=2, ffn_size=32, layers=1, dropout=0.3)
    block = Block(config).train()
    layout = flat_layout(_batch([(3, 4), (2, 2)]), "cls_first")
    hidden = torch.randn(11, 16)
    shapes: list[torch.Size] = []

    def noted(values: Tensor, rate: float) -> Tensor:
        shapes.append(values.shape)
        return F.dropout(values, rate)

    monkeypatch.setattr("vidvec.model.dropout.dropout", noted)
    monkeypatch.setattr(attention, "keep_or_zero", noted)
    assert block(hidden, layout).shape == (11, 16)
    assert shapes == [(2, 2, 7, 7), (11, 16), (11, 16)]


def _even(weights: Tensor) -> Tensor:
    return (torch.arange(weights.shape[-1]) % 2 == 0).to(weights.dtype)
