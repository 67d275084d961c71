"""Sources: what a path is taken for, and what its rows are."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.data import serving
from tests.unit.data.serving import CONTENT, serve
from vidvec.data.access import Access, AccessOptions
from vidvec.data.fetch import FetchOptions
from vidvec.data.sources import Row, open_source
from vidvec.data.stamps import stamp
from vidvec.data.walk import expand, fingerprint, fingerprint_of, list_folder
from vidvec.errors import FormatError, UsageError
from vidvec.records import Reject, SourceRow, Video

FETCHING = AccessOptions(
    fetch=True, limits=FetchOptions(private=True, pause_seconds=0.01, seconds=20.0, attempts=2)
)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def rows_of(path: Path | str, options: AccessOptions | None = None) -> list[Row]:
    return list(open_source(Path(path), Access(options)).read())


def ids(rows: list[Row]) -> list[str]:
    return [row.reason if isinstance(row, Reject) else row.video.id for row in rows]


def contents(path: Path, options: AccessOptions, scratch: Path) -> list[Any]:
    """Ids and contents of videos as a run would read them, or the reasons why not."""
    from vidvec.errors import BadRecord

    found: list[Any] = []
    with Access(options, scratch) as access:
        for row in open_source(path, access).read():
            if isinstance(row, Reject):
                found.append(row.reason)
                continue
            try:
                borrowed = row.borrow()
                if borrowed is None:
                    found.append((row.video.id, None))
                    continue
                with borrowed as file:
                    found.append((row.video.id, file.read_bytes()))
            except BadRecord as error:
                found.append(error.reason)
        assert not scratch.exists() or not list(scratch.iterdir())
    assert not scratch.exists()
    return found


# --- folders, patterns, lists -------------------------------------------------------------------


def test_a_folder_of_videos(tmp_path):
    touch(tmp_path, "b.mp4", "a/z.MKV", "a/b/c.webm", ".hidden.mp4", ".cache/x.mp4", "notes.txt")
    source = open_source(tmp_path)
    assert source.kind == "folder"
    rows = list(source.read())
    assert ids(rows) == ["a/b/c", "a/z", "b"]
    assert [row.where for row in rows] == ["a/b/c.webm", "a/z.MKV", "b.mp4"]
    for row in rows:
        with row.borrow() as file:
            assert file == tmp_path / row.where
        status = file.stat()
        assert row.version == f"{status.st_size}:{status.st_mtime_ns}"
    assert file.exists()


def test_names_that_are_not_utf8(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"x")
    (row,) = rows_of(tmp_path)
    assert row.video.id == "caf\\xe9"
    with row.borrow() as file:
        assert file.read_bytes() == b"x"


def test_listing_a_folder_agrees_with_pathlib(tmp_path):
    """And so does the fingerprint with one that asks for each file by itself."""
    names = ["a.b/x.mp4", "a/x.mp4", "a/y/z.mp4", "a-b/x.mp4", "B.mp4", "b.mp4", "ä.mp4", "a0.mp4"]
    touch(tmp_path / "in", *names)
    touch(tmp_path / "out", "real.mp4", "more/x.mp4")
    (tmp_path / "in" / "link.mp4").symlink_to(tmp_path / "out" / "real.mp4")
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "out" / "more")
    (tmp_path / "in" / "broken.mp4").symlink_to(tmp_path / "nowhere")
    found = list_folder(tmp_path / "in")
    paths = [tmp_path / "in" / file.path for file in found]
    assert paths == sorted(p for p in (tmp_path / "in").rglob("*") if p.is_file())
    assert len(found) == len(names) + 1
    assert fingerprint(tmp_path / "in", found) == fingerprint_of(paths)


def test_a_fingerprint_changes_with_what_it_stands_for(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4", "notes.txt")
    first = open_source(tmp_path).fingerprint
    touch(tmp_path, "notes2.txt")
    assert open_source(tmp_path).fingerprint == first
    status = (tmp_path / "a.mp4").stat()
    os.utime(tmp_path / "a.mp4", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    second = open_source(tmp_path).fingerprint
    (tmp_path / "b.mp4").rename(tmp_path / "c.mp4")
    assert len({first, second, open_source(tmp_path).fingerprint}) == 3


def test_patterns(tmp_path, monkeypatch):
    touch(tmp_path / "v", "a.mp4", "x/b.mp4", "x/y/c.mkv", "x/y/d.txt", "x/.h.mp4", "z/001.mp4")
    assert ids(rows_of(tmp_path / "v" / "**" / "*.mp4")) == ["a", "x/b", "z/001"]
    assert ids(rows_of(tmp_path / "v" / "*" / "*.*")) == ["x/b", "z/001"]
    assert ids(rows_of(tmp_path / "v" / "{x,z}" / "**" / "*.m*")) == ["x/b", "x/y/c", "z/001"]
    assert ids(rows_of(tmp_path / "v" / "z" / "{000..003}.mp4")) == ["001"]
    assert ids(rows_of(tmp_path / "v" / "[a-c].mp4")) == ["a"]
    monkeypatch.chdir(tmp_path / "v")
    source = open_source(Path("*.mp4"))
    assert (source.kind, ids(list(source.read()))) == ("pattern", ["a"])
    with pytest.raises(UsageError, match=r"no video file, tar or table matches .*\(1 files\)"):
        open_source(Path("x/y/*.txt"))
    with pytest.raises(UsageError, match="does not exist"):
        open_source(Path("nowhere"))
    touch(tmp_path, "odd[1]/a.mp4")
    assert ids(rows_of(tmp_path / "odd[1]")) == ["a"]  # what is there is no pattern


def test_braces_are_as_webdatasets(tmp_path):
    braceexpand = pytest.importorskip("braceexpand").braceexpand
    patterns = ["s-{000..012}.tar", "s-{8..11}.tar", "{a,b}/{1..2}.tar", "{a,,b}.tar", "x.tar"]
    for pattern in patterns:
        names = sorted(name for name in set(braceexpand(pattern)))
        folder = touch(tmp_path / str(patterns.index(pattern)), *names)
        assert [file.path for file in expand(str(folder / pattern))[1] if file.path[0] != "."] == [
            name for name in sorted(names, key=lambda name: name.split("/")) if name[0] != "."
        ]


def test_a_list_of_paths(tmp_path):
    touch(tmp_path, "v/a.mp4", "v/b b.mp4", "elsewhere/c.mp4")
    lines = ["\ufeffa.mp4", "", "  b b.mp4  ", str(tmp_path / "elsewhere" / "c.mp4"), "missing.mp4"]
    path = tmp_path / "v" / "list.txt"
    path.write_text("\r\n".join([*lines, "http://example.com/d.mp4", ""]), "utf-8")
    rows = rows_of(path)
    assert ids(rows) == ["a", "b b", "../elsewhere/c", "missing-file", "not-fetched"]
    assert [row.where for row in rows] == [f"list.txt:{line}" for line in (1, 3, 4, 5, 6)]
    assert open_source(path).kind == "list"


@pytest.mark.parametrize(
    ("text", "lines"),
    [("", 0), ("buy milk\ncall home\n", 2), ("\n\n", 0), ("\x00\xff/", 1), ("word " * 2000, 1)],
)
def test_a_text_of_something_else(tmp_path, text, lines):
    (tmp_path / "notes.txt").write_text(text, "latin-1")
    with pytest.raises(UsageError, match=f"notes.txt is no list of videos.* {lines} lines"):
        open_source(tmp_path / "notes.txt")


def test_a_line_too_long_for_a_name(tmp_path):
    touch(tmp_path, "a.mp4")
    (tmp_path / "list.txt").write_text("a.mp4\n" + "word " * 2000 + "\n")
    assert ids(rows_of(tmp_path / "list.txt")) == ["a", "missing-file"]


def test_a_text_in_a_folder_is_no_source(tmp_path):
    touch(tmp_path, "index.txt", "videos.txt", "a.mp4")
    assert open_source(tmp_path).kind == "folder"


# --- tables -------------------------------------------------------------------------------------


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_urls_are_left_out_where_nobody_asked(tmp_path):
    touch(tmp_path, "here.mp4")
    rows = [
        {"id": "1", "url": "https://example.com/a.mp4", "title": "x"},
        {"file": "http://example.com/b/c.mp4?x=1"},
        {"id": "3", "file": "here.mp4", "url": "https://example.com/a.mp4"},
        {"id": "4", "url": "file:///etc/passwd"},
        {"id": "5", "file": "hf://datasets/x.mp4"},
        {"id": "6", "url": None, "title": "no video"},
    ]
    found = rows_of(write_jsonl(tmp_path / "meta.jsonl", rows))
    assert ids(found) == ["not-fetched", "not-fetched", "3", "bad-url", "bad-url", "6"]
    assert "give --fetch to download it" in found[0].detail
    assert [row.id for row in found[:2]] == ["1", "example.com/b/c.mp4?x=1"]


def test_urls_are_fetched_where_asked(tmp_path):
    with serve(
        **{"a.mp4": serving.whole(), "gone.mp4": serving.failing(9, 404, serving.whole())},
    ) as server:
        rows = [
            {"id": "1", "url": server.url("/a.mp4")},
            {"file": server.url("/gone.mp4")},
            {"file": server.url("/a.mp4")},
        ]
        table = write_jsonl(tmp_path / "meta.jsonl", rows)
        host = server.url("").removeprefix("http://")
        found = contents(table, FETCHING, tmp_path / "scratch")
        assert found == [("1", CONTENT), "fetch-failed", (f"{host}/a", CONTENT)]
        public = replace(FETCHING, limits=FetchOptions())
        assert contents(table, public, tmp_path / "scratch") == ["bad-url"] * 3


def test_downloads_begin_before_they_are_waited_for(tmp_path):
    with serve(**{f"{n}.mp4": serving.slow_start(0.3) for n in range(4)}) as server:
        rows = [{"id": str(n), "url": server.url(f"/{n}.mp4")} for n in range(4)]
        table = write_jsonl(tmp_path / "meta.jsonl", rows)
        with Access(replace(FETCHING, at_once=2), tmp_path / "scratch") as access:
            borrowed = [row.borrow() for row in open_source(table, access).read()]
            with borrowed[3] as last:  # with two at once, all before have come by now
                assert last.read_bytes() == CONTENT
            assert server.asked.total() == 4
            with borrowed[0] as first, borrowed[1], borrowed[2]:
                assert first.read_bytes() == CONTENT
                assert len(list((tmp_path / "scratch").iterdir())) == 3
            assert not list((tmp_path / "scratch").iterdir())


def test_videos_that_are_kept_are_not_fetched_again(tmp_path):
    options = replace(FETCHING, keep=tmp_path / "kept")
    with serve(**{"a.mp4": serving.whole(), "b": serving.whole(b"b")}) as server:
        rows = [
            {"id": "x/../../1 ", "url": server.url("/a.mp4?q")},
            {"id": "2", "url": server.url("/b")},
        ]
        server.answers["/a.mp4?q"] = serving.whole()
        table = write_jsonl(tmp_path / "meta.jsonl", rows)
        for _ in range(2):
            found = contents(table, options, tmp_path / "scratch")
            assert found == [("x/../../1", CONTENT), ("2", b"b")]
        assert server.asked.total() == 2
        names = sorted(file.name for file in (tmp_path / "kept").iterdir())
        assert names[0] == "2"
        assert names[1].startswith("x_.._.._1-")
        assert names[1].endswith(".mp4")
        assert len(names) == 2


def write_videos(path: Path, kind: str) -> Path:
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    values: list[Any] = [b"one", b"two", None, b""]
    if kind == "struct":
        values = [
            {"bytes": b"one", "path": "c/a.mp4"},
            {"bytes": b"two", "path": None},
            {"bytes": None, "path": "here.mp4"},
            {"bytes": b"", "path": "x.mp4"},
        ]
    types = {"binary": pa.binary(), "large_binary": pa.large_binary(), "struct": struct}
    columns = {"video": pa.array(values, types[kind]), "caption": ["a", "b", "c", "d"]}
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("kind", ["binary", "large_binary", "struct"])
def test_videos_in_tables(tmp_path, suffix, kind):
    touch(tmp_path, "here.mp4")
    path = write_videos(tmp_path / f"t{suffix}", kind)
    found = contents(path, AccessOptions(), tmp_path / "scratch")
    if kind == "struct":
        assert found == [("c/a", b"one"), ("t-000002", b"two"), ("here", b"here.mp4"), "empty-file"]
    else:
        assert found == [("t-000001", b"one"), ("t-000002", b"two"), "no-id", "empty-file"]
    first, second = rows_of(path)[:2]
    assert (first.video.title, second.video.title) == ("a", "b")
    assert len({first.version, second.version, ""}) == 3
    small = AccessOptions(limits=FetchOptions(max_bytes=2))
    assert contents(path, small, tmp_path / "scratch")[:2] == ["too-large"] * 2


def test_videos_in_tables_that_have_one_name_get_ids_of_their_own(tmp_path):
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for split in ("a", "b"):
        values = [{"bytes": b"x", "path": "clip.mp4"}, {"bytes": b"x", "path": "clip.mp4"}]
        table = pa.table({"video": pa.array(values, struct)})
        pq.write_table(table, tmp_path / f"{split}-00000-of-00001.parquet")
    named = ["clip", "a-00000-of-00001-000002", "b-00000-of-00001-000001"]
    assert ids(rows_of(tmp_path)) == [*named, "b-00000-of-00001-000002"]
    given = pa.table({"video": pa.array(values, struct), "id": ["1", "1"]})
    pq.write_table(given, tmp_path / "given.parquet")
    assert ids(rows_of(tmp_path / "given.parquet")) == ["1", "1"]  # of which a corpus takes one


def test_video_folders_of_hugging_face(tmp_path):
    """``metadata.csv`` with a column ``file_name``."""
    touch(tmp_path, "train/a.mp4")
    (tmp_path / "metadata.csv").write_text("file_name,caption\ntrain/a.mp4,a cat\n")
    (row,) = rows_of(tmp_path)
    assert isinstance(row, SourceRow)
    assert (row.video.id, row.video.title, row.file) == (
        "train/a",
        "a cat",
        tmp_path / "train/a.mp4",
    )


# --- tars ---------------------------------------------------------------------------------------


def write_tar(path: Path, *numbers: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for number in numbers:
            member = tarfile.TarInfo(f"{number:03d}.mp4")
            member.size = 3
            tar.addfile(member, io.BytesIO(f"{number:03d}".encode()))


def test_tars_by_folder_by_pattern_and_alone(tmp_path):
    for name, some in (
        ("s/shard-000.tar", (1, 2)),
        ("s/shard-001.tar", (3,)),
        ("s/x.tar.gz", (4,)),
    ):
        write_tar(tmp_path / name, *some)
    everything = [(f"{n:03d}", f"{n:03d}".encode()) for n in range(1, 5)]
    for path, count in (("s", 4), ("s/shard-{000..012}.tar", 3), ("s/shard-*.tar", 3), ("s/*", 4)):
        assert open_source(tmp_path / path).kind == "tar"
        found = contents(tmp_path / path, AccessOptions(), tmp_path / "scratch")
        assert found == everything[:count]
    assert [row.where for row in rows_of(tmp_path / "s" / "x.tar.gz")] == ["x.tar.gz:004"]
    touch(tmp_path, "s/y.mp4")
    assert ids(rows_of(tmp_path / "s")) == ["y"]  # a tar beside videos is a backup


# --- datasets -----------------------------------------------------------------------------------


MAKE = """
import sys
from datasets import Dataset, DatasetDict, Features, Value, Video
folder = sys.argv[1]
video = [{"bytes": b"one", "path": "c/a.mp4"}, {"bytes": None, "path": folder + "/b.mp4"}]
features = Features({"video": Video(), "caption": Value("string")})
made = Dataset.from_dict({"video": video, "caption": ["A", "B"]}, features=features)
made.save_to_disk(folder + "/one", num_shards=2)
other = Dataset.from_dict({"video": [{"bytes": b"3", "path": "t.mp4"}], "caption": ["C"]},
                          features=features)
