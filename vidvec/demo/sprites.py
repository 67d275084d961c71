"""The demo's subjects as drawings: data, and the few lines that draw it.

A drawing begins with a line of

    name, paint (a key of ``PAINTS``), size (of its square, in hundredths of the picture's height),
    level (where it moves: sky, middle or ground), gait (how: rock, flap, spin or glide)

and goes on with shapes on a square of 100 × 100, facing right, drawn in order:

    p colour x1 y1 x2 y2 …                 polygon
    o colour x y rx ry [degrees]           filled ellipse
    e colour thickness x y rx ry degrees   outline of an ellipse
    l colour thickness x1 y1 x2 y2 …       line

Colours are names in ``INKS`` (hexadecimal RGB), or ``main``, ``dark`` and ``light``: shades of the
paint that the video gives its subject.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from vidvec.demo.drawing import Canvas, Colour, Picture, mixed, rgb

# Kind, colour, numbers.
Shape = tuple[str, str, tuple[float, ...]]

INKS = {
    "black": "19191e",
    "white": "f8f8f5",
    "grey": "969ba0",
    "steel": "5f6670",
    "glass": "b9def0",
    "wood": "7d522d",
    "skin": "ecbc96",
    "green": "469646",
    "orange": "f59628",
    "yellow": "fcdc50",
    "red": "d7322d",
    "blue": "2d55be",
}
PAINTS = {
    "any": "d63031 f08c28 f5cd3c 3ca050 2878d2 8250be eb6ea0 f5f5f5",
    "vivid": "d63031 f08c28 3ca050 2878d2 8250be",
    "fur": "96643c cda069 5f504b ebe1d2 be6e3c",
    "sand": "c4985c b0804c",
    "shell": "5c7a3c 78603a",
    "fruit": "de3428 eb5f2d",
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """How a subject looks and holds itself; see the top of this file."""

    paint: str
    size: float
    level: str
    gait: str
    shapes: tuple[Shape, ...]


_DRAWINGS = """
sailboat any 46 middle rock
    l wood 2 50 72 50 8
    p white 53 12 53 64 88 64
    p main 47 18 47 64 18 64
    p wood 12 70 92 70 78 88 28 88
    l white 2 16 74 88 74

car any 44 ground glide
    p main 4 68 6 50 26 46 38 30 66 30 82 46 95 52 97 68
    p glass 41 34 51 34 51 46 32 46
    p glass 55 34 64 34 75 46 55 46
    l dark 2 6 60 96 60
    o yellow 93 56 3 3
    o black 24 70 9 9
    o black 76 70 9 9
    o grey 24 70 4 4
    o grey 76 70 4 4

bus any 58 ground glide
    p main 3 26 92 26 97 34 97 72 3 72
    p glass 8 32 22 32 22 48 8 48
    p glass 26 32 40 32 40 48 26 48
    p glass 44 32 58 32 58 48 44 48
    p glass 62 32 76 32 76 48 62 48
    p glass 80 32 92 32 95 50 80 50
    l white 4 3 57 97 57
    o black 22 70 9 9
    o black 76 70 9 9
    o grey 22 70 4 4
    o grey 76 70 4 4

train any 78 ground glide
    p main 0 42 82 42 98 62 98 70 0 70
    p glass 3 47 13 47 13 55 3 55
    p glass 17 47 27 47 27 55 17 55
    p glass 36 47 46 47 46 55 36 55
    p glass 50 47 60 47 60 55 50 55
    p glass 64 47 74 47 74 55 64 55
    p glass 80 47 85 47 92 55 80 55
    l white 3 0 61 97 61
    l black 2 31 42 31 70
    o black 8 72 4 4
    o black 22 72 4 4
    o black 40 72 4 4
    o black 54 72 4 4
    o black 74 72 4 4
    o black 88 72 4 4

bird any 26 sky flap
    p dark 32 50 6 42 12 60
    o main 50 52 24 12
    o main 73 45 10 10
    p orange 81 42 95 47 81 50
    p dark 60 50 34 52 22 12 40 20
    o black 76 43 2 2

fish any 30 middle rock
    p dark 26 50 2 30 8 50 2 70
    p dark 36 36 60 34 44 18
    o main 52 50 32 20
    l light 5 46 32 42 50 46 68
    l light 5 60 33 57 50 60 67
    o white 73 45 5 5
    o black 74 45 2 2

turtle shell 38 middle rock
    p green 60 60 80 86 50 70
    p green 34 64 16 82 24 58
    o green 84 52 11 8
    o main 46 50 32 21
    o dark 46 47 12 9
    o dark 24 49 6 6
    o dark 68 49 6 6
    o black 88 50 2 2

