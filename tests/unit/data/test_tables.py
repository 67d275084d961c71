"""Tables: what a row becomes, and that one bad row costs one row."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidvec.data.sources import open_source
from vidvec.data.tables import find_tables, is_table, read_table
from vidvec.data.walk import list_folder
from vidvec.errors import FormatError
from vidvec.records import Reject, SourceRow, Video

Row = SourceRow | Reject
FULL = {"title": "一只猫, cat", "speech_text": "miaow", "screen_text": "CAT", "language": "zh"}


def read(path: Path, content: str | bytes, **options: int) -> list[Row]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_table(path, **options))


def reasons(rows: list[Row]) -> list[str]:
    return [row.reason if isinstance(row, Reject) else row.video.id for row in rows]


def write_columns(path: Path, table: pa.Table) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=3)
        return path
    new = pa.ipc.new_stream if path.suffix == ".ipc" else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return path


COLUMNAR = pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather", ".ipc"])


def tables_of(folder: Path) -> list[Path]:
    return [folder / file.path for file in find_tables(list_folder(folder))]


def read_folder(folder: Path) -> list[Row]:
    return list(open_source(folder).read())


def test_finds_tables(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "deep").mkdir(parents=True)
    below = [tmp_path / "a" / "deep" / "META.TSV", tmp_path / "b" / "videos.parquet"]
    for path in [*below, tmp_path / "notes.csv", tmp_path / "meta.txt"]:
        path.touch()
    (tmp_path / "index.csv").mkdir()
    assert tables_of(tmp_path) == below
    own = [tmp_path / "index.ndjson", tmp_path / "metadata.csv"]
    for path in own:
        path.touch()
    assert tables_of(tmp_path) == own
    assert tables_of(tmp_path / "a" / "deep") == below[:1]
    assert [name for name in ("notes.csv", "a.IPC", "meta.txt", "csv") if is_table(name)] == [
        *["notes.csv", "a.IPC"]
    ]


def test_folder_of_videos(tmp_path: Path) -> None:
    for name in ("cats", ".cache", "folder.mp4"):
        (tmp_path / name).mkdir()
    names = ["b.mp4", "cats/a.b.MKV", "notes.txt", ".hidden.mp4", ".cache/c.mp4", "cats/z.webm"]
    for name in names:
        (tmp_path / name).touch()
    rows = read_folder(tmp_path)
    assert [row.video.id for row in rows] == ["b", "cats/a.b", "cats/z"]
    assert [row.where for row in rows] == ["b.mp4", "cats/a.b.MKV", "cats/z.webm"]
    assert rows[1].file == tmp_path / "cats" / "a.b.MKV"


def test_file_names_that_are_not_utf8_get_an_id_that_is(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.mp4")).touch()
    (row,) = read_folder(tmp_path)
    assert row.video.id == "caf\\xe9"
    assert row.file == tmp_path / os.fsdecode(b"caf\xe9.mp4")


def full_rows(tmp_path: Path, suffix: str) -> list[Row]:
    """The same three videos in each format: full, nearly empty, named by its file only."""
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "x.y.mp4").touch()
    columns: dict[str, list[Any]] = {name: [value, None, None] for name, value in FULL.items()}
    columns["id"] = ["a1", "b2", None]
    columns["file"] = ["clips/x.y.mp4", None, "clips/x.y.mp4"]
    columns["duration_seconds"] = [2.5, None, None]
    columns["tags"] = [["cat", "pet"], None, ["x"]]
    columns["frame_rate"] = [25, 25, 25]
    path = tmp_path / f"meta{suffix}"
    rows = [{name: values[at] for name, values in columns.items()} for at in range(3)]
    if suffix in {".jsonl", ".ndjson"}:
        return read(path, "\n".join(json.dumps(row) for row in rows))
    if suffix in {".csv", ".tsv"}:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",")
            writer.writerow(columns)
            for row in rows:
                row["tags"] = "|".join(row["tags"] or [])
                writer.writerow(row.values())
        return list(read_table(path))
    return list(read_table(write_columns(path, pa.table(columns))))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".arrow"])
def test_every_format_gives_the_same_videos(tmp_path: Path, suffix: str) -> None:
    full, bare, named = full_rows(tmp_path, suffix)
    mark, first = ("#", 1) if suffix in {".parquet", ".arrow"} else (":", 1 + (suffix[1] in "ct"))
    places = [f"meta{suffix}{mark}{first + at}" for at in range(3)]
    assert [row.where for row in (full, bare, named)] == places
    for name, value in FULL.items():
        assert getattr(full.video, name) == value
    assert full.video.tags == ("cat", "pet")
    assert full.video.duration_seconds == 2.5
    assert full.video.frames.shape == (0, 0)
    assert full.file == tmp_path / "clips" / "x.y.mp4"
    assert (bare.video.id, bare.video.title, bare.video.tags) == ("b2", "", None)
    assert (bare.video.duration_seconds, bare.file) == (None, None)
    assert (named.video.id, named.video.tags) == ("clips/x.y", ("x",))


def test_other_names_and_values_that_are_nearly_right(tmp_path: Path) -> None:
    lines = [
        {"ID": 7, "asr_text": "said", "ocr_text": "written", "lang": "en", "frames": 77},
        {"id": "b", "asr_text": "x", "speech_text": "said", "category": 12, "tags": [1, "two"]},
        {"id": "c", "tags": [], "duration_seconds": "3.5", "title": None},
        {"id": "d", "tags": "one, two;three|", "duration_seconds": float("nan")},
    ]
    rows = read(tmp_path / "meta.jsonl", "\n".join(json.dumps(line) for line in lines))
    first, second, third, fourth = (row.video for row in rows)
    assert (first.id, first.speech_text, first.screen_text) == ("7", "said", "written")
    assert first.language == "en"
    assert (second.speech_text, second.category, second.tags) == ("said", "12", ("1", "two"))
    assert (third.tags, third.duration_seconds) == (None, 3.5)
    assert (fourth.tags, fourth.duration_seconds) == (("one", "two", "three"), None)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"title": "nobody"}, "no-id"),
        ({"id": "  "}, "no-id"),
        ({"id": 1.5}, "bad-record"),
        ({"id": True}, "bad-record"),
        ({"id": "x", "title": 5}, "bad-record"),
        ({"id": "x", "title": ["a"]}, "bad-record"),
        ({"id": "x", "tags": {"a": 1}}, "bad-record"),
        ({"id": "x", "tags": [["a"]]}, "bad-record"),
        ({"id": "x", "duration_seconds": "long"}, "bad-record"),
        ({"id": "x", "duration_seconds": -1}, "bad-record"),
        ({"id": "x", "frames": [[1.0, 2.0]]}, "bad-record"),
        ({"id": "x", "file": "nowhere.mp4"}, "missing-file"),
        ({"id": "x", "file": "a\0b.mp4"}, "missing-file"),
        ({"id": "x", "file": "n" * 300 + ".mp4"}, "missing-file"),
        ({"id": "x", "title": "\ud800"}, "not-utf8"),
    ],
)
def test_rows_that_cannot_be_used(tmp_path: Path, row: dict, reason: str) -> None:
    good = json.dumps({"id": "good"})
    rows = read(tmp_path / "meta.jsonl", f"{good}\n{json.dumps(row)}\n{good}")
    assert reasons(rows) == ["good", reason, "good"]
    assert rows[1].where == "meta.jsonl:2"
    assert rows[1].detail
    assert rows[1].id in {"", "x"}


def test_json_lines_that_are_none(tmp_path: Path) -> None:
    lines = [b'\xef\xbb\xbf{"id": "a"}', b"", b"{", b"[1]", b'{"id": "\xff"}', b"[" * 100_000]
    lines += [b'{"id": "z"}\r', b"null"]
    rows = read(tmp_path / "meta.jsonl", b"\n".join(lines))
    expected = ["a", "bad-record", "bad-record", "not-utf8", "bad-record", "z", "bad-record"]
    assert reasons(rows) == expected
    assert [row.where.partition(":")[2] for row in rows] == list("1345678")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("meta.csv", "id,title\na,Hello\nb,World\n"),
        ("meta.csv", "id;title\r\na;Hello\r\nb;World"),
        ("meta.csv", "\ufeffid,title\n\na,Hello\n\nb,World\n\n"),
        ("meta.tsv", "id\ttitle\na\tHello\nb\tWorld\n"),
        ("meta.csv", '"id","title"\n"a","Hello"\n"b","World"\n'),
        ("meta.csv", "Title , ID \nHello,a\nWorld,b\n"),
    ],
)
def test_csv_dialects(tmp_path: Path, name: str, content: str) -> None:
    rows = read(tmp_path / name, content)
    assert [(row.video.id, row.video.title) for row in rows] == [("a", "Hello"), ("b", "World")]


def test_csv_lines_are_counted_across_quoted_ones(tmp_path: Path) -> None:
    content = 'id,title\na,"two\nlines, and ""quotes"""\nb,x\nc,"\n\n"\nd\ne,y\n'
    rows = read(tmp_path / "meta.csv", content)
    assert reasons(rows) == ["a", "b", "c", "bad-record", "e"]
    assert rows[0].video.title == 'two\nlines, and "quotes"'
    assert [row.where.partition(":")[2] for row in rows] == ["2", "4", "5", "8", "9"]


