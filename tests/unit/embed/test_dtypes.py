"""What is kept of vectors, against plain loops and sentence-transformers' formulas."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vidvec.embed.dtypes import (
    DTYPES,
    check_dtype,
    check_size,
    column_type,
    cut,
    decode,
    encode,
    kept_numbers,
    unit_rows,
    vector_bytes,
)
from vidvec.embed.rotation import rotation
from vidvec.errors import UsageError

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.standard_normal((50, 20)).astype(np.float32)
matrices = st.tuples(st.integers(0, 5), st.integers(1, 19)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(-1e3, 1e3, width=32))
)


def test_int8_by_hand():
    kept = encode(np.array([[0.5, -1.0, 0.25], [3, 0, -6], [0, 0, 0]]), "int8")
    assert kept.dtype == np.int8
    # 127 · 0.5 = 63.5 goes to the even one, 127 · 0.25 = 31.75 up; 127 · 3 / 6 likewise.
    assert kept.tolist() == [[64, -127, 32], [64, 0, -127], [0, 0, 0]]
    back = decode(kept, "int8", 3)
    length = math.sqrt(64**2 + 127**2 + 32**2)
    assert back[0] == pytest.approx([64 / length, -127 / length, 32 / length], abs=1e-7)
    assert back[2].tolist() == [0, 0, 0]


def test_binary_by_hand():
    # Turned numbers, of which the bits are 1 0 1 0 0 0 0 1 and 1, filled up with zeros.
    turned = np.array([0.1, -0.1, 2, -0.2, -3, -1, -0.1, 5, 0.5])
    matrix = rotation(9).astype(np.float64)
    kept = encode((turned @ matrix)[None], "binary")
    assert (kept.dtype, kept.tolist()) == (np.uint8, [[0b10100001, 0b10000000]])
    signs = [1 / 3 if number > 0 else -1 / 3 for number in turned]
    assert decode(kept, "binary", 9)[0] == pytest.approx(np.array(signs) @ matrix, abs=1e-6)


def test_bits_are_those_of_a_loop():
    kept, matrix = encode(VECTORS, "binary"), rotation(20).astype(np.float64)
    for vector, stored in zip(VECTORS, kept, strict=True):
        bits = [int(stored[at // 8]) >> (7 - at % 8) & 1 for at in range(24)]
        assert bits == [int(row @ vector > 0) for row in matrix] + [0] * 4


def test_int8_keeps_more_than_steps_between_the_extremes_of_a_dimension():
    # ``quantize_embeddings(precision="int8")`` of sentence-transformers 6.2, without its −128.
    low, high = VECTORS.min(0), VECTORS.max(0)
    rounded = np.clip(np.floor((VECTORS - low) / ((high - low) / 255)), 0, 255)
    theirs = (rounded + 0.5) * (high - low) / 255 + low
    exact = unit_rows(VECTORS) @ unit_rows(VECTORS).T
    ours = decode(encode(VECTORS, "int8"), "int8", 20)
    off = [np.abs(unit_rows(one) @ unit_rows(one).T - exact).mean() for one in (ours, theirs)]
    assert off[0] < off[1] < 0.01


@pytest.mark.parametrize(
    ("dtype", "most"), [("float32", 1e-6), ("float16", 5e-4), ("int8", 0.01), ("binary", 0.6)]
)
def test_what_comes_back_is_near(dtype, most):
    vectors = unit_rows(VECTORS)
    back = decode(encode(vectors, dtype), dtype, 20)
    assert back.dtype == np.float32
    assert np.linalg.norm(back, axis=1) == pytest.approx(np.ones(50), abs=1e-3)
    assert 1 - (vectors * back).sum(1).min() < most
    assert encode(vectors, dtype).nbytes == 50 * vector_bytes(20, dtype)


def test_bytes_and_types():
    assert [vector_bytes(64, dtype) for dtype in DTYPES] == [256, 128, 64, 8]
    assert [kept_numbers(9, dtype) for dtype in DTYPES] == [9, 9, 9, 2]
    assert column_type(9, "binary") == pa.list_(pa.uint8(), 2)
    assert column_type(9, "float16") == pa.list_(pa.float16(), 9)


@given(matrices)
def test_rounding_what_was_rounded_changes_nothing(matrix):
    width = matrix.shape[1]
    for dtype in DTYPES:
        kept = encode(matrix, dtype)
        assert kept.shape == (len(matrix), kept_numbers(width, dtype))
        again = encode(decode(kept, dtype, width), dtype)
        if dtype == "int8":  # a rounded vector's greatest number is 127 again
            assert np.array_equal(again, kept)
        else:
            assert again.tobytes() == kept.tobytes()


@given(matrices, st.data())
def test_cutting_twice_is_cutting_once(matrix, data):
    width = matrix.shape[1]
    first = data.draw(st.integers(1, width))
    second = data.draw(st.integers(1, first))
    once = cut(matrix, second)
    assert once.shape == (len(matrix), second)
    lengths = np.linalg.norm(once.astype(np.float64), axis=1)
    assert np.all((np.abs(lengths - 1) < 1e-5) | (lengths == 0))
    long = np.linalg.norm(matrix[:, :second].astype(np.float64), axis=1)
    well = long > 1e-3 * np.linalg.norm(matrix, axis=1).clip(1e-30)
    assert cut(cut(matrix, first), second)[well] == pytest.approx(once[well], abs=1e-4)


def test_a_row_that_is_cut_by_hand():
    assert cut(np.array([[3.0, 4.0, 12.0], [0, 0, 1]]), 2).tolist() == [
        [pytest.approx(0.6), pytest.approx(0.8)],
        [0, 0],
    ]


@pytest.mark.parametrize("size", [0, -1, 21])
def test_sizes_that_are_not_there(size):
    with pytest.raises(UsageError, match=rf"size {size}: mine has vectors of 20 numbers"):
        check_size(size, 20, "mine")
    assert check_size(20, 20, "mine") == 20


def test_dtypes_that_are_not_there():
    assert check_dtype("binary") == "binary"
    with pytest.raises(UsageError, match="'int4': expected one of float32, float16, int8, binary"):
        check_dtype("int4")
