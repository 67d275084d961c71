"""Lists beside a source's records: taken when they come, taken anew when they change."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.competition import (
    LABEL,
    LIST,
    NO_OPTIONS,
    PAIRS,
    STRICT,
    flipped,
    lines_into,
    list_of,
    read_in,
    rejects_of,
    without,
    write_folder,
    write_part,
)
from vidvec.data import corpus as store
from vidvec.data.corpus import Corpus
from vidvec.data.ingest import IngestOptions, ingest
from vidvec.errors import BadRecord
from vidvec.records import Pair

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data")


# --- lists that change --------------------------------------------------------------------------


def test_changed_labels_replace_the_old_ones(folder, monkeypatch):
    more = folder.parent / "more.tsv"
    more.write_text("300\t301\t0.5\n300\t999\t0.5\n")
    with (folder / LABEL).open("a") as file:
        file.write("200\t999\t1\n")
    flipped("test_a/test_a.tfrecords", 3)(folder)
    _, corpus = read_in(folder, IngestOptions(pairs=(more,)))
    assert corpus.pairs() == [Pair("300", "301", 0.5), *PAIRS]
    crc, from_more, from_labels = rejects_of(corpus.path)
    (folder / LABEL).write_text("200\t201\t0.5\n204\t205\t0.1\n204\tx\t0.1\n")
    monkeypatch.setattr("vidvec.data.sources.read_tfrecords", None)  # records are not read again
    report, corpus = read_in(folder)
    assert "in already" in report.note
    assert LABEL in report.note
    kept = Pair("300", "301", 0.5)
    assert corpus.pairs() == [kept, Pair("200", "201", 0.5), Pair("204", "205", 0.1)]
    assert rejects_of(corpus.path) == [crc, from_more, (f"{LABEL}:3", "", "bad-id")]
    assert from_labels not in rejects_of(corpus.path)
    assert corpus.tag_vocabulary == ["7", "19", "31"]
    files = {file: file.read_bytes() for file in corpus.path.rglob("*") if file.is_file()}
    read_in(folder, IngestOptions(pairs=(more,)))  # nothing has changed since
    assert {file: file.read_bytes() for file in corpus.path.rglob("*") if file.is_file()} == files


def test_a_changed_tag_list_is_taken(folder):
    read_in(folder)
    (folder / LIST).write_text("5\n7\nseven\n")
    report, corpus = read_in(folder)
    assert corpus.tag_vocabulary == ["5", "7"]
    assert corpus.pairs() == PAIRS
    assert report.rejected == Counter({"bad-tag": 1})
    given = folder.parent / "given.txt"
    given.write_text("19\n")
    _, corpus = read_in(folder, IngestOptions(tag_list=given))
    assert corpus.tag_vocabulary == ["19"]
    (folder / LABEL).write_text("200\t201\t1\n")
    _, corpus = read_in(folder)  # what was given stays, though other lists change
    assert (corpus.tag_vocabulary, len(corpus.pairs())) == (["19"], 1)
    (folder / LIST).write_text("31\n")
    _, corpus = read_in(folder)
    assert corpus.tag_vocabulary == ["31"]


def test_a_list_of_test_ids_that_comes_later(folder):
    read_in(folder)
    (folder / "test_b" / "ids.tsv").write_text("401\n409\n")
    report, corpus = read_in(folder)
    assert report.rejected == Counter({"test-id-no-record": 1})
    assert rejects_of(corpus.path) == [("test_b/ids.tsv:2", "409", "test-id-no-record")]
    (folder / "test_b" / "ids.tsv").write_text("401\n")
    assert read_in(folder)[0].rejected == Counter()


def test_labels_that_are_mended_pass_strict(folder):
    good = (folder / LABEL).read_text()
    (folder / LABEL).write_text(good + "200\t999\t1\n")
    read_in(folder)
    with pytest.raises(BadRecord, match="pair-unknown-id"):
        ingest(folder, folder.parent / "corpus", STRICT)
    (folder / LABEL).write_text(good)
    assert read_in(folder, STRICT)[1].pairs() == PAIRS


def test_new_labels_of_an_earlier_source(folder):
    other = folder.parent / "other"
    write_part(other, "pairwise", [500, 501, "5x"])
    (other / "label.tsv").write_text("500\t501\t1\n")
    (folder / LABEL).write_text("200\t201\t2\n200\t201\t0.5\n")
    read_in(folder)
    ingest(other, folder.parent / "corpus", NO_OPTIONS)
    (folder / LABEL).write_text("200\t201\t0.25\n")
    report = ingest(folder, folder.parent / "corpus", NO_OPTIONS)
    corpus = Corpus(folder.parent / "corpus")
    assert report.rejected == Counter()
    assert corpus.pairs() == [Pair("500", "501", 1.0), Pair("200", "201", 0.25)]
    assert [entry["complete"] for entry in corpus.manifest["ingests"]] == [True, True]


# --- killed -------------------------------------------------------------------------------------

DYING = """
import os, sys
from pathlib import Path
from vidvec.data import writer
from vidvec.data.ingest import IngestOptions, ingest

