"""Scripts by hand, and letter by letter against fontTools' copy of the Unicode script property."""

from __future__ import annotations

import unicodedata

import pyarrow as pa
import pytest
from fontTools import unicodedata as reference

from vidvec.data import scripts
from vidvec.data.scripts import NO_LETTERS, count_scripts, script_of


@pytest.mark.parametrize(
    ("character", "script"),
    [
        ("a", "Latin"),
        ("É", "Latin"),
        ("Ａ", "Latin"),  # full width
        ("ß", "Latin"),
        ("海", "Han"),
        ("々", ""),  # a mark of repetition, no letter of its own
        ("あ", "Kana"),
        ("ｱ", "Kana"),  # half width
        ("한", "Hangul"),
        ("Ж", "Cyrillic"),
        ("ψ", "Greek"),
        ("ع", "Arabic"),
        ("ש", "Hebrew"),
        ("ก", "Thai"),
        ("क", "Devanagari"),
        ("ა", "Georgian"),
        ("7", ""),
        ("!", ""),
        (" ", ""),
        ("🎬", ""),
        ("\n", ""),
    ],
)
def test_script_of_a_letter(character: str, script: str) -> None:
    assert script_of(character) == script


def test_letters_agree_with_the_unicode_property() -> None:
    """Scripts in use today; a few rare letters have names that do not say it."""
    alike: dict[str, list[bool]] = {}
    for point in range(0x20000):
        found = script_of(chr(point))
        if found:
            plain = unicodedata.normalize("NFKC", chr(point))[0]
            name = reference.script_name(reference.script(plain)).replace("_", " ")
            expected = "Kana" if name in {"Hiragana", "Katakana"} else name
            alike.setdefault(expected, []).append(found == expected)
    living = ["Latin", "Han", "Kana", "Hangul", "Cyrillic", "Greek", "Arabic", "Hebrew", "Thai"]
    living += ["Devanagari", "Bengali", "Tamil", "Telugu", "Georgian", "Armenian", "Ethiopic"]
    for script in living:
        share = sum(alike[script]) / len(alike[script])
        assert share > 0.95, script


def test_titles_by_the_script_of_most_letters() -> None:
    titles = [
        *["海边的帆船", "海边的帆船 HD"],  # Han; Han with two Latin letters of seven: mixed
        *["Hello 2026", "Hello мир мир"],  # Latin; Cyrillic six of eleven: mixed
        *["東京タワー", "カタカナ"],  # kana, with Han or without
        *["123 !!", "🎬"],
        *["", "   "],  # of blanks: left out
    ]
    found = count_scripts(pa.chunked_array([titles[:3], titles[3:]]))
    counts = {"Han": 2, "Kana": 2, "Cyrillic": 1, "Latin": 1, NO_LETTERS: 2}
    assert dict(found.titles) == counts
    assert found.titles[0][1] == 2
    assert found.mixed == 2


def test_many_titles_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    column = pa.chunked_array([["sea", "море", "海", "", "σ x"] * 7, ["море"] * 4])
    whole = count_scripts(column)
    monkeypatch.setattr(scripts, "TITLES_AT_ONCE", 3)
    assert count_scripts(column) == whole
    assert dict(whole.titles)["Cyrillic"] == 11


def test_a_title_with_half_a_surrogate_pair_is_counted() -> None:
    assert dict(count_scripts(pa.chunked_array([["sea"]])).titles) == {"Latin": 1}
    assert count_scripts(pa.chunked_array([], pa.string())).titles == ()