@pytest.mark.parametrize(
    "bad", ['b,"never closed', 'b,"a" b', "b", "b,c,d", '"never closed', 'b,"' + "x" * 200_000]
)
def test_csv_one_bad_row_costs_one_row(tmp_path: Path, bad: str) -> None:
    others = "".join(f'r{number},"title, {number}"\n' for number in range(50))
    rows = read(tmp_path / "meta.csv", f"id,title\na,ok\n{bad}\n{others}")
    assert reasons(rows) == ["a", "bad-record", *(f"r{number}" for number in range(50))]
    assert rows[1].where == "meta.csv:3"
    assert [row.where for row in rows[2:4]] == ["meta.csv:4", "meta.csv:5"]


def test_csv_bytes_that_are_not_utf8_cost_one_row(tmp_path: Path) -> None:
    content = b"id,title\na,caf\xe9\nb,ok\n\xff,x\nc,ok\n"
    rows = read(tmp_path / "meta.csv", content)
    assert reasons(rows) == ["not-utf8", "b", "not-utf8", "c"]
    assert rows[0].id == "a"
    assert all(row.detail.encode() for row in rows if isinstance(row, Reject))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    titles=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))),
    tab=st.booleans(),
)
def test_csv_as_python_writes_it(tmp_path: Path, titles: list[str], tab: bool) -> None:
    path = tmp_path / ("meta.tsv" if tab else "meta.csv")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t" if tab else ",")
        writer.writerows([["id", "title"], *([f"v{at}", one] for at, one in enumerate(titles))])
    rows = list(read_table(path))
    assert reasons(rows) == [f"v{at}" for at in range(len(titles))]
    assert [row.video.title for row in rows] == titles


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=120), suffix=st.sampled_from([".csv", ".tsv", ".jsonl"]))
def test_noise_in_a_text_table_stays_noise(tmp_path: Path, noise: bytes, suffix: str) -> None:
    head, tail = (b'{"id": "a"}\n', b'\n{"id": "z"}') if "j" in suffix else (b"id\na\n", b"\nz\n")
    rows = read(tmp_path / f"meta{suffix}", head + noise + tail)
    assert (reasons(rows)[0], reasons(rows)[-1]) == ("a", "z")
    # Every line that is not blank is a row or a reject.
    assert len(rows) >= 2 + bool(noise.strip()) * (suffix == ".jsonl")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_neither_id_nor_file(tmp_path: Path, suffix: str) -> None:
    content = "video_id,title\n1,a\n" if suffix == ".csv" else '{"video_id": 1, "title": "a"}\n'
    with pytest.raises(FormatError, match=r"'video_id', 'title'; nearest: 'video_id'") as caught:
        read(tmp_path / f"meta{suffix}", content)
    assert f"meta{suffix}" in str(caught.value)


