"""Tables of videos (CSV, JSON lines, Parquet, Arrow), and folders of videos without a table.

Columns; one of ``id``, ``file``, ``url`` and ``video`` is required, unknown ones are ignored:

    id                   where it is missing, the file's path without suffix, relative to the table,
                         or the URL without scheme and suffix
    file                 the video file, relative to the table, or its URL; also called file_name
    url                  the video's URL, taken where no file is given; also called video_url
    video                the video itself: its bytes, or bytes and path as Hugging Face's datasets
                         have them (Parquet and Arrow), or its path
    title, category      strings; a title is also called caption
    speech_text          what is said in the video; also called asr_text
    screen_text          what is written in the picture; also called ocr_text
    tags                 a list; in CSV, tags separated by , or ; or |. Empty: nobody tagged it
    language             also called lang
    duration_seconds     a number
    date                 a day or a moment (``dates.py``); also called upload_date, published_at
    frames               Parquet and Arrow: features already computed, a list of equally long
                         lists of numbers; a single number, as a count of frames, is ignored
    frame_times_seconds  a number for each frame; where missing, frames come one a second
    audio                audio frames already computed, in the same form
    audio_times_seconds  a number for each of those
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from vidvec.data.access import Access, Lend, url_suffix, video_suffix
from vidvec.data.addresses import is_url
from vidvec.data.cells import LIST_SUFFIX, READERS, TEXTS, Cells
from vidvec.data.dates import iso_date
from vidvec.data.feature_cells import Widths, feature_rows, feature_times, floats
from vidvec.data.walk import Found
from vidvec.errors import BadRecord
from vidvec.records import Reject, SourceRow, Video

TABLE_NAMES = frozenset({"meta", "metadata", "videos", "index"})


def is_table(name: str) -> bool:
    """Whether a file of this name is a table."""
    suffix = Path(name).suffix.lower()
    return suffix in READERS and suffix != LIST_SUFFIX


def find_tables(files: Sequence[Found]) -> list[Found]:
    """Those of a folder's files that describe its videos: named meta, metadata, videos or index.

    Where the folder has none itself, those of all folders below count.
    """
    named = [
        file
        for file in files
        if is_table(file.name) and Path(file.name).stem.lower() in TABLE_NAMES
    ]
    return [file for file in named if "/" not in file.path] or named


def file_row(folder: Path, path: str, version: str) -> SourceRow:
    """The row of a video file that no table describes.

    Args:
        folder: The source.
        path: Of the file below it; its id, without the suffix.
        version: See ``file_version``.
    """
    # Names of files are bytes; those that are not UTF-8 are spelt out.
    where = os.fsencode(path).decode("utf-8", "backslashreplace")
    name = where.removesuffix(Path(path).suffix)
    return SourceRow(where, Video(id=name), folder / path, version=version)


def file_version(status: os.stat_result) -> str:
    """What differs between two versions of a file: its size and when it was written."""
    return f"{status.st_size}:{status.st_mtime_ns}"


def read_table(
    path: Path,
    *,
    expected_width: int | None = None,
    access: Access | None = None,
    name: str = "",
    seen: set[str] | None = None,
) -> Iterator[SourceRow | Reject]:
    """Yields the videos of one table in order, and a ``Reject`` for each row that cannot be used.

    Args:
        path: A table; its suffix says of which kind.
        expected_width: Numbers in a frame feature; ``None``: as in the table's first good row.
        access: Lends videos at URLs or in the table itself; ``None``: URLs are left out.
        name: What the table is called in messages; by default by its file's name.
        seen: Ids that videos in the tables of this source have by their paths; added to.

    Yields:
        Rows with ``where`` as in ``meta.jsonl:12`` (the line) or ``meta.parquet#12`` (the row), and
        ``frames`` (F, expected_width); or rejects: ``bad-record``, ``no-id``, ``not-utf8``,
        ``missing-file``, ``frame-width``, ``audio-width``, ``nan``, ``not-fetched``, ``bad-url``,
        ``too-large``, ``empty-file``.

    Raises:
        FormatError: The file is no such table, or has no column that says which video a row is.
    """
    read, mark = READERS[path.suffix.lower()]
    widths = Widths(expected_width)
    access, name = access or Access(), name or path.name
    seen = set() if seen is None else seen
    for number, cells in read(path):
        where, found = f"{name}{mark}{number}", ""
        try:
            if isinstance(cells, BadRecord):
                raise cells
            found = _id(cells, path.parent, f"{name.removesuffix(path.suffix)}-{number:06d}", seen)
            row = _source_row(cells, found, where, path.parent, widths=widths, access=access)
        except BadRecord as error:
            yield Reject(where, found, error.reason, error.detail)
            continue
        yield row


@dataclass(frozen=True, slots=True)
class _Media:
    """A row's video: a file, or how it is lent; see ``SourceRow``.

    ``kept`` is where a download stays; empty where it does not.
    """

    file: Path | None = None
    version: str = ""
    lease: Lend | None = None
    kept: str = ""


def _source_row(
    cells: Cells, name: str, where: str, folder: Path, *, widths: Widths, access: Access
) -> SourceRow:
    frames = feature_rows(cells.get("frames"), widths.frames, "frame")
    audio = feature_rows(cells.get("audio"), widths.audio, "audio")
    # Features that are there are taken as they are; the video file is then not needed.
    media = _Media() if len(frames) else _media(cells, name, folder, access)
    video = replace(video_of_cells(cells, name, frames, audio), file=media.kept)
    widths.note(video)
    return SourceRow(where, video, media.file, version=media.version, lease=media.lease)


def video_of_cells(
    cells: Cells,
    name: str,
    frames: NDArray[np.float16] | None = None,
    audio: NDArray[np.float16] | None = None,
) -> Video:
    """The video of this id that a row's cells describe.

    Raises:
        BadRecord: A cell holds what it should not.
    """
    none = np.zeros((0, 0), np.float16)
    shown = none if frames is None else frames
    heard = none if audio is None else audio
    heard_at = feature_times(cells.get("audio_times_seconds"), len(heard), "audio")
    return Video(
        id=name,
        **{column: _text(cells, column) for column in TEXTS},  # type: ignore[arg-type]
        tags=_tags(cells.get("tags")),
        category=_text(cells, "category", numbers=True),
        duration_seconds=_seconds(cells.get("duration_seconds")),
        date="" if _is_missing(cells.get("date")) else iso_date(cells["date"]),
        frame_times_seconds=feature_times(cells.get("frame_times_seconds"), len(shown)),
        frames=shown,
        audio_times_seconds=heard_at,
        audio=heard,
    )


def _media(cells: Cells, name: str, folder: Path, access: Access) -> _Media:
    content, file = _content(cells)
    if content is not None:
        version = f"{len(content)}:{google_crc32c.value(content):08x}"
        return _Media(version=version, lease=access.in_memory(content, video_suffix(file)))
    if file and not is_url(file):
        try:
            return _Media(folder / file, file_version(os.stat(folder / file)))
        except (OSError, ValueError):
            detail = f"there is no file {file} in {folder}"
            raise BadRecord("missing-file", detail) from None
    url = file or _text(cells, "url")
    if not url:
        return _Media()
    lease, kept = access.at_url(url, name), access.kept_path(name, url_suffix(url))
    return _Media(version=url, lease=lease, kept=str(kept.absolute()) if kept else "")


def _content(cells: Cells) -> tuple[bytes | None, str]:
    """The bytes of a row's video, ``None`` where they are elsewhere, and the path given with it."""
    value, file = cells.get("video"), _text(cells, "file")
    if isinstance(value, dict):
        file = file or _text(value, "path")
        value = value.get("bytes")
    elif isinstance(value, str):
        return None, file or _text(cells, "video")
    if _is_missing(value):
        return None, file
    if not isinstance(value, bytes):
        raise BadRecord("bad-record", f"video is {value!r:.40}, expected bytes or a path")
    return value, file


