"""Batches on their way to a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vidvec.data.batches import _each, prefetch
from vidvec.records import Batch


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
def test_without_a_gpu_results_stay_where_they_are(device):
    tensors = [torch.ones(2), torch.ones(3)]
    found = list(prefetch(range(2), tensors.__getitem__, device=device))
    assert all(one is other for one, other in zip(found, tensors, strict=True))


def test_what_is_copied_of_a_result():
    """Tensors and batches, wherever they are in tuples, and nothing else."""
    seen = []
    rows, tensor = np.arange(2), torch.ones(2)
    batch = Batch(torch.ones(1, 1), torch.tensor([1]), torch.tensor([2]), torch.tensor([1]))

    def act(part: object) -> str:
        seen.append(part)
        return "copied"

    assert _each((rows, (batch, tensor), "a"), act) == (rows, ("copied", "copied"), "a")
    assert seen[0] is batch
    assert seen[1] is tensor
    assert _each(tensor, act) == "copied"


@pytest.mark.gpu
def test_results_come_to_a_gpu_as_they_were_made(monkeypatch):
    monkeypatch.undo()  # of the fixture that hides the GPU
    device = torch.device("cuda")
    made = [torch.full((1 << 20,), float(number)) for number in range(20)]
    for number, (place, there) in enumerate(
        prefetch(range(20), lambda n: (n, made[n]), device=device)
    ):
        assert place == number
        assert there.device.type == "cuda"
        # Work that outlasts the step, over memory that the next copies would like to have.
        doubled = (there @ there.view(-1, 1)).item()
        assert doubled == pytest.approx(number**2 * 2**20, rel=1e-4)
