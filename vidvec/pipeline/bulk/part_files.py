"""Results of an ingest's rows in a file: one part of a bulk ingest.

An Arrow IPC file of one record batch. What has no numbers is JSON, as names that are no Unicode
come through it; features are raw float16, as rows of one part may be of several widths.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidvec import storage
from vidvec.data.processing import Result
from vidvec.errors import FormatError
from vidvec.records import Processed, Reject, Video

_META = b"vidvec"
_SCHEMA = pa.schema(
    [
        ("place", pa.int64()),
        ("record", pa.string()),
        ("frames", pa.large_binary()),
        ("frame_times_seconds", pa.large_binary()),
        ("audio", pa.large_binary()),
        ("audio_times_seconds", pa.large_binary()),
        ("thumbnails", pa.large_list(pa.large_binary())),
    ]
)
_TEXTS = (
    *("id", "title", "speech_text", "screen_text", "tags", "category", "language"),
    *("duration_seconds", "date", "file", "stamp"),
)


@dataclass(frozen=True, slots=True)
class Part:
    """A part that was read.

    Attributes:
        facts: What the part's rows have in common; JSON.
        results: By the row's place in the source, in order.
    """

    facts: dict[str, Any]
    results: dict[int, Result]


def write_part(
    path: Path, places: Sequence[int], results: Sequence[Result], facts: dict[str, Any]
) -> None:
    """Writes the results of some rows, atomically; the same ones give the same bytes.

    Args:
        path: The file.
        places: Of the rows in the source, ascending.
        results: Of each.
        facts: Of the part; those that are read have ``places`` besides: runs of rows as first
            place and count.
    """
    rows = [_row(place, result) for place, result in zip(places, results, strict=True)]
    known = {**facts, "places": _runs(places)}
    meta = {_META: json.dumps(known).encode()}
    table = pa.Table.from_pylist(rows, schema=_SCHEMA.with_metadata(meta)).combine_chunks()
    with (
        storage.atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)


def read_facts(path: Path) -> dict[str, Any]:
    """A part's facts alone.

    Raises:
        FormatError: The file is damaged.
    """
    with _reading(path) as reader:
        return dict(json.loads(reader.schema.metadata[_META]))


def read_part(path: Path) -> Part:
    """A part, in memory.

    Raises:
        FormatError: The file is damaged.
    """
    with _reading(path) as reader:
        facts = dict(json.loads(reader.schema.metadata[_META]))
        table = reader.read_all()
        table.validate(full=True)
        return Part(facts, {row["place"]: _result(row) for row in table.to_pylist()})


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """Yields Arrow's reader of a part."""
    try:
        with path.open("rb") as file:
            yield pa.ipc.open_file(file)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise FormatError(f"part {path} cannot be read: {error}; delete it") from None


def holds_rows(facts: dict[str, Any], places: Sequence[int]) -> bool:
    """Whether a part has the results of all these rows, by its facts."""
    held = {place for first, count in facts["places"] for place in range(first, first + count)}
    return held.issuperset(places)


def _runs(places: Sequence[int]) -> list[list[int]]:
    """The runs of ascending places as first place and count."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == sum(runs[-1]):
            runs[-1][1] += 1
        else:
            runs.append([place, 1])
    return runs


def _row(place: int, result: Result) -> dict[str, Any]:
    if isinstance(result, Reject):
        known: dict[str, Any] = {
            "where": result.where,
            "reject": [result.id, result.reason, result.detail],
        }
        return {"place": place, "record": json.dumps(known)}
    video = result.video
    known = {
        "where": result.where,
        "part": result.part,
        "encoded": result.encoded,
        "heard": result.heard,
        "video": {name: getattr(video, name) for name in _TEXTS},
        "widths": [_width(video.frames), _width(video.audio)],
    }
    return {
        "place": place,
        "record": json.dumps(known),
        "frames": _bytes(video.frames, np.float16),
        "frame_times_seconds": _bytes(video.frame_times_seconds, np.float32),
        "audio": _bytes(video.audio, np.float16),
        "audio_times_seconds": _bytes(video.audio_times_seconds, np.float32),
        "thumbnails": list(video.thumbnails),
    }


def _bytes(values: NDArray[Any], kind: type[np.floating[Any]]) -> bytes:
    return values.astype(kind, copy=False).tobytes()


def _width(features: NDArray[np.float16]) -> int:
    return int(features.shape[1])


def _result(row: dict[str, Any]) -> Result:
    known = json.loads(row["record"])
    if "reject" in known:
        return Reject(known["where"], *known["reject"])
    fields: dict[str, Any] = known["video"]
    tags = fields.pop("tags")
    widths = known["widths"]
    video = Video(
        **fields,
        tags=None if tags is None else tuple(tags),
        frames=_features(row["frames"], widths[0]),
        frame_times_seconds=np.frombuffer(row["frame_times_seconds"], np.float32),
        audio=_features(row["audio"], widths[1]),
        audio_times_seconds=np.frombuffer(row["audio_times_seconds"], np.float32),
        thumbnails=tuple(row["thumbnails"]),
    )
    return Processed(known["where"], video, known["encoded"], known["part"], known["heard"])


def _features(content: bytes, width: int) -> NDArray[np.float16]:
    """(count, width) float16."""
    return np.frombuffer(content, np.float16).reshape(len(content) // 2 // max(1, width), width)
