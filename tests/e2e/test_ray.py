"""Bulk work on a real Ray cluster of three nodes: the same corpus and vectors, whatever dies."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.corpora import made_videos, write_corpus
from tests.models import write_checkpoint
from tests.unit.data.media import render, steady
from vidvec.data import engine
from vidvec.data.corpus import Corpus
from vidvec.data.ingest import IngestOptions, ingest
from vidvec.data.workers import WorkerPool
from vidvec.embed.embedder import embed
from vidvec.embed.vectors import Vectors
from vidvec.errors import BadRecord, ServerError, UsageError

pytest.importorskip("ray")

from tests.ray_cluster import RayCluster
from tests.ray_files import TASK
from tests.ray_workers import Misbehaving
from vidvec.pipeline.bulk import ingest as bulk
from vidvec.pipeline.bulk import pool
from vidvec.pipeline.bulk.embed import bulk_embed
from vidvec.pipeline.bulk.ingest import bulk_ingest
from vidvec.pipeline.bulk.options import BulkOptions
from vidvec.pipeline.bulk.pool import Receipt

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

ROWS = 4
OPTIONS = IngestOptions(workers=1, file_seconds=5.0)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with RayCluster((1, 1, 1)) as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield running


def write_table(folder: Path, rows: list[dict[str, str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "meta.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "file", "title", "tags"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen videos and much that is none: damaged, empty, missing, there twice, without file."""
    folder = tmp_path_factory.mktemp("clips")
    rows = []
    for number in range(14):
        name = f"clip{number:02d}.mp4"
        render(folder / name, steady(12 + number), audio_seconds=0.8 * (number % 3))
        tags = "a,b" if number % 2 else "c,a"
        rows.append({"id": f"v{number}", "file": name, "title": f"视频 {number}", "tags": tags})
    whole = (folder / "clip01.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[:700])
    (folder / "none.mp4").write_bytes(b"")
    rows.insert(3, {"id": "cut", "file": "cut.mp4", "title": "cut", "tags": "a"})
    rows.insert(9, {"id": "none", "file": "none.mp4", "title": "", "tags": ""})
    rows.insert(11, {"id": "v2", "file": "clip05.mp4", "title": "twice", "tags": "c"})
    rows.append({"id": "gone", "file": "gone.mp4", "title": "gone", "tags": ""})
    rows.append({"id": "words", "file": "", "title": "only words", "tags": "b"})
    (folder / "scores.csv").write_text("id_1,id_2,score\nv1,v2,0.5\nv2,v7,0.1\nv1,nobody,1\n")
    return write_table(folder, rows)


def assert_same_corpus(found: Path, expected: Path) -> None:
    """Row for row and bit for bit, with everything beside the rows."""
    mine, theirs = Corpus(found), Corpus(expected)
    assert len(mine) == len(theirs)
    assert mine.verify() == []
    names = [name for name in mine.manifest if name not in ("shards", "ingests")]
    for name in names:
        assert mine.manifest[name] == theirs.manifest[name], name
    for entry, other in zip(mine.manifest["ingests"], theirs.manifest["ingests"], strict=True):
        assert entry == other
    for row in range(len(theirs)):
        video, other = mine.video(row), theirs.video(row)
        assert mine.thumbnails(row) == theirs.thumbnails(row)
        for name in ("frames", "audio", "frame_times_seconds", "audio_times_seconds"):
            one, two = getattr(video, name), getattr(other, name)
            assert (one.dtype, one.shape, one.tobytes()) == (two.dtype, two.shape, two.tobytes())
        bare = dict.fromkeys(("frames", "audio"))
        times = dict.fromkeys(("frame_times_seconds", "audio_times_seconds"))
        assert replace(video, **bare, **times) == replace(other, **bare, **times)
    assert mine.pairs() == theirs.pairs()
    for name in ("rejects.jsonl", "tokenizer/tokenizer.json"):
        assert (found / name).read_bytes() == (expected / name).read_bytes()
    assert sorted(path.name for path in found.iterdir()) == sorted(
        path.name for path in expected.iterdir()
    )


def rejects(corpus: Path) -> list[tuple[str, str]]:
    lines = (corpus / "rejects.jsonl").read_text("utf-8").splitlines()
    return [(each["id"], each["reason"]) for each in map(json.loads, lines)]


# --- the same as on one machine -----------------------------------------------------------------


def test_the_command_gives_the_same_corpus_and_then_the_same_vectors(cluster, clips, tmp_path):
    def run(*arguments: object) -> str:
        command = [sys.executable, "-m", "vidvec.cli", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "ray" not in done.stderr.lower()  # its logs are no one's to read here
        return done.stdout

    on = ["--on", cluster.address, "--part-rows", 5]
    plain = ["--pairs", clips / "scores.csv", "--workers", 1]
    there = run("ingest", clips, tmp_path / "there", *plain, *on)
    here = run("ingest", clips, tmp_path / "here", *plain)
    assert there == here.replace("here", "there")
    assert_same_corpus(tmp_path / "there", tmp_path / "here")
    assert ("cut", "truncated-video") in rejects(tmp_path / "there")
    # All is in: nothing is done again, and no cluster is needed for that.
    again = run("ingest", clips, tmp_path / "there", *plain, "--on", "127.0.0.1:9")
    assert "this source is in already" in again


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("model")
    corpus = write_corpus(folder / "corpus", made_videos(600))
    return write_checkpoint(folder / "model", corpus), folder / "corpus"


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """One shard of vectors is 16,384 rows; smaller here, so that there are several."""
    monkeypatch.setattr("vidvec.embed.embedder.SHARD", 200)
    monkeypatch.setattr("vidvec.pipeline.bulk.embed.SHARD", 200)


@pytest.mark.usefixtures("small_shards")
def test_vectors_are_the_same_bit_for_bit(cluster, model, tmp_path):
    watch = Watch()
    assert embed(*model, tmp_path / "here") == 600
    options = BulkOptions(cluster.address, on_receipt=watch)
    assert bulk_embed(*model, tmp_path / "there", options) == 600
    mine, theirs = Vectors(tmp_path / "there"), Vectors(tmp_path / "here")
    assert mine.manifest == theirs.manifest
    assert mine.ids == theirs.ids
    assert mine.matrix.tobytes() == theirs.matrix.tobytes()
    assert watch.numbers == [0, 1, 2]
    assert not (tmp_path / "there" / "staging").exists()


@pytest.mark.usefixtures("small_shards")
def test_from_outside_and_in_other_parts_they_are_the_same_but_for_rounding(
    cluster, model, tmp_path
):
    embed(*model, tmp_path / "here")
    bulk_embed(*model, tmp_path / "there", BulkOptions(cluster.client_address, 77))
    mine, theirs = Vectors(tmp_path / "there"), Vectors(tmp_path / "here")
    assert (mine.ids, mine.manifest) == (theirs.ids, theirs.manifest)
    assert 0 < np.abs(mine.matrix - theirs.matrix).max() < 1e-6


# --- what dies ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that take 0.3 s each, by ``ray_files.read``."""
    folder = tmp_path_factory.mktemp("deeds")
    rows = []
    for number in range(40):
        (folder / f"slow_{number}.mp4").write_bytes(b"-")
        rows.append({"id": f"v{number}", "file": f"slow_{number}.mp4", "title": f"t {number}"})
    return write_table(folder, rows)


@pytest.fixture
def misbehaving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has both this machine and the cluster read files by ``ray_files.read``."""
    monkeypatch.setattr(engine, "WorkerPool", partial(WorkerPool, task=TASK))
    monkeypatch.setattr(bulk, "IngestWorker", Misbehaving)


@pytest.fixture(scope="module")
def plain(deeds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one machine makes of them."""
    path = tmp_path_factory.mktemp("plain") / "corpus"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "WorkerPool", partial(WorkerPool, task=TASK))
        ingest(deeds, path, replace(OPTIONS, workers=4))
    return path


class Watch:
    """Collects receipts, and does something once, when the first of them come."""

    def __init__(self, deed: Callable[[], None] = lambda: None, after: int = 2) -> None:
        self.receipts: list[Receipt] = []
        self._deed, self._after = deed, after

    def __call__(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)
        if len(self.receipts) == self._after:
            self._deed()

    @property
    def numbers(self) -> list[int]:
        return sorted(receipt.number for receipt in self.receipts)

    @property
    def attempts(self) -> int:
        return max(receipt.attempt for receipt in self.receipts)


@pytest.mark.usefixtures("misbehaving")
def test_a_killed_worker_s_part_is_done_again(cluster, deeds, plain, tmp_path):
    def kill() -> None:
        cluster.nodes[1].workers()[0].kill()

    watch = Watch(kill)
    options = BulkOptions(cluster.address, ROWS, on_receipt=watch)
    bulk_ingest(deeds, tmp_path / "there", OPTIONS, options)
    assert watch.numbers == [*range(10)]
    assert watch.attempts == 2
    assert_same_corpus(tmp_path / "there", plain)


@pytest.mark.usefixtures("misbehaving")
def test_a_rerun_does_only_what_is_missing(cluster, deeds, plain, tmp_path):
    def stop() -> None:
        raise KeyboardInterrupt

    path, watch = tmp_path / "there", Watch(stop, after=4)
    with pytest.raises(KeyboardInterrupt):
        bulk_ingest(deeds, path, OPTIONS, BulkOptions(cluster.address, ROWS, on_receipt=watch))
    done = {int(part.stem) for part in (path / "staging" / "parts").glob("*.arrow")}
    assert {*watch.numbers} <= done
    assert len(done) < 10
    other = replace(OPTIONS, keyframes=True)
    with pytest.raises(UsageError, match="keyframes: False, now True"):
        bulk_ingest(deeds, path, other, BulkOptions(cluster.address))
    again = Watch()
    bulk_ingest(deeds, path, OPTIONS, BulkOptions(cluster.address, on_receipt=again))
    assert {*again.numbers} == {*range(10)} - done
    assert_same_corpus(path, plain)


@pytest.mark.usefixtures("misbehaving")
def test_what_stands_still_is_not_waited_for(cluster, deeds, plain, tmp_path, monkeypatch):
    frozen: list[psutil.Process] = []
    statuses: list[str] = []

    def freeze() -> None:
        frozen.extend(cluster.nodes[2].workers()[:1])
        frozen[0].suspend()
        until = time.monotonic() + 10
        while frozen[0].status() != psutil.STATUS_STOPPED and time.monotonic() < until:
            time.sleep(0.01)

    def look(receipt: Receipt) -> None:
        watch(receipt)
        statuses.extend(each.status() for each in frozen)

    watch = Watch(freeze)
    monkeypatch.setattr(pool, "_TIMES_SLOWER", 1.0)
    options = BulkOptions(cluster.address, ROWS, patience_seconds=2.0, on_receipt=look)
    try:
        bulk_ingest(deeds, tmp_path / "there", OPTIONS, options)
    finally:
        for each in frozen:
            with suppress(psutil.NoSuchProcess):
                each.resume()
    assert {*statuses} == {psutil.STATUS_STOPPED}  # to the last part
    assert watch.attempts == 2
    assert_same_corpus(tmp_path / "there", plain)


@pytest.mark.usefixtures("misbehaving")
def test_poison_is_left_out_by_name(cluster, tmp_path):
    files = ["good_1", "segfault_1", "good_2", "hang_1", "raises_1", "good_3", "killed_1", "good_4"]
    rows = []
    for name in files:
        (tmp_path / f"{name}.mp4").write_bytes(b"-")
        rows.append({"id": name, "file": f"{name}.mp4", "title": f"a {name}"})
    options = replace(OPTIONS, file_seconds=1.0)
    source = write_table(tmp_path / "files", [])
    for name in files:
        (tmp_path / f"{name}.mp4").rename(source / f"{name}.mp4")
    write_table(source, rows)
    ingest(source, tmp_path / "plain", options)
    bulk_ingest(source, tmp_path / "there", options, BulkOptions(cluster.address, 3))
    assert_same_corpus(tmp_path / "there", tmp_path / "plain")
    assert [name for name, _ in rejects(tmp_path / "there")] == [
        *("segfault_1", "hang_1", "raises_1", "killed_1"),
    ]


@pytest.mark.usefixtures("misbehaving")
def test_rows_that_end_the_worker_itself_are_left_out_by_name(cluster, tmp_path):
    titles = ["one", "two", "kills", "four", "five", "six", "breaks", "eight", "nine", "ten"]
    source = write_table(
        tmp_path / "rows", [{"id": f"v{n}", "title": title} for n, title in enumerate(titles)]
    )
    watch = Watch()
    options = BulkOptions(cluster.address, 5, on_receipt=watch)
    report = bulk_ingest(source, tmp_path / "there", OPTIONS, options)
    assert rejects(tmp_path / "there") == [("v2", "crashed"), ("v6", "failed")]
    assert report.rejected == Counter(crashed=1, failed=1)
    kept = [f"v{n}" for n, title in enumerate(titles) if title not in ("kills", "breaks")]
    assert Corpus(tmp_path / "there").ids == kept
    assert watch.attempts == 5  # twice as a whole, twice row by row, once without the row


@pytest.mark.usefixtures("misbehaving")
def test_strict_stops_at_the_first_and_goes_on_when_it_is_mended(cluster, deeds, tmp_path):
    rows = [{"id": f"v{n}", "file": f"slow_{n}.mp4", "title": ""} for n in range(8)]
    source = write_table(tmp_path / "source", rows)
    for row in rows:
        (source / row["file"]).write_bytes(b"-")
    bad = source / "slow_5.mp4"
    bad.rename(tmp_path / "kept")
    options = replace(OPTIONS, strict=True)
    on = BulkOptions(cluster.address, 2)
    with pytest.raises(BadRecord, match="missing-file"):
        bulk_ingest(source, tmp_path / "there", options, on)
    assert Corpus(tmp_path / "there", unfinished=True).ids == ["v0", "v1", "v2", "v3", "v4"]
    (tmp_path / "kept").rename(bad)
    assert bulk_ingest(source, tmp_path / "there", options, on).videos == 8
    assert Corpus(tmp_path / "there").ids == [row["id"] for row in rows]


def test_what_cannot_be_reached_or_is_too_large_is_said(cluster, model, tmp_path):
    with pytest.raises(ServerError, match=r"no Ray cluster answers at 127\.0\.0\.1:9"):
        bulk_embed(*model, tmp_path / "a", BulkOptions("127.0.0.1:9"))
    with pytest.raises(UsageError, match="has room for a worker of 7 CPUs"):
        bulk_embed(*model, tmp_path / "a", BulkOptions(cluster.address, cpus=7))


# The last one, as it takes a node away.
@pytest.mark.usefixtures("misbehaving")
def test_a_killed_node_s_parts_are_done_elsewhere(cluster, deeds, plain, tmp_path):
    watch = Watch(cluster.nodes[2].kill)
    options = BulkOptions(cluster.address, ROWS, on_receipt=watch)
    bulk_ingest(deeds, tmp_path / "there", OPTIONS, options)
    assert watch.numbers == [*range(10)]
    assert watch.attempts == 2
    assert_same_corpus(tmp_path / "there", plain)
