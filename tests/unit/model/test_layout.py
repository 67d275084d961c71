"""Layouts of tiny batches, worked by hand."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import made_batch, tiny_config
from vidvec.model.layout import fill, flat_layout, owners
from vidvec.records import Batch


def batch_of(frame_counts: list[int], token_counts: list[int]) -> Batch:
    """Frames count 1, 2, 3, … and tokens 101, 102, 103, …, over the whole batch."""
    frames = torch.arange(1, sum(frame_counts) + 1).float()[:, None]
    tokens = torch.arange(101, 101 + sum(token_counts))
    return Batch(frames, torch.tensor(frame_counts), tokens, torch.tensor(token_counts))


# Three videos: 2 frames and 3 tokens; no frame and 4 tokens; 1 frame and 2 tokens.
BATCH = batch_of([2, 0, 1], [3, 4, 2])


def test_owners():
    assert owners(torch.tensor([2, 0, 3]), 5).tolist() == [0, 0, 2, 2, 2]
    assert owners(torch.tensor([0, 0]), 0).tolist() == []


def test_what_both_orders_share():
    for order in ("cls_first", "frames_first"):
        layout = flat_layout(BATCH, order)
        assert layout.lengths.tolist() == [5, 4, 3]
        assert layout.max_length == 5
        assert layout.video_of.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
        # The grid is 3 rows of 5 places.
        assert layout.slots.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12]
        assert layout.frame_positions.tolist() == [0, 1, 0]
        assert layout.token_positions.tolist() == [0, 1, 2, 0, 1, 2, 3, 0, 1]
        assert layout.real is None


def test_cls_first():
    #   0    1  2  3    4    | 5    6    7    8    | 9    10 11
    #   101  f1 f2 102  103  | 104  105  106  107  | 108  f3 109
    layout = flat_layout(BATCH, "cls_first")
    assert layout.cls_rows.tolist() == [0, 5, 9]
    assert layout.token_rows.tolist() == [0, 3, 4, 5, 6, 7, 8, 9, 11]
    assert layout.frame_rows.tolist() == [1, 2, 10]


def test_frames_first():
    #   0  1  2    3    4    | 5    6    7    8    | 9  10   11
    #   f1 f2 101  102  103  | 104  105  106  107  | f3 108  109
    layout = flat_layout(BATCH, "frames_first")
    assert layout.cls_rows.tolist() == [2, 5, 10]
    assert layout.token_rows.tolist() == [2, 3, 4, 5, 6, 7, 8, 10, 11]
    assert layout.frame_rows.tolist() == [0, 1, 9]


def test_a_batch_without_any_frame():
    for order in ("cls_first", "frames_first"):
        layout = flat_layout(batch_of([0, 0], [2, 1]), order)
        assert layout.token_rows.tolist() == [0, 1, 2]
        assert layout.frame_rows.tolist() == []
        assert layout.cls_rows.tolist() == [0, 2]


@pytest.mark.parametrize("order", ["cls_first", "frames_first"])
def test_every_place_is_taken_once(order):
    batch = made_batch([(3, 1), (0, 0), (5, 4), (1, 2)], order=order)
    layout = flat_layout(batch, order)
    taken = torch.cat([layout.frame_rows, layout.token_rows]).sort().values
    assert torch.equal(taken, torch.arange(int(layout.lengths.sum())))
    assert len(layout.slots.unique()) == len(layout.slots)


def test_fill():
    config = tiny_config(max_frames=3, max_tokens=5, frame_size=1)
    filled = fill(BATCH, config, pad_id=9)
    assert filled.frames.squeeze(1).tolist() == [1, 2, 0, 0, 0, 0, 3, 0, 0]
    assert filled.frame_mask.int().tolist() == [1, 1, 0, 0, 0, 0, 1, 0, 0]
    assert filled.token_ids.view(3, 5).tolist() == [
        [101, 102, 103, 9, 9],
        [104, 105, 106, 107, 9],
        [108, 109, 9, 9, 9],
    ]
    assert filled.token_mask.view(3, 5).sum(1).tolist() == [3, 4, 2]
    assert filled.frame_counts.tolist() == [3, 3, 3]
    assert filled.token_counts.tolist() == [5, 5, 5]


def test_fill_keeps_the_rest_and_does_nothing_twice():
    batch = made_batch([(1, 1), (2, 0)], rows=torch.tensor([4, 2]))
    batch.frames = batch.frames.half()
    filled = fill(batch, tiny_config(), 0)
    assert torch.equal(filled.rows, batch.rows)
    assert filled.frames.dtype == torch.float16
    assert batch.frame_mask is None
    again = fill(filled, tiny_config(), 0)
    assert again is filled


def test_real_positions_of_a_filled_batch():
    config = tiny_config(max_frames=2, max_tokens=4, frame_size=1)
    filled = fill(batch_of([1, 2], [3, 4]), config, pad_id=0)
    # cls, two frames, the rest of the title; in the first video the second frame is padding.
    cls_first = flat_layout(filled, "cls_first").real.int().view(2, 6)
    assert cls_first.tolist() == [[1, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1]]
    frames_first = flat_layout(filled, "frames_first").real.int().view(2, 6)
    assert frames_first.tolist() == [[1, 0, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]
