"""Losses, gradients and embeddings of the published code, on its weights and its masks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vidvec.config import load_recipe
from vidvec.errors import FormatError
from vidvec.train.reference import Reference, check_reference, load_reference

pytestmark = pytest.mark.shared
JOBS = [1, 2, 4]


@pytest.fixture(params=JOBS, ids=lambda job: f"job{job}")
def job(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def folder(shared, job) -> Path:
    return shared / "reference" / f"job{job}"


@pytest.fixture
def reference(folder, job) -> Reference:
    return load_reference(folder, load_recipe(f"aiac2021/job{job}"))


def test_everything_expected_holds(folder, job):
    differences = check_reference(folder, load_recipe(f"aiac2021/job{job}"))
    expected = load_file(folder / "expected.safetensors")
    assert sorted(each.name for each in differences) == sorted(expected)
    assert sum(each.name.startswith("grad_norm/") for each in differences) > 50
    assert [each for each in differences if not each.holds] == []


def test_embeddings_number_by_number(reference):
    with torch.no_grad():
        encoded = reference.encoder(reference.batch)
    expected = reference.expected
    assert torch.allclose(encoded.vectors, expected["embedding"], rtol=1e-4, atol=1e-6)
    cosines = (encoded.vectors[:3] * encoded.vectors[3:]).sum(1)
    assert torch.allclose(cosines, expected["cosine_pairs"], rtol=1e-4, atol=1e-6)


def test_loss_is_that_of_the_published_log(folder, job):
    """``meta.json`` repeats the losses as plain numbers."""
    published = json.loads((folder / "meta.json").read_text())["loss"]
    full = max(published, key=lambda name: name.count("+"))
    expected = load_file(folder / "expected.safetensors")
    assert float(expected[full]) == pytest.approx(published[full], rel=1e-6)


def test_filling_gives_the_published_layout(reference, folder):
    inputs = load_file(folder / "inputs.safetensors")
    batch = reference.encoder.filled(reference.batch)
    videos, tokens = inputs["input_ids"].shape
    assert torch.equal(batch.token_ids.view(videos, tokens), inputs["input_ids"])
    assert torch.equal(batch.frames.view(inputs["frames"].shape), inputs["frames"])
    assert torch.equal(batch.frame_mask.view(videos, -1), inputs["frame_mask"].bool())


def changed_copy(folder: Path, to: Path, file: str, change) -> Path:
    shutil.copytree(folder, to / folder.name)
    shutil.copytree(folder.parent / "bert_tiny", to / "bert_tiny")
    path = to / folder.name / file
    tensors = load_file(path)
    change(tensors)
    path.unlink()
    save_file(tensors, path)
    return to / folder.name


def scaled(name: str, factor: float):
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = tensors[name] * factor

    return change


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("loss/tag+mlm+mfm", 1.001),
        ("loss/mlm", 0.999),
        ("grad_norm/newfc_tag.weight", 1.01),
        ("embedding", 1.001),
        ("cosine_pairs", float("nan")),
    ],
)
def test_a_changed_expectation_is_found(shared, tmp_path, name, factor):
    folder = changed_copy(
        shared / "reference" / "job1", tmp_path, "expected.safetensors", scaled(name, factor)
    )
    differences = check_reference(folder, load_recipe("aiac2021/job1"))
    assert [each.name for each in differences if not each.holds] == [name]


def test_an_expectation_that_nothing_computes_fails(shared, tmp_path):
    def add(tensors: dict[str, torch.Tensor]) -> None:
        tensors["loss/tag+itm"] = torch.ones(1)
        tensors["grad_norm/some.other.weight"] = torch.ones(1)

    source = shared / "reference" / "job1"
    folder = changed_copy(source, tmp_path, "expected.safetensors", add)
    differences = check_reference(folder, load_recipe("aiac2021/job1"))
    failed = {each.name for each in differences if not each.holds}
    assert failed == {"loss/tag+itm", "grad_norm/some.other.weight"}


def test_a_changed_weight_is_found(shared, tmp_path):
    source = shared / "reference" / "job1"
    change = scaled("roberta.bert.video_fc.weight", 1.01)
    folder = changed_copy(source, tmp_path, "weights.safetensors", change)
    differences = check_reference(folder, load_recipe("aiac2021/job1"))
    assert sum(not each.holds for each in differences) >= 3


def test_another_jobs_recipe_does_not_hold(shared):
    with pytest.raises(FormatError, match="pool"):
        check_reference(shared / "reference" / "job1", load_recipe("aiac2021/job4"))
    differences = check_reference(shared / "reference" / "job1", load_recipe("aiac2021/base"))
    assert all(each.holds for each in differences)


def test_a_task_that_the_recipe_has_off_is_computed_where_the_reference_asks_for_it(shared):
    """Job 3 is job 2 without the masked frame model."""
    differences = check_reference(shared / "reference" / "job2", load_recipe("aiac2021/job3"))
    assert any("mvm" in each.name for each in differences)
    assert all(each.holds for each in differences)
