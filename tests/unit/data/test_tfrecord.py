"""TFRecords: against the reference files, against a hand-written encoder, and damaged."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidvec.data.tfrecord import read_tag_list, read_tfrecords, write_tfrecords
from vidvec.errors import FormatError, UsageError
from vidvec.records import Reject, SourceRow, Video

# --- The format once more, bit by bit and independent of the code under test -------------------


def crc32c(data: bytes) -> int:
    """CRC-32C by its definition: the reflected polynomial 0x1EDC6F41, bit after bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def frame_record(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + masked(length) + payload + masked(payload)


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def bytes_feature(*values: bytes) -> bytes:
    return field(1, b"".join(field(1, value) for value in values))


def int_feature(*values: int) -> bytes:
    return field(3, field(1, b"".join(varint(value) for value in values)))


def example(**features: bytes) -> bytes:
    entries = (field(1, field(1, k.encode()) + field(2, v)) for k, v in features.items())
    return field(1, b"".join(entries))


def rows_of(path: Path, data: bytes, **options: int) -> list[SourceRow | Reject]:
    path.write_bytes(data)
    return list(read_tfrecords(path, **options))


def halves(*numbers: float) -> bytes:
    return np.array(numbers, "<f2").tobytes()


def test_checksum_of_the_tests_themselves() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C (RFC 3720)


# --- Reading -----------------------------------------------------------------------------------


def test_reads_a_record_written_by_hand(tmp_path: Path) -> None:
    payload = example(
        id=bytes_feature(b"42"),
        title=bytes_feature("猫 cat".encode()),
        asr_text=bytes_feature(b"miaow"),
        tag_id=int_feature(7, 123456789012, -3),
        category_id=int_feature(101),
        frame_feature=bytes_feature(halves(1, 2, 3), halves(-1, 0.5, 65504)),
        unknown=bytes_feature(b"ignored"),
    )
    (row,) = rows_of(tmp_path / "a.tfrecords", frame_record(payload))
    assert isinstance(row, SourceRow)
    video = row.video
    assert (row.where, row.file) == ("a.tfrecords@0", None)
    assert (video.id, video.title, video.speech_text) == ("42", "猫 cat", "miaow")
    assert (video.tags, video.category) == (("7", "123456789012", "-3"), "101")
    assert video.frames.dtype == np.float16
    assert video.frames.tolist() == [[1, 2, 3], [-1, 0.5, 65504]]
    assert video.frame_times_seconds.dtype == np.float32
    assert video.frame_times_seconds.tolist() == [0, 1]


def test_absent_and_empty_features(tmp_path: Path) -> None:
    data = frame_record(example(id=bytes_feature(b"1")))
    data += frame_record(
        example(id=bytes_feature(b"2"), tag_id=int_feature(), frame_feature=bytes_feature())
    )
    first, second = rows_of(tmp_path / "a.tfrecords", data)
    assert first.video.tags is None
    assert second.video.tags == ()
    for row in (first, second):
        assert (row.video.title, row.video.category, len(row.video.frames)) == ("", "", 0)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (example(title=bytes_feature(b"no id")), "no-id"),
        (example(id=bytes_feature(b"")), "no-id"),
        (example(id=int_feature(5)), "bad-record"),
        (example(id=bytes_feature(b"1"), title=bytes_feature(b"a", b"b")), "bad-record"),
        (example(id=bytes_feature(b"1"), tag_id=bytes_feature(b"x")), "bad-record"),
        (example(id=bytes_feature(b"1"), category_id=int_feature(1, 2)), "bad-record"),
        (example(id=bytes_feature(b"1"), title=bytes_feature(b"\xff\xfe")), "not-utf8"),
        (example(id=bytes_feature(b"\xff")), "not-utf8"),
        (b"\xff\xff\xff", "bad-record"),
        (example(id=bytes_feature(b"1"), frame_feature=bytes_feature(b"odd")), "frame-width"),
        (example(id=bytes_feature(b"1"), frame_feature=bytes_feature(b"", b"")), "frame-width"),
        (
            example(id=bytes_feature(b"1"), frame_feature=bytes_feature(halves(1, 2), halves(1))),
            "frame-width",
        ),
        (
            example(id=bytes_feature(b"1"), frame_feature=bytes_feature(halves(1, np.nan))),
            "nan",
        ),
        (
            example(id=bytes_feature(b"1"), frame_feature=bytes_feature(halves(-np.inf, 0))),
            "nan",
        ),
    ],
)
def test_bad_records_are_named_and_the_next_comes(
    tmp_path: Path, payload: bytes, reason: str
) -> None:
    good = frame_record(example(id=bytes_feature(b"good")))
    bad, row = rows_of(tmp_path / "a.tfrecords", frame_record(payload) + good)
    assert isinstance(bad, Reject)
    assert (bad.reason, bad.where) == (reason, "a.tfrecords@0")
    assert bad.detail
    assert row.video.id == "good"
    assert row.where == f"a.tfrecords@{len(payload) + 16}"


