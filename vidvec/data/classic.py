"""Frame features without a network: colour, gradients and texture, measured.

What is measured, on the picture squashed to 128×128:

- Colour layout: mean and spread of CIE Lab on a 4×4 grid.
- Colour histogram: hue × saturation × brightness over the whole picture.
- Gradients: orientation histograms on a 4×4 grid, weighted by gradient length and
  normalised over the picture, after Dalal and Triggs, "Histograms of Oriented Gradients for Human
  Detection" (2005).
- Texture: uniform local binary patterns on a 2×2 grid, after Ojala, Pietikäinen and Mäenpää,
  "Multiresolution Gray-Scale and Rotation Invariant Texture Classification" (2002).

Histograms are taken as square roots, so that dot products compare distributions (Bhattacharyya).
From gradients and texture the value of a uniform histogram is taken away, and from lightness a
half: otherwise all vectors would share one large component, and every cosine would be near 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vidvec.data.prepare import Preparer

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

SIDE = 128
LAYOUT_CELLS, GRADIENT_CELLS, TEXTURE_CELLS = 4, 4, 2
HUES, ORIENTATIONS = 12, 8
SATURATION_STEPS = (40, 100, 170)
BRIGHTNESS_STEPS = (50, 110, 180)
# Each group has a length of about 6 on natural pictures (the histogram, which repeats some of the
# layout, 4): together about 12, the size that networks' pooled features have, because the masked
# frame objective compares features by dot products without a temperature.
LAYOUT_WEIGHT, HISTOGRAM_WEIGHT, GRADIENT_WEIGHT, TEXTURE_WEIGHT = 3.2, 4.3, 13.0, 10.0


class ClassicEncoder:
    """Colour layout, colour histogram, gradients and texture of each picture.

    The same picture gives the same bits, whatever else is in the call and however many threads
    OpenCV uses: pictures are described one by one, by operations whose sums have one order.

    Attributes:
        identity: Name, version, preprocessing and width, JSON-able.
        frame_size: D, 652.
        short_side: Pictures with a shorter side lose detail; a longer one is shrunk.
        batch_size: Pictures are described one by one; any number will do.
        note: What to know when this encoder was not chosen on purpose.
    """

    frame_size = 96 + 192 + 128 + 236
    short_side = SIDE
    batch_size = 32
    note = (
        "frames are described by colour, gradients and texture (classic, no learned weights); an "
        "image model says more about what is shown: onnx:FILE or hf:NAME"
    )

    def __init__(self) -> None:
        self.identity: dict[str, Any] = {
            "name": "classic",
            "revision": "1",
            "preprocessing": {"size": [SIDE, SIDE], "resize": "squash"},
            "precision": "float32",
            "frame_size": self.frame_size,
        }
        self._preparer = Preparer()

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> Floats:
        """Describes pictures.

        Args:
            images: F pictures, each (height, width, 3) uint8 RGB, of any sizes.

        Returns:
            (F, 652) float32.
        """
        features = np.empty((len(images), self.frame_size), np.float32)
        for batch in self._preparer.batches(images, max(1, len(images)), _describe_any):
            features[:] = batch
        return features


def squash(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resizes a picture without keeping its proportions.

    Shrinks by area, so that fine patterns do not turn into coarse ones; enlarges linearly.
    """
    shrinks = image.shape[0] * image.shape[1] > height * width
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8)


def _describe_any(image: NDArray[np.uint8]) -> Floats:
    return _describe(squash(image, SIDE, SIDE))


def _describe(image: NDArray[np.uint8]) -> Floats:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.concatenate(
        [
            LAYOUT_WEIGHT * _colour_layout(image),
            HISTOGRAM_WEIGHT * _colour_histogram(image),
            GRADIENT_WEIGHT * _gradients(grey),
            TEXTURE_WEIGHT * _texture(grey),
        ]
    )


