"""The file of shards, and the shard of an id."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from vidvec.errors import FormatError, UsageError
from vidvec.search.sharded.layout import (
    HASH,
    ShardPlace,
    ShardsFile,
    read_shards,
    shard_of,
    write_shards,
)
from vidvec.search.sharded.model import model_of


def test_the_shard_of_an_id_never_changes():
    assert [shard_of(each, 4) for each in ("v1", "海", "", "a")] == [
        int(hashlib.blake2b(each.encode(), digest_size=8).hexdigest(), 16) % 4
        for each in ("v1", "海", "", "a")
    ]
    # No release may move the videos of another one.
    assert [shard_of(f"v{number}", 7) for number in range(6)] == [6, 1, 3, 1, 3, 4]
    counts = Counter(shard_of(f"v{number}", 5) for number in range(5_000))
    assert all(850 < counts[number] < 1_150 for number in range(5))


def test_what_is_written_is_read(tmp_path):
    places = (
        ShardPlace("folder", str(tmp_path / "a b"), "a b", 3),
        ShardPlace("folder", str(tmp_path / '海 "x"\\🎬'), '海 "x"\\🎬'),
    )
    file = ShardsFile(tmp_path / "shards.toml", places, HASH, 16, tmp_path, 2.5, 7.0, "0a")
    write_shards(file)
    assert read_shards(file.path) == file


def test_a_file_says_where_shards_are(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'timeout_seconds = 1\nvectors = "../v"\n[[shard]]\nfolder = "one"\nname = "first"\n'
        '[[shard]]\ncluster = "http://m:19530/n"\n'
        '[[shard]]\nserver = "https://s:8000"\nvideos = 7\n'
    )
    held = read_shards(path)
    assert held.shards == (
        ShardPlace("folder", str(tmp_path / "one"), "first"),
        ShardPlace("cluster", "http://m:19530/n", "http://m:19530/n"),
        ShardPlace("server", "https://s:8000", "https://s:8000", 7),
    )
    assert (held.placing, held.timeout_seconds, held.dimension) == ("", 1.0, None)
    assert held.vectors == tmp_path / "../v"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"lists no \[\[shard\]\]"),
        ("shard = 3", "lists no"),
        ("[[shard]]", "has 0 places"),
        ('[[shard]]\nfolder = "a"\ncluster = "http://b"', "has 2 places"),
        ('[[shard]]\nfolder = ""', "folder is ''"),
        ("[[shard]]\nfolder = 3", "folder is 3"),
        ('[[shard]]\nserver = "b:8000"', "expected http"),
        ('[[shard]]\nfolder = "a"\nfodler = "b"', "no setting 'fodler'"),
        ('[[shard]]\nfolder = "a"\n[[shard]]\nfolder = "a"', "'a' comes twice"),
        ('[[shard]]\nfolder = "a"\nvideos = -1', "videos is -1"),
        ('timeout = 3\n[[shard]]\nfolder = "a"', "no setting 'timeout'"),
        ('timeout_seconds = 0\n[[shard]]\nfolder = "a"', "timeout_seconds is 0"),
        ('timeout_seconds = true\n[[shard]]\nfolder = "a"', "timeout_seconds is True"),
        ('dimension = 2.5\n[[shard]]\nfolder = "a"', "dimension is 2.5"),
        ('placing = "range"\n[[shard]]\nfolder = "a"', "placing 'range'"),
        ('vectors = 3\n[[shard]]\nfolder = "a"', "vectors is 3"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, text, said):
    path = tmp_path / "shards.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_shards(path)


def test_what_is_no_file_of_shards_is_named(tmp_path):
    with pytest.raises(UsageError, match="is missing"):
        read_shards(tmp_path / "shards.toml")
    (tmp_path / "shards.toml").write_bytes(b"\xff = [")
    with pytest.raises(FormatError, match="is not TOML"):
        read_shards(tmp_path / "shards.toml")


def test_vectors_are_of_one_model_wherever_it_was():
    made = {"stage": "embed", "weights": "w", "checkpoint": "/a", "corpus": "/b", "videos": 3}
    other = {**made, "checkpoint": "/x", "corpus": "/y", "videos": 9, "edition": 2}
    assert model_of(made) == model_of(other) != ""
    assert model_of(made) != model_of({**made, "weights": "v"})
    assert model_of(made) != model_of({**made, "size": 64})
    small = {"stage": "compress", "size": 64, "vectors": "/v", "made_of": made}
    assert model_of(small) == model_of({**small, "vectors": "/w", "made_of": other})
    assert model_of(small) != model_of(made)
    assert model_of({"stage": "fuse", "weights": [1]}) != model_of(
        {"stage": "fuse", "weights": [2]}
    )
    assert model_of({"stage": "import", "source": "x"}) == ""
