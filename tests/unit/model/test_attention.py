"""Attention over flat batches against a loop over videos, heads and queries."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.tiny import PAD, made_batch, tiny_config
from vidvec.model.attention import attend
from vidvec.model.layout import FlatLayout, fill, flat_layout

HEADS, WIDTH = 2, 3


def attend_plainly(qkv: Tensor, layout: FlatLayout) -> Tensor:
    out = torch.empty(len(qkv), HEADS * WIDTH)
    start = 0
    for length in layout.lengths.tolist():
        places = range(start, start + length)
        keys = [p for p in places if layout.real is None or layout.real[p]]
        for query in places:
            for head in range(HEADS):
                q = qkv[query, 0, head]
                scores = [float(q @ qkv[key, 1, head]) / math.sqrt(WIDTH) for key in keys]
                weights = [math.exp(score - max(scores)) for score in scores]
                values = [qkv[key, 2, head] for key in keys]
                mixed = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
                out[query, head * WIDTH : (head + 1) * WIDTH] = mixed
        start += length
    return out


def random_qkv(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, HEADS, WIDTH, generator=torch.Generator().manual_seed(seed)) * 2


@pytest.mark.parametrize("order", ["cls_first", "frames_first"])
@pytest.mark.parametrize(
    "counts",
    [
        pytest.param([(3, 1), (0, 0), (5, 4)], id="ragged"),
        pytest.param([(2, 1), (1, 2)], id="equal lengths"),
        pytest.param([(0, 0)], id="one video"),
    ],
)
def test_each_video_attends_within_itself(counts, order):
    layout = flat_layout(made_batch(counts, order=order), order)
    qkv = random_qkv(int(layout.lengths.sum()))
    assert torch.allclose(attend(qkv, layout, 0.0), attend_plainly(qkv, layout), atol=1e-5)


@pytest.mark.parametrize("order", ["cls_first", "frames_first"])
def test_padding_is_hidden_as_key_and_runs_as_query(order):
    batch = fill(made_batch([(3, 1), (0, 0), (5, 4)], order=order), tiny_config(), PAD)
    layout = flat_layout(batch, order)
    qkv = random_qkv(int(layout.lengths.sum()))
    ours = attend(qkv, layout, 0.0)
    assert torch.allclose(ours, attend_plainly(qkv, layout), atol=1e-5)
    changed = qkv.clone()
    changed[~layout.real, 1:] = 50.0
    assert torch.equal(attend(changed, layout, 0.0), ours)


def test_gradients_stay_within_the_video():
    layout = flat_layout(made_batch([(2, 1), (4, 0)]), "cls_first")
    qkv = random_qkv(int(layout.lengths.sum())).requires_grad_()
    attend(qkv, layout, 0.0)[layout.video_of == 0].sum().backward()
    moved = qkv.grad.abs().sum((1, 2, 3)) > 0
    assert torch.equal(moved, layout.video_of == 0)


def test_dropout_drops_its_share_and_keeps_the_mean():
    videos, p = 4000, 0.3
    layout = flat_layout(made_batch([(0, 0)] * videos, order="frames_first"), "frames_first")
    assert set(layout.lengths.tolist()) == {2}
    torch.manual_seed(0)
    qkv = torch.zeros(2 * videos, 3, HEADS, WIDTH)
    qkv[:, 2] = 1.0
    out = attend(qkv, layout, p)[:, ::WIDTH]
    # Two equal keys of weight ½ and value 1: none, one or both are kept and scaled by 1 / (1 - p).
    kept = (out * (1 - p) * 2).round().long()
    shares = torch.bincount(kept.ravel(), minlength=3) / kept.numel()
    expected = torch.tensor([p * p, 2 * p * (1 - p), (1 - p) ** 2])
    assert torch.allclose(shares, expected, atol=0.02)
    assert abs(float(out.mean()) - 1) < 0.02


def test_no_dropout_is_the_same_each_time():
    layout = flat_layout(made_batch([(2, 1), (4, 0)]), "cls_first")
    qkv = random_qkv(int(layout.lengths.sum()))
    assert torch.equal(attend(qkv, layout, 0.0), attend(qkv, layout, 0.0))
