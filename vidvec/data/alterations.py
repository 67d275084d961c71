"""Altered copies of videos, picture by picture: what people do to a video before they upload it.

Each alteration draws its own settings, such as what is cut off or where a logo lies, from a random
generator, once for a video; then it changes one picture after the other. The kinds are those that
copy detection is measured by (Douze et al., "The 2021 Image Similarity Dataset and Challenge",
2021; Pizzi et al., "The 2023 Video Similarity Dataset and Challenge", 2023). Pictures are
(height, width, 3) uint8 RGB; an altered one may have another size, always of even sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Change = Callable[[Picture], Picture]
Draw = np.random.Generator

# Goes up when the same seed begins to give other copies.
VERSION = 1
# Of Microsoft's sample filter, which most programs took over.
_SEPIA = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))
_COARSE = 42  # x264's constant rate factor; 23 is its default, 51 the worst
_USUAL = 26


@dataclass(frozen=True, slots=True)
class Alteration:
    """How one copy of one video is made.

    Attributes:
        change: Of each picture, in their order.
        speed: How much faster it runs.
        crf: x264's constant rate factor.
    """

    change: Change
    speed: float = 1.0
    crf: int = _USUAL


def cropped(random: Draw) -> Alteration:
    """60 to 80 % of each side is left, from anywhere."""
    share, across, down = random.uniform(0.6, 0.8), random.random(), random.random()

    def change(picture: Picture) -> Picture:
        height, width = picture.shape[:2]
        rows, columns = max(2, round(share * height)), max(2, round(share * width))
        top, left = round(down * (height - rows)), round(across * (width - columns))
        return _sized(picture[top : top + rows, left : left + columns], width, height)

    return Alteration(change)


def barred(random: Draw) -> Alteration:
    """Between black bars, above and below or at the sides, each a sixth to a quarter of it."""
    share, sides = random.uniform(1 / 6, 1 / 4), random.random() < 0.5

    def change(picture: Picture) -> Picture:
        height, width = picture.shape[:2]
        bar = round(share * (width if sides else height))
        across, down = (bar, 0) if sides else (0, bar)
        made = np.zeros((_even(height + 2 * down), _even(width + 2 * across), 3), np.uint8)
        made[down : down + height, across : across + width] = picture
        return made

    return Alteration(change)


def with_logo(random: Draw) -> Alteration:
    """A disc with letters in a corner, a fifth to a third of the height, and a line of words."""
    size, right, low = random.uniform(0.2, 0.33), random.random() < 0.5, random.random() < 0.5
    colour = tuple(int(each) for each in random.integers(40, 250, 3))

    def change(picture: Picture) -> Picture:
        import cv2

        height, width = picture.shape[:2]
        made = np.ascontiguousarray(picture).copy()
        radius = max(2, round(size * min(height, width) / 2))
        x = width - radius - 4 if right else radius + 4
        y = height - radius - 4 if low else radius + 4
        cv2.circle(made, (x, y), radius, colour, -1, cv2.LINE_AA)
        scale, white = radius / 28, (255, 255, 255)
        thick = max(1, round(2 * scale))
        place = x - round(0.8 * radius), y + round(0.3 * radius)
        cv2.putText(made, "TV", place, 0, scale, white, thick, cv2.LINE_AA)
        line = round(0.05 * width), height // 8 if low else height - height // 14
        cv2.putText(made, "follow for more", line, 0, height / 400, white, thick, cv2.LINE_AA)
        return made

    return Alteration(change)


def at_another_speed(random: Draw) -> Alteration:
    """Three quarters as fast, or half as fast again."""
    return Alteration(_unchanged, speed=0.75 if random.random() < 0.5 else 1.5)


def reencoded(random: Draw) -> Alteration:
    """At 40 to 60 % of the size, coarsely encoded."""
    share = random.uniform(0.4, 0.6)

    def change(picture: Picture) -> Picture:
        height, width = picture.shape[:2]
        return _sized(picture, round(share * width), round(share * height))

    return Alteration(change, crf=_COARSE)


def in_sepia(_: Draw) -> Alteration:
    """In shades of brown."""

    def change(picture: Picture) -> Picture:
        import cv2

        return np.asarray(cv2.transform(picture, np.array(_SEPIA, np.float32)), np.uint8)

    return Alteration(change)


def picture_in_picture(random: Draw) -> Alteration:
    """55 to 75 % as large, somewhere on a background of two colours that drifts."""
    share, across, down = random.uniform(0.55, 0.75), random.random(), random.random()
    colours = random.integers(0, 256, (2, 3)).astype(np.float64)
    shown = 0

    def change(picture: Picture) -> Picture:
        nonlocal shown
        height, width = picture.shape[:2]
        wave = 0.5 + 0.5 * np.sin(np.linspace(0, 3, width) + 0.05 * shown)[None, :, None]
        ground = np.clip(colours[0] * wave + colours[1] * (1 - wave), 0, 255).astype(np.uint8)
        made = np.repeat(ground, height, axis=0)
        inner = _sized(picture, round(share * width), round(share * height))
        rows, columns = inner.shape[:2]
        top, left = round(down * (height - rows)), round(across * (width - columns))
        made[top : top + rows, left : left + columns] = inner
        shown += 1
        return made

    return Alteration(change)


def screen_recorded(random: Draw) -> Alteration:
    """Filmed off a screen: slanted in a dark room, blurred, with moiré, noise and glare.

    Moiré is what a camera's grid makes of a screen's: bands at the difference of two frequencies
    that lie close together, a little apart for each colour.
    """
    corners = random.uniform(0.03, 0.11, (4, 2))
    blur, noise = random.uniform(0.6, 1.3), random.uniform(3, 7)
    gain, lift = random.uniform(0.75, 1.15), random.uniform(5, 30)
    angle, period = random.uniform(0, np.pi), random.uniform(5, 11)
    shake = np.random.default_rng(random.integers(2**31))
    bands = np.ones((0, 0, 3), np.float32)

    def change(picture: Picture) -> Picture:
        nonlocal bands
        import cv2

        height, width = picture.shape[:2]
        if bands.shape[:2] != (height, width):
            bands = _bands(height, width, angle, period)
        seen = picture.astype(np.float32) * bands
        seen = cv2.GaussianBlur(seen, (0, 0), blur)
        signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
        ends = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) + signs * corners
        ends += shake.normal(0, 0.002, 2)
        size = np.array([width, height])
        source = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * size
        matrix = cv2.getPerspectiveTransform(
            source.astype(np.float32), (ends * size).astype(np.float32)
        )
        room = (22.0, 20.0, 18.0)
        seen = cv2.warpPerspective(
            seen, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=room
        )
        grain = shake.standard_normal(seen.shape, np.float32)
        seen = gain * seen + lift + noise * grain
        return np.clip(seen, 0, 255).astype(np.uint8)

    return Alteration(change)


def _bands(height: int, width: int, angle: float, period: float) -> NDArray[np.float32]:
    """(height, width, 3) factors around 1, waves of this period in pixels, per colour apart."""
    down, across = np.mgrid[0:height, 0:width].astype(np.float32)
    along = across * np.cos(angle) + down * np.sin(angle)
    apart = np.array([0.97, 1.0, 1.04], np.float32)
    return (1 + 0.12 * np.sin(2 * np.pi * along[:, :, None] * apart / period)).astype(np.float32)


# By the name that stands in a scorecard.
ALTERATIONS: dict[str, Callable[[Draw], Alteration]] = {
    "crop": cropped,
    "bars": barred,
    "logo": with_logo,
    "speed": at_another_speed,
    "reencode": reencoded,
    "sepia": in_sepia,
    "picture_in_picture": picture_in_picture,
    "screen": screen_recorded,
}


def drawn(kind: str, seed: int, video_id: str) -> Alteration:
    """The alteration of a kind with the settings that a seed gives a video, whatever else is made.

    Args:
        kind: Of ``ALTERATIONS``.
        seed: 0 or more.
        video_id: Of the video.
    """
    place = list(ALTERATIONS).index(kind)
    return ALTERATIONS[kind](np.random.default_rng([seed, place, *video_id.encode()]))


def even_sized(picture: Picture) -> Picture:
    """The picture without its last row or column where their number is odd, as 4:2:0 needs.

    One that is a single pixel high or wide is doubled.
    """
    for axis in (0, 1):
        if picture.shape[axis] == 1:
            picture = np.repeat(picture, 2, axis=axis)
    height, width = picture.shape[:2]
    return picture[: height - height % 2, : width - width % 2]


def _unchanged(picture: Picture) -> Picture:
    return picture


def _even(length: int) -> int:
    return length + length % 2


def _sized(picture: Picture, width: int, height: int) -> Picture:
    """The picture at this size, sides made even."""
    import cv2

    size = max(2, width - width % 2), max(2, height - height % 2)
    shrunk = size[0] < picture.shape[1]
    way = cv2.INTER_AREA if shrunk else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size, interpolation=way), np.uint8)
