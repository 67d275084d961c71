"""Solving for a model's linear reading (``model.linear_size``) from the corpus's tags.

Reduced-rank regression (Izenman 1975): ridge regression of all tags on the mean frame and the
words, then the K directions of tag space in which what it tells differs most.

Letters: n videos, P axes of frames, W words, C tags; others: see ``vidvec.model.linear_reading``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray

from vidvec.data.batches import BatchBuilder
from vidvec.data.corpus import Corpus
from vidvec.data.texts import ranges
from vidvec.model.linear_reading import LinearReading
from vidvec.model.weights import VideoModel
from vidvec.train.rows import learned_and_held

# Enough videos to solve from, and as many words and tags as leave this a matter of seconds.
VIDEOS, WORDS, TAGS = 20_000, 2_000, 2_000
FRAME_AXES = 64
# Of the ridge: as if so many videos said that nothing follows from a feature.
RIDGE = 100.0
FEWEST_TITLES = 3
VIDEOS_AT_ONCE = 500
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Features:
    """What is regressed on.

    Attributes:
        matrix: (n, P + W + 1): mean frames along their axes with variance 1, counts of words over
            the root of the video's number of tokens, ones.
        axes: (D, P); ``mean`` (D,) is taken off first.
        words: (W,) which words of the vocabulary.
    """

    matrix: Floats
    axes: Floats
    mean: Floats
    words: NDArray[np.int64]


def start_linear_reading(model: VideoModel, corpus: Corpus) -> None:
    """Solves for the model's linear reading, in place; without tags it stays nothing.

    Only videos that pretraining may learn from are looked at, a sample of up to ``VIDEOS``.
    """
    recipe, reading = model.recipe, model.encoder.linear
    stage = recipe.pretrain
    rows, _ = learned_and_held(corpus, stage.videos, stage.validation_share, recipe.finetune.split)
    positions, counts = corpus.tag_positions()
    rows = rows[counts[rows] > 0]
    if reading is None or not len(rows):
        return
    rows = np.sort(np.random.default_rng(recipe.seed).permutation(rows)[:VIDEOS])
    starts = np.cumsum(counts.clip(min=0)) - counts.clip(min=0)
    tags = _tag_matrix(positions[ranges(starts[rows], counts[rows])], counts[rows])
    features = read_features(BatchBuilder(corpus, model.tokenizer, recipe.model), rows, model)
    put_solution(reading, features, reduced_rank(features.matrix, tags, len(reading.constant)))


def _tag_matrix(positions: NDArray[np.int64], counts: NDArray[np.int64]) -> Floats:
    """(n, C) of the most frequent tags: whether they are there, less how often, over its root."""
    frequent = np.argsort(-np.bincount(positions), kind="stable")[:TAGS]
    place = np.full(int(positions.max()) + 1, -1)
    place[frequent] = np.arange(len(frequent))
    owner, column = np.repeat(np.arange(len(counts)), counts), place[positions]
    tags = np.zeros((len(counts), len(frequent)))
    tags[owner[column >= 0], column[column >= 0]] = 1
    often = tags.mean(0)
    kept = often > 0
    return np.asarray((tags[:, kept] - often[kept]) / np.sqrt(often[kept]))


def read_features(builder: BatchBuilder, rows: NDArray[np.int64], model: VideoModel) -> Features:
    """Of these rows, as the model reads them."""
    config, special = model.recipe.model, list(model.tokenizer.special_ids.values())
    means = np.zeros((len(rows), config.frame_size))
    owners, tokens = [], []
    for start in range(0, len(rows), VIDEOS_AT_ONCE):
        batch = builder.build(rows[start : start + VIDEOS_AT_ONCE])
        numbers = batch.frame_counts.numpy()
        ends = np.cumsum(numbers)
        sums = np.zeros((len(batch.frames) + 1, config.frame_size))
        np.cumsum(batch.frames.numpy(), axis=0, dtype=np.float64, out=sums[1:])
        found = (sums[ends] - sums[ends - numbers]) / numbers.clip(min=1)[:, None]
        means[start : start + len(numbers)] = found
        owners.append(start + np.repeat(np.arange(len(numbers)), batch.token_counts.numpy()))
        tokens.append(batch.token_ids.numpy())
    has = builder.frame_counts[rows] > 0
    mean, axes = _axes(means[has])
    words, counted = _word_counts(np.concatenate(owners), np.concatenate(tokens), special)
    counted /= np.sqrt(builder.token_counts[rows].clip(min=1))[:, None]
    seen = ((means - mean) @ axes) * has[:, None]
    return Features(np.hstack([seen, counted, np.ones((len(rows), 1))]), axes, mean, words)


def _axes(means: Floats) -> tuple[Floats, Floats]:
    """The mean (D,), and the leading principal axes (D, P) over the spread along them."""
    mean = means.mean(0) if len(means) else np.zeros(means.shape[1])
    values, axes = np.linalg.eigh((means - mean).T @ (means - mean) / max(1, len(means)))
    kept = values[-FRAME_AXES:] > 1e-9 * max(float(values[-1]), 1e-30)
    chosen = axes[:, -FRAME_AXES:][:, kept]
    return mean, np.asarray(chosen / np.sqrt(values[-FRAME_AXES:][kept]))


def _word_counts(
    owners: NDArray[np.int64], tokens: NDArray[np.int64], special: list[int]
) -> tuple[NDArray[np.int64], Floats]:
    """The most frequent words (W,) that are in enough titles, and how often each is in (n, W)."""
    often = np.bincount(tokens)
    often[[number for number in special if number < len(often)]] = 0
    often[often < FEWEST_TITLES] = 0
    words = np.argsort(-often, kind="stable")[:WORDS]
    words = words[often[words] > 0]
    place = np.full(len(often), -1)
    place[words] = np.arange(len(words))
    # Every video has special tokens, so that the last one owns the last token.
    counted, column = np.zeros((int(owners[-1]) + 1, len(words))), place[tokens]
    np.add.at(counted, (owners[column >= 0], column[column >= 0]), 1)
    return words, counted


def reduced_rank(features: Floats, tags: Floats, rank: int) -> Floats:
    """(P + W + 1, K) coefficients; the last feature is a constant and not shrunk."""
    gram = features.T @ features
    penalty = np.full(len(gram), RIDGE)
    penalty[-1] = 1e-6
    shrunk = gram + np.diag(penalty)
    every = scipy.linalg.solve(shrunk, features.T @ tags, assume_a="pos")
    told = every.T @ gram @ every
    last, kept = len(told) - 1, min(rank, len(told))
    _, axes = scipy.linalg.eigh(told, subset_by_index=[last + 1 - kept, last])
    found = np.zeros((len(every), rank))
    found[:, :kept] = every @ axes[:, ::-1]
    return found


def put_solution(reading: LinearReading, features: Features, solved: Floats) -> None:
    """Writes coefficients into a linear reading, in place."""
    axes = features.axes.shape[1]
    frames = features.axes @ solved[:axes]  # (D, K)
    with torch.no_grad():
        reading.frames.copy_(torch.from_numpy(frames.T.copy()))
        reading.frame_offset.copy_(torch.from_numpy(-(features.mean @ frames)))
        reading.words[torch.from_numpy(features.words)] = torch.from_numpy(
            solved[axes:-1].astype(np.float32)
        ).to(reading.words)
        reading.constant.copy_(torch.from_numpy(solved[-1]))
