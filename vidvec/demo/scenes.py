"""The demo's grammar: what a video shows, what its title and tags say, how alike two videos are.

A scene is drawn from a seed. Its pictures show theme, mood and motion best and the subject small;
its title names subject and theme in one of many ways, or neither, or wrongly; its tags name each
attribute with some probability, in either language. So neither pictures nor titles alone tell how
similar two videos are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidvec.demo import words

Random = np.random.Generator

MOODS = ("day", "sunset", "night", "mist")
PATTERNS = ("straight", "circle", "bounce", "zigzag")
SPEEDS = ("slow", "fast")

THEME_WEIGHT, SUBJECT_WEIGHT, MOOD_WEIGHT, MOTION_WEIGHT = 0.28, 0.47, 0.15, 0.1
# What two unrelated videos share by chance counts as nothing; two that differ only in how something
# moves are as good as the same.
CHANCE, SAME = 0.2, 0.9
SAME_GROUP, SAME_FAMILY, NEAR_MOOD = 0.3, 0.3, 0.4
BILINGUAL = 0.25
_NEAR_MOODS = {
    frozenset(pair) for pair in (("day", "sunset"), ("sunset", "night"), ("day", "mist"))
}


@dataclass(frozen=True, slots=True)
class Scene:
    """What a video shows: the latent attributes that decide scores.

    Attributes:
        theme: A key of ``words.THEMES``.
        subject: A key of ``words.SUBJECTS``.
        mood: One of ``MOODS``: light and colour of the picture.
        pattern: One of ``PATTERNS``: the subject's path.
        speed: One of ``SPEEDS``.
        rightward: Direction; it does not count, so that a mirrored copy is as similar.
        look: Seeds everything else in the pictures: composition, colours, sizes, number.
    """

    theme: str
    subject: str
    mood: str
    pattern: str
    speed: str
    rightward: bool
    look: int


def draw_scene(random: Random) -> Scene:
    """Draws a scene, themes and moods equally often."""
    theme = _one_of(random, tuple(words.THEMES))
    return Scene(
        theme=theme,
        subject=_one_of(random, words.THEMES[theme].subjects),
        mood=_one_of(random, MOODS),
        pattern=_one_of(random, PATTERNS),
        speed=_one_of(random, SPEEDS),
        rightward=bool(random.random() < 0.5),
        look=int(random.integers(2**32)),
    )


def similarity(first: Scene, second: Scene) -> float:
    """How similar two scenes are, 0…1.

    ``s = 0.28·theme + 0.47·subject + 0.15·mood + 0.1·motion``,
    then ``(s − 0.2) / 0.7``, cut to 0…1.
    Theme is 1 for the same, 0.3 within a group; subject 1 for the same, 0.3 within a family; mood 1
    for the same, 0.4 for neighbours such as sunset and night; motion is half path, half speed.
    """
    themes, subjects = words.THEMES, words.SUBJECTS
    theme = _graded(
        first.theme == second.theme,
        themes[first.theme].group == themes[second.theme].group,
        SAME_GROUP,
    )
    subject = _graded(
        first.subject == second.subject,
        subjects[first.subject].family == subjects[second.subject].family,
        SAME_FAMILY,
    )
    near = frozenset((first.mood, second.mood)) in _NEAR_MOODS
    mood = _graded(first.mood == second.mood, near, NEAR_MOOD)
    motion = 0.5 * (first.pattern == second.pattern) + 0.5 * (first.speed == second.speed)
    total = (
        THEME_WEIGHT * theme
        + SUBJECT_WEIGHT * subject
        + MOOD_WEIGHT * mood
        + MOTION_WEIGHT * motion
    )
    return min(1.0, max(0.0, (total - CHANCE) / (SAME - CHANCE)))


def draw_title(scene: Scene, language: str, random: Random) -> str:
    """Draws a title: subject and place (55 %), one of them (32 %), nothing (8 %), wrong (5 %).

    One title in four that tells something names the subject in the other language too.
    """
    kinds = ("both", "subject", "place", "nothing", "wrong")
    kind = _one_of(random, kinds, (0.55, 0.2, 0.12, 0.08, 0.05))
    if kind == "wrong":
        scene, kind = draw_scene(random), "both"
    template = _one_of(random, words.TITLES[kind][language])
    title = template.format(
        s=_word(random, words.SUBJECTS[scene.subject].names[language]),
        p=_word(random, words.THEMES[scene.theme].places[language]),
        n=int(random.integers(1, 30)),
    )
    if kind != "nothing" and random.random() < BILINGUAL:
        title += f" {_word(random, words.SUBJECTS[scene.subject].names[_other(language)])}"
    return title


def draw_tags(scene: Scene, language: str, random: Random) -> list[str]:
    """Draws tags for what is shown, each now and then left out, and up to two that mean nothing.

    Tags of what is shown come from one list, whatever the title's language, as a platform offers
    them; those that mean nothing are the uploader's own.
    """
    offered: tuple[tuple[float, words.Synonyms], ...] = (
        (0.8, words.THEMES[scene.theme].tags),
        (0.8, words.SUBJECTS[scene.subject].names),
        (0.5, words.MOOD_TAGS[scene.mood]),
        (0.5, words.PATTERN_TAGS[scene.pattern]),
        (0.5, words.SPEED_TAGS[scene.speed]),
    )
    tags = [names["en"][0] for probability, names in offered if random.random() < probability]
    for _ in range(int(random.choice(3, p=(0.5, 0.35, 0.15)))):
        tags.append(_one_of(random, words.NOISE_TAGS[language]))
    return list(dict.fromkeys(tags))


def _graded(same: bool, near: bool, share: float) -> float:
    return 1.0 if same else share if near else 0.0


def _other(language: str) -> str:
    return words.LANGUAGES[1 - words.LANGUAGES.index(language)]


def _word(random: Random, synonyms: tuple[str, ...]) -> str:
    """One of several words for the same thing; as in any language, the first is the commonest."""
    shares = np.array([1.0, 0.4, 0.25, 0.25][: len(synonyms)])
    return synonyms[int(random.choice(len(synonyms), p=shares / shares.sum()))]


def _one_of(
    random: Random, values: tuple[str, ...], probabilities: tuple[float, ...] | None = None
) -> str:
    return values[int(random.choice(len(values), p=probabilities))]
