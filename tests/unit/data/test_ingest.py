"""Ingest: what goes in, what is left out and why, and that a killed run loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.corpora import WIDTH, made_pairs, made_videos
from vidvec import storage
from vidvec.data import corpus as store
from vidvec.data import engine, processing, writer
from vidvec.data.corpus import Corpus
from vidvec.data.ingest import IngestOptions, IngestReport, ingest
from vidvec.data.lists import frequent_tags
from vidvec.data.media import Media, MediaRequest
from vidvec.data.sampling import sample_positions
from vidvec.data.tokenizer import load_tokenizer
from vidvec.data.workers import WorkerPool
from vidvec.errors import BadRecord, FormatError, UsageError
from vidvec.records import Pair, Video

PROJECT = Path(__file__).resolve().parents[3]
NO_OPTIONS = IngestOptions()


def row_of(video: Video) -> dict[str, Any]:
    return {
        "id": video.id.encode(),
        "title": video.title.encode(),
        "speech_text": video.speech_text,
        "tags": None if video.tags is None else list(video.tags),
        "category": video.category,
        "language": video.language,
        "frames": video.frames.astype(np.float32).tolist(),
    }


def write_source(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A Parquet table with features; ids and titles are bytes, so that they need not be UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {}
    for name in ("id", "title", "speech_text", "tags", "category", "language", "frames"):
        values = [row.get(name) for row in rows]
        kinds = {
            "frames": pa.list_(pa.list_(pa.float32())),
            "tags": pa.list_(pa.string()),
            "id": pa.binary(),
            "title": pa.binary(),
        }
        columns[name] = pa.array(values, kinds.get(name, pa.string()))
    for name in ("id", "title"):
        columns[name] = columns[name].view(pa.string())
    pq.write_table(pa.table(columns), path)
    return path


def write_pairs(path: Path, pairs: list[Pair]) -> Path:
    lines = ["id_1\tid_2\tscore", *(f"{p.id_1}\t{p.id_2}\t{p.score}" for p in pairs)]
    path.write_text("\n".join(lines) + "\n")
    return path


def rejects_of(corpus: Path) -> list[dict[str, str]]:
    lines = (corpus / "rejects.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


VIDEOS = made_videos(30)
PAIRS = made_pairs(VIDEOS, 12)
# 15 of the videos have no frames or no title, and one has neither.
GOOD = [video for video in VIDEOS if len(video.frames) or video.title]


@pytest.fixture
def source(tmp_path) -> Path:
    return write_source(tmp_path / "source.parquet", [row_of(video) for video in GOOD])


@pytest.fixture
def pairs(tmp_path) -> Path:
    return write_pairs(tmp_path / "pairs.tsv", PAIRS)


def check_videos(corpus: Corpus, videos: list[Video]) -> None:
    assert corpus.ids == [video.id for video in videos]
    for row, video in enumerate(videos):
        found = corpus.video(row)
        assert found.title == video.title
        assert found.tags == video.tags
        assert found.category == video.category
        assert found.frames.tolist() == video.frames.tolist()


def test_features_and_pairs_go_in(source, pairs, tmp_path):
    report = ingest(source, tmp_path / "corpus", IngestOptions(pairs=(pairs,)))
    known = [pair for pair in PAIRS if {pair.id_1, pair.id_2} <= {video.id for video in GOOD}]
    assert report == IngestReport(
        videos=len(GOOD),
        added=len(GOOD),
        rejected=Counter({"pair-unknown-id": len(PAIRS) - len(known)} if known != PAIRS else {}),
        pairs=len(known),
    )
    corpus = Corpus(tmp_path / "corpus")
    check_videos(corpus, GOOD)
    assert corpus.pairs() == known
    assert corpus.frame_encoder == {"name": "precomputed", "frame_size": WIDTH}
    assert corpus.verify() == []
    tokenizer = load_tokenizer(corpus.path / "tokenizer")
    titles = [video.title for video in GOOD]
    assert tokenizer.special_ids["unk"] not in tokenizer.encode(titles)[0]
    assert corpus.tag_vocabulary == frequent_tags(corpus)
    entry = corpus.manifest["ingests"][0]
    assert (entry["source"], entry["kind"], entry["complete"]) == (str(source), "table", True)


def test_progress_counts_rows_and_rejects(tmp_path):
    rows = [row_of(video) for video in GOOD[:3]] + [{"id": b"x", "title": b""}]
    calls = []
    ingest(
        write_source(tmp_path / "a.parquet", rows),
        tmp_path / "corpus",
        NO_OPTIONS,
        lambda done, bad: calls.append((done, bad)),
    )
    assert calls == [(1, 0), (2, 0), (3, 0), (4, 1)]


def test_frequent_tags_are_those_of_two_videos(tmp_path):
    rows = [
        {"id": b"1", "title": b"t", "tags": ["b", "a", "a", "once", "猫"]},
        {"id": b"2", "title": b"t", "tags": ["a", "b", "猫"]},
        {"id": b"3", "title": b"t", "tags": ["b"]},
        {"id": b"4", "title": b"t", "tags": None},
    ]
    ingest(write_source(tmp_path / "a.parquet", rows), tmp_path / "corpus", NO_OPTIONS)
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.tag_vocabulary == ["b", "a", "猫"]  # three videos, then two each, by name
    assert frequent_tags(corpus, 1) == ["b"]
    assert corpus.video(3).tags is None


# --- what is left out ---------------------------------------------------------------------------

BAD = {
    "frame-width": {"id": b"wide", "title": b"t", "frames": [[1.0] * (WIDTH + 1)]},
    "duplicate-id": {"id": GOOD[0].id.encode(), "title": b"another"},
    "nan": {"id": b"nan", "title": b"t", "frames": [[1.0] * WIDTH, [float("nan")] * WIDTH]},
    "empty": {"id": b"empty", "title": b"  ", "frames": []},
    "not-utf8": {"id": b"bytes", "title": b"caf\xe9"},
    "no-id": {"id": b"", "title": b"t"},
}
# Row 1, then every third one is bad.
MIXED = [row_of(GOOD[0])]
for bad_row, good_video in zip(BAD.values(), GOOD[1:], strict=False):
    MIXED += [bad_row, row_of(good_video)]


def test_every_reason_is_named_and_the_rest_goes_in(tmp_path):
    source = write_source(tmp_path / "mixed.parquet", MIXED)
    report = ingest(source, tmp_path / "corpus", NO_OPTIONS)
    assert report.rejected == Counter(BAD.keys())
    assert (report.videos, report.added) == (7, 7)
    check_videos(Corpus(tmp_path / "corpus"), GOOD[:7])
    rejects = rejects_of(tmp_path / "corpus")
    assert [reject["reason"] for reject in rejects] == list(BAD)
    assert [reject["where"] for reject in rejects] == [
        f"mixed.parquet#{2 * number}" for number in range(1, 7)
    ]
    ids = {reject["reason"]: reject["id"] for reject in rejects}
    for reason in ("frame-width", "duplicate-id", "nan", "empty"):
        assert ids[reason].encode() == BAD[reason]["id"]
    for reject in rejects:
        assert set(reject) == {"where", "id", "reason", "detail"}
        assert len(reject["detail"]) > 10
    details = {reject["reason"]: reject["detail"] for reject in rejects}
    assert str(WIDTH + 1) in details["frame-width"]
    assert str(WIDTH) in details["frame-width"]
    assert GOOD[0].id in details["duplicate-id"]


def test_strict_stops_at_the_first_each_time_and_a_later_run_carries_on(tmp_path):
    source = write_source(tmp_path / "mixed.parquet", MIXED)
    for _ in range(3):
        with pytest.raises(BadRecord) as caught:
            ingest(source, tmp_path / "corpus", IngestOptions(strict=True))
        assert caught.value.reason == "frame-width"
        assert "mixed.parquet#2 wide" in str(caught.value)
    with pytest.raises(FormatError, match="is unfinished"):
        Corpus(tmp_path / "corpus")
    kept = Corpus(tmp_path / "corpus", unfinished=True)
    assert kept.ids == [GOOD[0].id]
    report = ingest(source, tmp_path / "corpus", NO_OPTIONS)
    assert report.resumed_at == 1
    assert report.rejected == Counter(BAD.keys())
    check_videos(Corpus(tmp_path / "corpus"), GOOD[:7])
    assert [reject["reason"] for reject in rejects_of(tmp_path / "corpus")] == list(BAD)
    # What a run that was not strict left out, strict does not pass over.
    with pytest.raises(BadRecord, match=r"mixed\.parquet#2 wide.*without --strict") as caught:
        ingest(source, tmp_path / "corpus", IngestOptions(strict=True))


def test_strict_does_not_mind_good_records(source, tmp_path):
    assert ingest(source, tmp_path / "corpus", IngestOptions(strict=True)).videos == len(GOOD)


def test_pairs_that_cannot_be_used_are_named(source, tmp_path):
    good = Pair(GOOD[0].id, GOOD[1].id, 0.5)
    file = tmp_path / "pairs.tsv"
    file.write_text(f"{good.id_1}\t{good.id_2}\t0.5\n{good.id_1}\tnobody\t1\n{good.id_1}\n")
    report = ingest(source, tmp_path / "corpus", IngestOptions(pairs=(file,)))
    assert report.pairs == 1
    assert report.rejected == Counter({"pair-unknown-id": 1, "bad-pair": 1})
    assert Corpus(tmp_path / "corpus").pairs() == [good]
    named = next(r for r in rejects_of(tmp_path / "corpus") if r["reason"] == "pair-unknown-id")
    assert named["id"] == "nobody"
    assert named["where"].startswith("pairs.tsv")


# --- again, and more ----------------------------------------------------------------------------


def files_of(corpus: Path) -> dict[str, bytes]:
    found = sorted(file for file in corpus.rglob("*") if file.is_file())
    return {str(file.relative_to(corpus)): file.read_bytes() for file in found}


def test_the_same_source_again_changes_nothing(source, pairs, tmp_path):
    options = IngestOptions(pairs=(pairs,))
    first = ingest(source, tmp_path / "corpus", options)
    before = files_of(tmp_path / "corpus")
    again = ingest(source, tmp_path / "corpus", options)
    assert (again.videos, again.added, again.pairs) == (first.videos, first.added, first.pairs)
    assert again.rejected == first.rejected
    assert files_of(tmp_path / "corpus") == before
    ingest(source, tmp_path / "corpus", NO_OPTIONS)
    assert files_of(tmp_path / "corpus") == before


def test_pairs_can_come_later(source, pairs, tmp_path):
    ingest(source, tmp_path / "late", NO_OPTIONS)
    report = ingest(source, tmp_path / "late", IngestOptions(pairs=(pairs,)))
    ingest(source, tmp_path / "corpus", IngestOptions(pairs=(pairs,)))
    assert report.pairs > 0
    assert Corpus(tmp_path / "late").pairs() == Corpus(tmp_path / "corpus").pairs()
    assert rejects_of(tmp_path / "late") == rejects_of(tmp_path / "corpus")


def test_pairs_are_not_doubled(tmp_path):
    rows = [row_of(video) for video in GOOD]
    half = len(rows) // 2
    sources = [
        write_source(tmp_path / f"{name}.parquet", part)
        for name, part in (("first", rows[:half]), ("second", rows[half:]))
    ]
    ids = [video.id for video in GOOD]
    within = [Pair(ids[0], ids[1], 0.5), Pair(ids[0], ids[1], 0.5), Pair(ids[1], ids[2], 0.1)]
    across = [Pair(ids[0], ids[-1], 0.9)]
    file = write_pairs(tmp_path / "pairs.tsv", [*within, *across])
    options = IngestOptions(pairs=(file, file))
    assert ingest(sources[0], tmp_path / "corpus", options).pairs == 3
    assert ingest(sources[1], tmp_path / "corpus", options).pairs == 4
    assert Corpus(tmp_path / "corpus").pairs() == [*within, *across]


def test_a_second_source_is_appended_and_its_duplicates_rejected(source, tmp_path):
    ingest(source, tmp_path / "corpus", NO_OPTIONS)
    first = Corpus(tmp_path / "corpus")
    vocabulary, tokenizer = (
        first.tag_vocabulary,
        (first.path / "tokenizer/tokenizer.json").read_bytes(),
    )
    more = [
        Video(id=f"new-{n}", title="a", tags=("fresh",), frames=GOOD[0].frames) for n in range(3)
    ]
    rows = [row_of(more[0]), row_of(GOOD[4]), row_of(more[1]), row_of(more[2])]
    report = ingest(write_source(tmp_path / "b.parquet", rows), tmp_path / "corpus", NO_OPTIONS)
    assert (report.videos, report.added) == (len(GOOD) + 3, 3)
    assert report.rejected == Counter({"duplicate-id": 1})
    corpus = Corpus(tmp_path / "corpus")
    check_videos(corpus, [*GOOD, *more])
    assert rejects_of(corpus.path)[-1]["where"] == "b.parquet#2"
    # Models were made for these.
    assert corpus.tag_vocabulary == vocabulary
    assert (corpus.path / "tokenizer/tokenizer.json").read_bytes() == tokenizer
    assert [entry["videos"] for entry in corpus.manifest["ingests"]] == [len(GOOD), 3]
    assert ingest(source, tmp_path / "corpus", NO_OPTIONS).added == len(GOOD)


def test_frames_may_come_with_a_later_source(tmp_path):
    texts = [Video(id=f"text-{n}", title=f"title {n}") for n in range(3)]
    ingest(
        write_source(tmp_path / "a.parquet", [row_of(v) for v in texts]),
        tmp_path / "corpus",
        NO_OPTIONS,
    )
    assert Corpus(tmp_path / "corpus").frame_size == 0
    framed = [video for video in GOOD if len(video.frames)]
    ingest(
        write_source(tmp_path / "b.parquet", [row_of(v) for v in framed]),
        tmp_path / "corpus",
        NO_OPTIONS,
    )
    check_corpus_of_texts_and_frames(tmp_path / "corpus", texts, framed)


def check_corpus_of_texts_and_frames(path: Path, texts: list[Video], framed: list[Video]) -> None:
    corpus = Corpus(path)
    assert corpus.frame_encoder == {"name": "precomputed", "frame_size": WIDTH}
    assert corpus.ids == [video.id for video in [*texts, *framed]]
    assert corpus.frame_counts.tolist() == [0] * len(texts) + [len(v.frames) for v in framed]
    assert corpus.frames(len(texts)).tolist() == framed[0].frames.tolist()
    schemas = []
    for shard in sorted((path / "shards").iterdir()):
        with pa.OSFile(str(shard)) as file:
            schemas.append(pa.ipc.open_file(file).schema)
    assert all(schema == store.corpus_schema(WIDTH) for schema in schemas)


@pytest.mark.parametrize("shard_bytes", [1, 2**20])
def test_frames_may_come_after_the_first_commit(tmp_path, monkeypatch, shard_bytes):
    monkeypatch.setattr(writer, "COMMIT_SECONDS", -1)
    monkeypatch.setattr(store, "SHARD_BYTES", shard_bytes)  # 1: shards are never joined
    texts = [Video(id=f"text-{n}", title=f"title {n}") for n in range(3)]
    framed = [video for video in GOOD if len(video.frames)][:4]
    source = write_source(tmp_path / "a.parquet", [row_of(v) for v in [*texts, *framed]])
    ingest(source, tmp_path / "corpus", NO_OPTIONS)
    check_corpus_of_texts_and_frames(tmp_path / "corpus", texts, framed)
    assert len(Corpus(tmp_path / "corpus").manifest["shards"]) == (7 if shard_bytes == 1 else 1)


def test_frames_of_another_width_or_encoder_stay_out(source, tmp_path):
    ingest(source, tmp_path / "corpus", NO_OPTIONS)
    other = [Video(id=f"o{n}", title="t", frames=np.ones((2, 8), np.float16)) for n in range(2)]
    narrow = write_source(tmp_path / "narrow.parquet", [row_of(video) for video in other])
    assert ingest(narrow, tmp_path / "corpus", NO_OPTIONS).rejected == Counter({"frame-width": 2})

    manifest = json.loads((tmp_path / "corpus/manifest.json").read_text("utf-8"))
    manifest["frame_encoder"] = {"name": "classic", "frame_size": WIDTH}
    storage.write_json(tmp_path / "corpus/manifest.json", manifest)
    more = [Video(id="new", title="t", frames=GOOD[0].frames), Video(id="text", title="t")]
    third = write_source(tmp_path / "third.parquet", [row_of(video) for video in more])
    report = ingest(third, tmp_path / "corpus", NO_OPTIONS)
    assert report.rejected == Counter({"frame-encoder": 1})
    assert "text" in Corpus(tmp_path / "corpus")


class CountingEncoder:
    """A frame encoder for pictures that are nothing but a number."""

    short_side = 8
    frame_size = 4
    batch_size = 4
    note = "counts"

    def __init__(self, revision: int) -> None:
        self.identity = {"name": "counting", "revision": revision, "frame_size": 4}

    def encode(self, images: list[np.ndarray]) -> np.ndarray:
        return np.stack([np.full(4, image.mean(), np.float32) for image in images])


@pytest.fixture
def made_of_numbers(monkeypatch) -> None:
    """Video files are text files with a number for each frame; "bad" cannot be decoded."""

    def read_numbers(path: Path) -> Media:
        words = path.read_text().split()
        if "bad" in words:
            raise BadRecord("truncated-video", f"{path.name}: it is cut")
        shown = sample_positions(len(words), 8)
        return Media(
            pictures=[np.full((8, 8, 3), int(word), np.uint8) for word in words],
            times_seconds=np.arange(len(words), dtype=np.float32),
            duration_seconds=float(len(words)),
            thumbnails=tuple(bytes([int(words[position])]) for position in shown),
        )

    class InThisProcess(WorkerPool):
        def submit(self, file: Any, request: MediaRequest) -> Future[Media]:
            assert request.short_side == 8
            future: Future[Media] = Future()
            with file as path:
                try:
                    future.set_result(read_numbers(path))
                except BadRecord as error:
                    future.set_exception(error)
            return future

    monkeypatch.setattr(engine, "WorkerPool", InThisProcess)
    monkeypatch.setattr(
        processing,
        "open_frame_encoder",
        lambda spec, **_: CountingEncoder(int(spec.split(":")[1])),
    )


def write_clips(folder: Path, clips: dict[str, str]) -> Path:
    folder.mkdir()
    lines = []
    for name, text in clips.items():
        (folder / f"{name}.mp4").write_text(text)
        lines.append(json.dumps({"id": name, "file": f"{name}.mp4", "title": f"clip {name}"}))
    (folder / "meta.jsonl").write_text("\n".join(lines))
    return folder


@pytest.mark.usefixtures("made_of_numbers")
@pytest.mark.parametrize("workers", [1, 4])
def test_clips_are_decoded_and_encoded_in_order(tmp_path, workers):
    clips = {f"c{n:02d}": " ".join(str(n + i) for i in range(1 + n % 12)) for n in range(25)}
    clips["c07"] = clips["c11"] = "bad"
    source = write_clips(tmp_path / "clips", clips)
    report = ingest(source, tmp_path / "corpus", IngestOptions("counting:1", workers=workers))
    assert report.rejected == Counter({"truncated-video": 2})
    assert report.note == "counts"
    corpus = Corpus(tmp_path / "corpus")
    good = [name for name in clips if clips[name] != "bad"]
    assert corpus.ids == good
    for row, name in enumerate(good):
        numbers = [float(word) for word in clips[name].split()]
        assert corpus.frames(row).tolist() == [[number] * 4 for number in numbers]
        video = corpus.video(row)
        assert video.title == f"clip {name}"
        assert video.duration_seconds == len(numbers)
        pictures = [picture[0] for picture in corpus.thumbnails(row)]
        assert len(pictures) == min(8, len(numbers))
        assert len(set(pictures)) == len(pictures)
        assert set(pictures) <= {int(number) for number in numbers}
    assert [reject["id"] for reject in rejects_of(corpus.path)] == ["c07", "c11"]


@pytest.mark.usefixtures("made_of_numbers")
def test_frames_of_two_encoders_are_not_mixed(tmp_path):
    first = write_clips(tmp_path / "first", {"a": "1 2"})
    ingest(first, tmp_path / "corpus", IngestOptions("counting:1"))
    second = write_clips(tmp_path / "second", {"b": "3"})
    before = files_of(tmp_path / "corpus")
    with pytest.raises(UsageError) as caught:
        ingest(second, tmp_path / "corpus", IngestOptions("counting:2"))
    assert "holds frames of counting (revision 1, 4 numbers)" in str(caught.value)
    assert "frames of counting (revision 2, 4 numbers) cannot join them" in str(caught.value)
    assert files_of(tmp_path / "corpus") == before
    assert Corpus(tmp_path / "corpus").ids == ["a"]
    assert ingest(second, tmp_path / "corpus", IngestOptions("counting:1")).videos == 2


@pytest.mark.usefixtures("made_of_numbers")
def test_pictures_do_not_join_precomputed_frames(source, tmp_path):
    ingest(source, tmp_path / "corpus", NO_OPTIONS)
    clips = write_clips(tmp_path / "clips", {"a": "1 2"})
    with pytest.raises(UsageError, match=r"holds frames of precomputed .* cannot join them"):
        ingest(clips, tmp_path / "corpus", IngestOptions("counting:1"))


@pytest.mark.usefixtures("made_of_numbers")
def test_an_encoder_that_gives_no_number(tmp_path, monkeypatch):
    source = write_clips(tmp_path / "clips", {"a": "1", "b": "2"})
    encode = CountingEncoder.encode

    def odd(self: CountingEncoder, images: list[np.ndarray]) -> np.ndarray:
        factors = np.array([[1e30 if image.mean() == 1 else 1] for image in images])
        return encode(self, images) * factors

    monkeypatch.setattr(CountingEncoder, "encode", odd)
    report = ingest(source, tmp_path / "corpus", IngestOptions("counting:1"))
    assert report.rejected == Counter({"nan": 1})
    assert Corpus(tmp_path / "corpus").ids == ["b"]


# --- what cannot be ingested --------------------------------------------------------------------


def test_a_changed_source_with_an_unfinished_ingest_is_refused(tmp_path):
    source = write_source(tmp_path / "mixed.parquet", MIXED)
    with pytest.raises(BadRecord):
        ingest(source, tmp_path / "corpus", IngestOptions(strict=True))
    before = files_of(tmp_path / "corpus")
    write_source(source, MIXED[:-1])
    with pytest.raises(UsageError) as caught:
        ingest(source, tmp_path / "corpus", NO_OPTIONS)
    assert f"holds an unfinished ingest of {source}" in str(caught.value)
    assert "the source is another now" in str(caught.value)
    assert files_of(tmp_path / "corpus") == before


def test_a_first_try_that_got_nowhere_does_not_stand_in_the_way(source, tmp_path, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(processing.Processing, "chunks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ingest(source, tmp_path / "corpus", NO_OPTIONS)
    other = write_source(tmp_path / "other.parquet", [row_of(GOOD[0])])
    assert ingest(other, tmp_path / "corpus", NO_OPTIONS).videos == 1
    assert len(Corpus(tmp_path / "corpus").manifest["ingests"]) == 1


def test_a_folder_with_something_else_is_left_alone(source, tmp_path):
    folder = tmp_path / "mine"
    (folder / "shards").mkdir(parents=True)
    (folder / "shards" / "photos.tar").write_text("mine")
    (folder / "rejects.jsonl").write_text("mine too")
    before = files_of(folder)
    with pytest.raises(UsageError, match="mine is not empty and no corpus: give a new folder"):
        ingest(source, folder, NO_OPTIONS)
    assert files_of(folder) == before


@pytest.mark.parametrize("kind", ["empty", "notes", "missing", "file"])
def test_a_source_of_nothing(tmp_path, kind):
    source = tmp_path / "source"
    if kind == "file":
        source.write_text("no table")
    elif kind != "missing":
        source.mkdir()
    if kind == "notes":
        (source / "notes.txt").write_text("no videos here")
    said = {"missing": "does not exist", "file": "is no table"}.get(kind, "nothing to ingest in")
    with pytest.raises(UsageError, match=said):
        ingest(source, tmp_path / "corpus", NO_OPTIONS)
    assert not (tmp_path / "corpus").exists()


def test_what_is_missing_is_said_before_the_work(source, tmp_path):
    with pytest.raises(UsageError, match=r"file of pairs .*nowhere\.tsv does not exist"):
        ingest(source, tmp_path / "corpus", IngestOptions(pairs=(tmp_path / "nowhere.tsv",)))
    (tmp_path / "tokenizer").mkdir()
    with pytest.raises(UsageError, match="holds neither tokenizer"):
        ingest(source, tmp_path / "corpus", IngestOptions(tokenizer=str(tmp_path / "tokenizer")))
    assert not (tmp_path / "corpus").exists()


def test_a_table_without_rows_makes_an_empty_corpus(tmp_path):
    report = ingest(write_source(tmp_path / "a.parquet", []), tmp_path / "corpus", NO_OPTIONS)
    assert (report.videos, report.added, report.pairs) == (0, 0, 0)
    assert len(Corpus(tmp_path / "corpus")) == 0


def test_a_tokenizer_that_is_given_is_kept(source, tmp_path):
    ingest(source, tmp_path / "first", NO_OPTIONS)
    given = load_tokenizer(tmp_path / "first" / "tokenizer")
    options = IngestOptions(tokenizer=str(tmp_path / "first" / "tokenizer"))
    other = write_source(tmp_path / "b.parquet", [{"id": b"1", "title": b"other words"}])
    ingest(other, tmp_path / "second", options)
    assert load_tokenizer(tmp_path / "second" / "tokenizer").fingerprint == given.fingerprint


@pytest.mark.shared
def test_the_published_pipeline(shared, tmp_path):
    source = shared / "reference" / "pipeline"
    report = ingest(source, tmp_path / "corpus", NO_OPTIONS)
    corpus = Corpus(tmp_path / "corpus")
    expected = json.loads((source / "expected_records.json").read_text())
    assert corpus.ids == [record["id"] for record in expected]
    assert report.videos == 16
    assert sum(report.rejected.values()) + report.pairs == 60  # pairs with videos of other files
    tags, counts = corpus.tag_positions()
    ends = np.cumsum(np.maximum(counts, 0))
    for row, record in enumerate(expected):
        sums = corpus.frames(row).astype(np.float64).sum(axis=1)
        real = [s for s, m in zip(record["frame_sums"], record["frame_mask"], strict=True) if m]
        assert sums.tolist() == pytest.approx(real, abs=2e-3)
        found = tags[ends[row] - max(counts[row], 0) : ends[row]]
        assert sorted(found.tolist()) == sorted(record["tag_positions"])


# --- killed -------------------------------------------------------------------------------------

DYING = """
import os, sys
from pathlib import Path
from vidvec import storage
from vidvec.data import corpus as store, ingest as module, writer

