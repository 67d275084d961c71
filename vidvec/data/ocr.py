"""Text on screen, read from a few pictures of a video by RapidOCR's models (PP-OCRv4).

They know Chinese and English, lie in its package, and run through onnxruntime on a CPU.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import VidvecError

PICTURES = 4  # of a video
SHORT_SIDE = 720  # pixels: on smaller ones words run together (docs/experiments.md)
_LEAST_SIDE = 16
_SURE = 0.6  # of a line, 0 … 1
_SAME = 0.85  # similarity from which two readings are of one line
INSTALL = "pip install 'vidvec[ocr]', then pip install --no-deps rapidocr-onnxruntime==1.4.4"

_local = threading.local()


def check_ocr() -> None:
    """Raises ``VidvecError`` where what reads text is not installed."""
    try:
        import rapidocr_onnxruntime  # noqa: F401
    except ImportError as error:
        # Without --no-deps, pip would write a second OpenCV over the one that is there.
        raise VidvecError(
            f"{error.name or 'rapidocr_onnxruntime'} is not installed, which --ocr needs: {INSTALL}"
        ) from None


def read_screen_text(images: Sequence[NDArray[np.uint8]]) -> str:
    """Reads what is written in pictures.

    Args:
        images: Pictures of one video in time order, each (height, width, 3) uint8 RGB.

    Returns:
        Lines from top to bottom, picture after picture, joined by line breaks. A line that stands
        in several pictures comes once, as it was read with the most certainty.

    Raises:
        VidvecError: RapidOCR is not installed.
    """
    lines: list[str] = []
    scores: list[float] = []
    for image in images:
        for line, score in _lines(image):
            place = _place(line, lines)
            if place is None:
                lines.append(line)
                scores.append(score)
            elif score > scores[place]:
                lines[place], scores[place] = line, score
    return "\n".join(lines)


def _lines(image: NDArray[np.uint8]) -> list[tuple[str, float]]:
    """The lines of one picture with how sure their reading is."""
    if min(image.shape[:2]) < _LEAST_SIDE:
        return []
    found, _ = _reader()(np.ascontiguousarray(image[:, :, ::-1]))
    read = [(str(text).strip(), float(score)) for _, text, score in found or ()]
    return [(text, score) for text, score in read if text and score >= _SURE]


def _reader() -> Any:
    """This thread's RapidOCR: an object of it keeps state while it reads."""
    if not hasattr(_local, "reader"):
        check_ocr()
        from rapidocr_onnxruntime import RapidOCR

        _local.reader = RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)
    return _local.reader


def _place(line: str, lines: Sequence[str]) -> int | None:
    """Where a reading of the same line is, if there is one."""
    plain = _plain(line)
    for place, other in enumerate(lines):
        known = _plain(other)
        if plain == known:
            return place
        # A digit more or less is another line: a score, a price, a clock.
        digits = [[c for c in text if c.isdigit()] for text in (plain, known)]
        if digits[0] == digits[1] and min(len(plain), len(known)) > 3:
            ratio = difflib.SequenceMatcher(None, plain, known, autojunk=False).ratio()
            if ratio >= _SAME:
                return place
    return None


def _plain(line: str) -> str:
    """Letters and digits in small letters: spaces and stops are where readings differ most."""
    return "".join(c for c in line.casefold() if c.isalnum()) or line
