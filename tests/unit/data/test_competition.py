"""The competition's folder: what goes in, what is left out and named, what changes later."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.competition import (
    IDS,
    LABEL,
    LIST,
    NO_OPTIONS,
    ORDER,
    PAIRS,
    STRICT,
    flipped,
    lines_into,
    list_of,
    offsets,
    read_in,
    rejects_of,
    without,
    write_folder,
    write_part,
)
from vidvec.data import competition
from vidvec.data.corpus import Corpus
from vidvec.data.ingest import IngestOptions, ingest
from vidvec.data.pairs import iterate_pairs
from vidvec.errors import BadRecord, UsageError
from vidvec.records import Pair, Reject


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data")


def test_a_whole_folder_goes_in(folder):
    report, corpus = read_in(folder, STRICT)
    assert (report.videos, report.rejected) == (29, Counter())
    assert corpus.ids == ORDER
    assert corpus.manifest["ingests"][0]["kind"] == "competition"
    for part, rows in corpus.parts.items():
        assert np.diff(rows).tolist() == [1] * (len(rows) - 1)
        assert [corpus.ids[row] for row in rows] == [str(one) for one in IDS[part]]
    assert corpus.pairs() == PAIRS
    assert corpus.tag_vocabulary == ["7", "19", "31"]


def test_a_folder_without_the_parts_is_another_kind(tmp_path):
    write_part(tmp_path / "data", "test_a", ["a", "b"])
    (tmp_path / "data" / "label.tsv").write_text("a\tb\t7\n")
    report, corpus = read_in(tmp_path / "data", STRICT)  # ids and scores may be what they like
    assert corpus.manifest["ingests"][0]["kind"] == "tfrecord"
    assert (report.videos, corpus.pairs()) == (2, [Pair("a", "b", 7.0)])


# --- what is left out ---------------------------------------------------------------------------


# How to spoil the folder, and what is then named; 'AT n' stands for the offset of record n.
BAD = {
    "no test_b": (without("test_b"), [("test_b/", "", "missing-part")]),
    "test_a empty": (without("test_a", keep=True), [("test_a/", "", "missing-part")]),
    "no pointwise": (without("pointwise"), [("pointwise/", "", "missing-part")]),
    "no pairwise": (without("pairwise"), [("pairwise/", "", "missing-part")]),
    "no labels": (
        lambda folder: (folder / LABEL).unlink(),
        [(LABEL, "", "missing-labels")],
    ),
    "unknown id": (
        lines_into(LABEL, "200\t999\t1\n", "201\t202\t1\n", "998\t200\t0\n"),
        [(f"{LABEL}:5", "999", "pair-unknown-id"), (f"{LABEL}:7", "998", "pair-unknown-id")],
    ),
    "scores": (
        lines_into(LABEL, "200\t202\t1.05\n200\t203\t-0.1\n200\t204\tgood\n200\t205\tnan\n"),
        [(f"{LABEL}:{row}", "", "bad-score") for row in (5, 6, 7, 8)],
    ),
    "label ids": (
        lines_into(LABEL, "2x0\t202\t1\n200\t-3\t1\n200\t\t1\n200\t200\t1\n"),
        [
            (f"{LABEL}:5", "", "bad-id"),
            (f"{LABEL}:6", "", "bad-id"),
            (f"{LABEL}:7", "", "no-id"),
            (f"{LABEL}:8", "", "same-video"),
        ],
    ),
    "label columns": (
        lines_into(LABEL, "200\t202\n", "200 202 1\n", '"200\t202\t1\n', "caf\udce9\t202\t1\n"),
        [
            (f"{LABEL}:5", "", "bad-pair"),
            (f"{LABEL}:6", "", "bad-pair"),
            (f"{LABEL}:7", "", "bad-pair"),
            (f"{LABEL}:8", "", "not-utf8"),
        ],
    ),
    "first label": (
        list_of(LABEL, "200\t202\tgood\n200\t203\t1\n"),
        [(f"{LABEL}:1", "", "bad-score")],
    ),
    "header of labels": (
        list_of(LABEL, "id1\tvideo\tscore\n200\t203\t1\n"),
        [(f"{LABEL}:1", "", "bad-pair")],
    ),
    "tags": (
        lines_into(LIST, "cat\n\n7\n-1\n8\n\n\n"),
        [
            (f"{LIST}:4", "", "bad-tag"),
            (f"{LIST}:5", "", "bad-tag"),
            (f"{LIST}:6", "7", "duplicate-tag"),
            (f"{LIST}:7", "", "bad-tag"),
        ],
    ),
    "record": (
        flipped("test_a/test_a.tfrecords", 1),
        [("test_a/test_a.tfrecords@AT 1", "", "crc")],
    ),
    "empty file": (
        lambda folder: (folder / "test_b" / "more.tfrecords").write_bytes(b""),
        [("test_b/more.tfrecords", "", "empty-file")],
    ),
    "record's id": (
        lambda folder: write_part(folder, "test_a", [300, "3x1", 302, "-5", 303]),
        [
            ("test_a/test_a.tfrecords@AT 1", "3x1", "bad-id"),
            ("test_a/test_a.tfrecords@AT 3", "-5", "bad-id"),
        ],
    ),
    "id in two parts": (
        lambda folder: write_part(folder, "test_b", [400, 201, 301]),
        [
            ("test_b/test_b.tfrecords@AT 1", "201", "duplicate-id"),
            ("test_b/test_b.tfrecords@AT 2", "301", "duplicate-id"),
        ],
    ),
    "test ids": (
        list_of("test_a/ids.txt", "300\n301\n777\n\n302\n300\n"),
        [
            ("test_a/ids.txt:3", "777", "test-id-no-record"),
            ("test_a/ids.txt:6", "300", "test-id-twice"),
        ],
    ),
    "test ids that are none": (
        list_of("test_a/ids.txt", "300\n30l\n4 0\n"),
        [("test_a/ids.txt:2", "30l", "bad-id"), ("test_a/ids.txt:3", "4 0", "bad-id")],
    ),
    "test ids with a header": (
        list_of("test_b/submit.CSV", "\ufeffid,n\r\n400,1\r\n888,2\r\n"),
        [("test_b/submit.CSV:3", "888", "test-id-no-record")],
    ),
}


def named(folder: Path, expected: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The rejects with offsets in place of record numbers."""
    found = []
    for where, video, reason in expected:
        file, _, record = where.partition("@AT ")
        at = f"@{offsets(folder / file)[int(record)]}" if record else ""
        found.append((f"{file}{at}", video, reason))
    return found


