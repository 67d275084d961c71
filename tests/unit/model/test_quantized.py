"""The int8 layer against the same arithmetic written out in NumPy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from vidvec.config import ModelConfig
from vidvec.model.encoder import VideoEncoder
from vidvec.model.quantized import Int8Linear, has_wide_sums, quantized


def by_hand(values: np.ndarray, weight: np.ndarray, bias: np.ndarray, bits: int) -> np.ndarray:
    """Activations in so many bits with a zero point, weights in −127…127 by output channel."""
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    scale = (high - low) / (2**bits - 1)
    zero = round(-low / scale)
    rounded = np.clip(np.round(values / scale) + zero, 0, 2**bits - 1) - zero
    channel = np.abs(weight).max(axis=1) / 127
    integers = np.round(weight / channel[:, None])
    return (rounded @ integers.T) * scale * channel + bias


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("wide", [pytest.param(True, id="8 bits"), pytest.param(False, id="7")])
def test_a_layer_is_the_arithmetic_written_out(wide, bias) -> None:
    if wide and not has_wide_sums():
        pytest.skip("this processor's 8-bit sums overflow")
    torch.manual_seed(3)
    layer = nn.Linear(48, 20, bias=bias)
    values = torch.randn(33, 48) * 3 + 0.5
    with torch.inference_mode():
        ours = Int8Linear(layer, wide=wide)(values).double().numpy()
        plain = layer(values).double().numpy()
    shift = layer.bias.detach().double().numpy() if bias else np.zeros(20)
    weight = layer.weight.detach().double().numpy()
    expected = by_hand(values.double().numpy(), weight, shift, 8 if wide else 7)
    # A value half way between two integers may go either way: one step of the activations' scale.
    step = (values.max() - values.min()).item() / (255 if wide else 127)
    assert np.abs(ours - expected).max() < step * np.abs(weight).max()
    assert np.abs(ours - expected).mean() < 1e-3 * np.abs(plain).mean()
    assert np.abs(ours - plain).mean() < (0.01 if wide else 0.02) * np.abs(plain).mean()


def test_eight_bits_are_nearer_than_seven() -> None:
    if not has_wide_sums():
        pytest.skip("this processor's 8-bit sums overflow")
    torch.manual_seed(4)
    layer, values = nn.Linear(64, 64), torch.randn(200, 64)
    with torch.inference_mode():
        plain = layer(values)
        errors = [
            (Int8Linear(layer, wide=w)(values) - plain).square().mean() for w in (True, False)
        ]
    assert errors[0] < 0.6 * errors[1]


def test_a_row_of_zeros_stays_zero() -> None:
    layer = nn.Linear(8, 4)
    nn.init.zeros_(layer.weight[2:3].data)
    nn.init.zeros_(layer.bias.data)
    with torch.inference_mode():
        out = Int8Linear(layer, wide=False)(torch.ones(3, 8))
    assert (out[:, 2] == 0).all()
    assert torch.isfinite(out).all()


def test_every_layer_of_the_blocks_and_none_else() -> None:
    sizes = {"hidden_size": 32, "layers": 2, "heads": 2, "ffn_size": 64, "embedding_size": 16}
    tiny_encoder = VideoEncoder(ModelConfig(**sizes, vocab_size=50, frame_size=8))
    engine = torch.backends.quantized.engine
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = quantized(tiny_encoder)
    assert torch.backends.quantized.engine == engine
    assert not any(isinstance(layer, nn.Linear) for layer in small.blocks.modules())
    wanted = sum(isinstance(layer, nn.Linear) for layer in tiny_encoder.blocks.modules())
    assert sum(isinstance(layer, Int8Linear) for layer in small.modules()) == wanted > 0