@COLUMNAR
def test_neither_id_nor_file_in_columns(tmp_path: Path, suffix: str) -> None:
    path = write_columns(tmp_path / f"meta{suffix}", pa.table({"path": ["a"], "n": [1]}))
    with pytest.raises(FormatError, match="'path', 'n'"):
        list(read_table(path))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".arrow", ".ipc"])
@pytest.mark.parametrize("content", [b"", np.random.default_rng(1).bytes(5000)], ids=["0", "noise"])
def test_nothing_and_noise_are_no_table(tmp_path: Path, suffix: str, content: bytes) -> None:
    with pytest.raises(FormatError, match=f"meta{suffix}"):
        read(tmp_path / f"meta{suffix}", content)


FLOATS = pa.list_(pa.list_(pa.float32()))
KINDS = [
    FLOATS,
    pa.list_(pa.list_(pa.float64())),
    pa.large_list(pa.large_list(pa.float32())),
    pa.list_(pa.list_(pa.float32(), 3)),
    pa.list_(pa.list_(pa.float16(), 3)),
    pa.list_(pa.list_(pa.float16())),
    pa.list_(pa.list_(pa.int8())),
]


@COLUMNAR
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_features(tmp_path: Path, suffix: str, kind: pa.DataType) -> None:
    frames = [[[1, 2, 3], [4, 5, 6]], [], None, [[-7, 8, 9]], [[0, 0, 0]] * 5]
    table = pa.table({"id": list("abcde"), "frames": pa.array(frames, FLOATS).cast(kind)})
    rows = list(read_table(write_columns(tmp_path / f"meta{suffix}", table)))
    assert reasons(rows) == list("abcde")
    for row, expected in zip(rows, frames, strict=True):
        assert row.video.frames.dtype == np.float16
        assert row.video.frames.tolist() == (expected or [])
        assert row.video.frame_times_seconds.tolist() == list(range(len(expected or [])))
    assert [row.where for row in rows] == [f"meta{suffix}#{at}" for at in range(1, 6)]


