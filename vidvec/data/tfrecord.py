"""The competition's TFRecord files, read and written without TensorFlow.

A file is a row of records: length (8 bytes, little-endian), masked CRC-32C of these 8 bytes,
payload, masked CRC-32C of the payload (https://www.tensorflow.org/tutorials/load_data/tfrecord).
The payload is a ``tf.train.Example``, a map from feature names to lists; system.md, section 1, says
which ones the competition uses.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from vidvec import storage
from vidvec.errors import BadRecord, FormatError, UsageError
from vidvec.records import Reject, SourceRow, Video

_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_EXPONENT = np.uint16(0x7C00)  # of a float16; all ones in infinities and NaN


def read_tfrecords(
    path: Path, *, expected_width: int | None = None
) -> Iterator[SourceRow | Reject]:
    """Yields the videos of one file in order, and a ``Reject`` for each record that is damaged.

    The frames of the competition are one second apart, and its categories and tags are numbers;
    these become strings. A record whose payload is damaged is left out and the next one comes;
    behind a damaged length nothing can be found any more, so there the file ends.

    Args:
        path: A ``.tfrecords`` file.
        expected_width: Numbers in a frame feature; ``None``: as in the file's first good record.

    Yields:
        Rows with ``where`` as in ``pretrain_0.tfrecords@1234`` (the record's first byte) and
        ``frames`` (F, expected_width); or rejects: ``crc``, ``truncated``, ``bad-record``,
        ``not-utf8``, ``no-id``, ``frame-width``, ``nan``.
    """
    width = expected_width
    for offset, payload, damage in _payloads(path):
        where = f"{path.name}@{offset}"
        if damage is not None:
            yield Reject(where, "", damage.reason, damage.detail)
            continue
        read = _Example()
        try:
            video = read.video(payload, width)
        except BadRecord as error:
            yield Reject(where, read.id, error.reason, error.detail)
            continue
        if width is None and len(video.frames):
            width = video.frames.shape[1]
        yield SourceRow(where, video)


def read_ids(path: Path) -> Iterator[tuple[str, bool]]:
    """Yields the id of each record of one file in order, and whether the record's CRC is right.

    Frames are not looked at. Records whose id cannot be read are left out: ``read_tfrecords`` says
    what is wrong with them.
    """
    for _, payload, damage in _payloads(path):
        read = _Example()
        try:
            read.parse(payload)
        except BadRecord:
            continue
        if read.id:
            yield read.id, damage is None


def write_tfrecords(path: Path, videos: Iterable[Video]) -> None:
    """Writes videos in the competition's format, atomically.

    What the format has no place for is left out: frame times, duration, language, on-screen text,
    thumbnails.

    Raises:
        UsageError: A tag or a category is no integer, which this format demands.
    """
    with storage.atomic_path(path) as temporary, temporary.open("wb") as file:
        for video in videos:
            payload = _serialized(video)
            length = struct.pack("<Q", len(payload))
            file.write(length + _CRC.pack(_masked_crc(length)))
            file.write(payload + _CRC.pack(_masked_crc(payload)))


def read_tags(path: Path, name: str = "") -> tuple[list[str], list[Reject]]:
    """Reads a tag vocabulary, one id a line, and sorts it as the published system does: by number.

    Args:
        path: The file; lines may end in CRLF, and it may begin with a byte order mark.
        name: What it is called in messages; by default its name.

    Returns:
        The tags; and the lines that are none: ``bad-tag`` (no whole number, or blank with more
        lines behind it), ``duplicate-tag``.

    Raises:
        FormatError: The file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            lines = [line.strip() for line in file]
    except OSError as error:
        raise FormatError(f"tag list {path} cannot be read: {error}") from None
    while lines and not lines[-1]:
        lines.pop()
    first_line: dict[int, int] = {}
    rejects = []
    for number, text in enumerate(lines, 1):
        where = f"{name or path.name}:{number}"
        tag = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
        if tag is None:
            detail = f"found {text[:40]!r}, expected one tag id, a whole number"
            rejects.append(Reject(where, "", "bad-tag", detail))
        elif tag in first_line:
            detail = f"tag {tag} is in line {first_line[tag]} too"
            rejects.append(Reject(where, str(tag), "duplicate-tag", detail))
        else:
            first_line[tag] = number
    return [str(tag) for tag in sorted(first_line)], rejects


def read_tag_list(path: Path) -> list[str]:
    """Reads a tag vocabulary as ``read_tags`` does, but without forgiveness.

    Raises:
        FormatError: The file is missing, or a line is no number or comes twice.
    """
    tags, rejects = read_tags(path)
    if rejects:
        line = rejects[0].where.rpartition(":")[2]
        raise FormatError(f"{path}, line {line}: {rejects[0].detail}")
    return tags


def _masked_crc(data: bytes) -> int:
    """CRC-32C, turned right by 15 bits, plus a constant (the TFRecord format's masking)."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _payloads(path: Path) -> Iterator[tuple[int, bytes, BadRecord | None]]:
    """Each record's offset, its payload as far as there is one, and what is wrong with it."""
    with path.open("rb") as file:
        size = path.stat().st_size
        offset = 0
        while offset < size:
            left = size - offset
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                yield offset, b"", _cut(left, _HEADER.size)
                return
            length, length_crc = _HEADER.unpack(header)
            if _masked_crc(header[:8]) != length_crc:
                detail = (
                    "the CRC of the record's length is wrong, so the next record cannot be found: "
                    f"the rest of the file, {left:,} bytes, was not read"
                )
                yield offset, b"", BadRecord("crc", detail)
                return
            whole = _HEADER.size + length + _CRC.size
            if whole > left:
                yield offset, b"", _cut(left, whole)
                return
            payload = file.read(length)
            (crc,) = _CRC.unpack(file.read(_CRC.size))
            damage = None
            if _masked_crc(payload) != crc:
                damage = BadRecord("crc", f"the CRC of the record's {length:,} bytes is wrong")
            yield offset, payload, damage
            offset += whole


def _cut(left: int, expected: int) -> BadRecord:
    detail = (
        f"the file ends inside the record: {left:,} of {expected:,} bytes are there; "
        "the rest of the file could not be read"
    )
    return BadRecord("truncated", detail)


class _Example:
    """One parsed record; ``id`` is known as soon as it could be read."""

    def __init__(self) -> None:
        self.id = ""
        self._features: Any = {}

    def parse(self, payload: bytes) -> None:
        """Reads the id, and leaves the other features to be looked at.

        Raises:
            BadRecord: The record is no ``tf.train.Example``, or its id is missing or no UTF-8.
        """
        from google.protobuf.message import DecodeError

        try:
            self._features = _message_class().FromString(payload).features.feature
        except DecodeError:
            detail = f"its {len(payload):,} bytes are no tf.train.Example"
            raise BadRecord("bad-record", detail) from None
        self.id = self._text("id")
        if not self.id:
            raise BadRecord("no-id", "the feature 'id' is missing or empty")

    def video(self, payload: bytes, width: int | None) -> Video:
        """Takes a record apart.

        Raises:
            BadRecord: With the reasons that ``read_tfrecords`` lists.
        """
        self.parse(payload)
        tags = self._values("tag_id", "int64_list")
        category = self._values("category_id", "int64_list") or []
        if len(category) > 1:
            raise _count_error("category_id", len(category))
        frames = self._frames(width)
        return Video(
            id=self.id,
            title=self._text("title"),
            speech_text=self._text("asr_text"),
            tags=None if tags is None else tuple(str(tag) for tag in tags),
            category=str(category[0]) if category else "",
            frame_times_seconds=np.arange(len(frames), dtype=np.float32),
            frames=frames,
        )

    def _values(self, name: str, kind: str) -> Any:
        """The list of a feature; ``None`` where the record does not have it."""
        if name not in self._features:
            return None
        feature = self._features[name]
        found = feature.WhichOneof("kind")
        if found not in (kind, None):
            raise BadRecord("bad-record", f"the feature {name!r} is a {found}, expected {kind}")
        return None if found is None else getattr(feature, kind).value

    def _text(self, name: str) -> str:
        values = self._values(name, "bytes_list") or [b""]
        if len(values) > 1:
            raise _count_error(name, len(values))
        try:
            return str(values[0], "utf-8")
        except UnicodeDecodeError as error:
            detail = f"the feature {name!r} is not UTF-8 from its byte {error.start} on"
            raise BadRecord("not-utf8", detail) from None

    def _frames(self, width: int | None) -> NDArray[np.float16]:
        """(F, width) float16, an array of its own."""
        values = self._values("frame_feature", "bytes_list") or []
        if not values:
            return np.zeros((0, width or 0), np.float16)
        sizes = {len(value) for value in values}
        size = 2 * width if width is not None else len(values[0])
        if sizes != {size} or size == 0 or size % 2:
            found = ", ".join(str(one) for one in sorted(sizes)[:5])
            expected = f"{size} each" if width is not None else "the same even number for each"
            raise BadRecord("frame-width", f"frames have {found} bytes, expected {expected}")
        frames = np.frombuffer(bytearray().join(values), "<f2").reshape(len(values), size // 2)
        if (frames.view("<u2") & _EXPONENT == _EXPONENT).any():
            rows = np.flatnonzero(~np.isfinite(frames).all(axis=1))
            raise BadRecord("nan", f"frame {rows[0]} holds NaN or infinity ({len(rows)} frames do)")
        return frames.astype(np.float16, copy=False)


def _count_error(name: str, count: int) -> BadRecord:
    return BadRecord("bad-record", f"the feature {name!r} has {count} values, expected one")


def _serialized(video: Video) -> bytes:
    example = _message_class()()
    features = example.features.feature
    for name, text in (("id", video.id), ("title", video.title), ("asr_text", video.speech_text)):
        features[name].bytes_list.value.append(text.encode())
    rows = np.ascontiguousarray(video.frames, "<f2")
    features["frame_feature"].bytes_list.value.extend(row.tobytes() for row in rows)
    if video.category:
        features["category_id"].int64_list.value.append(_number(video, "category", video.category))
    if video.tags is not None:
        features["tag_id"].int64_list.SetInParent()
        numbers = [_number(video, "tag", tag) for tag in video.tags]
        features["tag_id"].int64_list.value.extend(numbers)
    return bytes(example.SerializeToString(deterministic=True))


def _number(video: Video, what: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 2**63
    if not -(2**63) <= number < 2**63:
        raise UsageError(
            f"video {video.id} has the {what} {text!r}: TFRecords of this kind hold whole numbers "
            "of 64 bits only"
        )
    return number


@cache
def _message_class() -> Any:
    """The message ``tf.train.Example``, built here so that no generated code is needed.

    Field numbers and types: tensorflow/core/example/{example,feature}.proto.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="vidvec/example.proto", package="vidvec", syntax="proto3"
    )

    def message(name: str, **fields: tuple[int, int, int, str]) -> Any:
        built = file.message_type.add(name=name)
        for field_name, (number, label, kind, type_name) in fields.items():
            built.field.add(
                name=field_name, number=number, label=label, type=kind, type_name=type_name or None
            )
        return built

    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    message("BytesList", value=(1, many, field.TYPE_BYTES, ""))
    message("FloatList", value=(1, many, field.TYPE_FLOAT, ""))
    message("Int64List", value=(1, many, field.TYPE_INT64, ""))
    feature = message(
        "Feature",
        bytes_list=(1, one, field.TYPE_MESSAGE, ".vidvec.BytesList"),
        float_list=(2, one, field.TYPE_MESSAGE, ".vidvec.FloatList"),
        int64_list=(3, one, field.TYPE_MESSAGE, ".vidvec.Int64List"),
    )
    feature.oneof_decl.add(name="kind")
    for member in feature.field:
        member.oneof_index = 0
    features = message(
        "Features", feature=(1, many, field.TYPE_MESSAGE, ".vidvec.Features.FeatureEntry")
    )
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=one, type=field.TYPE_STRING)
    entry.field.add(
        name="value", number=2, label=one, type=field.TYPE_MESSAGE, type_name=".vidvec.Feature"
    )
    message("Example", features=(1, one, field.TYPE_MESSAGE, ".vidvec.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("vidvec.Example"))
