"""Shapes on a canvas, without fonts or picture files.

Coordinates are in hundredths of the canvas's height, from its top left corner; ``canvas.width`` is
100 for a square one. Colours are RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
Picture = NDArray[np.uint8]
Points = Sequence[tuple[float, float]] | NDArray[np.float64]

# Fixed-point bits that OpenCV takes for fractions of a pixel.
_SHIFT = 4


class Canvas:
    """A picture to draw on, larger than what becomes of it, so that edges come out smooth.

    Attributes:
        width: In units; the height is 100.
        image: (scale · height, scale · width, 4) uint8: colour, and where anything was drawn.
    """

    def __init__(self, width_pixels: int, height_pixels: int, scale: int) -> None:
        self.width = 100 * width_pixels / height_pixels
        self.image = np.zeros((height_pixels * scale, width_pixels * scale, 4), np.uint8)
        self._size = (width_pixels, height_pixels)
        self._unit = height_pixels * scale / 100

    def polygon(self, colour: Colour, points: Points) -> None:
        """Fills a polygon."""
        cv2.fillPoly(self.image, [self._fixed(points)], (*colour, 255), cv2.LINE_8, _SHIFT)

    def box(self, colour: Colour, left: float, top: float, right: float, bottom: float) -> None:
        """Fills a rectangle."""
        self.polygon(colour, [(left, top), (right, top), (right, bottom), (left, bottom)])

    def line(self, colour: Colour, thickness: float, points: Points) -> None:
        """Draws a line through points."""
        pixels = max(1, round(thickness * self._unit))
        fixed = [self._fixed(points)]
        cv2.polylines(self.image, fixed, False, (*colour, 255), pixels, cv2.LINE_8, _SHIFT)

    def ellipse(
        self,
        colour: Colour,
        centre: tuple[float, float],
        radii: tuple[float, float],
        angle: float = 0,
        thickness: float = 0,
    ) -> None:
        """Fills an ellipse, or draws its outline where there is a thickness."""
        turn = np.deg2rad(angle)
        turning = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        points = (_circle() * radii) @ turning + np.asarray(centre)
        if thickness:
            self.line(colour, thickness, points)
        else:
            self.polygon(colour, points)

    def shade(self, upper: Colour, lower: Colour, top: float = 0, bottom: float = 100) -> None:
        """Fills a band over the whole width with a gradient."""
        first, last = round(top * self._unit), round(bottom * self._unit)
        share = np.linspace(0, 1, max(1, last - first))[:, None]
        rows = np.array(upper) * (1 - share) + np.array(lower) * share
        self.image[first:last, :, :3] = rows[:, None].astype(np.uint8)
        self.image[first:last, :, 3] = 255

    def ridge(
        self, random: np.random.Generator, colour: Colour, base: float, height: float
    ) -> NDArray[np.float64]:
        """Fills everything below a line of hills.

        Args:
            random: Decides the hills.
            colour: Of the hills.
            base: Height of the line in the middle.
            height: How far hills go above and below it.

        Returns:
            (60, 2) points of the line.
        """
        x = np.linspace(0, self.width, 60)
        y = np.full(60, base)
        for waves, share in ((1, 0.5), (2.3, 0.3), (5.1, 0.2)):
            swing = np.sin(2 * np.pi * (waves * x / self.width + random.random()))
            y = y + height * share * swing
        line = np.stack([x, y], axis=1)
        corners = [(self.width, 100.0), (0.0, 100.0)]
        self.polygon(colour, np.concatenate([line, corners]))
        return line

    def finished(self) -> Picture:
        """(height, width, 4) uint8, colours multiplied by the fourth channel, the opacity."""
        return np.asarray(
            cv2.resize(self.image, self._size, interpolation=cv2.INTER_AREA), np.uint8
        )

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        factor = self._unit * (1 << _SHIFT)
        return np.round(np.asarray(points, np.float64) * factor).astype(np.int32)


@cache
def _circle() -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * np.pi, 40)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def rgb(code: str) -> Colour:
    """A colour from six hexadecimal digits."""
    red, green, blue = bytes.fromhex(code)
    return red, green, blue


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """``share`` of the second colour in the first."""
    pairs = zip(first, second, strict=True)
    red, green, blue = (round(a * (1 - share) + b * share) for a, b in pairs)
    return red, green, blue


def grained(picture: Picture, random: np.random.Generator, strength: float) -> Picture:
    """A picture with soft blotches and fine grain, as no real surface is of one colour."""
    height, width = picture.shape[:2]
    total = np.zeros((height, width), np.float32)
    for cells, share in ((5, 1.0), (24, 0.6), (90, 0.5)):
        noise = random.standard_normal((cells, cells * 4 // 3), np.float32)
        total += share * cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(picture + strength * total[..., None], 0, 255).astype(np.uint8)


def paste(picture: Picture, sprite: Picture, x: float, y: float) -> None:
    """Puts a sprite onto a picture.

    Args:
        picture: (height, width, 3) uint8; changed in place.
        sprite: (h, w, 4) uint8, as ``Canvas.finished`` gives it.
        x: Where the sprite's centre goes, in pixels; it may lie outside.
        y: Likewise.
    """
    height, width = sprite.shape[:2]
    left, top = round(x - width / 2), round(y - height / 2)
    rows = slice(max(0, top), min(picture.shape[0], top + height))
    columns = slice(max(0, left), min(picture.shape[1], left + width))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    part = sprite[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ].astype(np.uint16)
    below = picture[rows, columns]
    seen_through = below * (255 - part[..., 3:]) // 255
    picture[rows, columns] = np.minimum(part[..., :3] + seen_through, 255)


def turned(sprite: Picture, degrees: float, stretch: tuple[float, float] = (1, 1)) -> Picture:
    """A sprite rotated about its centre, after stretching it by x and y."""
    height, width = sprite.shape[:2]
    matrix: Any = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    scaling = np.diag([stretch[0], stretch[1], 1.0])
    scaling[:2, 2] = (1 - stretch[0]) * width / 2, (1 - stretch[1]) * height / 2
    result = cv2.warpAffine(sprite, matrix @ scaling, (width, height), flags=cv2.INTER_LINEAR)
    return np.asarray(result, np.uint8)
