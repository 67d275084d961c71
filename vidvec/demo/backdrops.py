"""The demo's places: one function a theme, which paints a backdrop on a canvas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vidvec.demo.drawing import Canvas, Colour, Picture, grained, mixed, rgb

Random = np.random.Generator


def paint_backdrop(theme: str, random: Random, width: int, height: int) -> Picture:
    """Paints a theme's backdrop, never twice the same.

    Returns:
        (height, width, 3) uint8 RGB, in daylight.
    """
    canvas = Canvas(width, height, scale=2)
    BACKDROPS[theme](canvas, random)
    return grained(canvas.finished()[..., :3], random, 4)


def _vary(random: Random, code: str, strength: float = 14) -> Colour:
    """A colour a little off the given one."""
    red, green, blue = np.clip(rgb(code) + strength * random.standard_normal(3), 0, 255).astype(int)
    return int(red), int(green), int(blue)


def _clouds(canvas: Canvas, random: Random, lowest: float) -> None:
    for _ in range(int(random.integers(1, 5))):
        x, y = random.uniform(0, canvas.width), random.uniform(4, lowest)
        for _ in range(4):
            at = (x + random.normal(0, 7), y + random.normal(0, 1.5))
            canvas.ellipse(_vary(random, "f4f6fa", 4), at, (random.uniform(5, 10), 3.2))


def _sun(canvas: Canvas, random: Random, lowest: float) -> None:
    centre = (random.uniform(10, canvas.width - 10), random.uniform(8, lowest))
    canvas.ellipse((255, 244, 190), centre, (7, 7))


def _sea(canvas: Canvas, random: Random) -> None:
    horizon = random.uniform(38, 50)
    canvas.shade(_vary(random, "6fb4e8"), rgb("dcedf6"), 0, horizon + 1)
    _sun(canvas, random, 24)
    _clouds(canvas, random, horizon - 12)
    if random.random() < 0.5:
        island = random.uniform(10, canvas.width - 10)
        canvas.ellipse(rgb("5c7f6d"), (island, horizon), (random.uniform(12, 30), 6))
    canvas.shade(_vary(random, "3f9ac4"), _vary(random, "0c4f86"), horizon, 100)
    for _ in range(26):
        x, y = random.uniform(0, canvas.width), random.uniform(horizon + 3, 96)
        length = 3 + (y - horizon) / 8
        canvas.line(rgb("8cc8e0"), 0.6, [(x, y), (x + length, y)])
    if random.random() < 0.5:
        shore = random.uniform(84, 92)
        canvas.ridge(random, rgb("f2efe0"), shore - 1.5, 2)
        canvas.ridge(random, _vary(random, "e6cf9a", 8), shore, 2)


def _forest(canvas: Canvas, random: Random) -> None:
    canvas.shade(_vary(random, "bfe0c0"), rgb("eef6d8"), 0, 78)
    for depth, colour in enumerate(("8db98a", "5d9463", "396f45")):
        base = 52 + 8 * depth
        for place in np.arange(-4, canvas.width + 6, 11 - 2 * depth):
            x = place + random.normal(0, 2.5)
            tall = random.uniform(26, 44)
            canvas.box(rgb("5a4430"), x - 1.2, base - 8, x + 1.2, base + 10)
            leaves = _vary(random, colour, 8)
            if random.random() < 0.5:
                for part in (0.0, 0.3, 0.6):
                    top, wide = base - tall * (1 - part * 0.6), 4 + 5 * part
                    canvas.polygon(
                        leaves, [(x, top), (x + wide, top + tall / 2), (x - wide, top + tall / 2)]
                    )
            else:
                canvas.ellipse(leaves, (x, base - tall * 0.55), (6.5, tall * 0.38))
    canvas.ridge(random, _vary(random, "4c7d3c"), 74, 2)
    canvas.ridge(random, _vary(random, "7d6a45"), 88, 3)


def _snow(canvas: Canvas, random: Random) -> None:
    canvas.shade(_vary(random, "9fc3e6"), rgb("eef4fa"), 0, 70)
    for _ in range(int(random.integers(3, 6))):
        x, top = random.uniform(0, canvas.width), random.uniform(12, 36)
        wide = random.uniform(24, 44)
        grey = _vary(random, "7d8ea6", 8)
        canvas.polygon(grey, [(x, top), (x + wide, 70), (x - wide, 70)])
        drop, cap = top + 0.36 * (70 - top), 0.36 * wide
        jags = [(x + cap, drop), (x + 4, drop - 3), (x - 2, drop + 4), (x - cap, drop)]
        canvas.polygon(rgb("fbfdff"), [(x, top), *jags])
    canvas.ridge(random, rgb("dfe9f3"), 62, 5)
    for _ in range(int(random.integers(4, 12))):
        x, y = random.uniform(0, canvas.width), random.uniform(60, 72)
        for part in (0, 4, 8):
            tip = y - 16 + part
            canvas.polygon(rgb("2f5c4c"), [(x, tip), (x + 3 + part / 3, tip + 8), (x - 4, tip + 8)])
    canvas.ridge(random, rgb("f7fafd"), 74, 3)


def _desert(canvas: Canvas, random: Random) -> None:
    canvas.shade(_vary(random, "7fbdea"), rgb("fbe6c0"), 0, 60)
    _sun(canvas, random, 22)
    for base, colour in ((50, "e8bd78"), (62, "dba75c"), (76, "c98f45")):
        canvas.ridge(random, _vary(random, colour, 8), base, random.uniform(5, 10))
    for _ in range(int(random.integers(0, 4))):
        x, y = random.uniform(5, canvas.width - 5), random.uniform(66, 84)
        green = rgb("4d7a48")
        canvas.line(green, 3, [(x, y), (x, y - 16)])
        canvas.line(green, 2.2, [(x, y - 7), (x + 5, y - 7), (x + 5, y - 13)])
        canvas.line(green, 2.2, [(x, y - 5), (x - 5, y - 5), (x - 5, y - 10)])


def _city(canvas: Canvas, random: Random) -> None:
    canvas.shade(_vary(random, "8fb7dc"), rgb("e4e7ea"), 0, 74)
    for colour, lowest, tallest in (("a9b4c4", 12, 34), ("6d7a90", 24, 50)):
        left = -4.0
        while left < canvas.width:
            wide, top = random.uniform(9, 20), random.uniform(lowest, tallest)
            wall = _vary(random, colour, 10)
            canvas.box(wall, left, top, left + wide, 76)
            for x in np.arange(left + 2, left + wide - 2, 4):
                for y in np.arange(top + 3, 70, 5):
                    lit = rgb("ffe9a0") if random.random() < 0.4 else mixed(wall, (30, 40, 60), 0.5)
                    canvas.box(lit, x, y, x + 2, y + 2.6)
            left += wide + random.uniform(-1, 2)
    canvas.box(rgb("a6a7aa"), 0, 74, canvas.width, 80)
    canvas.box(_vary(random, "55585f", 6), 0, 79, canvas.width, 100)
    for x in np.arange(0, canvas.width, 16):
        canvas.box(rgb("f0f0e4"), x, 88.5, x + 8, 90)


def _railway(canvas: Canvas, random: Random) -> None:
    canvas.shade(_vary(random, "86bde8"), rgb("e9f2f4"), 0, 52)
    _clouds(canvas, random, 26)
    canvas.ridge(random, _vary(random, "7d9a86", 8), 44, 7)
    for base, colours in ((50, ("c6cf6e", "9cbf5f")), (58, ("d8c25c", "79ab52"))):
        canvas.ridge(random, rgb(colours[int(random.integers(2))]), base, 3)
    for x in random.uniform(0, canvas.width, 9):
        canvas.ellipse(_vary(random, "3f7547", 8), (x, random.uniform(50, 60)), (4, 4))
    canvas.box(_vary(random, "8a8178", 6), 0, 70, canvas.width, 90)
    for x in np.arange(0, canvas.width, 5):
        canvas.polygon(rgb("5b4636"), [(x, 74), (x + 2, 74), (x + 1, 87), (x - 1.5, 87)])
    for y in (75, 84):
        canvas.box(rgb("c9cdd2"), 0, y, canvas.width, y + 1.4)
    canvas.ridge(random, _vary(random, "6f9a4a", 8), 91, 1)


def _kitchen(canvas: Canvas, random: Random) -> None:
    wall = _vary(random, "efe3cf", 10)
    canvas.box(wall, 0, 0, canvas.width, 66)
    tile = mixed(wall, (120, 110, 100), 0.25)
    for x in np.arange(0, canvas.width, 9).tolist():
        canvas.line(tile, 0.5, [(x, 0), (x, 66)])
    for y in np.arange(2, 66, 9).tolist():
        canvas.line(tile, 0.5, [(0, y), (canvas.width, y)])
    shelf = random.uniform(24, 34)
    canvas.box(rgb("8a5a34"), 0, shelf, canvas.width, shelf + 2.5)
    for x in np.arange(5, canvas.width - 5, 10):
        if random.random() < 0.75:
            tall = random.uniform(7, 15)
            jar = _vary(random, "b8684a", 45)
            canvas.box(jar, x, shelf - tall, x + 6, shelf)
            canvas.box(
                mixed(jar, (40, 30, 30), 0.5), x + 0.6, shelf - tall - 1.6, x + 5.4, shelf - tall
            )
    canvas.box(_vary(random, "a9754a", 10), 0, 66, canvas.width, 100)
    canvas.box(rgb("d9d2c6"), 0, 64, canvas.width, 69)
    stove = random.uniform(10, canvas.width - 50)
    canvas.box(rgb("33363c"), stove, 76, stove + 42, 100)
    for offset in (8, 21, 34):
        canvas.ellipse(rgb("c8ccd2"), (stove + offset, 81), (2.2, 2.2))


def _garden(canvas: Canvas, random: Random) -> None:
    canvas.shade(_vary(random, "9fd0f0"), rgb("eaf5f0"), 0, 57)
    _clouds(canvas, random, 20)
    for x in np.arange(-3, canvas.width + 6, 4.5):
        hedge = _vary(random, "4f8a46", 10)
        canvas.ellipse(hedge, (x, 42 + random.normal(0, 2)), (6, 9))
    if random.random() < 0.6:
        for x in np.arange(0, canvas.width, 7):
            canvas.polygon(
                rgb("f4efe4"), [(x, 58), (x, 44), (x + 2.5, 40), (x + 5, 44), (x + 5, 58)]
            )
        canvas.box(rgb("e6dfd0"), 0, 48, canvas.width, 50)
    canvas.shade(_vary(random, "86bf58"), _vary(random, "4f9440"), 56, 100)
    for _ in range(int(random.integers(30, 70))):
        x, y = random.uniform(0, canvas.width), random.uniform(60, 99)
        bloom = _vary(random, str(random.choice(["e84a5f", "f7b731", "d980fa", "ffffff"])), 12)
        size = 0.8 + (y - 56) / 26
        canvas.line(rgb("3c7a35"), 0.6, [(x, y), (x, y + 3)])
        canvas.ellipse(bloom, (x, y), (size, size))
        canvas.ellipse(rgb("fff3b0"), (x, y), (size / 3, size / 3))


def _football(canvas: Canvas, random: Random) -> None:
    canvas.box(_vary(random, "4a5468", 8), 0, 0, canvas.width, 42)
    palette = [rgb(code) for code in ("e74c3c", "f1c40f", "ecf0f1", "3498db", "2c3e50")]
    for y in np.arange(6, 36, 3.2):
        for x in np.arange(1, canvas.width, 3):
            fan = palette[int(random.integers(len(palette)))]
            canvas.ellipse(fan, (x + random.normal(0, 0.4), y), (1.1, 1.3))
    canvas.box(_vary(random, "2358a8", 30), 0, 37, canvas.width, 43)
    greens = _vary(random, "4fa04a", 8), _vary(random, "43903f", 8)
    for number, x in enumerate(np.arange(0, canvas.width, 16)):
        lean = (x - canvas.width / 2) * 0.25
        points = [(x, 43), (x + 16, 43), (x + 16 + lean + 4, 100), (x + lean, 100)]
        canvas.polygon(greens[number % 2], points)
    white = rgb("f3f6f0")
    canvas.line(white, 1, [(0, 48), (canvas.width, 48)])
    middle = random.uniform(0.2, 0.8) * canvas.width
    canvas.line(white, 1, [(middle, 48), (middle, 100)])
    canvas.ellipse(white, (middle, 74), (22, 11), 0, 1)
    if random.random() < 0.6:
        goal = 6 if random.random() < 0.5 else canvas.width - 34
        canvas.line(white, 1.4, [(goal, 58), (goal, 36), (goal + 28, 36), (goal + 28, 58)])


def _concert(canvas: Canvas, random: Random) -> None:
    canvas.shade(_vary(random, "241338", 10), _vary(random, "7a2a78", 20), 0, 72)
    for x in np.arange(0, canvas.width, 6):
        canvas.line(rgb("50506a"), 0.8, [(x, 4), (x + 3, 9), (x + 6, 4)])
    canvas.box(rgb("60607c"), 0, 3, canvas.width, 4.4)
    canvas.box(rgb("60607c"), 0, 9, canvas.width, 10.4)
    for x in (5, canvas.width - 23):
        for y in (26, 42, 58):
            canvas.box(rgb("18181f"), x, y, x + 18, y + 15)
            canvas.ellipse(rgb("3a3a48"), (x + 9, y + 7.5), (5.5, 5.5))
    canvas.shade(_vary(random, "8d5a34", 8), rgb("4a2f1e"), 72, 86)
    canvas.box(rgb("120c18"), 0, 86, canvas.width, 100)
    for x in np.arange(0, canvas.width + 4, 5.5):
        head = 85 + random.normal(0, 1.5)
        canvas.ellipse(rgb("0c0812"), (x, head), (2.8, 3.4))
        if random.random() < 0.35:
            canvas.line(rgb("0c0812"), 1.6, [(x + 2, head + 3), (x + 4, head - 9)])


def _space(canvas: Canvas, random: Random) -> None:
    canvas.shade(_vary(random, "05060f", 4), _vary(random, "141233", 10))
    cloud = _vary(random, str(random.choice(["4b1f6f", "123f6b", "6b1f3d", "0f5a52"])), 12)
    for _ in range(40):
        x, y = random.uniform(0, canvas.width), random.normal(50, 16)
        shade = mixed(rgb("0a0a1c"), cloud, random.uniform(0.2, 0.8))
        canvas.ellipse(shade, (x, y), (random.uniform(6, 18), random.uniform(3, 8)), -18)
    for _ in range(140):
        at = (random.uniform(0, canvas.width), random.uniform(0, 100))
        size = random.exponential(0.35) + 0.2
        canvas.ellipse(_vary(random, "eef2ff", 12), at, (size, size))
    if random.random() < 0.5:
        ground = _vary(random, "8a8a92", 14)
        canvas.ellipse(ground, (random.uniform(0, canvas.width), 130), (90, 48))
        for x in random.uniform(0, canvas.width, 6):
            spot = mixed(ground, (40, 40, 50), 0.4)
            canvas.ellipse(spot, (x, random.uniform(90, 98)), (4, 1.5))


def _aquarium(canvas: Canvas, random: Random) -> None:
    canvas.shade(_vary(random, "3fb3cf"), _vary(random, "07385e"))
    for _ in range(5):
        x = random.uniform(0, canvas.width)
        light = [(x, 0), (x + 6, 0), (x - 10, 86), (x - 26, 86)]
        canvas.polygon(mixed(rgb("2f9cc0"), (255, 255, 255), 0.12), light)
    for _ in range(int(random.integers(6, 14))):
        x, tall = random.uniform(0, canvas.width), random.uniform(18, 50)
        weed = _vary(random, str(random.choice(["2f8a4f", "6aa84a", "b0483f", "c77a3a"])), 12)
        heights = np.linspace(0, tall, 9)
        sway = 2.2 * np.sin(heights / 5 + random.uniform(0, 6))
        canvas.line(weed, 1.8, list(zip(x + sway, 92 - heights, strict=True)))
    canvas.ridge(random, _vary(random, "d8c48c", 8), 89, 2)
    for _ in range(int(random.integers(2, 6))):
        at = (random.uniform(0, canvas.width), random.uniform(88, 95))
        canvas.ellipse(_vary(random, "6d6a72", 10), at, (random.uniform(4, 9), 4.5))


BACKDROPS: dict[str, Callable[[Canvas, Random], None]] = {
    "sea": _sea,
    "forest": _forest,
    "snow": _snow,
    "desert": _desert,
    "city": _city,
    "railway": _railway,
    "kitchen": _kitchen,
    "garden": _garden,
    "football": _football,
    "concert": _concert,
    "space": _space,
    "aquarium": _aquarium,
}