jellyfish any 34 middle flap
    l light 2.5 32 48 28 64 36 78 30 94
    l light 2.5 44 48 40 64 48 78 42 94
    l light 2.5 56 48 52 64 60 78 54 94
    l light 2.5 68 48 64 64 72 78 66 94
    p main 20 52 22 34 34 18 50 12 66 18 78 34 80 52 65 46 50 54 35 46
    o light 42 28 8 5 -30

dog fur 36 ground rock
    l main 5 24 50 8 32
    l dark 7 28 60 30 90
    l dark 7 36 60 38 90
    l dark 7 58 60 60 90
    l dark 7 66 60 68 90
    o main 46 56 28 14
    o main 77 40 14 13
    o light 89 45 8 5
    p dark 68 28 62 52 74 44
    o black 95 42 3 3
    o black 80 37 2 2

cat fur 32 ground rock
    l main 6 22 60 8 46 12 22
    l dark 6 28 64 30 90
    l dark 6 36 64 38 90
    l dark 6 54 64 56 90
    l dark 6 62 64 64 90
    o main 44 62 26 15
    p main 62 38 64 18 74 32
    p main 76 32 88 18 88 40
    o main 75 44 15 14
    o green 71 42 3 3
    o green 82 42 3 3
    p red 75 49 80 49 77 52
    l white 1 62 52 92 48

rabbit fur 30 ground rock
    o white 18 66 8 8
    o main 42 66 26 20
    o main 66 24 5 20 -10
    o light 76 24 5 20 12
    o main 72 50 14 12
    o light 50 86 16 5
    o black 76 47 2 2
    o red 85 52 2 2

deer fur 46 ground rock
    l dark 4 24 54 26 90
    l dark 4 32 54 34 90
    l dark 4 52 54 54 90
    l dark 4 58 54 60 90
    o main 42 52 26 12
    p main 56 46 70 22 80 26 68 58
    o main 80 26 12 6 12
    l wood 2.5 74 20 71 12 60 8 71 12 66 2
    l wood 2.5 78 20 80 12 92 8 80 12 84 2
    o light 32 48 2.5 2
    o light 42 46 2.5 2
    o light 50 51 2.5 2
    o black 80 24 2 2

camel sand 54 ground rock
    l dark 5 26 54 28 90
    l dark 5 34 54 36 90
    l dark 5 56 54 58 90
    l dark 5 64 54 66 90
    o main 46 52 30 13
    o main 34 40 10 14
    o main 58 40 10 14
    p red 42 42 50 42 52 62 40 62
    l main 9 70 54 82 28
    o main 90 26 11 6
    o black 90 24 2 2

butterfly any 24 sky flap
    o main 30 34 24 18 35
    o main 70 34 24 18 -35
    o dark 34 66 16 13 -30
    o dark 66 66 16 13 30
    o light 28 32 7 6
    o light 72 32 7 6
    l black 5 50 24 50 78
    l black 2 50 26 40 8
    l black 2 50 26 60 8

balloon any 46 sky rock
    l wood 1.5 30 54 43 82
    l wood 1.5 70 54 57 82
    o main 50 36 31 33
    o white 50 36 19 33
    o main 50 36 8 33
    p wood 41 80 59 80 57 94 43 94

drone any 32 sky rock
    l steel 4 16 36 84 36
    o main 50 44 20 11
    o grey 16 31 16 3
    o grey 84 31 16 3
    l black 3 30 68 38 54 62 54 70 68
    o black 50 54 6 6
    o red 66 44 3 3

kite any 36 sky rock
    p main 50 4 78 34 50 70 22 34
    p light 50 4 78 34 50 34
    p dark 50 70 22 34 50 34
    l white 2 50 70 40 78 56 86 44 98
    o red 40 78 4 3
    o red 56 86 4 3
    o red 44 97 4 3

rocket any 44 middle glide
    p orange 20 42 0 50 20 58
    p yellow 20 46 8 50 20 54
    p dark 20 40 12 22 38 40
    p dark 20 60 12 78 38 60
    p white 18 38 66 38 66 62 18 62
    p main 66 38 80 42 96 50 80 58 66 62
    o steel 52 50 8 8
    o glass 52 50 5 5

satellite any 42 middle spin
    l grey 3 8 50 92 50
    p blue 4 36 32 36 32 64 4 64
    p blue 68 36 96 36 96 64 68 64
    l glass 1.5 13 36 13 64
    l glass 1.5 23 36 23 64
    l glass 1.5 77 36 77 64
    l glass 1.5 87 36 87 64
    p main 38 36 62 36 62 64 38 64
    o white 50 28 12 6
    l white 2 50 28 50 14

