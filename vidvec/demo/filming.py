"""A scene in motion: backdrop, what stirs in it, the subject on its path, and the light."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vidvec.demo.backdrops import paint_backdrop
from vidvec.demo.drawing import Colour, Picture, paste, rgb, turned
from vidvec.demo.scenes import Scene
from vidvec.demo.sprites import draw_sprite, drawings

Random = np.random.Generator
# Changes a picture in place to what it is at a time in seconds.
Stir = Callable[[Picture, float], None]

# RGB → RGB with a constant in the last column, for each mood.
GRADES = {
    "day": ((1.02, 0, 0, 2), (0, 1.02, 0, 2), (0, 0, 1.0, 0)),
    "sunset": ((0.92, 0.16, 0.02, 26), (0.06, 0.72, 0.02, 10), (0.05, 0.1, 0.5, 6)),
    "night": ((0.3, 0.06, 0.02, 2), (0.04, 0.36, 0.06, 5), (0.05, 0.12, 0.52, 22)),
    "mist": ((0.42, 0.16, 0.06, 84), (0.1, 0.48, 0.06, 88), (0.08, 0.16, 0.42, 94)),
}
# Widths of the picture a second, or turns a second for a circle.
SPEEDS = {"slow": 0.07, "fast": 0.32}
LEVELS = {"sky": 0.28, "middle": 0.5, "ground": 0.7}
# Swimmers belong below the horizon.
SEA_LEVELS = {"fish": 0.74, "turtle": 0.74, "jellyfish": 0.74, "sailboat": 0.52}
# Share of the picture by which the camera sways to either side.
SWAY = 0.04
GAIT_PHASES = 8


@dataclass(frozen=True, slots=True)
class Actor:
    """One subject in the picture.

    Attributes:
        phases: The sprite through one cycle of its gait.
        pace: Cycles a second.
        start: Where on its path it is at the beginning, 0…1.
        level: Height of its path, 0…1.
    """

    phases: tuple[Picture, ...]
    pace: float
    start: float
    level: float


def film(scene: Scene, width: int, height: int, frames: int, fps: float) -> Iterator[Picture]:
    """Yields a scene's pictures, (height, width, 3) uint8 RGB; equal scenes give equal pictures."""
    random = np.random.default_rng(scene.look)
    margin = (round(SWAY * width), round(SWAY * height))
    wide, high = width + 2 * margin[0], height + 2 * margin[1]
    backdrop = paint_backdrop(scene.theme, random, wide, high)
    actors = _cast(scene, random, height)
    stir, glow = AMBIENCES[scene.theme](random, width, height)
    sway = random.uniform(0, 6, 2), random.uniform(0.2, 0.5, 2)
    grade = _camera(random) @ np.vstack([GRADES[scene.mood], (0, 0, 0, 1)])
    for number in range(frames):
        seconds = number / fps
        x, y = (
            round(side + side * float(np.sin(start + speed * seconds)))
            for side, start, speed in zip(margin, *sway, strict=True)
        )
        picture = backdrop[y : y + height, x : x + width].copy()
        stir(picture, seconds)
        for actor in actors:
            _act(picture, actor, scene, seconds)
        picture = np.asarray(cv2.transform(picture, grade), np.uint8)
        glow(picture, seconds)
        yield picture


def _camera(random: Random) -> NDArray[np.float64]:
    """RGB → RGB of one of many cameras: colour cast, saturation, contrast and exposure differ."""
    cast = np.diag(np.exp(0.1 * random.standard_normal(3)))
    grey = np.full((3, 3), 1 / 3)
    share = random.uniform(0, 0.5)
    contrast = random.uniform(0.7, 1.15)
    colours = contrast * cast @ ((1 - share) * np.eye(3) + share * grey)
    offset = 128 * (1 - contrast) + 10 * random.standard_normal()
    return np.hstack([colours, np.full((3, 1), offset)])


