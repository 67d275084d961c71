"""Counted work against PyTorch's own counter, and against the published budget."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.tiny import made_batch, tiny_config, tiny_encoder
from vidvec.config import ModelConfig, PretrainConfig
from vidvec.model.flops import encoder_flops, heads_flops, parameters
from vidvec.model.heads import PretrainingHeads


def counted(run) -> int:
    # The plain form of attention, whose products the counter sees.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("count_padding", [False, True])
def test_the_encoder(count_padding):
    encoder = tiny_encoder(count_padding=count_padding)
    expected = counted(lambda: encoder(made_batch([(4, 3)])))
    assert encoder_flops(encoder.config, 4, 6) == pytest.approx(expected, rel=1e-6)


def test_the_heads():
    config = tiny_config()
    heads = PretrainingHeads(config)
    settings = PretrainConfig(mlm_rate=0.5, mfm_rate=0.5)
    hidden = torch.randn(100, config.hidden_size)

    def run() -> None:
        heads.tag(hidden[:10])
        heads.mlm(hidden[: 10 * 4])  # half of 8 words in each of 10 videos
        predicted = heads.mfm(hidden[:9])  # 0.45 of 2 frames in each
        predicted @ torch.randn(config.frame_size, 20)  # which are all the frames there are

    expected = counted(run) / 10
    assert heads_flops(config, settings, 2, 8, 20) == pytest.approx(expected, rel=1e-6)


def test_the_published_shape_costs_what_is_known_of_it():
    """About 22.5 GFLOP for a vector at 37 positions; 300 million weights in the trunk."""
    shape = ModelConfig(
        size="large", hidden_size=1024, layers=24, heads=16, ffn_size=4096, frame_size=1536
    )
    assert encoder_flops(shape, 18, 19) == pytest.approx(22.5e9, rel=0.02)
    words = {"vocab_size": 21128, "tags": 10000}
    trunk = parameters(shape.model_copy(update=words)) - 2 * 21128 * 1024
    assert trunk == pytest.approx(3.2e8, rel=0.05)