ufo any 44 sky rock
    o glass 50 42 20 20
    o green 50 40 7 9
    o main 50 56 46 13
    o dark 50 60 30 6
    o yellow 16 57 3.5 3
    o yellow 33 57 3.5 3
    o yellow 50 57 3.5 3
    o yellow 67 57 3.5 3
    o yellow 84 57 3.5 3

planet any 56 middle rock
    o main 50 50 29 29
    o light 48 40 25 4 -12
    o dark 50 56 28 5 -12
    e light 4 50 50 47 11 -12
    o main 47 38 24 10 -12

player any 46 ground rock
    l skin 7 46 62 62 74 58 90
    l skin 7 42 62 32 78 14 82
    l black 7 56 91 66 91
    l black 7 14 80 12 88
    l skin 6 54 36 72 46 82 38
    p main 38 28 60 28 54 58 36 58
    p white 36 56 56 56 60 70 30 70
    l skin 6 42 34 26 44 32 58
    o skin 54 16 10 11
    o black 51 10 10 6

singer any 52 ground rock
    l black 6 42 96 44 78 56 78 58 96
    p main 40 34 60 34 72 82 28 82
    l skin 6 42 38 26 54 18 40
    l skin 6 58 38 70 44 66 28
    o wood 48 18 15 15
    o skin 52 20 10 11
    l black 4 66 32 64 22
    o steel 64 20 5 5

ball vivid 24 ground spin
    o white 50 50 42 42
    p main 50 34 65 45 59 62 41 62 35 45
    o main 50 14 9 9
    o main 84.2 38.84 9 9
    o main 71.24 79.16 9 9
    o main 28.76 79.16 9 9
    o main 15.8 38.84 9 9
    e black 2 50 50 42 42 0

guitar any 54 middle rock
    l wood 6 44 58 86 16
    p black 80 14 90 6 96 14 88 22
    o main 28 72 21 19
    o main 45 56 14 13
    o black 38 63 7 7
    l white 1 22 78 86 16
    l black 4 18 74 28 84

tomato fruit 28 ground spin
    o main 50 54 40 36
    o light 36 44 9 6 -35
    p green 50 12 56 24 74 20 60 32 50 28 40 32 26 20 44 24

pot any 46 ground rock
    l black 5 4 52 96 52
    p main 16 42 84 42 80 84 20 84
    p dark 18 72 82 72 80 84 20 84
    o steel 50 40 36 9
    o grey 50 37 30 6
    o black 50 29 6 5
"""


@cache
def drawings() -> dict[str, Drawing]:
    """The drawings by name."""
    found: dict[str, Drawing] = {}
    for block in _DRAWINGS.strip().split("\n\n"):
        first, *lines = block.splitlines()
        name, paint, size, level, gait = first.split()
        shapes = tuple(_shape(line.split()) for line in lines)
        found[name] = Drawing(paint, float(size), level, gait, shapes)
    return found


def _shape(words: list[str]) -> Shape:
    return words[0], words[1], tuple(float(word) for word in words[2:])


def draw_sprite(name: str, random: np.random.Generator, pixels: int) -> Picture:
    """Draws a subject in one of its paints.

    Returns:
        (pixels, pixels, 4) uint8, as ``Canvas.finished`` gives it.
    """
    drawing = drawings()[name]
    paints = PAINTS[drawing.paint].split()
    main = rgb(paints[int(random.integers(len(paints)))])
    inks = {name: rgb(code) for name, code in INKS.items()} | {
        "main": main,
        "dark": mixed(main, (20, 15, 30), 0.35),
        "light": mixed(main, (255, 250, 235), 0.5),
    }
    canvas = Canvas(pixels, pixels, scale=4)
    for kind, colour, numbers in drawing.shapes:
        _draw_shape(canvas, kind, inks[colour], numbers)
    return canvas.finished()


def _draw_shape(canvas: Canvas, kind: str, ink: Colour, numbers: tuple[float, ...]) -> None:
    if kind == "o":
        x, y, across, along, *angle = numbers
        canvas.ellipse(ink, (x, y), (across, along), *angle)
    elif kind == "e":
        thickness, x, y, across, along, degrees = numbers
        canvas.ellipse(ink, (x, y), (across, along), degrees, thickness)
    elif kind == "l":
        canvas.line(ink, numbers[0], _points(numbers[1:]))
    else:
        canvas.polygon(ink, _points(numbers))


def _points(numbers: tuple[float, ...]) -> list[tuple[float, float]]:
    return list(zip(numbers[::2], numbers[1::2], strict=True))
