"""Damaged files, hundreds in one run: each is decoded or named, and nothing stops."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.corruption import CORRUPTIONS, FORMATS, corrupt_all, write_all
from tests.unit.data.test_ingest import rejects_of
from vidvec.data.corpus import Corpus
from vidvec.data.ingest import IngestOptions, IngestReport, ingest

# Every reason that a damaged file may have; that of a worker that had to be ended is a fault of
# FFmpeg's, and would be worth a look.
REASONS = {
    *["empty-file", "truncated-video", "damaged-video", "not-a-video", "no-video-stream"],
    *["audio-only", "undecodable", "crashed", "timeout", "out-of-memory"],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> list[Path]:
    return write_all(tmp_path_factory.mktemp("made") / "whole")


def table_of(folder: Path, files: list[Path], title: str = "") -> Path:
    rows = [
        {"id": file.name, "file": os.path.relpath(file, folder), "title": title} for file in files
    ]
    (folder / "meta.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def check(tmp_path: Path, whole: list[Path], copies: list[Path]) -> IngestReport:
    """Ingests the copies with the whole files among them; the sum must be exact."""
    step = max(1, len(copies) // len(whole))
    mixed = list(copies)
    for place, file in enumerate(whole):
        mixed.insert(place * (step + 1), file)
    options = IngestOptions(file_seconds=60, file_memory_mb=1024)
    report = ingest(table_of(copies[0].parent, mixed), tmp_path / "corpus", options)
    corpus, rejects = Corpus(tmp_path / "corpus"), rejects_of(tmp_path / "corpus")
    assert report.videos + len(rejects) == len(mixed)
    left_out = {reject["id"]: reject for reject in rejects}
    assert corpus.ids == [file.name for file in mixed if file.name not in left_out]
    assert len(left_out) == len(rejects)
    assert set(left_out) <= {file.name for file in copies}
    assert {reject["reason"] for reject in rejects} <= REASONS
    assert all(name.rpartition("/")[2] in left_out[name]["detail"] for name in left_out)
    ingest(table_of(whole[0].parent, whole), tmp_path / "alone", options)
    alone = Corpus(tmp_path / "alone")
    for row, file in enumerate(whole):  # what was read beside them has not touched them
        mine = corpus.ids.index(file.name)
        assert corpus.frames(mine).tolist() == alone.frames(row).tolist()
        assert corpus.audio(mine).tolist() == alone.audio(row).tolist()
    counts = corpus.frame_counts
    assert counts.max() <= 32
    assert all(np.isfinite(corpus.frames(row)).all() for row in range(len(corpus)))
    return report


def test_a_few_damaged_files_of_each_kind(whole, tmp_path):
    chosen = [file for file in whole if file.name in {"sounding.mp4", "mpeg4.avi", "vp9.webm"}]
    copies = corrupt_all(chosen, tmp_path / "source", 1)
    report = check(tmp_path, chosen, copies)
    assert 3 < sum(report.rejected.values()) < len(copies)


@pytest.mark.slow
def test_hundreds_of_damaged_files(whole, tmp_path):
    copies = corrupt_all(whole, tmp_path / "source", 4)
    assert len(copies) == 4 * len(CORRUPTIONS) * (len(FORMATS) + 1) >= 200
    start, before = time.perf_counter(), os.times()
    report = check(tmp_path, whole, copies)
    seconds, after = time.perf_counter() - start, os.times()
    user = sum(after[:4]) - sum(before[:4])
    count = len(copies) + 2 * len(whole)
    print(  # noqa: T201 - shown with -s
        f"\n{len(copies)} damaged files: {len(copies) - sum(report.rejected.values())} decoded, "
        f"{dict(report.rejected.most_common())}; {count / seconds:.0f} files/s, "
        f"{1000 * user / count:.0f} ms of processor a file"
    )
    decoded = Counter(name.partition("-")[0] for name in Corpus(tmp_path / "corpus").ids)
    # Garbage behind a file is no reason to leave it out, apart from containers that end there.
    assert decoded["appended"] > 0.8 * len(whole) * 4


def test_sound_alone_is_a_title_with_sound(whole, tmp_path):
    sound = next(file for file in whole if file.name == "sound.mp4")
    (tmp_path / "titled").mkdir()
    options = IngestOptions(audio="none")
    report = ingest(table_of(tmp_path / "titled", [sound], "a song"), tmp_path / "corpus", options)
    assert report.videos == 1
    corpus = Corpus(tmp_path / "corpus")
    assert (corpus.video(0).title, len(corpus.frames(0)), len(corpus.audio(0))) == ("a song", 0, 0)
    (tmp_path / "bare").mkdir()
    table_of(tmp_path / "bare", [sound])
    assert ingest(tmp_path / "bare", tmp_path / "none", options).rejected == {"audio-only": 1}
    assert ingest(tmp_path / "bare", tmp_path / "heard", IngestOptions()).videos == 1
    assert len(Corpus(tmp_path / "heard").audio(0)) > 0
