"""What the terminal shows: the figures, whole, and nothing that a terminal would obey."""

from __future__ import annotations

from rich.console import Console

from vidvec import console
from vidvec.doctor.findings import Finding
from vidvec.embed.evaluate import Evaluation
from vidvec.metrics import Interval

ESCAPE = "\x1b[31mred\x07 [bold]not bold[/]"


def printed(*parts: object, width: int = 140) -> str:
    out = Console(width=width, record=True, force_terminal=False)
    with out.capture() as capture:
        for part in parts:
            out.print(part)
    return capture.get()


def test_nothing_that_a_user_wrote_is_obeyed() -> None:
    finding = Finding(ESCAPE, "note", ESCAPE, ESCAPE)
    text = printed(console.finding(finding))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("[bold]not bold[/]") >= 2


def test_a_finding_fits_a_narrow_terminal() -> None:
    found = Finding("disk /a/long/path/of/a/folder", "problem", "word " * 40, "do " * 30)
    lines = printed(console.finding(found), width=80).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "→ do" in "".join(lines)
    assert lines[0].startswith("problem")
    assert "→" not in printed(console.finding(Finding("a", "ok", "well")))


def evaluation(**changes: object) -> Evaluation:
    values = {
        "split": "clean",
        "pairs": 791,
        "missing": 0,
        "shared": 0,
        "spearman": Interval(0.81234, 0.79, 0.835),
        "pearson": Interval(0.7, 0.6, 0.8),
        "mse": Interval(0.0312, 0.03, 0.04),
        "clean_spearman": None,
    }
    return Evaluation(**(values | changes))  # type: ignore[arg-type]


def test_evaluations() -> None:
    text = printed(console.evaluations([("untrained", evaluation()), ("fused", evaluation())]))
    assert "split: clean" in text
    [line] = [line for line in text.splitlines() if "fused" in line]
    assert line.split() == ["fused", "0.8123", "0.7900", "…", "0.8350", "0.7000", "0.0312", "791"]
    assert "without vectors" not in text

    leaky = evaluation(missing=3, shared=5, clean_spearman=Interval(0.5, 0.4, 0.6))
    text = printed(console.evaluations([("a", leaky), ("b", evaluation())]), width=200)
    assert "share no video with training" in text
    assert "0.5000 [0.4000, 0.6000]" in text
