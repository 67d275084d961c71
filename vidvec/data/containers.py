"""Opening video files, and what they say of their own length."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from vidvec.errors import BadRecord


def bad(reason: str, path: Path, found: str) -> BadRecord:
    """An error that names the file, as text even where the name is not UTF-8."""
    name = os.fsencode(path.name).decode("utf-8", "backslashreplace")
    return BadRecord(reason, f"{name} {found}")


def check_file(path: Path) -> int:
    """Refuses a file that is not there, empty, or shorter than its own container says.

    Returns:
        Its length in bytes, where its container states one and all of it is there; else 0.

    Raises:
        BadRecord: ``missing-file``, ``unreadable-file``, ``empty-file`` or ``truncated-video``.
    """
    if not path.is_file():
        raise bad("missing-file", path, "does not exist or is no file")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            declared = declared_bytes(file, size)
    except OSError as error:
        raise bad("unreadable-file", path, f"cannot be read: {error.strerror}") from None
    if size == 0:
        raise bad("empty-file", path, "has 0 bytes")
    if declared > size:
        found = f"has {size:,} bytes, its container says at least {declared:,}"
        raise bad("truncated-video", path, found)
    return size if declared else 0


def declared_bytes(file: BinaryIO, size: int) -> int:
    """How long the file says that it is, in bytes; 0 where it does not say.

    Sources: ISO/IEC 14496-12 (boxes), the RIFF chunk layout with OpenDML's further chunks, RFC 8794
    and RFC 9559 (EBML, Matroska), GIF89a (its last byte is a semicolon), Adobe's FLV specification
    10.1 (behind each tag its length).

    Args:
        file: At its beginning.
        size: Its length in bytes.
    """
    head = file.read(128)
    if head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp"}:
        return _declared_by_boxes(file, size)
    if head[:4] == b"RIFF":
        return _declared_by_riff(file, size)
    segment = head.find(b"\x18\x53\x80\x67") + 4
    if head[:4] == b"\x1a\x45\xdf\xa3" and 4 < segment < len(head):
        width = 9 - head[segment].bit_length()
        ones = (1 << 7 * width) - 1  # all ones mean that the length is not known
        length = int.from_bytes(head[segment : segment + width], "big") & ones
        return segment + width + length if length < ones else 0
    if head[:4] == b"GIF8":
        file.seek(max(0, size - 64))
        return 0 if file.read().rstrip(b"\0").endswith(b";") else size + 1
    if head[:3] == b"FLV":
        return size if _ends_with_tag(file, size) else 0
    return 0


def _declared_by_riff(file: BinaryIO, size: int) -> int:
    """End of the last of the RIFF chunks that follow one another; 0 where one has no length."""
    offset = 0
    while offset + 8 <= size:
        file.seek(offset)
        header = file.read(8)
        if header[:4] != b"RIFF":
            break
        if header[4:] in {b"\0\0\0\0", b"\xff\xff\xff\xff"}:
            return 0
        offset += 8 + int.from_bytes(header[4:], "little")
    return offset


def _ends_with_tag(file: BinaryIO, size: int) -> bool:
    """Whether an FLV file ends as a tag does: with the length of what is a tag of that length."""
    file.seek(size - 4)
    length = int.from_bytes(file.read(4), "big")
    if not 11 <= length <= size - 4:
        return False
    file.seek(size - 4 - length)
    tag = file.read(4)
    return tag[0] in {8, 9, 18} and int.from_bytes(tag[1:], "big") + 11 == length


def _declared_by_boxes(file: BinaryIO, size: int) -> int:
    """Where the boxes with media and their index end, as far as one reaches beyond the file.

    0 where a box has no length, or where more fragments may have followed.
    """
    offset = end = 0
    kinds = set()
    while offset + 8 <= size:
        file.seek(offset)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        kind = header[4:8]
        if length < 8:  # 0 is "to the end of the file", the others are no boxes
            if kind == b"mdat":
                return 0
            break
        offset += length
        kinds.add(kind)
        if kind in {b"mdat", b"moov", b"moof"}:
            end = offset
            if end > size:
                return end
    # Fragments may go on; who writes them to the end closes with an index of them, "mfra".
    is_whole = {b"moov", b"mdat"} <= kinds and (b"moof" not in kinds or b"mfra" in kinds)
    return end if is_whole else 0


@contextmanager
def open_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and the stream of moving pictures in it.

    Raises:
        BadRecord: ``not-a-video``, ``no-video-stream`` or ``audio-only``.
    """
    import av

    try:
        # "file:" and the whitelist: neither a colon in a name nor a playlist that calls itself a
        # video makes FFmpeg open anything but files.
        container = av.open(
            f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"}
        )
    except av.error.FFmpegError as error:
        found = f"is no video file that FFmpeg can read ({error.strerror})"
        raise bad("not-a-video", path, found) from None
    with container:
        if container.format.name == "tty":  # FFmpeg draws text files as a terminal would
            raise bad("not-a-video", path, "is a text file")
        cover = av.stream.Disposition.attached_pic
        videos = container.streams.video
        streams = [one for one in videos if one.codec_context and not one.disposition & cover]
        if not streams:
            kinds = ", ".join(sorted({one.type for one in container.streams})) or "nothing"
            found = f"holds {kinds}, expected moving pictures that FFmpeg can decode"
            heard = any(one.codec_context for one in container.streams.audio)
            raise bad("audio-only" if heard else "no-video-stream", path, found)
        # One thread: two cost a third more work in total, and videos are decoded side by side.
        streams[0].codec_context.thread_count = 1
        yield container, streams[0]
