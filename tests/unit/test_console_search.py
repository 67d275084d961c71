"""What a search looks like in a terminal."""

from __future__ import annotations

import numpy as np

from tests.unit.test_console import ESCAPE, printed
from vidvec import console_search
from vidvec.search.types import Hit, IndexedVideo, Why
from vidvec.search.worst import WorstPair, WorstPairs


def test_hits_with_and_without_what_is_known() -> None:
    video = IndexedVideo("a", "海边 [red]", ("sea", "boat"), "coast")
    found = [Hit("a", float(np.float32(0.98762))), Hit("gone", -0.5)]
    lines = printed(console_search.found({"a": video}, found)).splitlines()
    assert lines[3].split() == ["1", "0.9876", "a", "海边", "[red]", "sea,", "boat", "coast"]
    assert lines[4].split() == ["2", "-0.5000", "gone"]
    assert "title" not in printed(console_search.found({}, found))
    assert "title" not in printed(console_search.found({"a": IndexedVideo("a")}, found))
    assert "score" in printed(console_search.found({}, found, score="score"))
    assert printed(console_search.found({}, []))


def test_an_id_is_never_cut_short() -> None:
    name = "a-very-long-id-" * 4
    video = IndexedVideo(name, "a title of many words " * 9)
    shown = printed(console_search.found({name: video}, [Hit(name, 0.5)]), width=80)
    assert name in shown


def test_why_by_modality() -> None:
    hits = [Hit("a", 0.5), Hit("b", 0.4)]
    why = [Why({"frames": 0.25, "title": 0.75}, {"frames": -0.125, "title": 0.0625}), Why()]
    lines = printed(console_search.found({}, hits, why)).splitlines()
    assert lines[1].split() == ["cosine", "id", "by", "frames", "by", "title"]
    assert lines[3].split() == ["1", "0.5000", "a", "0.250", "+0.125", "0.750", "-0.062"]
    assert lines[4].split() == ["2", "0.4000", "b", "–", "–"]


def pair(**changes: object) -> WorstPair:
    values = {
        "id_1": "one",
        "id_2": "two",
        "score": 0.25,
        "cosine": 0.875,
        "score_rank": 0.125,
        "cosine_rank": 1.0,
        "gap": 0.875,
    }
    return WorstPair(**(values | changes))  # type: ignore[arg-type]


def test_worst_pairs() -> None:
    pairs = WorstPairs([pair(why={"title": 0.5}), pair(id_1="three")], 1234, 0.5)
    lines = printed(console_search.worst_pairs("vectors", pairs, {"one": "海"})).splitlines()
    assert "2 of 1,234" in lines[0]
    row = ["1", "0.875", "0.25", "0.125", "0.8750", "1.000", "+0.500", "one", "海"]
    assert lines[4].split() == row
    assert lines[5].split() == ["two"]
    assert "three" in lines[6]
    assert "–" in lines[6]


def test_nothing_that_a_user_wrote_is_obeyed() -> None:
    video = IndexedVideo(ESCAPE, ESCAPE, (ESCAPE,), ESCAPE)
    worst = WorstPairs([pair(id_1=ESCAPE)], 1, 0.5)
    text = printed(
        console_search.found({ESCAPE: video}, [Hit(ESCAPE, 0.5)]),
        console_search.worst_pairs(ESCAPE, worst, {ESCAPE: ESCAPE}),
        width=400,
    )
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("[bold]not bold[/]") >= 6