@COLUMNAR
def test_features_that_are_no_good(tmp_path: Path, suffix: str) -> None:
    frames = [
        [[1.0, 2.0], [3.0]],  # ragged
        [[1.0, 2.0], None],
        [[1.0, float("nan")]],
        [[1.0, 2.0], [float("inf"), 2.0]],
        [[1e6, 0.0]],  # beyond float16
        [[1.0, None]],
        [[]],
        [[1.0, 2.0]],  # the first good one
        [[1.0, 2.0, 3.0]],
        [[65504.0, -65504.0]],
    ]
    table = pa.table({"id": list("0123456789"), "frames": pa.array(frames, FLOATS)})
    path = write_columns(tmp_path / f"meta{suffix}", table)
    rows = list(read_table(path))
    assert reasons(rows)[:7] == ["frame-width"] * 2 + ["nan"] * 4 + ["frame-width"]
    assert reasons(rows)[7:] == ["7", "frame-width", "9"]
    assert rows[3].id == "3"
    assert "frame 1 holds inf" in rows[3].detail
    assert "1000000" in rows[4].detail
    assert "expected 2" in rows[8].detail
    narrow = list(read_table(path, expected_width=3))
    assert [row.video.id for row in narrow if isinstance(row, SourceRow)] == ["8"]