def test_a_reject_names_the_id_where_it_can(tmp_path: Path) -> None:
    payload = example(id=bytes_feature(b"77"), frame_feature=bytes_feature(b"odd"))
    (bad,) = rows_of(tmp_path / "a.tfrecords", frame_record(payload))
    assert bad.id == "77"


def test_the_first_good_record_decides_the_width(tmp_path: Path) -> None:
    def record(name: bytes, *frames: bytes) -> bytes:
        return frame_record(example(id=bytes_feature(name), frame_feature=bytes_feature(*frames)))

    data = record(b"a", b"odd") + record(b"b") + record(b"c", halves(1, 2))
    data += record(b"d", halves(1, 2, 3)) + record(b"e", halves(3, 4))
    path = tmp_path / "a.tfrecords"
    assert [isinstance(row, Reject) for row in rows_of(path, data)] == [True, False, False, True, 0]
    with_width = rows_of(path, data, expected_width=3)
    assert [isinstance(row, Reject) for row in with_width] == [True, False, True, False, True]
    assert "6 each" in with_width[2].detail


# --- Damage ------------------------------------------------------------------------------------


VIDEOS = [
    Video(
        id=f"v{number}",
        title="标题 " * number,
        tags=tuple(str(tag) for tag in range(number)),
        category="12",
        frames=np.arange(number * 8, dtype=np.float16).reshape(number, 8),
        frame_times_seconds=np.arange(number, dtype=np.float32),
    )
    for number in range(1, 6)
]


