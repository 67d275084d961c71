"""Fonts for titles in pictures: which are at hand, and what they can draw."""

from __future__ import annotations

import unicodedata
from typing import Any

# Titles are mostly Chinese and English; the first of these that are installed draw them.
_FONTS = (
    *("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC"),
    *("WenQuanYi Zen Hei", "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "SimHei"),
)


class Fonts:
    """The fonts at hand.

    Attributes:
        names: For matplotlib, each a fallback of those before it.
    """

    def __init__(self) -> None:
        from matplotlib import font_manager

        self.names: list[str] = []
        self._fonts: list[Any] = []
        for name in _FONTS:
            try:
                path = font_manager.findfont(name, fallback_to_default=False)
            except ValueError:
                continue
            self.names.append(name)
            self._fonts.append(font_manager.get_font(path))

    def draws(self, text: str) -> bool:
        """Whether every character of a text can be drawn."""
        return all(any(f.get_char_index(ord(each)) for f in self._fonts) for each in text)

    def shortened(self, text: str, most: int) -> str:
        """At most so many letters of a text, wide ones counted twice; empty if undrawable."""
        kept, width = "", 0
        for character in " ".join(text.split()):
            if not self.draws(character):
                return ""
            width += 2 if unicodedata.east_asian_width(character) in "WF" else 1
            if width > most:
                return kept.rstrip() + "…"
            kept += character
        return kept
