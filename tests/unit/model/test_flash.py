"""Attention over ragged batches by the flash kernel: what it is given, and what a GPU gives.

Off a GPU the kernel's place is taken by a loop over sequences that follows its documentation, in
float32: what is held is that queries, keys, offsets and windows are handed over as it wants them.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.tiny import PAD, ROOMY, made_batch, tiny_config, tiny_encoder
from vidvec.model import attention
from vidvec.model.attention import attend, takes_flash
from vidvec.model.layout import FlatLayout, fill, flat_layout
from vidvec.model.precision import autocast
from vidvec.train.objectives.cosine_mse import cosine_mse
from vidvec.train.objectives.pairs import ScoredPairs

COUNTS = [(3, 1), (0, 0), (5, 4), (1, 2)]


def kernel_plainly(
    qkv: tuple[Tensor, Tensor, Tensor],
    offsets: tuple[Tensor, Tensor],
    longest: int,
    *,
    dropout: float,
    reach: int,
) -> Tensor:
    assert type(longest) is int
    assert dropout == 0
    assert all(some.dtype == torch.int32 for some in offsets)
    (queries, keys, values), (starts, key_starts) = qkv, (some.tolist() for some in offsets)
    assert (starts[-1], key_starts[-1]) == (len(queries), len(keys)) == (len(queries), len(values))
    out = []
    for video in range(len(starts) - 1):
        some = queries[starts[video] : starts[video + 1]]
        between = slice(key_starts[video], key_starts[video + 1])
        assert len(some) <= longest
        scores = torch.einsum("qhw,khw->hqk", some, keys[between]) / math.sqrt(some.shape[-1])
        if reach >= 0:
            apart = torch.arange(len(some))[:, None] - torch.arange(len(keys[between]))
            scores = scores.masked_fill(apart.abs() > reach, -torch.inf)
        out.append(torch.einsum("hqk,khw->qhw", scores.softmax(-1), values[between]))
    return torch.cat(out)


def layout_of(order: str, padded: bool, counts: list[tuple[int, int]] = COUNTS) -> FlatLayout:
    batch = made_batch(counts, order=order)
    return flat_layout(fill(batch, tiny_config(), PAD) if padded else batch, order)


@pytest.mark.parametrize(
    ("order", "padded", "window"),
    [
        ("cls_first", False, None),
        ("frames_first", False, None),
        ("cls_first", False, 2),
        ("cls_first", False, 100),
        # A window over hidden padding is computed on the grid alone.
        ("cls_first", True, None),
        ("cls_first", True, 100),
    ],
)
def test_flat_and_padded_attention_agree(order, padded, window, monkeypatch):
    layout = layout_of(order, padded)
    qkv = torch.randn(len(layout.positions), 3, 2, 8, generator=torch.Generator().manual_seed(1))
    upstream = torch.randn(len(qkv), 16, generator=torch.Generator().manual_seed(2))
    found = []
    for flash in (False, True):
        monkeypatch.setattr(attention, "flash_kernel", kernel_plainly)
        monkeypatch.setattr(attention, "takes_flash", lambda *_, flash=flash: flash)
        inputs = qkv.clone().requires_grad_()
        out = attend(inputs, layout, 0.0, window)
        out.backward(upstream)
        found.append((out.detach(), inputs.grad))
    for padded_way, flat_way in zip(*found, strict=True):
        assert torch.allclose(padded_way, flat_way, atol=1e-6)


def test_where_sequences_start():
    layout = layout_of("cls_first", padded=False)
    # 3 + 1, 0, 5 + 4, 1 + 2 frames and words, and three special tokens each.
    assert layout.offsets.tolist() == [0, 7, 10, 22, 28]
    assert layout.key_rows is None
    assert layout.key_offsets.tolist() == layout.offsets.tolist()


def test_where_keys_start_among_those_that_are_not_hidden():
    #  cls f1 f2 -- … : two frames of up to 5, and 4 tokens of up to 7
    layout = layout_of("cls_first", padded=True, counts=[(2, 1), (0, 2)])
    assert layout.offsets.tolist() == [0, 12, 24]
    assert layout.key_offsets.tolist() == [0, 6, 11]
    # [CLS], two of five frames, three of six tokens behind it; then [CLS] and four tokens.
    assert layout.key_rows.tolist() == [0, 1, 2, 6, 7, 8, 12, 18, 19, 20, 21]


def test_a_video_without_padding_beside_one_of_padding():
    """``attend`` looks at nothing but what the layout says is real."""
    layout = layout_of("frames_first", padded=True, counts=[(5, 4), (0, 0)])
    assert layout.key_rows.tolist() == torch.nonzero(layout.real).squeeze(1).tolist()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_off_a_gpu_nothing_takes_the_kernel(device):
    qkv = torch.zeros(28, 3, 2, 8, dtype=torch.bfloat16, device=device)
    assert not takes_flash(qkv, layout_of("cls_first", padded=False), None)


@pytest.mark.parametrize("pool", ["mean", "attention", "cls"])
@pytest.mark.parametrize("padded", [False, True])
def test_nothing_waits_for_the_device(padded, pool):
    """On PyTorch's ``meta`` device there are no numbers, so whoever asks for one fails."""
    encoder = tiny_encoder(count_padding=padded, pool=pool).to("meta")
    batch = made_batch(COUNTS).to("cpu").to("meta")
    loss = cosine_mse(ScoredPairs.of(encoder(batch).vectors, torch.zeros(2, device="meta")))
    loss.backward()
    assert loss.shape == ()


