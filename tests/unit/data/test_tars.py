"""Tar shards: what belongs together comes together, and nothing is taken on an archive's word."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from vidvec.data.access import Access, AccessOptions
from vidvec.data.fetch import FetchOptions
from vidvec.data.tars import read_tar
from vidvec.records import Reject, SourceRow

Files = list[tuple[str, bytes]]
VIDEO = bytes(range(256)) * 20
SAMPLES: Files = [
    ("a/001.json", json.dumps({"title": "one", "tags": ["x", "y"]}).encode()),
    ("a/001.mp4", VIDEO + b"1"),
    ("a/001.txt", b"is not looked at, as the json has a title"),
    ("a/002.cls", b"7\n"),
    ("a/002.txt", "zwei 二\n".encode()),
    ("a/002.webm", VIDEO + b"2"),
    ("b/003.seg.jpg", b"ignored"),
    ("b/003.json", json.dumps({"id": 33, "asr_text": "said"}).encode()),
    ("b/003.clip.MOV", VIDEO + b"3"),
]


def write(path: Path, files: Files) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 1_700_000_000
            tar.addfile(member, io.BytesIO(content))
    return path


def read(path: Path, **limits: int) -> list[tuple[SourceRow | Reject, bytes | None]]:
    """Rows, each with its video's bytes."""
    options = AccessOptions(limits=FetchOptions(**limits))  # type: ignore[arg-type]
    found = []
    with Access(options, path.parent / "scratch") as access:
        for row in read_tar(path, access, path.name):
            borrowed = None if isinstance(row, Reject) else row.borrow()
            content = None
            if borrowed is not None:
                with borrowed as file:
                    content = file.read_bytes()
            found.append((row, content))
            assert not list((path.parent / "scratch").glob("*"))
    assert not (path.parent / "scratch").exists()
    return found


def reasons(path: Path, **limits: int) -> list[str]:
    rows = [row for row, _ in read(path, **limits)]
    return [row.reason if isinstance(row, Reject) else row.video.id for row in rows]


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s.tgz"])
def test_samples_come_with_their_metadata(tmp_path, name):
    path = write(tmp_path / name, SAMPLES)
    (one, first), (two, second), (three, third) = read(path)
    assert (first, second, third) == (VIDEO + b"1", VIDEO + b"2", VIDEO + b"3")
    assert one.where == f"{name}:a/001"
    assert (one.video.id, one.video.title, one.video.tags) == ("a/001", "one", ("x", "y"))
    assert (two.video.id, two.video.title, two.video.category) == ("a/002", "zwei 二", "7")
    assert (three.video.id, three.video.speech_text) == ("33", "said")
    assert one.version == f"{len(VIDEO) + 1}:1700000000"


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz"])
def test_videos_may_be_borrowed_in_any_order_and_late(tmp_path, name):
    path = write(tmp_path / name, SAMPLES)
    with Access(None, tmp_path / "scratch") as access:
        borrowed = [row.borrow() for row in read_tar(path, access, name)]
        for number in (3, 1, 2):
            with borrowed[number - 1] as file:
                assert file.read_bytes() == VIDEO + str(number).encode()
                assert file.suffix == {1: ".mp4", 2: ".webm", 3: ".mov"}[number]
        assert not list((tmp_path / "scratch").iterdir())


def test_what_nobody_borrows_does_not_stay(tmp_path):
    path = write(tmp_path / "s.tar.gz", SAMPLES)
    with Access(None, tmp_path / "scratch") as access:
        for _ in read_tar(path, access, path.name):
            assert len(list((tmp_path / "scratch").iterdir())) <= 1
        assert not list((tmp_path / "scratch").iterdir())


