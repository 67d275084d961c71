"""Reading a source again: what is new comes in, what is gone is marked, what is as it was stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests import competition
from tests.corpora import made_pairs, made_videos
from tests.unit.data import media
from tests.unit.data.test_ingest import rejects_of, row_of, write_pairs, write_source
from vidvec.data import corpus as store
from vidvec.data import writer
from vidvec.data.compact import CompactReport, compact
from vidvec.data.corpus import Corpus
from vidvec.data.ingest import IngestOptions, IngestReport, ingest
from vidvec.data.update import UpdateReport, runs_of
from vidvec.errors import FormatError, UsageError
from vidvec.records import Video

PROJECT = Path(__file__).resolve().parents[3]
NO_OPTIONS = IngestOptions()
UPDATE = IngestOptions(update=True)
VIDEOS = [video for video in made_videos(30) if len(video.frames) or video.title][:20]
BAD: dict[str, Any] = {"id": b"bad", "title": b"\xff"}


def write(path: Path, videos: list[Video], *rows: dict[str, Any]) -> Path:
    return write_source(path, [*rows, *(row_of(video) for video in videos)])


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def live_ids(corpus: Corpus) -> list[str]:
    return [corpus.ids[row] for row in corpus.live]


def check_live(path: Path, videos: list[Video]) -> Corpus:
    """That a corpus holds these videos, in any order, and no other that is not marked."""
    corpus = Corpus(path)
    assert sorted(live_ids(corpus)) == sorted(video.id for video in videos)
    for video in videos:
        found = corpus.video(corpus.row(video.id))
        assert (found.title, found.tags, found.category) == (
            video.title,
            video.tags,
            video.category,
        )
        assert found.frames.tolist() == video.frames.tolist()
    assert corpus.verify() == []
    return corpus


@pytest.fixture
def source(tmp_path) -> Path:
    return write(tmp_path / "source.parquet", VIDEOS[:12], BAD)


def test_what_is_new_changed_gone_and_back(source, tmp_path):
    path = tmp_path / "corpus"
    ingest(source, path, NO_OPTIONS)
    other = replace(VIDEOS[1], title="another title")
    frames = replace(VIDEOS[2], frames=VIDEOS[2].frames[:1] + 1)
    write(source, [VIDEOS[0], other, frames, *VIDEOS[4:14]], BAD)
    report = ingest(source, path, UPDATE)
    assert report.update == UpdateReport(new=2, changed=2, unchanged=9, gone=1, back=0)
    assert (report.videos, report.added) == (13, 4)
    corpus = check_live(path, [VIDEOS[0], other, frames, *VIDEOS[4:14]])
    assert len(corpus) == 16
    assert np.flatnonzero(corpus.gone).tolist() == [1, 2, 3]
    assert corpus.ids[:12] == [video.id for video in VIDEOS[:12]]  # no row changes its number
    write(source, [*VIDEOS[:4], *VIDEOS[5:14]], BAD)
    report = ingest(source, path, UPDATE)
    # The old versions of two come again, and are read as any other version.
    assert report.update == UpdateReport(new=0, changed=2, unchanged=10, gone=1, back=1)
    check_live(path, [*VIDEOS[:4], *VIDEOS[5:14]])
    assert [row["reason"] for row in rejects_of(path)] == ["not-utf8"]


@pytest.mark.parametrize("touched", [False, True])
def test_the_same_source_changes_nothing(source, tmp_path, touched):
    path = tmp_path / "corpus"
    ingest(source, path, NO_OPTIONS)
    write(source, VIDEOS[:10], BAD)
    ingest(source, path, UPDATE)
    before = files_of(path)
    if touched:  # another time, and so another fingerprint, which the manifest notes
        os.utime(source, ns=(1, 1))
    for options in (UPDATE, NO_OPTIONS, UPDATE):
        report = ingest(source, path, options)
        assert (report.videos, report.pairs) == (10, 0)
        assert "as it was" in report.note or "in already" in report.note
    after = files_of(path)
    if touched:
        assert before.pop("manifest.json") != after.pop("manifest.json")
    assert after == before


def test_an_update_of_what_is_not_in_yet_is_an_ingest(source, tmp_path):
    report = ingest(source, tmp_path / "one", UPDATE)
    assert report == ingest(source, tmp_path / "two", NO_OPTIONS)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_a_changed_source_without_update_says_what_to_do(source, tmp_path):
    ingest(source, tmp_path / "corpus", NO_OPTIONS)
    write(source, VIDEOS[:14], BAD)
    report = ingest(source, tmp_path / "corpus", NO_OPTIONS)
    assert report.rejected == Counter({"duplicate-id": 12, "not-utf8": 1})
    assert "--update" in report.note
    other = write(tmp_path / "other.parquet", VIDEOS[:1])
    assert "--update" not in ingest(other, tmp_path / "corpus", NO_OPTIONS).note


def test_videos_of_other_sources_are_left_alone(source, tmp_path):
    path, other = tmp_path / "corpus", write(tmp_path / "other.parquet", VIDEOS[12:16])
    ingest(source, path, NO_OPTIONS)
    ingest(other, path, NO_OPTIONS)
    changed = replace(VIDEOS[13], title="another title")
    write(source, [*VIDEOS[:11], changed])
    report = ingest(source, path, UPDATE)
    assert report.update == UpdateReport(unchanged=11, gone=1)
    assert report.rejected == Counter({"duplicate-id": 1})
    check_live(path, [*VIDEOS[:11], *VIDEOS[12:16]])
    write(other, VIDEOS[12:15])
    ingest(other, path, UPDATE)
    check_live(path, [*VIDEOS[:11], *VIDEOS[12:15]])


def test_an_id_that_a_source_has_twice(source, tmp_path):
    path, twice = tmp_path / "corpus", replace(VIDEOS[3], title="its second")
    write(source, [*VIDEOS[:5], twice])
    ingest(source, path, NO_OPTIONS)
    before = files_of(path)
    assert ingest(source, path, UPDATE).update == UpdateReport(unchanged=5)
    assert files_of(path) == before
    first = replace(VIDEOS[3], title="its first")
    write(source, [*VIDEOS[:3], first, VIDEOS[4], twice])
    assert ingest(source, path, UPDATE).update == UpdateReport(unchanged=4, changed=1)
    check_live(path, [*VIDEOS[:3], first, VIDEOS[4]])


def test_a_source_that_is_not_there_marks_nothing(source, tmp_path):
    ingest(source, tmp_path / "corpus", NO_OPTIONS)
    before = files_of(tmp_path / "corpus")
    source.unlink()
    with pytest.raises(UsageError, match="does not exist"):
        ingest(source, tmp_path / "corpus", UPDATE)
    assert files_of(tmp_path / "corpus") == before


def test_parts_stay_right(tmp_path):
    """A part's rows are counted ingest by ingest, and videos come and go in several."""
    folder, path = competition.write_folder(tmp_path / "data"), tmp_path / "corpus"
    ingest(folder, path, NO_OPTIONS)
    wanted = {part: [str(one) for one in ids] for part, ids in competition.IDS.items()}
    competition.write_part(folder, "pairwise", [*range(201, 208), 220])
    competition.write_part(folder, "test_a", [300, 301, 310])
    wanted["pairwise"] = [*wanted["pairwise"][1:], "220"]
    wanted["test_a"] = ["300", "301", "310"]
    ingest(folder, path, UPDATE)
    corpus = Corpus(path)
    assert {
        part: [corpus.ids[row] for row in rows] for part, rows in corpus.parts.items()
    } == wanted
    assert Counter(pair.id_1 for pair in corpus.pairs()) == {"202": 1, "203": 1}
    compact(path)
    corpus = Corpus(path)
    assert {
        part: [corpus.ids[row] for row in rows] for part, rows in corpus.parts.items()
    } == wanted


