"""Fusion by workers: against one process and against the plain product, however work is cut up."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.embed.test_fusion import members, written
from vidvec.cli import app
from vidvec.embed import fusion as module
from vidvec.embed.fusion import PARTS, GramMatrix, fuse, load_fusion
from vidvec.embed.fusion_parts import fuse_in_parts
from vidvec.embed.vectors import Vectors, VectorWriter
from vidvec.errors import FormatError, UsageError
from vidvec.workers import Here, Part, make


class Stopped(BaseException):
    pass


class Shuffled(Here):
    """Makes parts in random order, and only so many of them before all is stopped."""

    def __init__(self, most: int = 10**9) -> None:
        self.made: list[str] = []
        self.most = most

    def run(self, parts):
        some = list(parts)
        for place in np.random.default_rng(3).permutation(len(some)):
            part = some[place]
            if len(self.made) == self.most:
                raise Stopped
            make(part)
            self.made.append(part.output.name)
            yield part


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Three models of 300 videos; sums of 64 rows, so that there are five."""
    monkeypatch.setattr(module, "SHARD_ROWS", 64)
    matrices = members(dimensions=(20, 12, 7))
    return [written(tmp_path / f"model-{i}", each, f"{i}") for i, each in enumerate(matrices)]


def files(folder) -> dict[str, bytes]:
    """What lies in a folder of vectors, but for the folder's name in it."""
    found = {each.relative_to(folder): each for each in folder.rglob("*") if each.is_file()}
    return {str(name): path.read_bytes() for name, path in sorted(found.items())}


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 200),
    cuts=st.lists(st.integers(0, 200), max_size=8),
    order=st.randoms(use_true_random=False),
    shift=st.sampled_from([0.0, 1.0, 1e3]),
)
def test_sums_of_any_split_in_any_order_are_those_of_all_rows(rows, cuts, order, shift):
    matrix = np.random.default_rng(rows).normal(size=(rows, 6)) + shift
    bounds = [0, *sorted(min(cut, rows) for cut in cuts), rows]  # equal ones: an empty shard
    shards = []
    for start, stop in pairwise(bounds):
        gram = GramMatrix(6)
        gram.add(matrix[start:stop])
        shards.append(gram)
    order.shuffle(shards)
    total = GramMatrix(6)
    while shards:  # some are added up with one another first
        one = shards.pop()
        if shards and order.random() < 0.5:
            shards[0].merge(one)
        else:
            total.merge(one)
    wanted = matrix.T @ matrix
    assert total.rows == rows
    assert np.abs(total.sum - wanted).max() <= 1e-9 * max(1.0, np.abs(wanted).max())


def test_a_sum_comes_back_from_its_file_bit_by_bit(tmp_path):
    gram = GramMatrix(5)
    gram.add(np.random.default_rng(0).normal(size=(40, 5)))
    gram.save(tmp_path / "sum.safetensors")
    again = GramMatrix.load(tmp_path / "sum.safetensors")
    assert again.rows == 40
    assert again.sum.tobytes() == gram.sum.tobytes()
    (tmp_path / "sum.safetensors").write_bytes(b"cut off")
    with pytest.raises(FormatError, match="cannot be read"):
        GramMatrix.load(tmp_path / "sum.safetensors")


@pytest.mark.parametrize(
    ("weights", "ids"), [(None, "same"), ([3, 1, 2], "order"), (None, "fewer")]
)
def test_workers_write_what_one_process_does(folders, tmp_path, weights, ids):
    if ids != "same":
        order = np.random.default_rng(1).permutation(300)[: 260 if ids == "fewer" else None]
        matrix = members(dimensions=(20, 12, 7))[1][order]
        folders[1] = written(tmp_path / "other", matrix, "1", [str(row) for row in order])
    fuse(folders, tmp_path / "whole", weights, 8, weights_from={"split": "clean"})
    workers = Shuffled()
    fusion = fuse_in_parts(
        folders,
        tmp_path / "parts",
        weights,
        8,
        workers=workers,
        weights_from={"split": "clean"},
    )
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert len(workers.made) == 10
    assert np.array_equal(fusion.projection, load_fusion(tmp_path / "whole").projection)


