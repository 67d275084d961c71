"""Text on screen: what is drawn comes back, a line that stays on screen once."""

from __future__ import annotations

import importlib.util
import sys

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vidvec.data import ocr
from vidvec.data.ocr import check_ocr, read_screen_text
from vidvec.errors import VidvecError

needs_reader = pytest.mark.skipif(
    importlib.util.find_spec("rapidocr_onnxruntime") is None,
    reason=f"rapidocr-onnxruntime is not installed: {ocr.INSTALL}",
)


def picture(*lines: str, height: int = 720, shade: int = 235) -> NDArray[np.uint8]:
    """(height, 16:9, 3) uint8 with lines of text below one another."""
    image = np.full((720, 1280, 3), shade, np.uint8)
    for place, line in enumerate(lines):
        cv2.putText(image, line, (80, 160 + 140 * place), 0, 2, (180, 20, 20), 5, cv2.LINE_AA)
    return cv2.resize(image, (height * 16 // 9, height), interpolation=cv2.INTER_AREA)


@needs_reader
@pytest.mark.parametrize("height", [480, 720])
def test_drawn_text_comes_back(height) -> None:
    text = read_screen_text([picture("Fresh bread", "Open at 9", height=height)])
    assert text.replace(" ", "") == "Freshbread\nOpenat9"


@needs_reader
def test_another_font_light_on_dark() -> None:
    image = Image.new("RGB", (960, 400), (20, 30, 60))
    draw = ImageDraw.Draw(image)
    draw.text((60, 60), "Breaking news today", (255, 255, 255), ImageFont.load_default(64))
    draw.text((60, 220), "3,500 people", (255, 230, 0), ImageFont.load_default(64))
    text = read_screen_text([np.asarray(image)])
    assert " ".join(text.split()) == "Breaking news today 3,500 people"


@needs_reader
def test_lines_that_stay_on_screen_come_once() -> None:
    pictures = [
        picture("Channel Seven", "Score 1 : 0"),
        picture("Channel Seven", "Score 2 : 0"),
        picture(),
        picture("Channel Seven", "Goodbye"),
    ]
    lines = read_screen_text(pictures).replace(" ", "").split("\n")
    assert lines == ["ChannelSeven", "Score1:0", "Score2:0", "Goodbye"]


@needs_reader
def test_nothing_to_read() -> None:
    assert read_screen_text([]) == ""
    assert read_screen_text([picture(), np.zeros((4, 300, 3), np.uint8)]) == ""
    assert read_screen_text([np.zeros((90, 160, 3), np.uint8)]) == ""


def test_readings_of_one_line_are_joined(monkeypatch) -> None:
    pages = iter(
        [
            [("Fresh bread today", 0.8), ("Room 12", 0.9), ("AD", 0.9)],
            [("Freshbread today!", 0.95), ("Room 13", 0.9), ("AC", 0.9)],
            [("Fresh bread todav", 0.7), ("海边的帆船", 0.9)],
            [("海边的帆船", 0.8), ("***", 0.8)],
        ]
    )
    monkeypatch.setattr(ocr, "_lines", lambda image: next(pages))
    text = read_screen_text([picture()] * 4)
    assert text.split("\n") == [
        *["Freshbread today!", "Room 12", "AD", "Room 13", "AC"],
        *["海边的帆船", "***"],
    ]


def test_without_the_reader(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr_onnxruntime", None)
    monkeypatch.setattr(ocr, "_local", type(ocr._local)())
    for attempt in (check_ocr, lambda: read_screen_text([picture("a")])):
        with pytest.raises(VidvecError, match=r"pip install --no-deps rapidocr-onnxruntime"):
            attempt()
