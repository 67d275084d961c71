"""Which script titles are written in: a matter of letters, and no guess at a language.

The script of a letter is the first word of its Unicode name ("CYRILLIC SMALL LETTER A"), after
compatibility forms such as full-width letters are taken for what they stand for (NFKC).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vidvec.data.spread import Counts

TITLES_AT_ONCE = 50_000
# A second script counts where this share of a title's letters is in it.
MIXED_SHARE = 0.2
# Names of scripts end where these begin: "OLD PERSIAN SIGN A", "CANADIAN SYLLABICS E".
_KIND = re.compile(
    r" (CAPITAL|SMALL|LETTER|SIGN|SYLLABLE|SYLLABICS|CHARACTER|VOWEL|CONSONANT|IDEOGRAPH|"
    r"IDEOGRAPHIC|MODIFIER|HIEROGLYPH|COMPATIBILITY|LIGATURE|DIGRAPH|FINAL|CHOSEONG|JUNGSEONG|"
    r"JONGSEONG|INDEPENDENT|TONE|SUBJOINED)\b"
)
_NAMES = {
    "CJK UNIFIED": "Han",
    "CJK": "Han",
    "IDEOGRAPHIC": "Han",
    "HIRAGANA": "Kana",
    "KATAKANA": "Kana",
    "HENTAIGANA": "Kana",
    "GEORGIAN MTAVRULI": "Georgian",
}
NO_LETTERS = "no letters"


def script_of(character: str) -> str:
    """The script of a letter, such as ``Latin`` or ``Han``; empty where it is no letter."""
    plain = unicodedata.normalize("NFKC", character)[:1]
    if not plain or unicodedata.category(plain) not in {"Lu", "Ll", "Lt", "Lo"}:
        return ""
    name = unicodedata.name(plain, "")
    kind = _KIND.search(name)
    if not kind:
        return "other"
    first = name[: kind.start()]
    return _NAMES.get(first, first.title())


@dataclass(frozen=True, slots=True)
class Scripts:
    """In which scripts titles are written.

    Attributes:
        titles: Titles by the script that most of their letters are in, most frequent first. Han in
            a title with kana counts as kana: that is how Japanese is written, not a second script.
        mixed: Titles that have a fifth of their letters or more in a second script.
    """

    titles: Counts
    mixed: int


def count_scripts(titles: pa.ChunkedArray) -> Scripts:
    """Scripts of titles, those of blanks left out.

    Args:
        titles: A column of strings.
    """
    counts: dict[str, int] = {}
    mixed = 0
    for start in range(0, len(titles), TITLES_AT_ONCE):
        some = titles.slice(start, TITLES_AT_ONCE).to_pylist()
        mixed += _count([title for title in some if title.strip()], counts)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return Scripts(tuple(ordered), mixed)


def _count(titles: Sequence[str], counts: dict[str, int]) -> int:
    """Adds the titles to ``counts`` and returns how many of them are mixed."""
    if not titles:
        return 0
    points = np.frombuffer("".join(titles).encode("utf-32-le", "replace"), np.uint32)
    owner = np.repeat(np.arange(len(titles)), [len(title) for title in titles])
    distinct, where = np.unique(points, return_inverse=True)
    found = [script_of(chr(point)) for point in distinct.tolist()]
    names = sorted({*found, "Han", "Kana"} - {""})
    column = np.array([names.index(name) if name else -1 for name in found])[where]
    letters, width = column >= 0, len(names)
    flat = np.bincount(owner[letters] * width + column[letters], minlength=len(titles) * width)
    table = flat.reshape(-1, width)  # letters of each title in each script
    han, kana = names.index("Han"), names.index("Kana")
    japanese = table[:, kana] > 0
    table[japanese, kana] += table[japanese, han]
    table[japanese, han] = 0
    total, main = table.sum(axis=1), table.argmax(axis=1)
    for place, name in enumerate(names):
        _add(counts, name, int(((main == place) & (total > 0)).sum()))
    _add(counts, NO_LETTERS, int((total == 0).sum()))
    second = np.sort(table, axis=1)[:, -2]
    return int(((second >= MIXED_SHARE * total) & (second > 0)).sum())


def _add(counts: dict[str, int], name: str, count: int) -> None:
    if count:
        counts[name] = counts.get(name, 0) + count