DatasetDict({"train": made, "test": other}).save_to_disk(folder + "/splits")
made.to_parquet(folder + "/hub/data/train-00000-of-00001.parquet")
other.to_parquet(folder + "/hub/data/test-00000-of-00001-0a1b.parquet")
"""


def test_datasets_of_hugging_face(tmp_path):
    """Folders that its own library has written, in a process of its own, as it is large."""
    pytest.importorskip("datasets")
    touch(tmp_path, "b.mp4")
    (tmp_path / "hub" / "data").mkdir(parents=True)
    command = [sys.executable, "-c", MAKE, str(tmp_path)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    train = [b"one", b"b.mp4"]
    for name, expected in (("one", train), ("splits", [*train, b"3"]), ("hub", [b"3", *train])):
        source = open_source(tmp_path / name)
        assert source.kind == "dataset"
        found = contents(tmp_path / name, AccessOptions(), tmp_path / "scratch")
        assert [content for _, content in found] == expected
        assert found[expected.index(b"one")][0] == ("c/a" if name == "hub" else "a")
    rows = rows_of(tmp_path / "splits")
    assert [row.part for row in rows] == ["train", "train", "test"]
    assert [row.video.title for row in rows] == ["A", "B", "C"]
    assert rows[2].where == "test/data-00000-of-00001.arrow#1"
    assert [row.part for row in rows_of(tmp_path / "hub")] == ["test", "train", "train"]


def test_the_cache_of_load_dataset(tmp_path):
    """``NAME-SPLIT.arrow``; what ``map`` left beside them is not read."""
    for name in (
        "clips-train-00000-of-00002",
        "clips-train-00001-of-00002",
        "clips-test",
        "cache-1",
    ):
        write_videos(tmp_path / f"{name}.arrow", "binary")
    (tmp_path / "dataset_info.json").write_text('{"splits": {"train": {}, "test": {}}}')
    rows = [row for row in rows_of(tmp_path) if isinstance(row, SourceRow)]
    assert [row.part for row in rows] == ["test"] * 2 + ["train"] * 4


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("state.json", "{", "is not JSON"),
        ("state.json", "{}", "has no list '_data_files'"),
        ("state.json", '{"_data_files": [{"filename": "../x.arrow"}]}', "which is not there"),
        ("state.json", '{"_data_files": [1]}', "which is not there"),
        ("dataset_dict.json", '{"splits": ["../up"]}', "expected names"),
        ("dataset_dict.json", '{"splits": ["train"]}', "is missing"),
    ],
)
def test_a_dataset_that_is_damaged(tmp_path, name, text, said):
    touch(tmp_path, "x.arrow", "in/data-00000-of-00001.arrow")
    (tmp_path / "in" / name).write_text(text)
    with pytest.raises(FormatError, match=said):
        open_source(tmp_path / "in")


def test_a_state_of_something_else_is_none_of_a_dataset(tmp_path):
    touch(tmp_path, "state.json", "dataset_info.json.bak", "a.mp4")
    assert open_source(tmp_path).kind == "folder"


# --- stamps -------------------------------------------------------------------------------------


def test_a_stamp_changes_with_each_thing_that_a_source_says():
    frames = np.ones((2, 3), np.float16)
    video = Video("1", title="a", frames=frames, frame_times_seconds=np.zeros(2, np.float32))
    row = SourceRow("m:1", video, version="1:2")
    others = [
        replace(row, version="1:3"),
        *(
            replace(row, video=replace(video, **{name: value}))
            for name, value in {
                **dict.fromkeys(("title", "speech_text", "screen_text", "category"), "b"),
                "language": "zh",
                "tags": (),
                "duration_seconds": 1.0,
                "frames": frames * 2,
                "frame_times_seconds": np.ones(2, np.float32),
            }.items()
        ),
        replace(row, video=replace(video, frames=np.ones((3, 2), np.float16))),
    ]
    assert len({stamp(one) for one in (row, *others)}) == len(others) + 1
    same = replace(row, where="m:9", part="x", video=replace(video, id="2", thumbnails=(b"x",)))
    assert stamp(same) == stamp(row)
    assert len(stamp(row)) == 16
