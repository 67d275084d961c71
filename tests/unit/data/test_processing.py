"""Pictures encoded in batches across videos: same features and, when killed, same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.corruption import truncated
from tests.unit.data.media import render, render_sound, steady
from tests.unit.data.misbehaving import TASK
from tests.unit.data.placed import PlacedEncoder
from tests.unit.data.test_corruptions import table_of
from tests.unit.data.test_ingest import rejects_of
from tests.unit.data.test_onnx_int8 import convolutions
from tests.unit.data.test_workers import children, wait_for
from vidvec.data import engine, processing, shards
from vidvec.data.corpus import Corpus
from vidvec.data.frames import FrameEncoder, open_frame_encoder
from vidvec.data.ingest import IngestOptions, ingest, read_video
from vidvec.data.media import Media, MediaRequest
from vidvec.data.modalities import Modalities
from vidvec.data.processing import Chunk, LazyEncoder, Processing, Seen
from vidvec.data.workers import WorkerPool
from vidvec.errors import BadRecord
from vidvec.records import Processed, Reject, SourceRow, Video

PROJECT = Path(__file__).resolve().parents[3]
# Pictures of each video; more and fewer than a batch.
COUNTS = [3, 9, 1, 4, 12, 2, 5]


def pictures(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        rng.integers(0, 256, (40 + seed, 60, 3), np.uint8) // (1 + number)
        for number in range(count)
    ]


def seen(count: int, seed: int) -> Seen:
    video = Video(id=f"v{seed}", title="t")
    return Seen(SourceRow(f"row {seed}", video), video, heard=False, pictures=pictures(count, seed))


def frames_of(results: list[Any]) -> list[np.ndarray]:
    assert all(isinstance(result, Processed) for result in results)
    return [result.video.frames for result in results]


def test_batches_are_full_whichever_videos_they_are_of():
    encoder = PlacedEncoder(batch_size=4)
    chunk = Chunk(encoder)
    most = 0
    for seed, count in enumerate(COUNTS):
        chunk.add(seen(count, seed))
        most = max(most, len(chunk._waiting))
    results = chunk.finish()
    assert encoder.batches == [4] * 9  # 36 pictures
    assert most < 4  # no more wait than would fill a batch
    assert [len(frames) for frames in frames_of(results)] == COUNTS
    for seed, (count, frames) in enumerate(zip(COUNTS, frames_of(results), strict=True)):
        means = [image.mean() for image in pictures(count, seed)]
        assert frames[:, 0].tolist() == np.array(means, np.float16).tolist()


@pytest.mark.parametrize("kind", ["classic", "onnx"])
def test_features_are_those_of_each_video_alone(tmp_path, kind):
    spec = kind if kind == "classic" else f"onnx:{convolutions(tmp_path / 'model.onnx')}"
    encoder = open_frame_encoder(spec)
    together = Chunk(encoder)
    for seed, count in enumerate(COUNTS):
        together.add(seen(count, seed))
    for seed, (count, frames) in enumerate(zip(COUNTS, frames_of(together.finish()), strict=True)):
        alone = encoder.encode(pictures(count, seed)).astype(np.float16)
        if kind == "classic":
            assert frames.tobytes() == alone.tobytes()
        # Half a step of float16 more where the sums of a batch have another order.
        np.testing.assert_allclose(frames, alone, rtol=2**-10, atol=1e-5)


def test_what_is_no_video_keeps_its_place_in_a_chunk():
    chunk = Chunk(PlacedEncoder())
    text = Processed("row 1", Video(id="text", title="t"), encoded=False)
    bad = Reject("row 2", "bad", "truncated-video", "cut")
    for outcome in (seen(2, 0), text, bad, seen(3, 3)):
        chunk.add(outcome)
    first, *others, last = chunk.finish()
    assert others == [text, bad]
    assert [len(frames) for frames in frames_of([first, last])] == [2, 3]


# --- read ahead ---------------------------------------------------------------------------------


class ManualPool:
    """Reads at once, except the files named ``late``, and counts what nobody has taken yet."""

    def __init__(self) -> None:
        self.requests: list[MediaRequest] = []
        self.late: list[Future[Media]] = []

    def submit(self, file: Any, request: MediaRequest) -> Future[Media]:
        self.requests.append(request)
        future: Future[Media] = Future()
        with file as path:
            if path.stem == "late":
                self.late.append(future)
            elif path.stem == "bad":
                future.set_exception(BadRecord("truncated-video", "cut"))
            elif path.stem == "noisy":
                notes = ("sound left out, damaged-audio: in the middle",)
                future.set_result(Media(pictures(2, 1), np.zeros(2, np.float32), 2.0, notes=notes))
            else:
                future.set_result(Media(pictures(2, 1), np.zeros(2, np.float32), 2.0))
        return future


def source(names: Iterator[str] | list[str], pulled: list[str]) -> Iterator[SourceRow | Reject]:
    for place, name in enumerate(names):
        pulled.append(name)
        video = Video(id=f"{place}", title="t")
        file = None if name == "text" else Path(f"{name}.mp4")
        yield SourceRow(f"row {place}", video, file)


def processing_of(
    pool: Any, monkeypatch: pytest.MonkeyPatch, encoder: FrameEncoder, **options: Any
) -> Processing:
    chosen = IngestOptions(audio="none", **options)
    monkeypatch.setattr(processing, "open_frame_encoder", lambda *_, **__: encoder)
    return Processing(LazyEncoder(chosen, {}), Modalities("none"), pool, chosen)


def test_a_source_done_in_pieces_has_the_same_batches(monkeypatch):
    random = np.random.default_rng(0)
    names = random.choice(["fine", "text", "bad"], 700, p=[0.02, 0.95, 0.03]).tolist()

    def batches(*cuts: int) -> tuple[list[int], list[str]]:
        encoder, found = PlacedEncoder(), []
        for first, end in pairwise((0, *cuts, len(names))):
            made = processing_of(ManualPool(), monkeypatch, encoder)
            piece = list(source(names, []))[first:end]
            found += [each.where for chunk in made.chunks(piece, first) for each in chunk]
        return encoder.batches, found

    whole = batches()
    assert whole[1] == [f"row {place}" for place in range(len(names))]
    assert batches(256, 512) == batches(512) == whole
    assert batches(100)[0] != whole[0]


def test_rows_are_read_ahead_within_bounds(monkeypatch):
    pool, pulled = ManualPool(), []
    names = ["text", "late", *["fine"] * 100]
    chunks = processing_of(pool, monkeypatch, PlacedEncoder(), workers=2).chunks(
        source(names, pulled)
    )
    assert len(next(chunks)) == 1  # a text does not wait for pictures
    ahead = processing.AHEAD_ROWS * 2
    assert len(pulled) == ahead + 1
    [late] = pool.late
    late.set_result(Media(pictures(2, 1), np.zeros(2, np.float32), 2.0))
    assert len(next(chunks)) == processing.CHUNK_BATCHES * 4 // 2
    assert len(pulled) == 1 + processing.CHUNK_BATCHES * 4 // 2 + ahead


def test_large_pictures_are_read_less_far_ahead(monkeypatch):
    pool, pulled = ManualPool(), []
    encoder = PlacedEncoder()
    encoder.short_side = 1000
    chunks = processing_of(pool, monkeypatch, encoder, workers=3).chunks(
        source(["fine"] * 100, pulled)
    )
    next(chunks)
    assert {request.short_side for request in pool.requests} == {1000}
    assert len(pulled) == 2 * 3 + processing.CHUNK_BATCHES * 4 // 2


def test_lent_files_are_read_less_far_ahead(monkeypatch):
    pool, pulled = ManualPool(), []
    rows = source(["fine"] * 100, pulled)
    lent = (
        replace(row, file=None, lease=lambda: nullcontext(Path("fine.mp4")))
        for row in rows
        if isinstance(row, SourceRow)
    )
    next(processing_of(pool, monkeypatch, PlacedEncoder(), workers=2).chunks(lent))
    assert len(pulled) == processing.AHEAD_LENT * 2 + processing.CHUNK_BATCHES * 4 // 2


def test_strict_does_not_encode_beyond_a_bad_row(monkeypatch):
    encoder = PlacedEncoder()
    chunks = processing_of(ManualPool(), monkeypatch, encoder, strict=True).chunks(
        source(["fine", "bad", "fine", "fine"], [])
    )
    assert [type(result) for result in next(chunks)] == [Processed, Reject]
    assert encoder.batches == [2]


def test_what_could_not_be_had_is_counted(monkeypatch):
    made = processing_of(ManualPool(), monkeypatch, PlacedEncoder())
    results = [
        result for chunk in made.chunks(source(["noisy", "fine", "noisy"], [])) for result in chunk
    ]
    assert [len(frames) for frames in frames_of(results)] == [2, 2, 2]
    assert made.notes == Counter({"sound left out, damaged-audio": 2})


# --- whole runs ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Fourteen clips: with sound, without, damaged, sound alone; titles for none of them."""
    folder = tmp_path_factory.mktemp("clips")
    files = [
        render(folder / f"c{n:02d}.mp4", steady(10 * n + 5), audio_seconds=1.0 * (n % 2))
        for n in range(12)
    ]
    bad = folder / "bad.mp4"
    bad.write_bytes(truncated(files[5].read_bytes(), b"", np.random.default_rng(1)))
    sound = render_sound(folder / "sound.mp4")
    return table_of(folder, [*files[:4], bad, *files[4:7], sound, *files[7:]])