source, corpus, pairs, moment = sys.argv[1:]
writer.COMMIT_SECONDS = -1  # after every row
os.fsync = lambda descriptor: None  # slow, and of no use where only the process dies
store.SHARD_BYTES = 16_000
calls = 0

def dying(owner, name, at, *, before=False, merging=False):
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

def while_merging(then):
    merge = writer.CorpusWriter.merge_small_shards
    def wrapped(self):
        then()
        merge(self)
    writer.CorpusWriter.merge_small_shards = wrapped

if moment == "first shard, no manifest":
    dying(store, "write_shard", 1)
elif moment == "tenth shard, no manifest":
    dying(store, "write_shard", 10)
elif moment == "thumbnails without their shard":
    replace = Path.replace
    def dying_replace(self, target):
        if target.parent.name == "shards" and target.name == "000006.arrow":
            os._exit(9)
        return replace(self, target)
    Path.replace = dying_replace
elif moment == "reject, no manifest":
    dying(writer.CorpusWriter, "reject", 2)
elif moment == "first reject, no manifest":
    dying(writer.CorpusWriter, "reject", 1)
elif moment == "half a reject":
    def half(self, reject):
        if self.entry["rejected"]:
            with (self.path / "rejects.jsonl").open("a") as file:
                file.write('{"where": "mix')
            os._exit(9)
        whole(self, reject)
    whole, writer.CorpusWriter.reject = writer.CorpusWriter.reject, half
