"""The load test of the server, small: what it prints; no time is asserted."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.benchmark


def test_the_load_test_prints_its_table(tmp_path):
    small = ["--vectors", "300", "--rate", "10", "--seconds", "1", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serve", *small],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert "300 vectors × 256" in done.stdout
    assert [row[0] for row in cells[1:]] == ["10", "30"]
    for row in cells[1:]:
        figures = dict(zip(cells[0], row, strict=True))
        assert figures["errors"] == "0"
        assert float(figures["answered"]) > 0
        assert float(figures["p50 ms"]) <= float(figures["p99"]) <= float(figures["max"])
