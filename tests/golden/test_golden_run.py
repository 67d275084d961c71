"""Twenty steps of pretraining give the losses on record (see ``tests.golden.record``)."""

from __future__ import annotations

import json

import pytest

from tests.golden.record import GOLDEN, STEPS, golden_run

REWRITE = "moved; if that is meant: python -m tests.golden.record, and say why in the commit"


def test_the_golden_run(tmp_path):
    expected, found = json.loads(GOLDEN.read_text("utf-8")), golden_run(tmp_path)
    assert set(found["losses"]) == set(expected["losses"]) == {"tag", "mlm", "mfm", "loss"}
    for name, losses in expected["losses"].items():
        assert len(losses) == STEPS
        assert found["losses"][name] == pytest.approx(losses, rel=1e-4), f"{name} {REWRITE}"
    assert found["validation"] == pytest.approx(expected["validation"], rel=1e-4), REWRITE