source, corpus, moment, number = *sys.argv[1:4], int(sys.argv[4])
os.fsync = lambda descriptor: None  # slow, and of no use where only the process dies
writer.COMMIT_SECONDS = -1  # after every row
owner, name = {
    "row": (writer.CorpusWriter, "add"),
    "reject": (writer.CorpusWriter, "_write_rejects"),
    "lists": (writer.CorpusWriter, "reject_in_lists"),
    "pairs": (writer, "write_pair_rows"),
    "reopened": (writer.CorpusWriter, "reopen"),
}[moment]
function, calls = getattr(owner, name), 0

def dying(*arguments, **named):
    global calls
    calls += 1
    result = function(*arguments, **named)
    if calls == number:
        os._exit(9)
    return result

setattr(owner, name, dying)
ingest(Path(source), Path(corpus), IngestOptions())
"""


def killed_at(folder: Path, corpus: Path, moment: str, number: int = 1) -> None:
    command = [sys.executable, "-c", DYING, str(folder), str(corpus), moment, str(number)]
    done = subprocess.run(command, cwd=PROJECT, check=False, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr


def spoilt(folder: Path) -> Path:
    """With something wrong in every place."""
    write_part(folder, "test_b", [400, "4x", 201, 403])
    flipped("pairwise/pairwise.tfrecords", 6)(folder)
    for name, lines in {LABEL: "200\t999\t1\n201\t203\t0.7\n", LIST: "cat\n"}.items():
        lines_into(name, lines)(folder)
    list_of("test_a/ids.txt", "300\n309\n")(folder)
    without("pointwise")(folder)
    return folder


def check_same(found: Path, expected: Path) -> None:
    one, other = Corpus(found), Corpus(expected)
    assert one.ids == other.ids
    assert one.pairs() == other.pairs()
    for row in range(len(one)):
        assert one.frames(row).tolist() == other.frames(row).tolist()
    for part, rows in other.parts.items():
        assert one.parts[part].tolist() == rows.tolist()
    for name in ("ingests", "tag_vocabulary", "pairs", "rejects_bytes"):
        assert one.manifest[name] == other.manifest[name]
    for name in ("rejects.jsonl", "pairs.parquet"):
        assert (found / name).read_bytes() == (expected / name).read_bytes()
    assert not [*found.rglob("*.tmp")]


@pytest.mark.parametrize(
    ("moment", "number"), [("row", 5), ("row", 13), ("reject", 2), ("lists", 1), ("pairs", 1)]
)
def test_a_killed_ingest_of_a_spoilt_folder_comes_to_the_same_corpus(
    folder, tmp_path, moment, number
):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    spoilt(folder)
    killed_at(folder, killed, moment, number)
    report, plain = (ingest(folder, path, NO_OPTIONS) for path in (killed, whole))
    assert report.rejected == plain.rejected
    assert report.rejected.keys() == {
        *("missing-part", "crc", "bad-id", "duplicate-id", "bad-tag"),
        *("pair-unknown-id", "test-id-no-record"),
    }
    check_same(killed, whole)


@pytest.mark.parametrize(
    ("moment", "number"), [("reopened", 1), ("lists", 1), ("pairs", 1), ("pairs", 2)]
)
def test_a_run_killed_while_lists_are_taken_anew_comes_to_the_same_corpus(
    folder, tmp_path, moment, number
):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    spoilt(folder)
    more = tmp_path / "more.tsv"
    more.write_text("300\t301\t0.5\n300\t998\t0.5\n")
    for path in (killed, whole):
        ingest(folder, path, IngestOptions(pairs=(more,)))
    (folder / LABEL).write_text("200\t201\t0.5\n204\t205\t0.1\n204\tx\t0.1\n202\t203\t0\n")
    killed_at(folder, killed, moment, number)
    (folder / LIST).write_text("5\n7\n")  # and one more list changes meanwhile
    for path in (killed, whole):
        ingest(folder, path, NO_OPTIONS)
    assert Corpus(killed).tag_vocabulary == ["5", "7"]
    assert [pair.id_1 for pair in Corpus(killed).pairs()] == ["300", "200", "204", "202"]
    check_same(killed, whole)


class Stopped(BaseException):
    pass


def stopped_at_every_write(
    monkeypatch, start: Callable[[], None], check: Callable[[], None]
) -> int:
    """Runs ``start`` until it comes to its end, one write further each time; how many there are."""
    rename = Path.replace
    for stop_at in range(1, 100):
        seen = 0

        def stopping(path: Path, target: Path, stop_at: int = stop_at) -> Path:
            nonlocal seen
            seen += 1
            if seen == stop_at:
                raise Stopped
            return rename(path, target)

        with monkeypatch.context() as context:
            context.setattr(Path, "replace", stopping)
            try:
                start()
                return stop_at - 1
            except Stopped:
                pass
        check()
    raise AssertionError("it never ends")


def test_a_run_stopped_at_any_write_comes_to_the_same_corpus(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr(store, "SHARD_BYTES", 900)
    spoilt(folder)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    ingest(folder, whole, NO_OPTIONS)

    def start() -> None:
        shutil.rmtree(stopped, ignore_errors=True)
        ingest(folder, stopped, NO_OPTIONS)

    def check() -> None:
        ingest(folder, stopped, NO_OPTIONS)
        check_same(stopped, whole)

    assert stopped_at_every_write(monkeypatch, start, check) > 10


@pytest.mark.parametrize("with_pairs", [True, False])
def test_lists_whose_taking_stops_at_any_write(folder, tmp_path, monkeypatch, with_pairs):
    monkeypatch.setattr("os.fsync", lambda _: None)
    before, whole, stopped = (tmp_path / name for name in ("before", "whole", "stopped"))
    more = tmp_path / "more.tsv"
    more.write_text("300\t301\t0.5\n302\t303\t0.5\n")
    options = IngestOptions(pairs=(more,))
    ingest(folder, before, options)
    (folder / LABEL).write_text(
        "".join(f"{a}\t{b}\t1\n" for a in range(200, 204) for b in (205, 206))
    )
    more.write_text("300\t302\t0.25\n303\t301\t0.25\n301\t302\t0\n300\t777\t1\n")
    shutil.copytree(before, whole)
    ingest(folder, whole, options if with_pairs else NO_OPTIONS)
    given = [pair.score for pair in Corpus(whole).pairs() if pair.id_1 >= "300"]
    assert given == ([0.25, 0.25, 0] if with_pairs else [0.5, 0.5])
    assert len(Corpus(whole).pairs()) == len(given) + 8

    def start() -> None:
        shutil.rmtree(stopped, ignore_errors=True)
        shutil.copytree(before, stopped)
        ingest(folder, stopped, options)

    def check() -> None:
        ingest(folder, stopped, options if with_pairs else NO_OPTIONS)
        complete = json.loads((whole / "manifest.json").read_text())
        found = json.loads((stopped / "manifest.json").read_text())
        if with_pairs or found["rejects_bytes"] == complete["rejects_bytes"]:
            check_same(stopped, whole)
        else:  # it was stopped behind its end
            assert len(Corpus(stopped).pairs()) == 3 + 8

    assert stopped_at_every_write(monkeypatch, start, check) >= 4
