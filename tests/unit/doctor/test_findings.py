"""Whatever a check does to its process, what it found before is kept and the others go on."""

from __future__ import annotations

import time

import pytest

from vidvec.doctor.findings import Check, Finding, run_check, run_checks

BAD = "tests.unit.doctor.bad_checks"


def test_a_finding_comes_back_as_it_was() -> None:
    found = run_check(Check("good", f"{BAD}:good", ("a b", "海 [x]")))
    assert found == [Finding("good", "ok", "a b 海 [x]")]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("raises", "exit status 1): ValueError: it is broken"),
        ("leaves", "exit status 3"),
        ("crashes", "ended by signal 11"),
        ("hangs", "did not end within 2 s"),
        ("missing", "has no attribute 'missing'"),
    ],
)
@pytest.mark.parametrize("basic", [True, False])
def test_a_check_that_fails_is_a_finding(name: str, said: str, basic: bool) -> None:
    before = time.monotonic()
    found = run_check(Check("the check", f"{BAD}:{name}", seconds=2, basic=basic))
    assert time.monotonic() - before < 10
    assert found[-1].name == "the check"
    assert found[-1].status == ("problem" if basic else "note")
    assert said in found[-1].found
    if name != "missing":
        assert found[:-1] == [Finding("before", "ok", "海" if name == "raises" else "kept")]


def test_findings_come_in_the_order_of_the_checks() -> None:
    checks = [
        Check("a", f"{BAD}:crashes"),
        Check("b", f"{BAD}:good", ("b",), alone=True),
        Check("c", f"{BAD}:good", ("c",)),
        Check("d", f"{BAD}:raises"),
    ]
    found = list(run_checks(checks, 3))
    assert [some[-1].name for some in found] == ["a", "good", "good", "d"]
    assert [some[0].found for some in found] == ["kept", "b", "c", "海"]