def _cast(scene: Scene, random: Random, height: int) -> list[Actor]:
    """One to three of the subject, all in the same colours."""
    drawing = drawings()[scene.subject]
    paint = int(random.integers(2**32))
    level = LEVELS[drawing.level]
    if scene.theme == "sea":
        level = SEA_LEVELS.get(scene.subject, level)
    if scene.theme in ("space", "aquarium"):
        level = random.uniform(0.35, 0.65)
    actors = []
    for number in range(int(random.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))):
        size = drawing.size * random.uniform(0.85, 1.15) * (1 if number == 0 else 0.65)
        sprite = draw_sprite(
            scene.subject, np.random.default_rng(paint), max(8, round(size * height / 100))
        )
        if not scene.rightward:
            sprite = np.ascontiguousarray(sprite[:, ::-1])
        actors.append(
            Actor(
                phases=_gait(sprite, drawing.gait),
                pace=random.uniform(0.8, 1.4) * (1.6 if scene.speed == "fast" else 1),
                start=random.uniform(0.2, 0.6) if number == 0 else random.random(),
                level=level + (0 if number == 0 else random.uniform(-0.14, 0.1)),
            )
        )
    return actors


def _gait(sprite: Picture, gait: str) -> tuple[Picture, ...]:
    angles = 2 * np.pi * np.arange(GAIT_PHASES) / GAIT_PHASES
    if gait == "spin":
        return tuple(turned(sprite, float(np.rad2deg(-angle))) for angle in angles)
    if gait == "flap":
        return tuple(
            turned(
                sprite, 0, (1 - 0.2 * abs(float(np.sin(angle))), 1 - 0.15 * float(np.sin(angle)))
            )
            for angle in angles
        )
    swing = 7 if gait == "rock" else 1
    return tuple(turned(sprite, swing * float(np.sin(angle))) for angle in angles)


def _act(picture: Picture, actor: Actor, scene: Scene, seconds: float) -> None:
    height, width = picture.shape[:2]
    phase = actor.phases[int(seconds * actor.pace * GAIT_PHASES) % GAIT_PHASES]
    x, y = _place(scene, actor, seconds)
    paste(picture, phase, x * width, y * height)


def _place(scene: Scene, actor: Actor, seconds: float) -> tuple[float, float]:
    """Where an actor is, in shares of the picture's width and height."""
    gone = SPEEDS[scene.speed] * seconds
    forward = 1 if scene.rightward else -1
    if scene.pattern == "circle":
        angle = 2 * np.pi * (actor.start + forward * gone * 1.4)
        return 0.5 + 0.3 * float(np.cos(angle)), actor.level + 0.16 * float(np.sin(angle))
    # On the ground there is less room than in the air.
    reach = 0.6 if actor.level > LEVELS["middle"] + 0.1 else 1.0
    # Leaves on one side and comes back on the other, a little beyond the edges.
    x = (actor.start + forward * gone + 0.15) % 1.3 - 0.15
    beat = actor.start + gone * 4
    if scene.pattern == "bounce":
        return x, actor.level + reach * (0.08 - 0.3 * abs(float(np.sin(np.pi * beat))))
    if scene.pattern == "zigzag":
        return x, actor.level + reach * 0.2 * (4 * abs(beat % 1 - 0.5) - 1)
    return x, actor.level


def _still(_: Picture, __: float) -> None:
    """Where nothing stirs."""


def _particles(
    random: Random,
    width: int,
    height: int,
    *,
    colour: Colour,
    count: int,
    size: float,
    speed: tuple[float, float],
) -> Stir:
    """Dots that drift; sizes in hundredths of the height, speeds in pictures a second."""
    x, y, phase = random.random((3, count))
    sizes = size * random.uniform(0.5, 1.3, count) * height / 100
    own = random.uniform(0.7, 1.3, count)

    def stir(picture: Picture, seconds: float) -> None:
        across = (x + own * speed[0] * seconds + 0.03 * np.sin(2 * seconds + 6 * phase)) % 1.1
        down = (y + own * speed[1] * seconds) % 1.1
        for left, top, radius in zip(across * width, down * height, sizes, strict=True):
            centre = (round(16 * left), round(16 * top))
            cv2.circle(picture, centre, round(16 * radius), colour, -1, cv2.LINE_AA, 4)

    return stir