def _id(cells: Cells, folder: Path, otherwise: str, seen: set[str]) -> str:
    """The row's id; ``otherwise`` for a video in the table with no id and no path of its own."""
    content, file = _content(cells)
    file = file or _text(cells, "url")
    name = _text(cells, "id", numbers=True).strip()
    if not name and content is not None:
        # Such paths are often bare names, which the videos of several folders may share.
        name = PurePosixPath(file).with_suffix("").as_posix() if file else otherwise
        name = otherwise if name in seen else name
        seen.add(name)
    if name:
        return name
    if not file:
        raise BadRecord("no-id", "neither id nor file is given")
    if is_url(file):
        return file.partition("://")[2].removesuffix(video_suffix(file.partition("?")[0]))
    return Path(os.path.relpath(folder / file, folder)).with_suffix("").as_posix()


def _is_missing(value: Any) -> bool:
    """Whether a cell is empty; data frames write NaN there."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _text(cells: Cells, name: str, *, numbers: bool = False) -> str:
    value = cells.get(name)
    if _is_missing(value):
        return ""
    if numbers and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        found = f"{name} is {value!r:.40}, expected text"
        raise BadRecord("bad-record", found + " or a whole number" * numbers)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRecord("not-utf8", f"{name} is not UTF-8: {value!r:.60}") from None
    return value


def _tags(value: Any) -> tuple[str, ...] | None:
    if _is_missing(value):
        return None
    if isinstance(value, str):
        value = [tag.strip() for tag in re.split("[,;|]", value) if tag.strip()]
    if not isinstance(value, list):
        raise BadRecord("bad-record", f"tags are {value!r:.40}, expected a list of strings")
    # Tables write an empty list for "no tags known"; were it taken for "no tag fits", the tag
    # objective would learn that from every untagged video.
    return tuple(_text({"a tag": tag}, "a tag", numbers=True) for tag in value) or None


def _seconds(value: Any) -> float | None:
    if _is_missing(value):
        return None
    seconds = floats(value)
    if seconds.shape != () or not 0 <= seconds < math.inf:
        raise BadRecord("bad-record", f"duration_seconds is {value!r:.40}, expected a number")
    return float(seconds)
