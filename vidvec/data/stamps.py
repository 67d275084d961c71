"""What a source says of a video, in a few letters: another stamp, another version of the video.

A corpus holds what came out of a video, such as the text that was heard in it, and not what went
in. So each video keeps the stamp of its row, by which ``ingest --update`` knows what has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace

import google_crc32c

from vidvec.records import Reject, SourceRow

_DIGITS = 16


def stamp(row: SourceRow) -> str:
    """Sixteen hex digits of a row's metadata, of its features, and of its file's version."""
    video = row.video
    facts = [
        video.title,
        video.speech_text,
        video.screen_text,
        video.tags,
        video.category,
        video.language,
        video.duration_seconds,
        row.version,
        *[video.date] * bool(video.date),  # corpora from before dates keep their stamps
    ]
    features = (video.frames, video.frame_times_seconds)
    for rows, times in (features, (video.audio, video.audio_times_seconds)):
        if len(rows):
            checks = (google_crc32c.value(some.tobytes()) for some in (rows, times))
            facts += [rows.shape[1], *checks]
    text = json.dumps(facts, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=_DIGITS // 2).hexdigest()


def stamped(rows: Iterable[SourceRow | Reject]) -> Iterator[SourceRow | Reject]:
    """The rows, each with its stamp in its video."""
    for row in rows:
        if isinstance(row, Reject):
            yield row
        else:
            yield replace(row, video=replace(row.video, stamp=stamp(row)))