def tables(corpus: Path) -> tuple[pa.Table, list[tuple[bytes, ...]], bytes]:
    """All that a corpus holds, however many shards it is in."""
    opened = Corpus(corpus)
    assert opened.verify() == []
    sizes = opened.frame_size, opened.audio_size
    parts = [shards.read_shard(corpus, one["file"], *sizes)[0] for one in opened.manifest["shards"]]
    strips = [opened.thumbnails(row) for row in range(len(opened))]
    rejects = (corpus / "rejects.jsonl").read_bytes()
    return pa.concat_tables(parts).combine_chunks(), strips, rejects


def run(*arguments: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.unit.data.placed", *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=PROJECT,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
        # A shell's background job ignores the interrupt, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


@pytest.fixture(scope="module")
def undisturbed(clips, tmp_path_factory) -> Path:
    corpus = tmp_path_factory.mktemp("undisturbed") / "corpus"
    assert run(clips, corpus).wait() == 0
    return corpus


def test_a_run_killed_in_a_chunk_gives_the_same_bits(clips, undisturbed, tmp_path):
    for rows in (3, 8):
        process = run(clips, tmp_path / "corpus", rows)
        assert process.wait() == -9
    assert run(clips, tmp_path / "corpus").wait() == 0
    killed, whole = tables(tmp_path / "corpus"), tables(undisturbed)
    assert killed[0].equals(whole[0])
    assert killed[1:] == whole[1:]
    frames = Corpus(undisturbed)
    sizes = {size for row in range(len(frames)) for size in frames.frames(row)[:, 2].tolist()}
    assert 4 in sizes  # batches were full, of several videos


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stop_from_outside_leaves_nothing_behind(clips, undisturbed, tmp_path, how):
    shared = set(os.listdir("/dev/shm"))  # noqa: S108 - looked at, not written to
    process = run(clips, tmp_path / "corpus")
    wait_for(lambda: children(process.pid))
    workers = children(process.pid)
    if how == signal.SIGINT:  # as Ctrl-C does, to all of a terminal's processes
        os.killpg(process.pid, how)
    else:
        process.kill()
    assert process.wait() != 0
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    assert set(os.listdir("/dev/shm")) <= shared  # noqa: S108
    assert run(clips, tmp_path / "corpus").wait() == 0
    assert tables(tmp_path / "corpus")[0].equals(tables(undisturbed)[0])


def test_files_that_end_their_worker_are_named_in_their_order(tmp_path, monkeypatch):
    names = ["a", "hang", "b", "segfault", "eats", "c", "raises", "d", "abort", "e"]
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in names:
        (folder / f"{name}.mp4").write_text("read by nobody")
    table_of(folder, [folder / f"{name}.mp4" for name in names])
    monkeypatch.setattr(engine, "WorkerPool", partial(WorkerPool, task=TASK))
    monkeypatch.setattr(processing, "open_frame_encoder", lambda *_, **__: PlacedEncoder())
    limits = IngestOptions(file_seconds=1, file_memory_mb=256)
    with pytest.raises(BadRecord, match=r"timeout: meta\.jsonl:2 hang\.mp4: hang\.mp4: not read"):
        ingest(folder, tmp_path / "corpus", replace(limits, strict=True))
    report = ingest(folder, tmp_path / "corpus", limits)
    assert report.resumed_at == 1
    assert Corpus(tmp_path / "corpus").ids == [f"{name}.mp4" for name in "abcde"]
    rejects = rejects_of(tmp_path / "corpus")
    assert [(reject["where"], reject["id"], reject["reason"]) for reject in rejects] == [
        ("meta.jsonl:2", "hang.mp4", "timeout"),
        ("meta.jsonl:4", "segfault.mp4", "crashed"),
        ("meta.jsonl:5", "eats.mp4", "out-of-memory"),
        ("meta.jsonl:7", "raises.mp4", "undecodable"),
        ("meta.jsonl:9", "abort.mp4", "crashed"),
    ]
    assert all(reject["id"] in reject["detail"] for reject in rejects)


def test_read_video_gives_what_ingest_stores(clips, tmp_path):
    ingest(clips, tmp_path / "corpus", IngestOptions(workers=3))
    corpus = Corpus(tmp_path / "corpus")
    assert len(corpus) == 13
    for row, name in enumerate(corpus.ids):
        stored = corpus.video(row)
        read = read_video(clips / name, video_id=name)
        assert stored.frames.tobytes() == read.frames.tobytes()
        assert stored.frame_times_seconds.tolist() == read.frame_times_seconds.tolist()
        assert stored.audio.tobytes() == read.audio.tobytes()
        assert stored.duration_seconds == read.duration_seconds
        assert corpus.thumbnails(row) == read.thumbnails
        assert Path(stored.file) == clips / name
    with pytest.raises(BadRecord, match=r"truncated-video: .*bad\.mp4") as caught:
        read_video(clips / "bad.mp4")
    assert caught.value.reason == "truncated-video"


@contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def test_a_source_may_be_named_from_where_one_is(clips, tmp_path):
    with in_folder(clips.parent):
        report = ingest(Path(clips.name), tmp_path / "corpus", IngestOptions())
    assert (report.videos, sum(report.rejected.values())) == (13, 1)
