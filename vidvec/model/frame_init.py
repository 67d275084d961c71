"""Starting the projection of frames, or of audio frames, from the features it will read.

Features of most image encoders share a large mean: projected at random, every frame looks much
like every other, and the first thing training has to do is to undo that. Here the projection starts
as the features' principal axes around their mean, turned at random so that all hidden units carry
alike, and scaled to the size that LayerNorm expects. What the layer can represent does not change,
and neither do the features.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

# Root mean square of a projected frame's numbers: well above the position table's 0.02.
PROJECTED_SIZE = 0.2


def start_from_features(projection: torch.nn.Linear, frames: NDArray[np.floating]) -> None:
    """Sets a projection's weight and bias, in place.

    Args:
        projection: D to H, of frames or of audio frames.
        frames: (n, D) a sample of their features; with none of them nothing is changed.
    """
    hidden, width = projection.weight.shape
    if not len(frames):
        return
    centred = np.asarray(frames, np.float64)
    mean = centred.mean(0)
    centred = centred - mean
    values, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    kept = min(hidden, width)
    axes = axes[:, ::-1][:, :kept]  # (D, kept), leading first
    variance = float(values[::-1][:kept].clip(min=0).sum())
    if variance <= 0:
        return
    turn = torch.nn.init.orthogonal_(torch.empty(hidden, kept)).double().numpy()
    weight = turn @ axes.T * PROJECTED_SIZE * np.sqrt(hidden / variance)
    with torch.no_grad():
        projection.weight.copy_(torch.from_numpy(weight))
        projection.bias.copy_(torch.from_numpy(-(weight @ mean)))
