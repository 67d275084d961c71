"""Which frames stand for a longer video."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidvec.data.sampling import sample_positions


@pytest.mark.parametrize(
    ("count", "limit", "positions"),
    [
        (0, 4, []),
        (1, 4, [0]),
        (4, 4, [0, 1, 2, 3]),
        (6, 4, [1, 2, 3, 4]),  # 0.625 1.875 3.125 4.375
        (9, 4, [1, 3, 5, 7]),
        (7, 2, [2, 4]),  # 1.5 4.5: halves to even
        (100, 1, [50]),  # 49.5
        # One too many: the formula gives 0.5 1.5 2.5 3.5, to even 0 2 2 4.
        (5, 4, [0, 1, 3, 4]),
        (2, 1, [0]),
    ],
)
def test_positions_by_hand(count, limit, positions):
    found = sample_positions(count, limit)
    assert found.tolist() == positions
    assert found.dtype == np.int64


def test_longer_videos_follow_the_published_formula():
    for count in [*range(34, 400), 3601]:
        expected = [round((i + 0.5) * (count - 1) / 32) for i in range(32)]
        assert sample_positions(count, 32).tolist() == expected, count


def test_thirty_three_frames_give_thirty_two_different_ones():
    assert sample_positions(33, 32).tolist() == [*range(16), *range(17, 33)]


@given(st.integers(0, 5000), st.integers(1, 64))
def test_positions_are_different_and_spread_over_the_whole_video(count, limit):
    found = sample_positions(count, limit)
    assert len(found) == min(count, limit)
    if not count:
        return
    assert found[0] >= 0
    assert found[-1] < count
    steps = np.diff(found)
    assert (steps >= 1).all()
    # No stretch of the video is left out that is two steps long.
    widest = max([found[0], *(steps - 1), count - 1 - found[-1]])
    assert widest <= 2 * max(1, count / limit)
