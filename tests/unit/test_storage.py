"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vidvec import storage
from vidvec.errors import FormatError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(code: str, *arguments: object) -> int:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], check=False
    ).returncode


def test_a_file_appears_when_it_is_done(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with storage.atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(path.parent) == ["file.txt"]


def test_a_file_is_moved_into_place_and_never_written_there(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with storage.atomic_path(path) as temporary:
        temporary.write_text("new")
        moved = temporary.stat().st_ino
    assert path.stat().st_ino == moved
    with path.open() as reader:
        with storage.atomic_path(path) as temporary:
            temporary.write_text("newer")
        assert reader.read() == "new"  # who has it open keeps what was there
    assert path.read_text() == "newer"


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail() -> None:
        with storage.atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_an_exception_before_anything_was_written(tmp_path):
    def fail() -> None:
        with storage.atomic_path(tmp_path / "file.txt"):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert names(tmp_path) == []


DIE_IN_A_FILE = """
import os, pathlib, sys
from vidvec import storage
with storage.atomic_path(pathlib.Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os._exit(9)
"""

DIE_IN_A_FOLDER = """
import os, pathlib, sys
from vidvec import storage
with storage.atomic_path(pathlib.Path(sys.argv[1])) as temporary:
    temporary.mkdir()
    (temporary / "part").write_text("half")
    os._exit(9)
"""


def test_a_process_killed_in_the_middle_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    assert run(DIE_IN_A_FILE, path) == 9
    assert path.read_text() == "old"
    assert len(names(tmp_path)) == 2
    storage.remove_leftovers(tmp_path)
    assert names(tmp_path) == ["file.txt"]


def test_a_process_killed_in_the_middle_leaves_the_old_folder(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "kept").write_text("old")
    assert run(DIE_IN_A_FOLDER, path) == 9
    assert names(path) == ["kept"]
    storage.remove_leftovers(tmp_path)
    assert names(tmp_path) == ["folder"]
    assert names(path) == ["kept"]


def test_leftovers_are_nothing_but_temporaries(tmp_path):
    for name in ("a.tmp", ".hidden", "b"):
        (tmp_path / name).write_text("mine")
    storage.remove_leftovers(tmp_path)
    assert names(tmp_path) == [".hidden", "a.tmp", "b"]
    storage.remove_leftovers(tmp_path / "not there")


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    with storage.atomic_path(path) as temporary:
        (temporary / "deep" / "deeper").mkdir(parents=True)
        (temporary / "deep" / "deeper" / "new").write_text("new")
        assert names(path) == ["old"]
    assert names(path) == ["deep"]
    assert (path / "deep" / "deeper" / "new").read_text() == "new"
    assert names(tmp_path) == ["folder"]


def test_an_exception_leaves_the_old_folder(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")

    def fail() -> None:
        with storage.atomic_path(path) as temporary:
            temporary.mkdir()
            (temporary / "new").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(tmp_path) == ["folder"]
    assert names(path) == ["old"]


def test_json_comes_back_as_it_was(tmp_path):
    value = {"标题": ["猫 🐈", 1, 2.5, None, True], "empty": {}}
    storage.write_json(tmp_path / "a.json", value)
    assert storage.read_json(tmp_path / "a.json") == value
    assert "标题" in (tmp_path / "a.json").read_text("utf-8")


def test_json_that_cannot_be_written_leaves_the_old(tmp_path):
    storage.write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        storage.write_json(tmp_path / "a.json", {"not": object()})
    assert storage.read_json(tmp_path / "a.json") == 1
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("garbage", [b"", b"{", b"\x00\x01", b"\xff\xfe{}", b'{"a": 1} {"b": 2}'])
def test_what_is_not_json_is_named(tmp_path, garbage):
    path = tmp_path / "a.json"
    path.write_bytes(garbage)
    with pytest.raises(FormatError) as caught:
        storage.read_json(path)
    assert str(caught.value).startswith(f"{path} is not JSON")


def test_json_that_is_missing_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"a\.json is missing"):
        storage.read_json(tmp_path / "a.json")


def refusal(folder: Path, kind: str = "corpus") -> str:
    with pytest.raises(FormatError) as caught:
        storage.read_manifest(folder, kind)
    return str(caught.value)


def test_a_manifest_comes_back(tmp_path):
    storage.write_manifest(tmp_path / "new", "corpus", shards=[1, 2])
    manifest = storage.read_manifest(tmp_path / "new", "corpus")
    assert manifest == {"kind": "corpus", "format_version": 1, "shards": [1, 2]}


def test_a_folder_without_a_manifest(tmp_path):
    assert refusal(tmp_path) == f"{tmp_path} is not a corpus folder: it has no manifest.json"
    assert refusal(tmp_path / "nowhere").startswith(f"{tmp_path / 'nowhere'} is not a corpus")


def test_a_file_where_a_folder_is_expected(tmp_path):
    (tmp_path / "file").write_text("x")
    assert "is not a corpus folder" in refusal(tmp_path / "file")


def test_a_manifest_of_another_kind(tmp_path):
    storage.write_manifest(tmp_path, "corpus")
    assert refusal(tmp_path, "vectors") == f"{tmp_path} holds corpus, expected vectors"


def test_a_manifest_of_another_version(tmp_path):
    storage.write_json(tmp_path / "manifest.json", {"kind": "corpus", "format_version": 2})
    said = refusal(tmp_path)
    assert "format version 2" in said
    assert "reads version 1" in said
    storage.write_json(tmp_path / "manifest.json", {"kind": "corpus"})
    assert "format version None" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"corpus"', "{}", '{"kind": null}'])
def test_json_that_is_no_manifest(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    assert refusal(tmp_path) == f"{tmp_path} holds something else, expected corpus"


@pytest.mark.parametrize("garbage", [b"", b"\x00" * 40, b'{"kind": "cor'])
def test_a_damaged_manifest(tmp_path, garbage):
    (tmp_path / "manifest.json").write_bytes(garbage)
    assert "manifest.json is not JSON" in refusal(tmp_path)