def test_batches_of_unknown_sizes_are_asked_for_them():
    batch = made_batch(COUNTS)
    assert batch.sizes is None
    assert batch.to("cpu").sizes.tolist() == [[3, 0, 5, 1], [4, 3, 7, 5], [0] * 4, [0] * 4]


@pytest.mark.gpu
@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_kernel_and_grid_give_the_same_losses_and_gradients_on_a_gpu(padded, modern, monkeypatch):
    """In bfloat16, whose steps are 2⁻⁸: losses to 1 %, gradients to 3 % of their length."""
    trunk = {"trunk": "modern", "local_attention_window": 4} if modern else {}
    shape = {**ROOMY, "hidden_size": 64, "heads": 4, "ffn_size": 96, "dropout": 0.0}
    encoder = tiny_encoder(**{**shape, "count_padding": padded, **trunk}).cuda().train()
    batch = made_batch([(20, 3), (1, 9), (7, 7), (32, 1)] * 4).to("cuda")
    targets = torch.linspace(0, 1, 8, device="cuda")
    found = []
    for flash in (False, True):
        with monkeypatch.context() as patched:
            if not flash:
                patched.setattr(attention, "takes_flash", lambda *_: False)
            encoder.zero_grad()
            with autocast(batch.frames.device, "bf16"):
                loss = cosine_mse(ScoredPairs.of(encoder(batch).vectors, targets))
            loss.backward()
        gradients = torch.cat(
            [p.grad.flatten() for p in encoder.parameters() if p.grad is not None]
        )
        found.append((float(loss), gradients))
    (loss, gradient), (other_loss, other) = found
    assert other_loss == pytest.approx(loss, rel=1e-2)
    assert float((gradient - other).norm() / gradient.norm()) < 3e-2


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("order", "padded"), [("cls_first", False), ("frames_first", False), ("cls_first", True)]
)
def test_the_kernel_against_the_loop_on_a_gpu(order, padded):
    """Both of its ways in; the second is for windows and dropout, here a window that hides none."""
    layout = layout_of(order, padded)
    qkv = torch.randn(len(layout.positions), 3, 2, 16, generator=torch.Generator().manual_seed(1))
    qkv = qkv.bfloat16()
    key_rows = slice(None) if layout.key_rows is None else layout.key_rows
    parts = (qkv[:, 0].float(), *(qkv[key_rows, at].float() for at in (1, 2)))
    offsets = (layout.offsets, layout.key_offsets)
    plain = kernel_plainly(parts, offsets, layout.max_length, dropout=0, reach=-1).flatten(1)
    batch = made_batch(COUNTS, order=order).to("cuda")
    there = flat_layout(fill(batch, tiny_config(), PAD) if padded else batch, order)
    for window in (None, 100):
        on_gpu = attention._attend_flat(qkv.cuda(), there, 0.0, window)
        assert torch.allclose(on_gpu.float().cpu(), plain, atol=2e-2)
