"""What the frame projection starts from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.tiny import tiny_encoder
from vidvec.model.frame_init import PROJECTED_SIZE, start_from_features


def features(count: int, width: int, seed: int = 0) -> np.ndarray:
    """Features with a large common mean and very unequal variances."""
    generator = np.random.default_rng(seed)
    scales = 10.0 ** -np.arange(width)
    mixing = np.linalg.qr(generator.normal(size=(width, width)))[0]
    frames = 5.0 + (generator.normal(size=(count, width)) * scales) @ mixing
    return frames.astype(np.float16)


def projected(encoder, frames: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return encoder.frame_projection(torch.from_numpy(frames).float()).double().numpy()


@pytest.mark.parametrize("width", [3, 6, 16, 40])
def test_projections_have_no_mean_and_the_size_that_was_meant(width):
    encoder = tiny_encoder(frame_size=width)
    frames = features(500, width)
    start_from_features(encoder.frame_projection, frames)
    found = projected(encoder, frames)
    assert np.allclose(found.mean(0), 0, atol=1e-4)
    assert np.sqrt((found**2).mean()) == pytest.approx(PROJECTED_SIZE, rel=1e-3)


@pytest.mark.parametrize("width", [3, 16])
def test_angles_around_the_mean_stay(width):
    encoder = tiny_encoder(frame_size=width)
    frames = features(200, width)
    start_from_features(encoder.frame_projection, frames)
    centred = frames.astype(np.float64) - frames.astype(np.float64).mean(0)
    after = projected(encoder, frames)
    before, after = (
        values @ values.T / np.outer(*[np.linalg.norm(values, axis=1)] * 2)
        for values in (centred, after)
    )
    assert np.allclose(before, after, atol=1e-3)


def test_of_more_features_than_units_the_leading_axes_stay():
    encoder = tiny_encoder(frame_size=40)
    generator = np.random.default_rng(1)
    # 16 directions that matter, of 40, turned anyhow: with 16 hidden units none of them is lost.
    axes = np.linalg.qr(generator.normal(size=(40, 40)))[0][:16]
    frames = (generator.normal(size=(300, 16)) @ axes).astype(np.float16)
    start_from_features(encoder.frame_projection, frames)
    lengths = np.linalg.norm(frames.astype(np.float64) - frames.mean(0, np.float64), axis=1)
    ratio = np.linalg.norm(projected(encoder, frames), axis=1) / lengths
    assert ratio == pytest.approx(np.full(300, ratio.mean()), rel=1e-2)


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(np.zeros((0, 6), np.float16), id="none"),
        pytest.param(features(1, 6), id="one"),
        pytest.param(features(1, 6).repeat(7, axis=0), id="all alike"),
    ],
)
def test_without_variance_nothing_changes(frames):
    encoder = tiny_encoder()
    weight = encoder.frame_projection.weight.clone()
    start_from_features(encoder.frame_projection, frames)
    assert torch.equal(encoder.frame_projection.weight, weight)
