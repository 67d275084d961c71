"""Which videos the demo has: originals, altered copies, and a few files that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vidvec.demo import words
from vidvec.demo.scenes import Scene, draw_scene, draw_tags, draw_title

FPS = 10
SIZES = ((176, 132), (208, 120), (144, 144))
COPY_SHARE, UNTITLED_SHARE, MKV_SHARE = 0.08, 0.02, 0.05
ALTERATIONS = ("bars", "crop", "mirror", "quality", "sepia", "speed")


@dataclass(frozen=True, slots=True)
class Clip:
    """One video file to make, and what is known and shown of it.

    Attributes:
        id: A whole number, as the competition's are.
        scene: What it shows.
        title: May be empty.
        tags: Words.
        language: Of the title.
        size: Width and height in pixels.
        frames: How many.
        fps: Frames a second.
        crf: Quality for the encoder: higher is worse.
        suffix: Of the file, which decides the container.
        copy_of: Id of the video that it is an altered copy of, or empty.
        alteration: One of ``ALTERATIONS``, or empty.
        damage: ``empty`` or ``truncated`` for a file that cannot be read, else empty.
    """

    id: str
    scene: Scene
    title: str
    tags: list[str]
    language: str
    size: tuple[int, int]
    frames: int
    fps: int
    crf: int
    suffix: str
    copy_of: str = ""
    alteration: str = ""
    damage: str = ""

    @property
    def file(self) -> str:
        """Path relative to the folder."""
        return f"videos/{self.id}{self.suffix}"


def draw_clips(random: np.random.Generator, count: int) -> list[Clip]:
    """Draws the videos, originals and altered copies in mixed order."""
    copies, damaged = round(COPY_SHARE * count), max(2, round(0.005 * count))
    originals = [_draw_clip(random) for _ in range(count - copies)]
    for place in range(damaged):
        damage = ("empty", "truncated")[place % 2]
        originals[place] = replace(originals[place], damage=damage)
    readable = originals[damaged:]
    chosen = random.choice(len(readable), copies, replace=copies > len(readable))
    altered = [
        _draw_copy(random, readable[int(place)], ALTERATIONS[number % len(ALTERATIONS)])
        for number, place in enumerate(chosen)
    ]
    clips = originals + altered
    return [clips[int(place)] for place in random.permutation(len(clips))]


def _draw_clip(random: np.random.Generator) -> Clip:
    scene = draw_scene(random)
    language = words.LANGUAGES[int(random.integers(2))]
    title = draw_title(scene, language, random)
    return Clip(
        id=_draw_id(random),
        scene=scene,
        title="" if random.random() < UNTITLED_SHARE else title,
        tags=draw_tags(scene, language, random),
        language=language,
        size=SIZES[int(random.choice(len(SIZES), p=(0.5, 0.35, 0.15)))],
        frames=int(random.integers(3 * FPS, 8 * FPS + 1)),
        fps=FPS,
        crf=int(random.integers(20, 33)),
        suffix=".mkv" if random.random() < MKV_SHARE else ".mp4",
    )


def _draw_copy(random: np.random.Generator, original: Clip, alteration: str) -> Clip:
    """An altered copy: the title is the original's with a word more, or another one."""
    language = original.language
    if original.title and random.random() < 0.5:
        title = f"{original.title} {random.choice(words.NOISE_TAGS[language])}"
    else:
        language = words.LANGUAGES[int(random.integers(2))]
        title = draw_title(original.scene, language, random)
    name = _draw_id(random)
    # On the same side of the clean split as the original: neither is known before the other.
    while (int(name) % 5 == 0) != (int(original.id) % 5 == 0):
        name = _draw_id(random)
    return replace(
        original,
        id=name,
        title=title,
        language=language,
        tags=draw_tags(original.scene, language, random),
        fps=(8, 13)[int(random.integers(2))] if alteration == "speed" else FPS,
        crf=36 if alteration == "quality" else original.crf + 3,
        suffix=".mp4",
        copy_of=original.id,
        alteration=alteration,
    )


def _draw_id(random: np.random.Generator) -> str:
    # 10^17 numbers: two equal ones do not happen.
    return str(int(random.integers(10**17, 2 * 10**17)))
