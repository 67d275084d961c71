"""Wide fusions are summed in float32: their cosines against float64, and their memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from vidvec import metrics
from vidvec.embed import fusion as module
from vidvec.embed.fusion import GramMatrix, concatenate, fit, fuse, normalised_weights
from vidvec.embed.vectors import Vectors, VectorWriter

MODELS, WIDTH, SIZE = 3, 192, 96
EQUAL = normalised_weights(None, MODELS)


def made(kind: str, count: int = 6000) -> list[np.ndarray]:
    """Vectors of three models, 576 numbers together."""
    random = np.random.default_rng(5)
    if kind == "common":  # what the models see in common fades out, as in trained ones
        seen = random.normal(size=(count, WIDTH)) * np.exp(-np.arange(WIDTH) / 40)
        turns = [np.linalg.qr(random.normal(size=(WIDTH, WIDTH)))[0] for _ in range(MODELS)]
        vectors = [seen @ turn + 0.05 * random.normal(size=seen.shape) for turn in turns]
    else:  # no direction stands out but, in "mean", the mean of all
        vectors = [random.normal(size=(count, WIDTH)) for _ in range(MODELS)]
    return [(each + 4.0 * (kind == "mean")).astype(np.float32) for each in vectors]


def exact_cosines(vectors: list[np.ndarray], pairs: np.ndarray) -> np.ndarray:
    """By the eigenvectors of the whole Gram matrix in float64."""
    joined = concatenate(vectors, EQUAL)
    axes = np.linalg.eigh(joined.T @ joined)[1][:, -SIZE:]
    return metrics.cosines(*(joined[pairs] @ axes))


@pytest.mark.parametrize("kind", ["flat", "mean", "common"])
def test_cosines_are_those_of_float64(kind, monkeypatch):
    vectors = made(kind)
    pairs = np.random.default_rng(1).integers(0, len(vectors[0]), (2, 4000))
    dimensions = [WIDTH] * MODELS
    assert sum(dimensions) >= module.WIDE
    expected = exact_cosines(vectors, pairs)
    for rows in (1000, 4096):
        monkeypatch.setattr(module, "BLOCK_ROWS", rows)
        fusion = fit(iter([vectors]), EQUAL, dimensions, SIZE, "streaming")
        projected = concatenate(vectors, EQUAL) @ fusion.projection
        assert np.abs(metrics.cosines(*projected[pairs]) - expected).max() < 1e-6
        axes = fusion.projection.T @ fusion.projection
        assert np.abs(axes - np.eye(SIZE)).max() < 1e-9


def test_a_mean_far_from_the_origin_does_not_drown_the_rest():
    random = np.random.default_rng(2)
    rows = (random.normal(size=(5000, 40)) + 100).astype(np.float32)
    gram = GramMatrix(40)
    for block in np.array_split(rows, 7):
        gram.add(block)
    exact = rows.astype(np.float64).T @ rows.astype(np.float64)
    # One rounding of a float32 sum of this size alone is 6e-8 of it.
    assert np.abs(gram.sum - exact).max() < 2e-9 * exact.max()
    assert gram.rows == 5000


def test_shards_summed_around_different_means_can_be_added_up():
    random = np.random.default_rng(3)
    shards = [(random.normal(size=(900, 30)) + far).astype(np.float32) for far in (0, 50, -9)]
    total = GramMatrix(30)
    for shard in shards:
        one = GramMatrix(30)
        for block in np.array_split(shard, 3):
            one.add(block)
        total.merge(one)
    total.merge(GramMatrix(30))
    rows = np.concatenate(shards).astype(np.float64)
    assert total.rows == 2700
    assert np.abs(total.sum - rows.T @ rows).max() < 1e-7 * total.sum.max()


def peak_bytes(blocks: int) -> int:
    """Memory that fitting takes at most, for so many blocks made one by one."""
    random = np.random.default_rng(4)

    def made_blocks() -> Iterator[list[np.ndarray]]:
        for _ in range(blocks):
            yield [random.standard_normal((1000, 300), np.float32) for _ in range(2)]

    tracemalloc.start()
    try:
        fit(made_blocks(), normalised_weights(None, 2), [300, 300], 8, "streaming")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_videos():
    few, many = peak_bytes(3), peak_bytes(30)
    assert many < 1.05 * few


def test_shards_need_not_be_of_one_size(tmp_path, monkeypatch):
    vectors = [some[:500] for some in made("common")]
    ids = [str(row) for row in range(500)]
    for name, cuts in (("one", []), ("two", [7, 130, 131, 400]), ("three", [250])):
        writer = VectorWriter(tmp_path / name, WIDTH, {"normalised": True, "made_by": {}})
        place = ["one", "two", "three"].index(name)
        for rows in np.split(np.arange(500), cuts):
            writer.append([ids[row] for row in rows], vectors[place][rows])
        writer.finish()
    monkeypatch.setattr(module, "SHARD_ROWS", 128)
    members = [tmp_path / name for name in ("one", "two", "three")]
    fusion = fuse(members, tmp_path / "fused", size=SIZE)
    fused = Vectors(tmp_path / "fused")
    assert fused.ids == ids
    assert [len(some) for some, _ in fused.shards()] == [128, 128, 128, 116]
    assert np.abs(fused.matrix - fusion.apply(vectors)).max() < 1e-6