@pytest.mark.parametrize("after", [2, 8])
def test_a_stopped_fusion_makes_only_what_is_missing(folders, tmp_path, after):
    fuse(folders, tmp_path / "whole", size=8)
    first, second, third = Shuffled(after), Shuffled(), Shuffled()
    with pytest.raises(Stopped):
        fuse_in_parts(folders, tmp_path / "parts", size=8, workers=first)
    fuse_in_parts(folders, tmp_path / "parts", size=8, workers=second)
    assert len(first.made) == after
    assert sorted(first.made + second.made) == sorted(set(first.made + second.made))
    assert len(first.made + second.made) == 10
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    fuse_in_parts(folders, tmp_path / "parts", size=8, workers=third)
    assert third.made == []


def test_one_process_goes_on_where_workers_were_stopped_and_the_other_way(
    folders, tmp_path, monkeypatch
):
    fuse(folders, tmp_path / "whole", size=8)
    with pytest.raises(Stopped):
        fuse_in_parts(folders, tmp_path / "one", size=8, workers=Shuffled(7))
    fuse(folders, tmp_path / "one", size=8)
    append, done = VectorWriter.append, []

    def stopping(self, ids, vectors):
        if len(done) == 2:
            raise Stopped
        done.append(append(self, ids, vectors))

    with monkeypatch.context() as context:
        context.setattr(VectorWriter, "append", stopping)
        with pytest.raises(Stopped):
            fuse(folders, tmp_path / "other", size=8)
    workers = Shuffled()
    fuse_in_parts(folders, tmp_path / "other", size=8, workers=workers)
    assert sorted(workers.made) == ["000002.arrow", "000003.arrow", "000004.arrow"]
    for name in ("one", "other"):
        assert files(tmp_path / name) == files(tmp_path / "whole")


def test_what_another_fusion_left_is_not_taken(folders, tmp_path):
    """Before a manifest says whose they are, shards of other weights may lie there."""
    with pytest.raises(Stopped):
        fuse_in_parts(folders, tmp_path / "parts", [1, 2, 3], 8, workers=Shuffled(8))
    fuse_in_parts(folders, tmp_path / "parts", [3, 2, 1], 8, workers=Shuffled())
    fuse(folders, tmp_path / "whole", [3, 2, 1], 8)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert not (tmp_path / "parts" / PARTS).exists()
    with pytest.raises(UsageError, match="give a new folder"):
        fuse_in_parts(folders, tmp_path / "parts", [1, 2, 3], 8, workers=Shuffled())


def test_sums_of_many_dimensions_are_the_same_bits(tmp_path, monkeypatch):
    """Where blocks are summed in float32, too: every sum has a point of its own."""
    monkeypatch.setattr(module, "SHARD_ROWS", 512)
    wide = members(1300, (300, 260))
    folders = [written(tmp_path / f"{i}", each, f"{i}") for i, each in enumerate(wide)]
    fuse(folders, tmp_path / "whole", size=16)
    fuse_in_parts(folders, tmp_path / "parts", size=16, workers=Shuffled())
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_few_sums_however_many_rows(folders, monkeypatch):
    ready = module.prepared(folders, None, 8, "streaming", None)
    assert ready.part_rows == 64
    monkeypatch.setattr(module, "MOST_PARTS", 2)
    assert ready.part_rows == 192


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FormatError, match="same path"):
        make(Part(tmp_path / "nothing", print, ("made", "nothing")))


def test_the_plan_is_readable(folders, tmp_path):
    with pytest.raises(Stopped):
        fuse_in_parts(folders, tmp_path / "parts", size=8, workers=Shuffled(3))
    plan = json.loads((tmp_path / "parts" / PARTS / "plan.json").read_text("utf-8"))
    assert plan["part_rows"] == 64
    assert plan["facts"]["made_by"]["weights"] == [1 / 3] * 3
    with pytest.raises(FormatError):
        Vectors(tmp_path / "parts")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--workers", "0"], "expected 1 or more"),
        (["--workers", "2", "--method", "exact"], "give no workers"),
        (["--on", "nowhere"], "is no place to run"),
    ],
)
def test_workers_that_cannot_be(folders, tmp_path, options, said):
    command = ["fuse", *map(str, folders), "--out", str(tmp_path / "out"), *options]
    with pytest.raises(UsageError, match=said):
        app(command, result_action="return_value", exit_on_error=False)
    assert not (tmp_path / "out").exists()