def test_pairs_of_videos_that_are_gone_wait_for_them(source, tmp_path):
    path = tmp_path / "corpus"
    scored = made_pairs(VIDEOS[:12], 20)
    options = IngestOptions(pairs=(write_pairs(tmp_path / "pairs.tsv", scored),))
    ingest(source, path, options)
    assert Corpus(path).pairs() == scored
    write(source, VIDEOS[:6])
    report = ingest(source, path, replace(options, update=True))
    left = {video.id for video in VIDEOS[:6]}
    kept = [pair for pair in scored if {pair.id_1, pair.id_2} <= left]
    assert 0 < len(kept) < len(scored)
    assert Corpus(path).pairs() == kept
    assert report.pairs == len(kept)
    before = files_of(path)
    ingest(source, path, replace(options, update=True))
    ingest(source, path, options)
    assert files_of(path) == before
    write(source, VIDEOS[:12])
    ingest(source, path, UPDATE)
    assert Corpus(path).pairs() == scored


def test_pairs_come_with_the_videos_that_they_are_of(source, tmp_path):
    path, scored = tmp_path / "corpus", made_pairs(VIDEOS[:16], 20)
    options = IngestOptions(pairs=(write_pairs(tmp_path / "pairs.tsv", scored),))
    ingest(source, path, options)
    assert len(Corpus(path).pairs()) < 20
    write(source, VIDEOS[:16])
    ingest(source, path, replace(options, update=True))
    assert Counter(Corpus(path).pairs()) == Counter(scored)


