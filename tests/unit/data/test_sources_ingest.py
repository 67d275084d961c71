"""The same videos by every way in: what a corpus holds of them does not depend on it."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.data import media, serving
from tests.unit.data.serving import serve
from tests.unit.data.test_sources import FETCHING
from vidvec.cli import app
from vidvec.data.access import SCRATCH
from vidvec.data.corpus import Corpus
from vidvec.data.ingest import IngestOptions, ingest

PROJECT = Path(__file__).resolve().parents[3]
NAMES = ["a", "b", "c"]
ENCODED = IngestOptions(access=FETCHING)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(NAMES):
        media.render(folder / f"{name}.mp4", media.steady(4 + 2 * number), rate=2, codec="mpeg4")
    (folder / "bad.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def plain(videos, tmp_path_factory) -> Corpus:
    path = tmp_path_factory.mktemp("plain") / "corpus"
    ingest(videos, path, IngestOptions())
    return Corpus(path)


def write_tar(path: Path, videos: Path) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for file in sorted(videos.iterdir()):
            tar.add(file, file.name)
    return path


def write_table(path: Path, videos: Path) -> Path:
    files = sorted(videos.iterdir())
    pq.write_table(
        pa.table({"id": [f.stem for f in files], "video": [f.read_bytes() for f in files]}), path
    )
    return path


def check_same(path: Path, plain: Corpus) -> None:
    found = Corpus(path)
    assert found.ids == plain.ids == NAMES
    for row in range(len(NAMES)):
        assert len(found.frames(row))
        assert found.frames(row).tolist() == plain.frames(row).tolist()
        assert found.thumbnails(row) == plain.thumbnails(row)
        assert found.video(row).duration_seconds == plain.video(row).duration_seconds
    rejects = [json.loads(line) for line in (path / "rejects.jsonl").read_text().splitlines()]
    assert [reject["id"] for reject in rejects] == ["bad"]
    assert not (path / SCRATCH).exists()


@pytest.mark.parametrize("way", ["pattern", "list", "tar", "tar.gz", "table"])
def test_every_way_in_gives_the_same(videos, plain, tmp_path, way):
    if way == "pattern":
        source = videos / "*.mp4"
    elif way == "list":
        source = tmp_path / "list.txt"
        source.write_text("\n".join(file.name for file in sorted(videos.iterdir())))
        for file in videos.iterdir():
            (tmp_path / file.name).symlink_to(file)
    elif way == "table":
        source = write_table(tmp_path / "table.parquet", videos)
    else:
        source = write_tar(tmp_path / f"shard.{way}", videos)
    ingest(source, tmp_path / "corpus", ENCODED)
    check_same(tmp_path / "corpus", plain)
    before = (tmp_path / "corpus" / "manifest.json").read_bytes()
    report = ingest(source, tmp_path / "corpus", ENCODED)
    assert "in already" in report.note
    assert (tmp_path / "corpus" / "manifest.json").read_bytes() == before


def test_urls(videos, plain, tmp_path):
    """First without asking, and then as what was left out says."""
    files = {file.name: file.read_bytes() for file in videos.iterdir()}
    answers = {name: serving.failing(1, 503, serving.whole(data)) for name, data in files.items()}
    with serve(**answers) as server:
        rows = [{"id": name[:-4], "url": server.url(f"/{name}")} for name in sorted(files)]
        table = tmp_path / "table.jsonl"
        table.write_text("\n".join(map(json.dumps, rows)))
        ingest(table, tmp_path / "corpus", ENCODED)
        check_same(tmp_path / "corpus", plain)
        path = tmp_path / "later"
        report = ingest(table, path, IngestOptions())
        assert report.rejected == {"not-fetched": 4}
        assert not len(Corpus(path))
        assert "--update" in ingest(table, path, ENCODED).note
        report = ingest(table, path, IngestOptions(access=FETCHING, update=True))
        assert report.update is not None
        assert (report.update.new, report.videos) == (3, 3)
        assert Corpus(path).ids == NAMES
        asked = server.asked.total()
        before = (path / "manifest.json").read_bytes()
        assert ingest(table, path, IngestOptions(access=FETCHING, update=True)).update.nothing
        assert server.asked.total() == asked + 1  # the bad one, which is tried again
        assert (path / "manifest.json").read_bytes() == before


def test_from_the_command_line(videos, plain, tmp_path, capsys):
    with serve(
        **{file.name: serving.whole(file.read_bytes()) for file in videos.iterdir()}
    ) as server:
        lines = [f"{name[1:-4]},{server.url(name)}" for name in sorted(server.answers)]
        (tmp_path / "table.csv").write_text("\n".join(["id,video_url", *lines]))
        given = ["ingest", str(tmp_path / "table.csv"), str(tmp_path / "corpus")]
        kept = ["--keep", str(tmp_path / "kept"), "--fetch-seconds", "20"]
        app([*given, "--fetch"], result_action="return_value")
        assert "4 bad-url" in capsys.readouterr().out
        options = [*kept, "--fetch", "--fetch-private", "--update"]
        app([*given, *options], result_action="return_value")
        assert "update: 3 new, 0 changed, 0 unchanged, 0 gone, 0 back" in capsys.readouterr().out
        assert sorted(file.name for file in (tmp_path / "kept").iterdir()) == [
            *["a.mp4", "b.mp4", "bad.mp4", "c.mp4"]
        ]
        corpus = Corpus(tmp_path / "corpus")
        assert corpus.ids == plain.ids
        files = [corpus.video(row).file for row in range(3)]
        assert files == [str(tmp_path / "kept" / f"{name}.mp4") for name in NAMES]
        app([*given, *options], result_action="return_value")
        assert "the source is as it was: nothing changed" in capsys.readouterr().out
        small = [*given[:2], str(tmp_path / "small"), "--fetch", "--fetch-private"]
        app([*small, "--fetch-max-mb", "0.0001"], result_action="return_value")
        assert "3 too-large" in capsys.readouterr().out


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_while_it_downloads(videos, plain, tmp_path, sent):
    files = {file.name: file.read_bytes() for file in videos.iterdir()}
    with serve(**dict.fromkeys(files, serving.dripping)) as server:
        rows = [{"id": name[:-4], "url": server.url(f"/{name}")} for name in sorted(files)]
        table, path = tmp_path / "table.jsonl", tmp_path / "corpus"
        table.write_text("\n".join(map(json.dumps, rows)))
        command = [sys.executable, "-m", "vidvec.cli", "ingest", str(table), str(path)]
        running = subprocess.Popen(
            [*command, "--fetch", "--fetch-private"],
            cwd=PROJECT,
            # Jobs in the background of a shell ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
        while server.asked.total() < len(files):
            time.sleep(0.01)
        start = time.monotonic()
        running.send_signal(sent)
        assert running.wait(20) == (130 if sent == signal.SIGINT else -9)
        assert time.monotonic() - start < 10
        assert (path / SCRATCH).exists() == (sent == signal.SIGKILL)
        server.answers = {f"/{name}": serving.whole(data) for name, data in files.items()}
        ingest(table, path, ENCODED)
    check_same(path, plain)


def test_what_a_killed_run_left_is_removed(videos, plain, tmp_path):
    source = write_tar(tmp_path / "shard.tar", videos)
    path = tmp_path / "corpus"
    left = path / SCRATCH / "000000.mp4"
    ingest(source, path, ENCODED)
    left.parent.mkdir()
    left.write_bytes(b"x")
    ingest(source, path, ENCODED)
    check_same(path, plain)


def test_a_sample_of_a_tar_keeps_its_metadata(videos, tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar.add(videos / "a.mp4", "k/1.mp4")
        member = tarfile.TarInfo("k/1.json")
        text = json.dumps({"title": "猫", "tags": ["x"], "duration_seconds": 999}).encode()
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    ingest(tmp_path / "s.tar", tmp_path / "corpus", IngestOptions())
    video = Corpus(tmp_path / "corpus").video(0)
    assert (video.id, video.title, video.tags) == ("k/1", "猫", ("x",))
    assert len(video.frames)
    assert video.duration_seconds is not None
    assert video.duration_seconds < 10  # the video's own