def test_features_with_times_and_a_file_that_is_not_needed(tmp_path: Path) -> None:
    table = pa.table(
        {
            "file": ["gone.mp4", "gone.mp4", "gone.mp4"],
            "frames": pa.array([[[1.0], [2.0]]] * 2 + [None], FLOATS),
            "frame_times_seconds": [[0.5, 7.25], [1.0], None],
            "embedding": pa.array([[1.0] * 4] * 3),
        }
    )
    rows = list(read_table(write_columns(tmp_path / "meta.parquet", table)))
    assert reasons(rows) == ["gone", "bad-record", "missing-file"]
    assert rows[0].file is None
    assert rows[0].video.frame_times_seconds.tolist() == [0.5, 7.25]
    assert rows[0].video.frame_times_seconds.dtype == np.float32


def test_columns_that_are_not_what_their_names_say(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b"], "title": [{"en": "cat"}] * 2, "tags": [[["x"]], [["y"]]]})
    rows = list(read_table(write_columns(tmp_path / "meta.parquet", table)))
    assert reasons(rows) == ["bad-record"] * 2
    coded = pa.table({"id": ["a"], "title": pa.array(["cat"]).dictionary_encode()})
    (row,) = read_table(write_columns(tmp_path / "meta.arrow", coded))
    assert row.video.title == "cat"


def test_a_count_of_frames_is_no_feature(tmp_path: Path) -> None:
    table = pa.table({"id": ["a"], "frames": [77]})
    (row,) = read_table(write_columns(tmp_path / "meta.parquet", table))
    assert row.video.frames.shape == (0, 0)
    assert read(tmp_path / "meta.csv", "id,frames\na,77\n")[0].video.frames.shape == (0, 0)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.list_(pa.string()))], ids=str)
def test_a_column_of_frames_that_is_none(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"id": ["a"], "frames": pa.array([[]], kind)})
    with pytest.raises(FormatError, match="expected a list of lists of numbers"):
        list(read_table(write_columns(tmp_path / "meta.parquet", table)))


@COLUMNAR
def test_text_that_is_not_utf8_in_columns(tmp_path: Path, suffix: str) -> None:
    titles = pa.array([b"ok", b"\xff\xfe", b"fine"]).cast(pa.binary()).view(pa.string())
    table = pa.table({"id": ["a", "b", "c"], "title": titles})
    rows = list(read_table(write_columns(tmp_path / f"meta{suffix}", table)))
    assert reasons(rows) == ["a", "not-utf8", "c"]


def test_a_parquet_file_that_breaks_off_inside(tmp_path: Path) -> None:
    table = pa.table({"id": list("012345678"), "title": [mark * 500 for mark in "012345678"]})
    path = write_columns(tmp_path / "meta.parquet", table)
    data = bytearray(path.read_bytes())
    middle = pq.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset
    data[middle : middle + 40] = b"\xff" * 40
    path.write_bytes(data)
    rows = list(read_table(path))
    assert reasons(rows[:-1]) == list("012345678")[: len(rows) - 1]
    assert isinstance(rows[-1], Reject)
    assert "rest of it could not be read" in rows[-1].detail


def test_frames_outlive_the_file(tmp_path: Path) -> None:
    frames = pa.array([[[1.0, 2.0]]] * 4, pa.list_(pa.list_(pa.float32(), 2)))
    half = frames.cast(pa.list_(pa.list_(pa.float16(), 2)))
    path = write_columns(tmp_path / "meta.arrow", pa.table({"id": list("abcd"), "frames": half}))
    videos: list[Video] = [row.video for row in read_table(path)]
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert all(video.frames.tolist() == [[1, 2]] for video in videos)


@pytest.mark.shared
def test_real_tables(shared: Path) -> None:
    tables = tables_of(shared / "data" / "videos")
    rows = [row for table in tables for row in read_table(table)]
    assert (len(tables), len(rows)) == (8, 137)
    assert all(isinstance(row, SourceRow) and row.file is not None for row in rows)
    files = {row.file for row in read_folder(shared / "data" / "videos" / "**" / "*.*")}
    assert files == {row.file for row in rows}