# --- files --------------------------------------------------------------------------------------


def render(path: Path, first: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    media.render(path, media.steady(4), rate=2, codec="mpeg4")
    with path.open("ab") as file:
        file.write(bytes(first))  # behind the video: another size


def test_a_folder_of_videos(tmp_path):
    folder, path = tmp_path / "videos", tmp_path / "corpus"
    for name in ("a", "b", "c/d"):
        render(folder / f"{name}.mp4", 1)
    (folder / "bad.mp4").write_bytes(b"no video")
    ingest(folder, path, NO_OPTIONS)
    assert Corpus(path).ids == ["a", "b", "c/d"]
    before = files_of(path)
    for options in (NO_OPTIONS, UPDATE):
        ingest(folder, path, options)
        assert files_of(path) == before
    render(folder / "b.mp4", 2)
    render(folder / "e.mp4", 1)
    (folder / "c" / "d.mp4").unlink()
    (folder / "a.mp4").rename(folder / "f.mp4")
    report = ingest(folder, path, UPDATE)
    assert report.update == UpdateReport(new=2, changed=1, unchanged=0, gone=2)
    assert live_ids(Corpus(path)) == ["b", "e", "f"]
    assert len(rejects_of(path)) == 1
    # A new version that cannot be read is named, and what the corpus has stays.
    (folder / "e.mp4").write_bytes(b"no video")
    before = files_of(path)
    report = ingest(folder, path, UPDATE)
    assert report.update == UpdateReport(unchanged=3)
    assert [row["id"] for row in rejects_of(path)] == ["bad", "e"]
    assert live_ids(Corpus(path)) == ["b", "e", "f"]
    before = files_of(path)
    ingest(folder, path, UPDATE)
    assert files_of(path) == before


def test_files_of_a_table_on_a_disk_that_is_away(tmp_path):
    disk, away, path = tmp_path / "disk", tmp_path / "away", tmp_path / "corpus"
    for name in ("a", "b"):
        render(disk / f"{name}.mp4", 1)
    rows = [{"file": f"disk/{name}.mp4", "title": name} for name in "ab"] + [
        {"id": "c", "title": "c"}
    ]
    (tmp_path / "meta.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ingest(tmp_path / "meta.jsonl", path, NO_OPTIONS)
    shards = files_of(path / "shards")
    disk.rename(away)
    report = ingest(tmp_path / "meta.jsonl", path, UPDATE)
    assert report.update == UpdateReport(unchanged=1, gone=2)
    assert report.rejected == Counter({"missing-file": 2})
    assert live_ids(Corpus(path)) == ["c"]
    away.rename(disk)
    report = ingest(tmp_path / "meta.jsonl", path, UPDATE)
    assert report.update == UpdateReport(unchanged=1, back=2)
    assert live_ids(Corpus(path)) == ["disk/a", "disk/b", "c"]
    assert files_of(path / "shards") == shards


def test_a_corpus_from_before_there_were_stamps(source, tmp_path):
    """It cannot be told whether its videos have changed, and so they stay as they are."""
    path = tmp_path / "corpus"
    ingest(source, path, NO_OPTIONS)
    for shard in (path / "shards").iterdir():
        table = pa.ipc.open_file(str(shard)).read_all().drop_columns(["stamp"])
        with pa.OSFile(str(shard), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writing:
            writing.write_table(table)
        manifest = json.loads((path / "manifest.json").read_text())
        manifest["shards"][0] |= {"bytes": shard.stat().st_size, "crc32c": store.checksum(shard)}
        del manifest["ingests"][0]["at"]
        (path / "manifest.json").write_text(json.dumps(manifest))
    write(source, [replace(VIDEOS[0], title="another title"), *VIDEOS[2:13]], BAD)
    report = ingest(source, path, UPDATE)
    assert report.update == UpdateReport(new=1, unchanged=11, gone=1)
    check_live(path, [VIDEOS[0], *VIDEOS[2:13]])


# --- compact ------------------------------------------------------------------------------------


def test_compacting_removes_what_is_gone(source, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHARD_BYTES", 1500)
    path, scored = tmp_path / "corpus", made_pairs(VIDEOS[:12], 20)
    options = IngestOptions(pairs=(write_pairs(tmp_path / "pairs.tsv", scored),))
    ingest(source, path, options)
    assert compact(path) == CompactReport(0, 12, 0, 0)
    kept = [VIDEOS[0], *VIDEOS[5:12]]
    write(source, kept, BAD)
    ingest(source, path, replace(options, update=True))
    marked = Corpus(path)
    shards, pairs = {s["file"] for s in marked.manifest["shards"]}, marked.pairs()
    assert len(shards) > 3
    report = compact(path)
    assert (report.removed, report.videos, 0 < report.shards < len(shards)) == (4, 8, True)
    assert report.freed_bytes > 0
    corpus = check_live(path, kept)
    assert corpus.ids == [video.id for video in kept]
    assert not corpus.gone.any()
    assert corpus.pairs() == pairs
    assert shards & {s["file"] for s in corpus.manifest["shards"]}
    before = files_of(path)
    assert compact(path) == CompactReport(0, 8, 0, 0)
    assert ingest(source, path, replace(options, update=True)).update == UpdateReport(unchanged=8)
    assert files_of(path) == before
    listed = sorted(s["file"] for s in corpus.manifest["shards"])
    for folder in ("shards", "thumbnails"):
        assert sorted(file.name for file in (path / folder).iterdir()) == listed
    # What was removed and comes back is new, and its pairs count again.
    write(source, VIDEOS[:12])
    assert ingest(source, path, UPDATE).update == UpdateReport(new=4, unchanged=8)
    assert Counter(Corpus(path).pairs()) == Counter(scored)


def test_compacting_counts_what_is_left_of_parts_and_sources(source, tmp_path):
    path = tmp_path / "corpus"
    ingest(source, path, NO_OPTIONS)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["ingests"][0]["parts"] = {"a": 5, "b": 7}
    manifest["gone"] = [[0, 1], [4, 2]]
    (path / "manifest.json").write_text(json.dumps(manifest))
    before = Corpus(path)
    ids = {part: [before.ids[row] for row in rows] for part, rows in before.parts.items()}
    assert {part: len(some) for part, some in ids.items()} == {"a": 3, "b": 6}
    compact(path)
    after = Corpus(path)
    assert {part: [after.ids[row] for row in rows] for part, rows in after.parts.items()} == ids
    assert after.manifest["ingests"][0]["videos"] == 9


def test_compacting_all_there_is(source, tmp_path):
    path = tmp_path / "corpus"
    ingest(source, path, NO_OPTIONS)
    write(source, [], BAD)
    assert ingest(source, path, UPDATE).update == UpdateReport(gone=12)
    compact(path)
    assert len(Corpus(path)) == 0
    write(source, VIDEOS[:3])
    ingest(source, path, UPDATE)
    check_live(path, VIDEOS[:3])


# --- killed -------------------------------------------------------------------------------------

DYING = """
import os, sys
from pathlib import Path
from vidvec import storage
from vidvec.data import compact, corpus as store, ingest as module, writer

source, corpus, moment = sys.argv[1:]
writer.COMMIT_SECONDS = -1  # after every row
os.fsync = lambda descriptor: None
store.SHARD_BYTES = 16_000
calls = 0

def dying(owner, name, at, before=False):
    function = getattr(owner, name)
    def wrapped(*arguments, **named):
        global calls
        calls += 1
        if before and calls == at:
            os._exit(9)
        result = function(*arguments, **named)
        if calls == at:
            os._exit(9)
        return result
    setattr(owner, name, wrapped)

owner, name, at, before = moment.split()
owner = {"writer": writer.CorpusWriter, "store": store, "storage": storage}[owner]
dying(owner, name, int(at), before == "before")
if source == "compact":
    compact.compact(Path(corpus))
else:
    module.ingest(Path(source), Path(corpus), module.IngestOptions(update=True))
"""
MOMENTS = [
    *["store write_shard 1 after", "store write_shard 3 before", "storage write_manifest 2 before"],
    *["writer reject 2 after", "writer merge_small_shards 1 before", "writer commit 5 before"],
    *["writer merge_small_shards 1 after", "writer put_pairs 1 before"],
]


def killed(moment: str, source: Path | str, corpus: Path) -> int:
    command = [sys.executable, "-c", DYING, str(source), str(corpus), moment]
    done = subprocess.run(command, cwd=PROJECT, check=False, capture_output=True, text=True)
    assert done.returncode in (0, 9), done.stderr
    return done.returncode


@pytest.fixture
def small_shards(monkeypatch) -> None:
    monkeypatch.setattr(writer, "COMMIT_SECONDS", -1)
    monkeypatch.setattr(store, "SHARD_BYTES", 16_000)
    monkeypatch.setattr(os, "fsync", lambda _: None)


def changed_source(source: Path) -> list[Video]:
    """Another state of the source, and the videos that are then in it."""
    other = replace(VIDEOS[2], title="another title")
    videos = [VIDEOS[12], *VIDEOS[:2], other, *VIDEOS[4:10], *VIDEOS[13:16]]
    write(source, videos, BAD, {"id": b"worse", "title": b"\xfe"})
    return videos


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_update_carries_on(source, tmp_path, moment):
    one, other = tmp_path / "killed", tmp_path / "whole"
    for path in (one, other):
        ingest(source, path, NO_OPTIONS)
    videos = changed_source(source)
    assert killed(moment, source, one) == 9
    with pytest.raises(FormatError, match="unfinished"):
        Corpus(one)
    reports = [ingest(source, path, UPDATE) for path in (one, other)]
    for path in (one, other):
        corpus = check_live(path, videos)
        assert np.flatnonzero(corpus.gone).tolist() == [2, 3, 10, 11]
    assert Corpus(one).ids == Corpus(other).ids
    assert (one / "rejects.jsonl").read_bytes() == (other / "rejects.jsonl").read_bytes()
    assert reports[0].rejected == reports[1].rejected
    assert reports[0].update == reports[1].update or reports[0].update is None


@pytest.mark.usefixtures("small_shards")
def test_an_update_whose_source_changes_meanwhile_begins_anew(source, tmp_path):
    path = tmp_path / "corpus"
    ingest(source, path, NO_OPTIONS)
    changed_source(source)
    assert killed("writer commit 5 before", source, path) == 9
    write(source, VIDEOS[1:18])
    with pytest.raises(UsageError, match="--update"):
        ingest(source, path, NO_OPTIONS)
    ingest(source, path, UPDATE)
    check_live(path, VIDEOS[1:18])
    before = files_of(path)
    assert ingest(source, path, UPDATE).update == UpdateReport(unchanged=17)
    assert files_of(path) == before


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize(
    "moment",
    [
        *["store write_shard 1 before", "store write_shard 1 after"],
        *["storage write_manifest 1 before", "storage write_manifest 1 after"],
    ],
)
def test_a_killed_compaction(source, tmp_path, moment):
    path = tmp_path / "corpus"
    ingest(source, path, NO_OPTIONS)
    videos = changed_source(source)
    ingest(source, path, UPDATE)
    assert killed(moment, "compact", path) == 9
    check_live(path, videos)
    compact(path)
    corpus = check_live(path, videos)
    assert len(corpus) == len(videos)
    listed = sorted(s["file"] for s in corpus.manifest["shards"])
    assert sorted(file.name for file in (path / "shards").iterdir()) == listed
    assert not [name for name in files_of(path) if name.endswith(".tmp")]


def test_runs():
    for seed in range(20):
        marked = np.random.default_rng(seed).random(30) < 0.4
        again = np.zeros(30, bool)
        for first, count in runs_of(marked):
            again[first : first + count] = True
        assert (again == marked).all()
    assert runs_of(np.zeros(0, bool)) == []


def test_an_ingest_says_nothing_of_updates(source, tmp_path):
    report = ingest(source, tmp_path / "corpus", NO_OPTIONS)
    assert isinstance(report, IngestReport)
    assert report.update is None
