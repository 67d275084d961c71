"""The fixed rotation: orthogonal, always the same, and what signs gain by it."""

from __future__ import annotations

import numpy as np
import pytest

from vidvec.embed.dtypes import decode, encode, unit_rows
from vidvec.embed.rotation import STEP, rotate, rotate_back, rotation


@pytest.mark.parametrize("size", [1, 2, 9, 64, 300])
def test_it_is_orthogonal(size):
    matrix = rotation(size).astype(np.float64)
    assert matrix @ matrix.T == pytest.approx(np.eye(size), abs=2e-4)
    assert np.array_equal(np.rint(matrix / STEP), matrix / STEP)
    vectors = np.random.default_rng(0).standard_normal((5, size)).astype(np.float32)
    assert rotate_back(rotate(vectors)) == pytest.approx(vectors, abs=1e-3)
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.linalg.norm(rotate(vectors), axis=1) == pytest.approx(lengths, rel=1e-3)


def test_it_is_always_the_same():
    # What was written with another one could not be read: numbers of the first run of this test.
    assert (rotation(1) / STEP).tolist() == [[32768]]
    assert (rotation(3) / STEP).astype(int).tolist() == [
        [22679, 3950, -23319],
        [-23628, 5217, -22096],
        [-1049, -32108, -6459],
    ]
    assert rotation(3) is rotation(3)
    with pytest.raises(ValueError, match="read-only"):
        rotation(3)[0, 0] = 1


def test_bits_come_back_the_same_however_many_at_a_time():
    kept = encode(np.random.default_rng(0).standard_normal((500, 48)), "binary")
    whole = decode(kept, "binary", 48)
    for count in (1, 7, 64):
        parts = [decode(kept[at : at + count], "binary", 48) for at in range(0, 500, count)]
        assert np.array_equal(np.concatenate(parts), whole)


def test_signs_tell_vectors_apart_whose_first_numbers_vary_most():
    """As those of an SVD: signs of the numbers themselves are mostly of the ones that say least."""
    scale = 2.0 ** -np.arange(40)
    vectors = unit_rows(np.random.default_rng(0).standard_normal((300, 40)) * scale)
    exact = vectors @ vectors.T

    def likeness(bits: np.ndarray) -> float:
        signs = np.where(bits, 1, -1)
        return float(np.corrcoef((signs @ signs.T).ravel(), exact.ravel())[0, 1])

    turned = np.unpackbits(encode(vectors, "binary"), axis=1, count=40)
    assert likeness(turned == 1) > 0.9
    assert likeness(vectors > 0) < 0.5
