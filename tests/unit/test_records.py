"""Batches taken apart and moved."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import PAD, made_batch, tiny_config
from vidvec.model.layout import fill
from vidvec.records import Batch

COUNTS = [(3, 1), (0, 0), (5, 4), (1, 2)]
TAGS = [[4, 1], None, [], [2]]


def tagged_batch() -> Batch:
    counts = torch.tensor([-1 if tags is None else len(tags) for tags in TAGS])
    positions = torch.tensor([tag for tags in TAGS for tag in tags or []])
    rows = torch.tensor([70, 71, 72, 73])
    return made_batch(COUNTS, rows=rows, tag_positions=positions, tag_counts=counts)


def test_taking_a_span():
    whole = tagged_batch()
    part = whole.take((1, 3))
    assert len(part) == 2
    assert part.rows.tolist() == [71, 72]
    assert part.frame_counts.tolist() == [0, 5]
    assert torch.equal(part.frames, whole.frames[3:8])
    # Titles have three special tokens: the first is four long, the second three.
    assert part.token_counts.tolist() == [3, 7]
    assert torch.equal(part.token_ids, whole.token_ids[4:14])
    assert part.tag_counts.tolist() == [-1, 0]
    assert part.tag_positions.tolist() == []
    assert part.sizes.tolist() == [[0, 5], [3, 7], [0, 0], [0, 0]]
    assert part.frame_mask is None


def test_taking_spans_in_another_order():
    whole = tagged_batch()
    part = whole.take((3, 4), (0, 1))
    assert part.rows.tolist() == [73, 70]
    assert torch.equal(part.frames, torch.cat([whole.frames[8:], whole.frames[:3]]))
    assert torch.equal(part.token_ids, torch.cat([whole.token_ids[14:], whole.token_ids[:4]]))
    assert part.tag_positions.tolist() == [2, 4, 1]
    assert part.tag_counts.tolist() == [1, 2]


def test_taking_all_changes_nothing():
    whole = tagged_batch()
    part = whole.take((0, 4))
    for name, values in whole.tensors().items():
        assert torch.equal(getattr(part, name), values), name
    assert part.tensors().keys() == whole.tensors().keys()


def test_taking_of_a_filled_batch():
    config = tiny_config()
    filled = fill(tagged_batch(), config, PAD).take((2, 4))
    alone = fill(tagged_batch().take((2, 4)), config, PAD)
    for name, values in alone.tensors().items():
        assert torch.equal(getattr(filled, name), values), name
    assert alone.sizes.tolist() == filled.sizes.tolist() == [[5, 5], [7, 7], [0, 1], [0, 0]]
    assert alone.real_positions == 5 + 1 + 7 + 5


@pytest.mark.gpu
def test_pinned_and_moved_to_a_gpu(monkeypatch):
    monkeypatch.undo()
    whole = tagged_batch()
    pinned = whole.pinned()
    assert all(values.is_pinned() for values in pinned.tensors().values())
    moved = pinned.to("cuda")
    assert moved.sizes.tolist() == [[3, 0, 5, 1], [4, 3, 7, 5], [2, 0, 0, 1], [0] * 4]
    for name, values in whole.tensors().items():
        assert torch.equal(getattr(moved, name).cpu(), values), name
