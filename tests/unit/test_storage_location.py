"""Paths on object storage: what they are, and that nothing takes them for local folders."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path

import pytest

from vidvec import storage
from vidvec.cli import main
from vidvec.errors import UsageError


def test_a_url_is_a_path():
    path = storage.located("s3://bucket/some/corpus/")
    assert isinstance(path, storage.S3Path)
    assert str(path) == f"{path}" == "s3://bucket/some/corpus"
    assert (path.bucket, path.key, path.object_name) == (
        *("bucket", "some/corpus"),
        "bucket/some/corpus",
    )
    child = path / "shards" / "0.arrow"
    assert isinstance(child, storage.S3Path)
    assert str(child) == "s3://bucket/some/corpus/shards/0.arrow"
    assert child.parent.parent == path
    assert (child.name, child.stem, child.suffix) == ("0.arrow", "0", ".arrow")
    assert child.resolve() == child.absolute() == child
    assert child.is_absolute()
    assert copy.deepcopy(child) == child
    assert len({child, path / "shards/0.arrow", path}) == 2
    assert path != Path("s3:/bucket/some/corpus")
    assert storage.located(path) is path
    assert storage.is_remote(child)


def test_a_path_stays_a_path(tmp_path):
    for text in ("a/b", "/a/b", "C:x", "a:b/c", "./s3/x"):
        assert storage.located(text) == Path(text)
        assert not storage.is_remote(storage.located(text))
    assert storage.located(tmp_path) == tmp_path
    assert storage.beside(tmp_path, "any") == storage.local_file(tmp_path) == tmp_path
    assert storage.local_folder(tmp_path) == storage.mirrored(tmp_path) == tmp_path


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:///key", "s3://b/../c", "s3://b/c?endpoint_override=x", "gs://b/c", "http://a"],
)
def test_other_urls_are_refused(url):
    with pytest.raises(UsageError, match="expected"):
        storage.located(url)


def test_whatever_opens_files_itself_refuses_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = storage.located("s3://bucket/corpus")
    attempts = [
        lambda: os.stat(path),
        lambda: shutil.copytree(path, tmp_path / "copy"),
        lambda: path.rename("new"),
        path.touch,
        lambda: path.write_text("x"),
        lambda: path.open("w"),
        lambda: shutil.rmtree(path),
    ]
    for attempt in attempts:
        with pytest.raises(UsageError, match="s3://bucket/corpus"):
            attempt()
    assert list(tmp_path.iterdir()) == []


def test_a_url_that_came_as_a_plain_path_makes_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="s3://bucket/vectors: what is written here"):
        storage.write_manifest(Path("s3://bucket/vectors"), "vectors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["reencode", "compact"])
def test_a_command_for_folders_alone_says_so(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([command, "s3://bucket/corpus"])
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "s3://bucket/corpus: a file or folder of this machine is needed here" in told
    assert list(tmp_path.iterdir()) == []