def test_webdataset_reads_the_same(tmp_path):
    """Shards of its own writer, against its own reader; in a process of its own, as it is large."""
    pytest.importorskip("webdataset")
    shard = tmp_path / "theirs.tar"
    code = f"""
import json, webdataset
with webdataset.TarWriter({str(shard)!r}) as sink:
    for number in range(5):
        sink.write({{"__key__": f"clips/{{number:05d}}", "mp4": bytes([number]) * 1000,
                    "json": {{"title": f"title {{number}}"}}, "cls": number}})
for sample in webdataset.WebDataset({str(shard)!r}, shardshuffle=False):
    print(json.dumps([sample["__key__"], len(sample["mp4"]), sample["mp4"][0],
                      json.loads(sample["json"])["title"], sample["cls"].decode()]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    theirs = [json.loads(line) for line in done.stdout.splitlines()]
    ours = [
        [row.video.id, len(content), content[0], row.video.title, row.video.category]
        for row, content in read(shard)
    ]
    assert len(ours) == 5
    assert ours == theirs


NAMES = ["../x.mp4", "a/../../x.mp4", "/etc/x.mp4", "a/\n/x.mp4", "a\x1b[2J.mp4"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_elsewhere(tmp_path, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    path = write(inside / "s.tar", [SAMPLES[1], (name, VIDEO), SAMPLES[5]])
    assert reasons(path) == ["a/001", "unsafe-name", "a/002"]
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["inside", "s.tar"]
    (reject,) = [row for row, _ in read(path) if isinstance(row, Reject)]
    assert reject.where.isprintable()


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz"])
def test_what_is_no_file(tmp_path, kind, name):
    path = tmp_path / name
    with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as tar:
        for at, (file, content) in enumerate([SAMPLES[1], ("a/x.mp4", b""), SAMPLES[5]]):
            member = tarfile.TarInfo(file)
            if at == 1:
                member.type, member.linkname = kind, "/etc/passwd"
            else:
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert reasons(path) == ["a/001", "not-a-file", "a/002"]


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz"])
def test_a_video_that_is_too_large(tmp_path, name):
    path = write(tmp_path / name, [SAMPLES[1], ("b/9.mp4", VIDEO * 9), SAMPLES[5]])
    assert reasons(path, max_bytes=2 * len(VIDEO)) == ["a/001", "too-large", "a/002"]


def test_a_header_that_claims_more_than_there_is(tmp_path):
    """Neither as a video nor as a field of the archive is it believed."""
    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        member = tarfile.TarInfo("a/9.mp4")
        member.type, member.size = kind, 2**40
        path = write(tmp_path / "s.tar", SAMPLES[:3])
        data = path.read_bytes()
        end = data.rindex(b"is not looked at")
        path.write_bytes(data[: end + 512] + member.tobuf(tarfile.GNU_FORMAT) + b"x" * 512)
        found = reasons(path)
        assert found[0] == "a/001"
        assert set(found[1:]) <= {"damaged-tar", "too-large"}
        assert "damaged-tar" in found


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz"])
def test_a_tar_that_was_cut_off(tmp_path, name):
    """Wherever it ends: what is whole before comes, the rest is named, and nothing is half."""
    many = [(f"{at:03d}.mp4", VIDEO + bytes([at])) for at in range(8)]
    data = write(tmp_path / name, many).read_bytes()
    for share in range(1, 20):
        cut = tmp_path / f"cut-{name}"
        cut.write_bytes(data[: len(data) * share // 20])
        found = read(cut)
        good = [content for row, content in found if isinstance(row, SourceRow)]
        assert good == [VIDEO + bytes([at]) for at in range(len(good))]
        bad = [row for row, _ in found if isinstance(row, Reject)]
        assert bad, share
        assert {row.reason for row in bad} == {"damaged-tar"}
        assert "could not be read" in bad[-1].detail


def test_a_damaged_header_in_the_middle(tmp_path):
    path = write(tmp_path / "s.tar", [(f"{at}.mp4", VIDEO) for at in range(4)])
    data = bytearray(path.read_bytes())
    place = data.index(b"2.mp4")
    data[place : place + 300] = b"\xff" * 300
    path.write_bytes(data)
    found = read(path)
    assert [row.video.id for row, _ in found[:-1]] == ["0", "1"]
    reject = found[-1][0]
    assert (reject.reason, reject.where) == ("damaged-tar", "s.tar")
    assert "behind 1.mp4" in reject.detail


def test_noise_in_a_compressed_tar(tmp_path):
    path = write(tmp_path / "s.tar.gz", [(f"{at}.mp4", bytes([at]) * 99999) for at in range(4)])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert "damaged-tar" in reasons(path)


@pytest.mark.parametrize("content", [b"", b"no tar", b"\0" * 100, b"x" * 4096])
@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz"])
def test_what_is_no_tar(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    assert reasons(path) == ["damaged-tar"]


def test_an_empty_tar(tmp_path):
    assert reasons(write(tmp_path / "s.tar", [])) == []
    assert reasons(write(tmp_path / "s.tar.gz", [])) == []


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([("9.json", b"{"), ("9.mp4", VIDEO)], "bad-record"),
        ([("9.json", b"[1]"), ("9.mp4", VIDEO)], "bad-record"),
        ([("9.json", b'{"title": 5}'), ("9.mp4", VIDEO)], "bad-record"),
        ([("9.json", b"[" * 100_000), ("9.mp4", VIDEO)], "bad-record"),
        ([("9.txt", b"\xff"), ("9.mp4", VIDEO)], "not-utf8"),
        ([("9.json", b"{}")], "no-video"),
        ([("9.jpg", b"picture")], "no-video"),
        ([("9.json", b"x" * (17 * 2**20)), ("9.mp4", VIDEO)], "too-large"),
    ],
)
@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz"])
def test_a_bad_sample_costs_itself(tmp_path, files, reason, name):
    path = write(tmp_path / name, [SAMPLES[1], *files, SAMPLES[5]])
    assert reasons(path) == ["a/001", reason, "a/002"]


def test_a_title_alone_is_a_video(tmp_path):
    path = write(tmp_path / "s.tar", [("9.txt", b"a title"), ("README", b"x"), ("__n__.x", b"")])
    ((row, content),) = read(path)
    assert (row.video.title, row.borrow(), content) == ("a title", None, None)


@pytest.mark.parametrize("seed", range(120))
def test_noise_anywhere(tmp_path, seed):
    """Bytes that flip in headers, names, sizes: each sample is as it was, or named, or absent."""
    rng = np.random.default_rng(seed)
    name = ("s.tar", "s.tar.gz")[seed % 2]
    path = write(tmp_path / name, SAMPLES)
    data = bytearray(path.read_bytes())
    headers = [at for at in range(0, len(data), 512) if data[at + 257 : at + 262] == b"ustar"]
    for _ in range(1 + seed % 3):
        place = int(rng.choice(headers)) + int(rng.integers(512)) if headers else None
        data[int(rng.integers(len(data))) if place is None else place] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    for row, content in read(path):
        if isinstance(row, Reject):
            assert row.where.isprintable()
            assert row.detail
        else:
            assert content is None or len(content) <= len(data) * 20
    assert sorted(file.name for file in tmp_path.iterdir()) == [name]


def test_a_gzip_bomb_is_read_in_small_pieces(tmp_path):
    """A field of the archive that unpacks to gigabytes is not read."""
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 2**33
    path = tmp_path / "s.tar.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        file.write(bytes(2**22))
    ((row, _),) = read(path)
    assert row.reason == "damaged-tar"
    assert "a header of 8,589,934,592 bytes" in row.detail