def _sparkle(random: Random, width: int, height: int, top: float, bottom: float) -> Stir:
    """Lights that come and go between two heights, 0…1."""
    count = 26
    x = (random.random(count) * width).astype(int)
    y = (random.uniform(top, bottom, count) * height).astype(int)
    phase, pace = random.uniform(0, 6, count), random.uniform(1, 4, count)

    def glow(picture: Picture, seconds: float) -> None:
        on = np.sin(phase + pace * seconds) > 0.5
        for left, up in zip(x[on], y[on], strict=True):
            cv2.circle(picture, (int(left), int(up)), 1, (255, 246, 200), -1)

    return glow


def _beams(random: Random, width: int, height: int) -> Stir:
    """Coloured beams that swing from above."""
    lamps = random.uniform(0.1, 0.9, 4) * width
    colours = random.integers(90, 255, (4, 3)).tolist()
    phase, pace = random.uniform(0, 6, 4), random.uniform(0.8, 2.2, 4)

    def glow(picture: Picture, seconds: float) -> None:
        light = np.zeros_like(picture)
        for number, lamp in enumerate(lamps):
            foot = lamp + 0.35 * width * np.sin(phase[number] + pace[number] * seconds)
            points = [(lamp - 1, 0), (lamp + 1, 0), (foot + 13, 0.84 * height)]
            points.append((foot - 13, 0.84 * height))
            cv2.fillConvexPoly(light, np.array(points, np.int32), colours[number])
        cv2.addWeighted(picture, 1, light, 0.32, 0, picture)

    return glow


def _waves(random: Random, width: int, height: int) -> Stir:
    """Lines of foam that run along."""
    lines = np.linspace(0.55, 0.93, 5) * height
    phase = random.uniform(0, 6, 5)
    x = np.arange(0, width + 4, 4)

    def stir(picture: Picture, seconds: float) -> None:
        for number, line in enumerate(lines):
            run = 14 * x / width * (1.6 - 0.2 * number) + phase[number] + 1.5 * seconds
            y = line + (0.6 + 0.3 * number) * np.sin(run)
            points = np.stack([x, y], axis=1).astype(np.int32)
            cv2.polylines(picture, [points], False, (178, 218, 236), 1, cv2.LINE_AA)

    return stir


def _poles(random: Random, width: int, height: int) -> Stir:
    """Telegraph poles that pass by, as seen from a train."""
    start, speed = random.random(), random.uniform(0.25, 0.6)

    def stir(picture: Picture, seconds: float) -> None:
        for number in range(3):
            x = int(((start + number / 3 - speed * seconds) % 1) * width)
            top = int(0.22 * height)
            cv2.line(picture, (x, top), (x, int(0.72 * height)), (84, 66, 52), 2)
            cv2.line(picture, (x - 5, top + 4), (x + 5, top + 4), (84, 66, 52), 2)

    return stir


Ambience = Callable[[Random, int, int], tuple[Stir, Stir]]


def _drift(colour: str, count: int, size: float, speed: tuple[float, float]) -> Ambience:
    def ambience(random: Random, width: int, height: int) -> tuple[Stir, Stir]:
        stir = _particles(
            random, width, height, colour=rgb(colour), count=count, size=size, speed=speed
        )
        return stir, _still

    return ambience


def _lights(top: float, bottom: float) -> Ambience:
    def ambience(random: Random, width: int, height: int) -> tuple[Stir, Stir]:
        return _still, _sparkle(random, width, height, top, bottom)

    return ambience


# What stirs in a theme before the light falls on it, and what shines by itself.
AMBIENCES: dict[str, Ambience] = {
    "sea": lambda *where: (_waves(*where), _still),
    "forest": _drift("d9a441", 12, 1.2, (0.05, 0.12)),
    "snow": _drift("ffffff", 60, 1.1, (0.04, 0.2)),
    "desert": _drift("f0d9a8", 26, 0.6, (0.5, 0.01)),
    "city": _lights(0.3, 0.7),
    "railway": lambda *where: (_poles(*where), _still),
    "kitchen": _drift("f4f4f4", 9, 2.2, (0.01, -0.16)),
    "garden": _drift("f7b6c8", 14, 1.1, (0.06, 0.08)),
    "football": _lights(0.05, 0.34),
    "concert": lambda *where: (_still, _beams(*where)),
    "space": _lights(0, 1),
    "aquarium": _drift("cfeef8", 16, 1.3, (0.0, -0.22)),
}