def _colour_layout(image: NDArray[np.uint8]) -> Floats:
    """Mean and spread of L, a and b in each cell: (96,). L is −0.5…0.5, a and b about −1…1."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    # Shrinking by area is the mean of each cell.
    grid = (LAYOUT_CELLS, LAYOUT_CELLS)
    mean = cv2.resize(lab, grid, interpolation=cv2.INTER_AREA)
    square = cv2.resize(cv2.multiply(lab, lab), grid, interpolation=cv2.INTER_AREA)
    spread = np.sqrt(np.maximum(square - mean * mean, 0))
    scale = np.array([0.01, 0.01, 0.01], np.float32)
    offset = np.array([0.5, 0, 0], np.float32)
    # Doubled, because the spread varies about half as much between pictures as the mean.
    return np.concatenate([(mean * scale - offset).ravel(), (2 * spread * scale).ravel()])


def _colour_histogram(image: NDArray[np.uint8]) -> Floats:
    """Share of each hue, saturation and brightness, square root: (192,)."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    saturation = _steps(SATURATION_STEPS)[hsv[..., 1]]
    brightness = _steps(BRIGHTNESS_STEPS)[hsv[..., 2]]
    # The hue of a nearly grey pixel is noise. OpenCV's hues are 0…179.
    hue = np.where(saturation == 0, 0, hsv[..., 0].astype(np.int64) * HUES // 180)
    return _root_histogram((hue * 4 + saturation) * 4 + brightness, HUES * 16)


def _gradients(grey: NDArray[np.uint8]) -> Floats:
    """Share of each orientation in each cell, square root, less the uniform value: (128,)."""
    pixels = grey.astype(np.float32)
    dx = cv2.Sobel(pixels, cv2.CV_32F, 1, 0)
    dy = cv2.Sobel(pixels, cv2.CV_32F, 0, 1)
    length = np.hypot(dx, dy).ravel()
    # Opposite directions count as one, so that light on dark equals dark on light.
    angle = (np.arctan2(dy, dx) % np.pi) * (ORIENTATIONS / np.pi)
    below = np.floor(angle)
    share = (angle - below).ravel()
    below = below.astype(np.int64) % ORIENTATIONS
    above = (below + 1) % ORIENTATIONS
    cell = _cells(SIDE, GRADIENT_CELLS) * ORIENTATIONS
    bins = GRADIENT_CELLS**2 * ORIENTATIONS
    lower = np.bincount((cell + below).ravel(), length * (1 - share), bins)
    upper = np.bincount((cell + above).ravel(), length * share, bins)
    # A picture without edges (total 0) gives zeros instead of a division by zero.
    shares = (lower + upper) / (length.sum(dtype=np.float64) + 1e-6)
    return (np.sqrt(shares) - np.sqrt(1 / bins)).astype(np.float32)


def _texture(grey: NDArray[np.uint8]) -> Floats:
    """Share of each local binary pattern in each cell, square root, less the uniform: (236,)."""
    middle = grey[1:-1, 1:-1]
    code = np.zeros(middle.shape, np.uint8)
    for bit, (down, right) in enumerate(_NEIGHBOURS):
        inner = SIDE - 2
        neighbour = grey[1 + down : 1 + down + inner, 1 + right : 1 + right + inner]
        code |= (neighbour > middle).astype(np.uint8) << np.uint8(bit)
    pattern = _uniform_patterns()[code]
    cell = _cells(SIDE - 2, TEXTURE_CELLS)
    patterns = 59
    bins = TEXTURE_CELLS**2 * patterns
    # The root over all cells makes each cell's histogram sum to a quarter.
    return _root_histogram(cell * patterns + pattern, bins) - np.float32(np.sqrt(1 / bins))


# Around the pixel in circular order: a pattern is uniform by its changes along the circle.
_NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def _uniform_patterns() -> Ints:
    """For each of 256 codes its number among the 58 with at most two changes, else 58."""
    codes = np.arange(256)
    bits = (codes[:, None] >> np.arange(8)) & 1
    uniform = (bits != np.roll(bits, -1, axis=1)).sum(axis=1) <= 2
    numbers = np.full(256, 58, np.int64)
    numbers[uniform] = np.arange(uniform.sum())
    return numbers


def _cells(side: int, count: int) -> Ints:
    """(side, side): the number of each pixel's cell on a grid of count × count."""
    line = np.arange(side, dtype=np.int64) * count // side
    return line[:, None] * count + line


def _steps(limits: tuple[int, ...]) -> Ints:
    """(256,): how many of the limits each value reaches."""
    return np.searchsorted(np.asarray(limits), np.arange(256), side="right").astype(np.int64)


def _root_histogram(numbers: Ints, bins: int) -> Floats:
    counts = np.bincount(numbers.ravel(), minlength=bins)
    return np.sqrt(counts / counts.sum()).astype(np.float32)
