"""Blocks of objects on this disk: a limit, what goes first, damage, several processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from vidvec.errors import UsageError
from vidvec.storage.cache import BLOCK_BYTES, BlockCache, cache_limit
from vidvec.storage.ranges import RUN_BLOCKS, _runs

BLOCK = bytes(range(256)) * (BLOCK_BYTES // 256)
KEPT = BLOCK_BYTES + 4


def blocks(cache: BlockCache) -> set[str]:
    return {path.stem for path in cache.folder.rglob("*.block")}


def used(cache, folder, number, seconds_ago):
    """As if a block had been read so long ago."""
    when = time.time() - seconds_ago
    os.utime(folder / f"{number}.block", (when, when))


def test_a_block_comes_back(tmp_path):
    cache = BlockCache(tmp_path / "cache", 10 * KEPT)
    folder = cache.object_folder("http://a", "b/c", "etag 1")
    assert cache.get(folder, 0, 0, 10, check=True) is None
    cache.put(folder, 0, BLOCK)
    cache.put(folder, 7, b"short")
    for check in (True, False):
        assert cache.get(folder, 0, 100, 300, check=check) == BLOCK[100:300]
        assert cache.get(folder, 7, 0, 5, check=check) == b"short"
    assert cache.has(folder, 7)
    assert not cache.has(folder, 1)


def test_each_version_of_an_object_is_on_its_own(tmp_path):
    cache = BlockCache(tmp_path, 10 * KEPT)
    facts = [("http://a", "b/c", "v1"), ("http://a", "b/c", "v2"), ("http://b", "b/c", "v1")]
    folders = [cache.object_folder(*each) for each in facts]
    assert len(set(folders)) == 3
    cache.put(folders[0], 0, BLOCK)
    assert cache.get(folders[1], 0, 0, 1, check=True) is None


def test_what_was_not_used_for_longest_goes(tmp_path):
    cache = BlockCache(tmp_path, 4 * KEPT)
    folder = cache.object_folder("x")
    for number in range(4):
        cache.put(folder, number, BLOCK)
        used(cache, folder, number, 100 - number)
    assert blocks(cache) == {"0", "1", "2", "3"}
    cache.get(folder, 0, 0, 1, check=False)
    cache.put(folder, 4, BLOCK)
    assert blocks(cache) == {"0", "3", "4"}, "down to nine tenths: 1 and 2 went, 0 was just read"


def test_the_last_block_stays_however_small_the_limit(tmp_path):
    cache = BlockCache(tmp_path, 0)
    folder = cache.object_folder("x")
    for number in range(3):
        cache.put(folder, number, BLOCK)
    assert blocks(cache) == {"2"}


def test_a_new_process_counts_what_is_there(tmp_path):
    folder = BlockCache(tmp_path, 100 * KEPT).object_folder("x")
    for number in range(6):
        BlockCache(tmp_path, 100 * KEPT).put(folder, number, BLOCK)
    BlockCache(tmp_path, 3 * KEPT).put(folder, 9, BLOCK)
    assert len(blocks(BlockCache(tmp_path, 0))) == 2
    assert "9" in blocks(BlockCache(tmp_path, 0))


@pytest.mark.parametrize(
    "harm", [lambda b: b[:-9], lambda b: b[:50] + b"\xff" + b[51:], lambda b: b""]
)
def test_a_damaged_block_is_no_block(tmp_path, harm):
    cache = BlockCache(tmp_path, 10 * KEPT)
    folder = cache.object_folder("x")
    cache.put(folder, 0, BLOCK)
    path = folder / "0.block"
    path.write_bytes(harm(path.read_bytes()))
    assert cache.get(folder, 0, 0, BLOCK_BYTES, check=True) is None
    assert not path.exists()


def test_what_a_killed_process_left_is_never_read_and_goes(tmp_path):
    cache = BlockCache(tmp_path, 10 * KEPT)
    folder = cache.object_folder("x")
    cache.put(folder, 0, BLOCK)
    left = [folder / ".1.block.aaaa.tmp", folder / ".2.block.bbbb.tmp"]
    for path in left:
        path.write_bytes(BLOCK)
    os.utime(left[0], (1, 1))
    cache.make_room()
    assert not left[0].exists()
    assert left[1].exists(), "another process may be writing it"
    assert cache.get(folder, 1, 0, 1, check=True) is None


def test_a_disk_that_takes_nothing_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    cache = BlockCache(tmp_path / "file" / "cache", 10 * KEPT)
    cache.put(cache.object_folder("x"), 0, BLOCK)
    assert cache.get(cache.object_folder("x"), 0, 0, 1, check=True) is None


def test_one_process_at_a_time_makes_room(tmp_path):
    code = """
import fcntl, sys
lock = open(sys.argv[1], "ab")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
    cache = BlockCache(tmp_path, 1 * KEPT)
    folder = cache.object_folder("x")
    cache.put(folder, 0, BLOCK)
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout is not None
    assert other.stdin is not None
    other.stdout.readline()
    cache.put(folder, 1, BLOCK)
    assert blocks(cache) == {"0", "1"}
    other.stdin.close()
    other.wait()
    cache.make_room()
    assert len(blocks(cache)) == 0


def test_the_limit_is_a_number_of_bytes(monkeypatch):
    monkeypatch.setenv("VIDVEC_CACHE_BYTES", "2e9")
    assert cache_limit() == 2_000_000_000
    for wrong in ("ten", "-1", "nan", "inf"):
        monkeypatch.setenv("VIDVEC_CACHE_BYTES", wrong)
        with pytest.raises(UsageError, match=f"VIDVEC_CACHE_BYTES={wrong}: expected a number"):
            cache_limit()
    monkeypatch.delenv("VIDVEC_CACHE_BYTES")
    assert cache_limit() == 10 * 2**30


def test_neighbouring_blocks_are_asked_for_together():
    assert _runs([]) == []
    assert _runs([3]) == [(3, 1)]
    assert _runs([0, 1, 2, 5, 6, 9]) == [(0, 3), (5, 2), (9, 1)]
    assert _runs(list(range(RUN_BLOCKS + 2))) == [(0, RUN_BLOCKS), (RUN_BLOCKS, 2)]