@pytest.mark.parametrize("what", BAD)
def test_what_is_bad_is_named_and_the_rest_goes_in(folder, what):
    spoil, expected = BAD[what]
    spoil(folder)
    expected = named(folder, expected)
    _, corpus = read_in(folder)
    found = rejects_of(corpus.path)
    if what == "no pairwise":  # and all its labels are gone with it
        assert found == expected
        assert corpus.pairs() == []
        return
    assert sorted(found) == sorted(expected)
    left_out = {video for _, video, reason in found if reason in ("bad-id", "duplicate-id")}
    parts = [row for part, row in IDS.items() if (part + "/", "", "missing-part") not in found]
    there = {str(one) for row in parts for one in row} - left_out
    if what == "record":
        there -= {"301"}
    if what == "id in two parts":
        there = {str(one) for part in ("pointwise", "pairwise", "test_a") for one in IDS[part]}
        there.add("400")
    if what == "record's id":
        there -= {"301"}
    assert set(corpus.ids) == there
    for rows in corpus.parts.values():
        assert np.diff(rows).tolist() == [1] * (len(rows) - 1)
    if what not in ("first label", "header of labels", "no labels"):
        assert corpus.pairs()[:4] == PAIRS
    if what == "tags":
        assert corpus.tag_vocabulary == ["7", "8", "19", "31"]
    if what == "unknown id":
        assert corpus.pairs()[4:] == [Pair("201", "202", 1.0)]


@pytest.mark.parametrize("what", BAD)
def test_strict_stops_at_each_and_again_at_the_same(folder, what):
    spoil, expected = BAD[what]
    spoil(folder)
    where, video, reason = named(folder, expected)[0]
    for _ in range(3):
        with pytest.raises(BadRecord) as caught:
            ingest(folder, folder.parent / "corpus", STRICT)
        assert caught.value.reason == reason
        assert caught.value.detail.startswith(f"{where} {video}".strip() + ":")
    report, corpus = read_in(folder)  # without strict it goes on, to the same end
    again = ingest(folder, folder.parent / "plain", NO_OPTIONS)
    assert report.rejected == again.rejected
    assert corpus.ids == Corpus(folder.parent / "plain").ids
    with pytest.raises(BadRecord, match=f"^{reason}: {where.partition('@')[0]}"):
        ingest(folder, folder.parent / "corpus", STRICT)


def test_a_record_that_is_twice_says_in_which_part(folder):
    write_part(folder, "test_b", [400, 201])
    _, corpus = read_in(folder)
    line = json.loads((corpus.path / "rejects.jsonl").read_text().splitlines()[0])
    assert line["detail"] == "id '201' is in the corpus already, from pairwise"


@pytest.mark.parametrize(
    "content",
    [
        "200\t201\t0.5\r\n202\t203\t0\r\n",
        "\ufeff200\t201\t0.5\n202\t203\t0\n",
        "id_1\tid_2\tscore\n200\t201\t0.5\n202\t203\t0",
        "\ufeffvid1\tvid2\trelevance\r\n200\t201\t0.5\r\n\r\n202\t203\t0.0\r\n",
        "score\tid2\tid1\n.5\t201\t200\n0.00\t203\t202\n",
    ],
)
def test_labels_with_a_header_or_other_line_ends(folder, content):
    (folder / LABEL).write_bytes(content.encode())
    _, corpus = read_in(folder, STRICT)
    assert corpus.pairs() == [Pair("200", "201", 0.5), Pair("202", "203", 0.0)]