elif moment == "manifest not renamed":
    dying(storage.files, "_sync", 30, before=True)
elif moment == "joined shard, no manifest":
    while_merging(lambda: dying(store, "write_shard", 2))
elif moment == "joined shards, old ones not removed":
    while_merging(lambda: dying(writer.CorpusWriter, "_clean", 1, before=True))
elif moment == "tokenizer":
    dying(module, "train_tokenizer", 1)
elif moment == "pairs, no manifest":
    dying(writer, "write_pair_rows", 1)
module.ingest(Path(source), Path(corpus), module.IngestOptions(pairs=(Path(pairs),)))
"""
# With the rows of the source that are done then; it has 26, of which six are bad.
MOMENTS = {
    "first shard, no manifest": 0,
    "tenth shard, no manifest": 15,
    "thumbnails without their shard": 12,
    "reject, no manifest": 3,
    "half a reject": 3,
    "manifest not renamed": 6,
    "joined shard, no manifest": 26,
    "joined shards, old ones not removed": 26,
    "tokenizer": 26,
    "pairs, no manifest": 26,
}


@pytest.fixture
def small_shards(monkeypatch) -> None:
    monkeypatch.setattr(writer, "COMMIT_SECONDS", -1)
    monkeypatch.setattr(store, "SHARD_BYTES", 16_000)
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def mixed(tmp_path) -> tuple[Path, Path]:
    rows = [*MIXED, *(row_of(video) for video in GOOD[7:20])]
    source = write_source(tmp_path / "mixed.parquet", rows)
    known = [Pair(GOOD[a].id, GOOD[b].id, 0.05 * a) for a, b in ((0, 5), (3, 4), (3, 4), (9, 2))]
    return source, write_pairs(tmp_path / "pairs.tsv", [*known, Pair("1", GOOD[0].id, 0.5)])


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_ingest_carries_on(mixed, tmp_path, moment):
    source, pairs = mixed
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-c", DYING, str(source), str(killed), str(pairs), moment]
    done = subprocess.run(command, cwd=PROJECT, check=False, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    with pytest.raises(FormatError, match="is unfinished"):
        Corpus(killed)
    options = IngestOptions(pairs=(pairs,))
    report, plain = ingest(source, killed, options), ingest(source, whole, options)
    assert report.resumed_at == MOMENTS[moment]
    assert (report.videos, report.added, report.pairs) == (20, 20, 4)
    assert report.rejected == plain.rejected == Counter([*BAD, "pair-unknown-id"])
    one, other = Corpus(killed), Corpus(whole)
    check_videos(one, GOOD[:20])
    assert one.ids == other.ids
    assert one.pairs() == other.pairs()
    assert one.verify() == []
    assert (killed / "rejects.jsonl").read_bytes() == (whole / "rejects.jsonl").read_bytes()
    assert one.tag_vocabulary == other.tag_vocabulary
    fingerprints = {load_tokenizer(path / "tokenizer").fingerprint for path in (killed, whole)}
    assert len(fingerprints) == 1
    listed = sorted(shard["file"] for shard in one.manifest["shards"])
    assert len(listed) < 20  # small ones were joined
    for folder in ("shards", "thumbnails"):
        assert sorted(file.name for file in (killed / folder).iterdir()) == listed
    assert not [name for name in files_of(killed) if name.endswith(".tmp")]


@pytest.mark.usefixtures("small_shards")
def test_a_run_killed_again_and_again_comes_to_its_end(mixed, tmp_path):
    source, pairs = mixed
    moments = [
        "first shard, no manifest",
        "first reject, no manifest",
        "tenth shard, no manifest",
        "pairs, no manifest",
    ]
    for moment in moments:
        command = [sys.executable, "-c", DYING, str(source), str(tmp_path / "corpus"), str(pairs)]
        assert subprocess.run([*command, moment], cwd=PROJECT, check=False).returncode == 9
    report = ingest(source, tmp_path / "corpus", IngestOptions(pairs=(pairs,)))
    assert report.resumed_at == 26
    check_videos(Corpus(tmp_path / "corpus"), GOOD[:20])
    assert report.pairs == 4
    assert report.rejected == Counter([*BAD, "pair-unknown-id"])
    assert len(rejects_of(tmp_path / "corpus")) == 7


@pytest.mark.usefixtures("small_shards")
def test_joining_shards_changes_nothing_but_their_number(mixed, tmp_path):
    source, _ = mixed
    ingest(source, tmp_path / "corpus", NO_OPTIONS)
    corpus = Corpus(tmp_path / "corpus")
    check_videos(corpus, GOOD[:20])
    sizes = [shard["bytes"] for shard in corpus.manifest["shards"]]
    assert 1 < len(sizes) < 20
    assert max(sizes) <= 16_000


def test_counts_of_a_report_are_those_of_the_corpus(source, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHARD_BYTES", 2000)
    report = ingest(source, tmp_path / "corpus", NO_OPTIONS)
    corpus = Corpus(tmp_path / "corpus")
    assert report.videos == len(corpus) == sum(s["rows"] for s in corpus.manifest["shards"])
    assert len(corpus.manifest["shards"]) > 1
