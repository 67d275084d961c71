"""Pools on two tiny videos, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from vidvec.model.layout import flat_layout
from vidvec.model.pooling import AttentionPool, ClsPool, MeanPool
from vidvec.records import Batch

# Video 0 has positions 0 and 1, video 1 has 2, 3 and 4.
LAYOUT = flat_layout(
    Batch(torch.zeros(0, 1), torch.tensor([0, 0]), torch.arange(5), torch.tensor([2, 3])),
    "cls_first",
)
HIDDEN = torch.tensor([[1.0, 2.0], [3.0, 6.0], [0.0, 1.0], [4.0, 1.0], [5.0, 1.0]])
LEFT_OUT = torch.tensor([True, False, True, True, False])


def identity_pool(width: int, score: list[float], bias: float = 0.0) -> AttentionPool:
    """Scores tanh(x) · score + bias."""
    pool = AttentionPool(width)
    with torch.no_grad():
        pool.inner.weight.copy_(torch.eye(width))
        pool.inner.bias.zero_()
        pool.score.weight.copy_(torch.tensor([score]))
        pool.score.bias.fill_(bias)
    return pool


def test_mean():
    assert MeanPool()(HIDDEN, LAYOUT, None).tolist() == [[2.0, 4.0], [3.0, 1.0]]


def test_mean_leaves_out():
    assert MeanPool()(HIDDEN, LAYOUT, LEFT_OUT).tolist() == [[1.0, 2.0], [2.0, 1.0]]


def test_cls_stands_first_or_behind_the_frames():
    # A video of one frame and two tokens, and one of two tokens alone.
    batch = Batch(torch.zeros(1, 1), torch.tensor([1, 0]), torch.arange(4), torch.tensor([2, 2]))
    for order, expected in (("cls_first", [0, 3]), ("frames_first", [1, 3])):
        for counted in (None, LEFT_OUT):
            pooled = ClsPool()(HIDDEN, flat_layout(batch, order), counted)
            assert torch.equal(pooled, HIDDEN[expected])


def test_equal_scores_give_the_mean():
    pool = identity_pool(2, [0.0, 0.0], bias=3.0)
    pooled = pool(HIDDEN, LAYOUT, None)
    assert torch.allclose(pooled, torch.tensor([[2.0, 4.0], [3.0, 1.0]]))
    pooled = pool(HIDDEN, LAYOUT, LEFT_OUT)
    assert torch.allclose(pooled, torch.tensor([[1.0, 2.0], [2.0, 1.0]]))


def test_attention_by_hand():
    # tanh(atanh(0.5)) = 0.5, times ln 9 is ln 3: the second position weighs three times the first.
    hidden = torch.tensor([[0.0, 8.0], [math.atanh(0.5), 4.0], [0.0, 1.0], [0.0, 2.0], [0.0, 6.0]])
    with torch.no_grad():
        pooled = identity_pool(2, [math.log(9), 0.0])(hidden, LAYOUT, None)
    assert pooled[:, 1].tolist() == pytest.approx([0.25 * 8 + 0.75 * 4, 3.0])
    assert float(pooled[0, 0]) == pytest.approx(0.75 * math.atanh(0.5))


def test_scores_far_apart_do_not_overflow():
    for sign in (1.0, -1.0):
        pooled = identity_pool(2, [sign * 1e4, 0.0])(HIDDEN, LAYOUT, None)
        assert pooled.isfinite().all()
    # Video 1: the score is 0 where the first number is 0, far below elsewhere.
    assert torch.allclose(pooled[1], HIDDEN[2])


def test_positions_left_out_get_no_gradient():
    hidden = HIDDEN.clone().requires_grad_()
    for pool in (MeanPool(), identity_pool(2, [1.0, -1.0])):
        hidden.grad = None
        pool(hidden, LAYOUT, LEFT_OUT).sum().backward()
        assert hidden.grad.isfinite().all()
        assert not hidden.grad[~LEFT_OUT].any()
