"""A scorecard as JSON, as a page, in a terminal, and beside another one."""

from __future__ import annotations

import io
import json
import math
import re

import pytest
from rich.console import Console

from vidvec import console_scorecard
from vidvec.errors import FormatError
from vidvec.metrics import Interval
from vidvec.search.scorecard.comparison import compare
from vidvec.search.scorecard.copies import Shown
from vidvec.search.scorecard.figures import Figure, Row, Scorecard, Section
from vidvec.search.scorecard.page import to_html

NAN = math.nan


def card(value: float = 0.7, *, against: bool = True, name: str = "a<b>") -> Scorecard:
    better = Interval(0.1, 0.05, 0.15)
    figure = Figure(value, value - 0.1, value + 0.1, Interval(value - 0.1, 0.5, 0.7), better)
    plain = Figure(value, value - 0.1, value + 0.1)
    rows = {
        "spearman": Row("Spearman", 120, {"over_pairs": figure if against else plain}),
        "pearson": Row("Pearson", 3, {"over_pairs": Figure(NAN)}, few=True),
    }
    bins = [{"pairs": 40, "foretold": 0.2, "similar": 0.25}]
    sections = {
        "agreement": Section("Agreement", "pairs", {"over_pairs": "over pairs"}, rows, ["A note."]),
        "copies": Section("Copies", left_out="no <files> here"),
        "calibration": Section(
            "Calibration",
            "pairs",
            {"value": "value"},
            {"brier": Row("Brier score", 120, {"value": Figure(0.1)})},
            facts={"bins": bins},
        ),
    }
    settings = {"videos": 10, "pairs": 120, "split": "clean", "seed": 0}
    return Scorecard(name, "0" * 16, "corpus", "other" if against else "", settings, sections)


def shown(parts) -> str:
    console = Console(file=io.StringIO(), width=100)
    for part in parts:
        console.print(part)
    return console.file.getvalue()


def test_what_is_written_is_read_again(tmp_path):
    card().save(tmp_path / "card.json")
    text = (tmp_path / "card.json").read_text("utf-8")
    assert "NaN" not in text
    found = json.loads(text)
    assert found["kind"] == "scorecard"
    figure = found["sections"]["agreement"]["rows"]["spearman"]["figures"]["over_pairs"]
    assert figure["difference"] == {"value": 0.1, "low": 0.05, "high": 0.15}
    again = Scorecard.load(tmp_path / "card.json")
    assert repr(again) == repr(card())  # NaN equals nothing, not itself either


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "no scorecard"),
        ('{"kind": "scorecard", "format_version": 9}', "version 9"),
        ('{"kind": "scorecard", "format_version": 1}', "damaged"),
        ("[", "not JSON"),
    ],
)
def test_what_is_no_scorecard_is_refused(tmp_path, text, said):
    (tmp_path / "card.json").write_text(text, "utf-8")
    with pytest.raises(FormatError, match=said):
        Scorecard.load(tmp_path / "card.json")


def test_the_page_says_all_and_fetches_nothing():
    page = to_html(card(), Shown("v<1>", {"crop": b"jpeg", "screen": b"jpeg"}))
    assert "0.7000" in page
    assert "0.600 … 0.800" in page
    assert "+0.1000" in page
    assert "Left out: no &lt;files&gt; here" in page
    assert "a&lt;b&gt;" in page
    assert 'class="few"' in page
    assert "not defined" in page
    assert "<b>a" not in page
    assert "nan" not in page.lower()
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "prefers-color-scheme: dark" in page


def test_samples_are_shown_where_copies_were_measured():
    whole = card()
    section = Section("Copies", "copies", {}, {"all": Row("all", 1, {})})
    sections = {**whole.sections, "copies": section}
    measured = Scorecard("v", "", "c", "", whole.settings, sections)
    page = to_html(measured, Shown("v<1>", {"screen": b"jpeg"}))
    assert "filmed off a screen" in page
    assert 'alt="v&lt;1&gt;, filmed off a screen"' in page


def test_a_terminal_shows_values_intervals_and_differences():
    text = shown(console_scorecard.scorecard(card()))
    assert "0.7000" in text
    assert "0.600 … 0.800" in text
    assert "+0.1000*" in text
    assert "Pearson  (few)" in text
    assert "Copies: left out: no <files> here" in text
    alone = shown(console_scorecard.scorecard(card(against=False)))
    assert "+0.1000" not in alone


def test_two_scorecards_beside_each_other():
    found = compare(card(0.7), card(0.95, name="second"))
    lines = {(line.row, line.figure): line for line in found.lines}
    assert set(lines) == {
        ("spearman", "over_pairs"),
        ("pearson", "over_pairs"),
        ("brier", "value"),
    }
    assert lines["spearman", "over_pairs"].difference == pytest.approx(0.25)
    assert lines["spearman", "over_pairs"].apart
    assert not compare(card(0.7), card(0.75)).lines[0].apart
    assert found.notes == []
    text = shown(console_scorecard.comparison(found, "A.json", "B.json"))
    assert "+0.2500" in text
    assert "second: B.json, of second" in text


def test_what_was_not_measured_alike_is_said():
    other = card()
    settings = {**other.settings, "seed": 5}
    sections = {**other.sections, "copies": Section("Copies", "copies")}
    changed = Scorecard("v", "", "elsewhere", "", settings, sections)
    notes = compare(card(), changed).notes
    assert notes == [
        "Of different corpora: corpus and elsewhere.",
        "Measured with different seed: 0 and 5.",
        "Copies: left out of the first.",
    ]
