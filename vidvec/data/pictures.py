"""Files that somebody looks for something like: videos, and still pictures as videos of one frame.

Photographs are read by OpenCV, which turns them upright as their Exif data says, and takes the
first picture of an animated WebP; everything else is a video file (``media.py``). This runs in a
worker process.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec.data.media import Media, MediaRequest, read_media
from vidvec.errors import BadRecord

READ_QUERY = "vidvec.data.pictures:read_query"


def read_query(path: Path, request: MediaRequest) -> Media:
    """Reads a video or a still picture; see ``media.read_media``.

    Raises:
        BadRecord: As ``media.read_media``; a picture may be ``truncated-picture`` or
            ``damaged-picture``.
    """
    kind = picture_kind(path)
    return _read_picture(path, kind, request) if kind else read_media(path, request)


def picture_kind(path: Path) -> str:
    """``jpeg``, ``png``, ``webp``, ``tiff`` or ``bmp`` by a file's first bytes; else empty."""
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError:
        return ""
    if head[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "png" if head[12:16] == b"IHDR" else ""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:4] in (b"II*\0", b"MM\0*"):
        return "tiff"
    # A bitmap's header is of one of few lengths; two letters alone are no sign.
    known = int.from_bytes(head[14:18], "little") in (12, 40, 52, 56, 64, 108, 124)
    return "bmp" if head[:2] == b"BM" and known else ""


def _read_picture(path: Path, kind: str, request: MediaRequest) -> Media:
    import cv2

    from vidvec.data.video import to_jpeg

    try:
        data = path.read_bytes()
    except OSError as error:
        raise _bad("unreadable-file", path, f"cannot be read: {error.strerror}") from None
    if kind in ("jpeg", "png", "webp") and not _is_whole(data, kind):
        raise _bad("truncated-picture", path, f"ends before its picture does ({kind})")
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        bgr = None
    if bgr is None:
        raise _bad("damaged-picture", path, f"cannot be decoded as {kind}")
    image = _shrunk(bgr, request.short_side)
    strip = (to_jpeg(image),) if request.thumbnails else ()
    return Media([image], np.zeros(1, np.float32), thumbnails=strip)


def _shrunk(bgr: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB, its short side at most so long; never enlarged."""
    import cv2

    height, width = bgr.shape[:2]
    scale = min(1.0, short_side / min(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA) if scale < 1 else bgr
    return np.ascontiguousarray(small[:, :, ::-1])


def _is_whole(data: bytes, kind: str) -> bool:
    """Whether a picture file has its end.

    Sources: ITU-T T.81, B.1 (JPEG segments; in coded data no byte FF is followed by D9), PNG 1.2,
    11.2.5 (IEND), the RIFF chunk layout.
    """
    if kind == "png":
        return b"IEND" in data
    if kind == "webp":
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.find(b"\xff\xd9", at) > 0


def _bad(reason: str, path: Path, found: str) -> BadRecord:
    name = os.fsencode(path.name).decode("utf-8", "backslashreplace")
    return BadRecord(reason, f"{name} {found}")
