"""The words that set groups of videos apart.

Words are ranked by the log-likelihood ratio of how many videos of the theme and of the others have
them (Dunning 1993, "Accurate Methods for the Statistics of Surprise and Coincidence"). A tag is a
word; so are words of titles, and where they are written without spaces, runs of two to four
characters, of which those that always come within a longer one are left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log

WORDS, NAME_WORDS = 8, 2
# A word sets a theme apart if so many of its videos have it, and that is no chance: the ratio is
# distributed as χ² with one degree of freedom, which is above this once in a thousand times.
FEWEST_VIDEOS, LEAST_RATIO = 2, 10.83
# Shorter words of titles, written with spaces, are mostly grammar; tags of any length count.
SHORTEST = 3
# A shorter run of characters is left out where a longer one with it has this share of its videos.
WITHIN = 0.7
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\U00020000-\U0003ffff"
_RUNS = re.compile(rf"[{_HAN}]+|[^\W_{_HAN}]+(?:['’][^\W\d_{_HAN}]+)?")
_IS_HAN = re.compile(rf"[{_HAN}]")
# Characters of grammar: a run that begins or ends with one is no word of its own.
_PARTICLES = frozenset("的了在是和也就都而及与着过吗呢吧啊把被这那有我你他她它们不很太")
_GRAMS = (2, 3, 4)


@dataclass(frozen=True, slots=True)
class Named:
    """What sets a theme apart.

    Attributes:
        name: Its first words; ``#1`` and so on where there are none.
        words: Those that set it apart most, first.
    """

    name: str
    words: tuple[str, ...]


def words_of(title: str, tags: Sequence[str] = ()) -> set[str]:
    """Words of a video, in lower case: its tags, and the words or runs of its title."""
    found = {" ".join(tag.split()).casefold() for tag in tags}
    for run in _RUNS.findall(title.casefold()):
        if not _IS_HAN.match(run):
            if len(run) >= SHORTEST and not run.isdigit():
                found.add(run)
            continue
        for size in _GRAMS:
            for start in range(len(run) - size + 1):
                gram = run[start : start + size]
                if gram[0] not in _PARTICLES and gram[-1] not in _PARTICLES:
                    found.add(gram)
    return found - {""}


def name_themes(themes: Sequence[int], words: Iterable[set[str]], count: int) -> list[Named]:
    """Words and name of each theme.

    Args:
        themes: Theme of each video, below ``count``.
        words: Of each of these videos; those without any are not counted.
        count: How many themes there are.
    """
    counts = [Counter[str]() for _ in range(count)]
    videos = [0] * count
    for theme, some in zip(themes, words, strict=True):
        counts[theme].update(some)
        videos[theme] += bool(some)
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    taken: set[str] = set()
    named = []
    for number, each in enumerate(counts):
        apart = tuple(_apart(each, videos[number], total, sum(videos)))
        name = _name(apart, taken) or f"#{number + 1}"
        taken.add(name)
        named.append(Named(name, apart))
    return named


def _apart(
    counts: Counter[str], videos: int, total: Mapping[str, int], all_videos: int
) -> list[str]:
    """The words that set one theme apart from all others, most of all first."""
    others = all_videos - videos
    scored = []
    for word, count in counts.items():
        elsewhere = total[word] - count
        if count >= FEWEST_VIDEOS and count * others > elsewhere * videos:
            ratio = likelihood_ratio(count, videos, elsewhere, others)
            scored.append((-ratio, word))
    ranked = [word for ratio, word in sorted(scored) if ratio <= -LEAST_RATIO]
    return _without_parts(ranked[: 20 * WORDS], counts)[:WORDS]


def likelihood_ratio(count: int, videos: int, elsewhere: int, others: int) -> float:
    """−2 log λ of a word that ``count`` of ``videos`` have, and ``elsewhere`` of ``others``.

    It is 2 Σ O log(O / E) over the four counts of videos in and out of the theme, with the word and
    without, where E is what they would be if the word had nothing to do with the theme.
    """
    share = (count + elsewhere) / (videos + others)
    observed = (count, videos - count, elsewhere, others - elsewhere)
    expected = (videos * share, videos * (1 - share), others * share, others * (1 - share))
    pairs = zip(observed, expected, strict=True)
    return 2 * sum(found * log(found / wanted) for found, wanted in pairs if found)


def _without_parts(words: list[str], counts: Mapping[str, int]) -> list[str]:
    """The words, but for runs of characters that say nothing beside another one."""
    kept: list[str] = []
    for word in words:
        if not _IS_HAN.match(word):
            kept.append(word)
            continue
        longer = (
            word in other and counts[other] >= WITHIN * counts[word]
            for other in words
            if other != word
        )
        overlapping = (_overlap(word, other) for other in kept)
        if not any(longer) and not any(overlapping):
            kept.append(word)
    return kept


def _overlap(word: str, other: str) -> bool:
    """Whether one holds the other, or begins with two characters or more of the other's end."""
    if word in other or other in word:
        return True
    sizes = range(2, min(len(word), len(other)))
    return any(word[-n:] == other[:n] or other[-n:] == word[:n] for n in sizes)


def _name(words: Sequence[str], taken: set[str]) -> str:
    """The first words that do not hold one another, as many as no other theme has this name."""
    apart: list[str] = []
    for word in words:
        if not any(word in other or other in word for other in apart):
            apart.append(word)
    for many in range(min(NAME_WORDS, len(apart)), len(apart) + 1):
        name = ", ".join(apart[:many])
        if name not in taken:
            return name
    return ""