@pytest.mark.parametrize(
    ("content", "bad"),
    [
        (b"31\r\n7\r\n19\r\n", []),
        (b"\xef\xbb\xbf 31\n7 \n19\n\n\n", []),
        (b"31\n\n7\n7\r\n\xff\n19\n007\n1 2\n" + b"9" * 30, [2, 4, 5, 7, 8, 9]),
    ],
)
def test_tag_lists(folder, content, bad):
    (folder / LIST).write_bytes(content)
    _, corpus = read_in(folder)
    assert corpus.tag_vocabulary == ["7", "19", "31"]
    assert [where for where, _, _ in rejects_of(corpus.path)] == [f"{LIST}:{line}" for line in bad]


def test_a_tag_list_that_is_given_goes_before(folder):
    (folder / LIST).write_text("no list\n")
    given = folder.parent / "given.txt"
    given.write_text("5\nx\n")
    report, corpus = read_in(folder, IngestOptions(tag_list=given))
    assert corpus.tag_vocabulary == ["5"]
    assert rejects_of(corpus.path) == [("given.txt:2", "", "bad-tag")]
    assert "in already" in ingest(folder, corpus.path, IngestOptions(tag_list=given)).note
    assert report.rejected == ingest(folder, corpus.path, NO_OPTIONS).rejected


def test_labels_and_tags_may_lie_elsewhere(folder):
    (folder / LABEL).rename(folder / "label.tsv")
    (folder / LIST).rename(folder / "pairwise" / LIST)
    _, corpus = read_in(folder, STRICT)
    assert corpus.pairs() == PAIRS
    assert corpus.tag_vocabulary == ["7", "19", "31"]


def test_other_pairs_may_have_any_scale(folder):
    (folder.parent / "more.tsv").write_text("300\t301\t-7\n302\t303\t12.5\n")
    options = IngestOptions(strict=True, pairs=(folder.parent / "more.tsv",))
    _, corpus = read_in(folder, options)
    assert corpus.pairs() == [Pair("300", "301", -7.0), Pair("302", "303", 12.5), *PAIRS]


CELLS = st.sampled_from(["1", "22", "x", "-1", "", " 3 ", "0.5", "1.5", "nan", "1e-1", "0_1"])


@given(st.lists(st.lists(CELLS, min_size=1, max_size=4), min_size=1, max_size=8))
def test_every_row_of_labels_is_a_pair_or_a_reject(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("labels") / "label.tsv"
    rows = [["7", "8", "1"], *(row for row in rows if row != [""])]
    path.write_text("\n".join("\t".join(row) for row in rows))
    found = list(iterate_pairs(path, labels=True))
    assert [where for where, _ in found] == [f"label.tsv:{at}" for at in range(1, len(rows) + 1)]
    for row, (_, pair) in zip(rows, found, strict=True):
        ids = [cell.strip() for cell in row[:2]]
        score = row[2] if len(row) > 2 else ""
        good = (
            all(one in ("1", "22", "3", "7", "8") for one in ids)
            and len(set(ids)) == 2
            and score.strip() in ("1", "0.5", "1e-1")
        )
        assert isinstance(pair, Pair if good else Reject)
        if good:
            assert pair == Pair(*ids, float(score))


# --- ids of a submission ------------------------------------------------------------------------

TEST_IDS = [str(one) for part in ("test_a", "test_b") for one in IDS[part]]


def test_ids_of_test_videos_in_order(folder):
    assert competition.test_ids(folder) == TEST_IDS
    write_part(folder, "test_b", [400, 301, 402])
    assert competition.test_ids(folder) == [*TEST_IDS[:4], "400", "402"]


def test_ids_of_damaged_records_and_of_lists_count(folder):
    file = folder / "test_a" / "test_a.tfrecords"
    data = bytearray(file.read_bytes())
    data[offsets(file)[2] - 5] ^= 1  # the last byte of the second payload; its id is whole
    file.write_bytes(data)
    assert competition.test_ids(folder) == TEST_IDS
    (folder / "test_a" / "ids.csv").write_text("video,note\n300,x\n302,x\n303,x\n305,x\nno,x\n")
    assert competition.test_ids(folder) == ["300", "302", "303", *TEST_IDS[4:], "305"]
    file.write_bytes(data[: offsets(file)[3] + 20])  # cut in the last record
    assert competition.test_ids(folder) == ["300", "302", *TEST_IDS[4:], "303", "305"]


def test_a_folder_without_test_videos(folder):
    for part in ("test_a", "test_b"):
        without(part)(folder)
    with pytest.raises(UsageError, match="no test videos: expected TFRecords in test_a and test_b"):
        competition.test_ids(folder)
