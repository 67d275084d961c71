"""The GPU benchmark's own code, at a size that the CPU tries in seconds."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from benchmarks import gpu
from benchmarks.gpu_checks import Check
from benchmarks.gpu_speed import Timing
from vidvec.model import attention

pytestmark = pytest.mark.benchmark


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    gpu.main(["--tiny", "--out", str(folder)])
    return json.loads((folder / "gpu.json").read_text()), (folder / "gpu.md").read_text()


def test_nothing_fails_and_all_checks_hold(found):
    report, text = found
    assert report["failures"] == {}
    assert report["skipped"] == []
    assert len(report["checks"]) > 60
    assert [check for check in report["checks"] if not check["holds"]] == []
    assert f"{len(report['checks'])} of {len(report['checks'])} checks hold." in text


def test_both_sides_are_measured_on_as_many_real_positions(found):
    rows = {row["name"]: row for row in found[0]["speeds"]}
    for stage in ("pretrain", "finetune", "embed"):
        for name in (stage, f"plain: {stage}"):
            # A made video has 40 real positions on average, 11 at least and 68 at most.
            positions = rows[name]["tokens_per_second"] / rows[name]["videos_per_second"]
            assert 11 <= positions <= 68
            assert 0 < rows[name]["share"] < 1


def test_what_fails_is_told_and_the_rest_goes_on(capsys):
    findings = gpu.Findings({"device": "none"})
    session = gpu.Session(findings, 60)
    done = []
    session.section("first", lambda: 1 / 0)
    session.section("second", lambda: done.append(2))
    assert done == [2]
    assert "ZeroDivisionError" in findings.failures["first"]
    assert "FAILED first" in findings.to_markdown()
    gpu.Session(findings, -1).section("third", lambda: done.append(3))
    assert (done, findings.skipped) == ([2], ["third"])


def test_the_kernel_is_back_after_the_grid():
    before = attention.takes_flash
    with suppress(KeyError), gpu.on_the_grid():
        assert not attention.takes_flash(None, None, None)
        raise KeyError
    assert attention.takes_flash is before


def test_figures_by_hand():
    timing = Timing("pretrain", "24 × 1024", (4.0, 1.0, 2.0), 100, 4000, 6e12, 3 * 10**9)
    row = timing.row(matrix_rate=1e13)
    assert row["videos_per_second"] == 50
    assert (row["lowest"], row["highest"]) == (25, 100)
    assert row["tokens_per_second"] == 2000
    assert row["share"] == pytest.approx(0.3)
    assert row["peak_gb"] == 3
    assert not Check("", float("nan"), 1.0).holds