def same(one: Video, other: Video) -> bool:
    plain = [(v.id, v.title, v.speech_text, v.tags, v.category) for v in (one, other)]
    return (
        plain[0] == plain[1]
        and np.array_equal(one.frames, other.frames)
        and np.array_equal(one.frame_times_seconds, other.frame_times_seconds)
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tfrecord") / "whole.tfrecords"
    write_tfrecords(path, VIDEOS)
    return path


def offsets(path: Path) -> list[int]:
    return [int(row.where.rpartition("@")[2]) for row in read_tfrecords(path)]


def check_survivors(rows: list[SourceRow | Reject], starts: list[int]) -> None:
    """Every row is one of the originals, in its place."""
    for row in rows:
        if isinstance(row, SourceRow):
            start = int(row.where.rpartition("@")[2])
            assert same(row.video, VIDEOS[starts.index(start)])


def test_what_is_written_is_read_again(whole: Path) -> None:
    rows = list(read_tfrecords(whole))
    assert all(same(row.video, video) for row, video in zip(rows, VIDEOS, strict=True))


def test_written_checksums_are_right(whole: Path) -> None:
    data, offset = whole.read_bytes(), 0
    while offset < len(data):
        (length,) = struct.unpack_from("<Q", data, offset)
        payload = data[offset + 12 : offset + 12 + length]
        assert data[offset : offset + 16 + length] == frame_record(payload)
        offset += 16 + length


@pytest.mark.parametrize("position", [0, 2, 4])
@pytest.mark.parametrize(
    ("region", "survivors"),
    [
        (lambda start, end: start, "before"),  # length
        (lambda start, end: start + 9, "before"),  # CRC of the length
        (lambda start, end: start + 12, "others"),  # payload
        (lambda start, end: end - 5, "others"),
        (lambda start, end: end - 1, "others"),  # CRC of the payload
    ],
)
def test_one_flipped_byte_in_each_region(
    tmp_path: Path,
    whole: Path,
    position: int,
    region: Callable[[int, int], int],
    survivors: str,
) -> None:
    data = bytearray(whole.read_bytes())
    starts = [*offsets(whole), len(data)]
    data[region(starts[position], starts[position + 1])] ^= 0x20
    rows = rows_of(tmp_path / "a.tfrecords", bytes(data))
    rejects = [row for row in rows if isinstance(row, Reject)]
    ids = [row.video.id for row in rows if isinstance(row, SourceRow)]
    others = [video.id for at, video in enumerate(VIDEOS) if at != position]
    assert [reject.reason for reject in rejects] == ["crc"]
    assert ids == (others if survivors == "others" else others[:position])
    assert ("rest of the file" in rejects[0].detail) == (survivors == "before")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_gives_originals_or_rejects(
    tmp_path: Path, whole: Path, data: st.DataObject
) -> None:
    original = whole.read_bytes()
    damaged = bytearray(original)
    places = st.tuples(st.integers(0, len(original) - 1), st.integers(1, 255))
    for place, change in data.draw(st.lists(places, min_size=1, max_size=4)):
        damaged[place] ^= change
    damaged = damaged[: data.draw(st.integers(0, len(original)) | st.just(len(original)))]
    rows = rows_of(tmp_path / "a.tfrecords", bytes(damaged))
    check_survivors(rows, offsets(whole))
    lost = len(VIDEOS) - sum(isinstance(row, SourceRow) for row in rows)
    ends = [*offsets(whole), len(original)]
    if lost and len(damaged) not in ends:
        assert any(isinstance(row, Reject) for row in rows)


@given(noise=st.binary(max_size=200))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise_is_no_record(tmp_path: Path, noise: bytes) -> None:
    rows = rows_of(tmp_path / "a.tfrecords", noise)
    assert all(isinstance(row, Reject) for row in rows)
    assert len(rows) == (1 if noise else 0)


def test_every_truncation(tmp_path: Path, whole: Path) -> None:
    data, starts = whole.read_bytes(), offsets(whole)
    for length in range(len(data)):
        rows = rows_of(tmp_path / "a.tfrecords", data[:length])
        check_survivors(rows, starts)
        complete = sum(end <= length for end in [*starts[1:], len(data)])
        assert sum(isinstance(row, SourceRow) for row in rows) == complete
        inside = length not in starts
        assert [r.reason for r in rows if isinstance(r, Reject)] == ["truncated"] * inside


def test_a_giant_length_is_not_allocated(tmp_path: Path) -> None:
    length = struct.pack("<Q", 2**60)
    (bad,) = rows_of(tmp_path / "a.tfrecords", length + masked(length) + b"abc")
    assert bad.reason == "truncated"


# --- Writing -----------------------------------------------------------------------------------


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    videos=st.lists(
        st.builds(
            Video,
            id=TEXT.filter(bool),
            title=TEXT,
            speech_text=TEXT,
            tags=st.none() | st.lists(st.integers(-(2**63), 2**63 - 1).map(str)).map(tuple),
            category=st.just("") | st.integers(0, 999).map(str),
        ),
        max_size=5,
    )
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(tmp_path: Path, videos: list[Video]) -> None:
    path = tmp_path / "a.tfrecords"
    write_tfrecords(path, videos)
    rows = list(read_tfrecords(path))
    assert all(same(row.video, video) for row, video in zip(rows, videos, strict=True))


def test_tags_that_are_no_numbers_cannot_be_written(tmp_path: Path) -> None:
    for video in (Video(id="1", tags=("cat",)), Video(id="1", category=str(2**63))):
        with pytest.raises(UsageError, match="video 1 has the"):
            write_tfrecords(tmp_path / "a.tfrecords", [video])
    assert list(tmp_path.iterdir()) == []


# --- Tag list ----------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["9\n10\n2\n", "9\r\n10\r\n2", "\ufeff9\n10\n2\n\n"])
def test_tag_list_is_sorted_by_number(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tag_list.txt"
    path.write_bytes(content.encode())
    assert read_tag_list(path) == ["2", "9", "10"]


@pytest.mark.parametrize(
    ("content", "message"),
    [("1\ncat\n", "line 2.*'cat'"), ("5\n6\n5\n", "line 3.*line 1"), ("1\n\n2\n", "line 2")],
)
def test_tag_list_names_the_bad_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "tag_list.txt"
    path.write_text(content)
    with pytest.raises(FormatError, match=message) as caught:
        read_tag_list(path)
    assert str(path) in str(caught.value)


def test_tag_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"nothing\.txt"):
        read_tag_list(tmp_path / "nothing.txt")


# --- Against the published system --------------------------------------------------------------


@pytest.mark.shared
def test_reference_records(shared: Path) -> None:
    folder = shared / "reference" / "pipeline"
    expected = json.loads((folder / "expected_records.json").read_text())
    tags = read_tag_list(folder / "tag_list.txt")
    rows = list(read_tfrecords(folder / "videos.tfrecords", expected_width=1536))
    assert [row.video.id for row in rows] == [record["id"] for record in expected]
    for row, record in zip(rows, expected, strict=True):
        video, real = row.video, sum(record["frame_mask"])
        assert len(video.frames) == real or (len(video.frames) > 32 == real)
        if len(video.frames) <= 32:
            sums = np.zeros(32)
            sums[:real] = video.frames.astype(np.float64).sum(axis=1)
            np.testing.assert_allclose(sums, record["frame_sums"], atol=1e-4)
        known = {tags.index(tag) for tag in video.tags or () if tag in tags}
        assert known == set(record["tag_positions"])
