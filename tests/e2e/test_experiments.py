"""The made corpus of `make experiments` with very few videos: trained, fused, distilled, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.experiments import made
from benchmarks.experiments.made_arms import STUDENTS, Plan
from benchmarks.experiments.made_report import MARKS, TITLES
from benchmarks.reproduction.arms import Scale
from benchmarks.reproduction.chains import DONE

PLAN = Plan(Scale(120, (1,), 1, 1), distill_epochs=1, resamples=20)


def done(folder: Path) -> dict[str, int]:
    """When each training was done."""
    found = folder.glob(f"results/seed1/*/{DONE}")
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


@pytest.mark.benchmark
def test_the_made_corpus_is_worked_through_once(tmp_path, monkeypatch):
    told: list[str] = []

    def one_after_the_other(jobs, say, workers):
        for name, job in jobs.items():
            job()
            told.append(name)

    monkeypatch.setattr(made, "run_side_by_side", one_after_the_other)
    monkeypatch.setattr("benchmarks.reproduction.chains.run_side_by_side", one_after_the_other)
    docs = tmp_path / "docs"
    docs.mkdir()
    page = docs / "experiments.md"
    page.write_text(f"before\n\n{MARKS[0]}\n{MARKS[1]}\n\nafter\n", "utf-8")
    made.main(tmp_path / "made", docs, PLAN)
    before = done(tmp_path / "made")
    assert len(told) == 3 + len(STUDENTS)
    # The linear reading alone, which takes no training, is made on the way.
    assert len(before) == len(told) + 1
    written = page.read_text("utf-8")
    assert written.startswith("before\n")
    assert written.endswith("\nafter\n")
    assert all(title in written for title in TITLES.values())

    made.main(tmp_path / "made", docs, PLAN)
    assert len(told) == 3 + len(STUDENTS)
    assert done(tmp_path / "made") == before
    assert page.read_text("utf-8") == written
