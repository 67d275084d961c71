"""Tables of videos: CSV, JSON lines, Parquet and Arrow; and folders of videos without a table.

Columns, all but one of ``id`` and ``file`` optional, others ignored:

    id                    the file's path without suffix, relative to the table, where it is missing
    file                  the video file, relative to the table
    title, category       strings
    speech_text           what is said; also called asr_text
    screen_text           what is written in the picture; also called ocr_text
    tags                  a list; in CSV, tags separated by , or ; or | (an empty cell: not tagged)
    language              also called lang
    duration_seconds      a number
    frames                frame features already computed, a list of equally long lists of numbers;
                          a single number (a count of frames) is ignored
    frame_times_seconds   one number a frame; where it is missing, frames are taken to come one a
                          second
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import BadRecord, FormatError
from vidvec.records import Reject, SourceRow, Video

TABLE_NAMES = frozenset({"meta", "metadata", "videos", "index"})
VIDEO_SUFFIXES = frozenset(
    ".3gp .asf .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .vob .webm .wmv".split()
)
_ALIASES = {"asr_text": "speech_text", "ocr_text": "screen_text", "lang": "language"}
_TEXTS = ("title", "speech_text", "screen_text", "category", "language")
_READ_AHEAD = 256

Cells = dict[str, Any]
Numbered = Iterator[tuple[int, Cells | BadRecord]]


def find_tables(source: Path) -> list[Path]:
    """The tables that describe a source.

    Args:
        source: A table, or a folder. In a folder: tables called meta, metadata, videos or index;
            where it has none itself, those of all folders below.

    Returns:
        Sorted; empty where there are none.
    """
    if source.is_file():
        return [source] if source.suffix.lower() in _READERS else []
    return _named_tables(source.glob("*")) or _named_tables(source.rglob("*"))


def _named_tables(files: Iterator[Path]) -> list[Path]:
    return sorted(
        file
        for file in files
        if file.stem.lower() in TABLE_NAMES and file.suffix.lower() in _READERS and file.is_file()
    )


def read_table(path: Path, *, expected_width: int | None = None) -> Iterator[SourceRow | Reject]:
    """Yields the videos of one table in order, and a ``Reject`` for each row that cannot be used.

    Args:
        path: A table; its suffix says which kind.
        expected_width: Numbers in a frame feature; ``None``: as in the table's first good row.

    Yields:
        Rows with ``where`` as in ``meta.jsonl:12`` (line) or ``meta.parquet#12`` (row), counted
        from 1, frames (F, expected_width) float16; or rejects: ``bad-record``, ``no-id``,
        ``not-utf8``, ``missing-file``, ``frame-width``, ``nan``.

    Raises:
        FormatError: The file is no such table, or has neither a column ``id`` nor ``file``.
    """
    suffix = path.suffix.lower()
    mark = "#" if suffix in _COLUMNAR else ":"
    width = expected_width
    for number, cells in _READERS[suffix](path):
        where = f"{path.name}{mark}{number}"
        if isinstance(cells, BadRecord):
            yield Reject(where, "", cells.reason, cells.detail)
            continue
        name = ""
        try:
            name = _id(cells)
            row = _source_row(cells, name, where, path.parent, width)
        except BadRecord as error:
            yield Reject(where, name, error.reason, error.detail)
            continue
        if width is None and len(row.video.frames):
            width = row.video.frames.shape[1]
        yield row


def read_folder(folder: Path) -> Iterator[SourceRow]:
    """Yields every video file in and below a folder, sorted; the id is its path without suffix."""
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in path.parts)
        if path.suffix.lower() in VIDEO_SUFFIXES and not hidden and file.is_file():
            name = os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")
            yield SourceRow(name, Video(id=name.removesuffix(path.suffix)), file)
