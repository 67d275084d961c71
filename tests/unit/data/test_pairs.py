"""Scored pairs: formats, headers, and rows that are none."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidvec.data.pairs import read_pairs
from vidvec.errors import FormatError
from vidvec.records import Pair

EXPECTED = [Pair("1", "2", 0.5), Pair("视频", "b c", 1.0), Pair("3", "1", -2.0)]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("label.tsv", "1\t2\t0.5\n视频\tb c\t1.0\n3\t1\t-2\n"),
        ("label.tsv", "1\t2\t0.5\r\n 视频 \tb c\t1\r\n\r\n3\t1\t-2e0"),
        ("label.tsv", "\ufeff1\t2\t0.5\textra\n视频\tb c\t1.0\n3\t1\t-2\tmore\tyet\n"),
        ("label.csv", "1,2,0.5\n视频,b c,1.0\n3,1,-2\n"),
        ("label.csv", '"1";"2";0.5\n"视频";"b c";1.0\n3;1;-2\n'),
        ("label.txt", "1\t2\t0.5\n视频\tb c\t1.0\n3\t1\t-2\n"),
        ("label.txt", "1, 2, 0.5\n视频, b c, 1.0\n3, 1, -2\n"),
        ("label.tsv", "id_1\tid_2\tgrade\trule\n1\t2\t0.5\tx\n视频\tb c\t1\ty\n3\t1\t-2\tz\n"),
        ("label.csv", "similarity,ID2,note,Id1\n0.5,2,x,1\n1.0,b c,x,视频\n-2,1,x,3\n"),
        ("label.csv", "left,right,how alike\n1,2,0.5\n视频,b c,1.0\n3,1,-2\n"),
        ("label.csv", "score,left,right\n0.5,1,2\n1.0,视频,b c\n-2,3,1\n"),
        ("label.csv", "label,left,right\n0.5,1,2\n1.0,视频,b c\n-2,3,1\n"),
        (
            "label.jsonl",
            '{"id_1": 1, "id_2": 2, "score": 0.5}\n{"score": "1", "id2": "b c", "id1": "视频"}\n'
            '\n["3", "1", -2, "more"]\n',
        ),
    ],
)
def test_formats(tmp_path: Path, name: str, content: str) -> None:
    pairs, rejects = read_pairs(write(tmp_path / name, content))
    assert pairs == EXPECTED
    assert rejects == []


def test_blanks_between_fields(tmp_path: Path) -> None:
    pairs, rejects = read_pairs(write(tmp_path / "label.txt", "1 2  0.5\n3   4 1\n"))
    assert (pairs, rejects) == ([Pair("1", "2", 0.5), Pair("3", "4", 1.0)], [])


@pytest.mark.parametrize(
    "columns",
    [
        {"id_1": ["1", "视频", "3"], "id_2": ["2", "b c", "1"], "score": [0.5, 1, -2]},
        {
            "grade": [0.5, 1, -2],
            "x": [1, 2, 3],
            "id2": ["2", "b c", "1"],
            "id1": ["1", "视频", "3"],
        },
        {"a": ["1", "视频", "3"], "b": ["2", "b c", "1"], "c": [0.5, 1, -2], "d": [0, 0, 0]},
    ],
)
def test_parquet(tmp_path: Path, columns: dict) -> None:
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=2)
    assert read_pairs(path) == (EXPECTED, [])


def test_parquet_rows_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    columns = {"id_1": [1, None, 3, 4], "id_2": [2, 2, 3, 5], "score": [0.5, 1.0, 1.0, None]}
    pq.write_table(pa.table(columns), path)
    pairs, rejects = read_pairs(path)
    assert pairs == [Pair("1", "2", 0.5)]
    assert [(reject.where, reject.reason) for reject in rejects] == [
        ("pairs.parquet#2", "no-id"),
        ("pairs.parquet#3", "same-video"),
        ("pairs.parquet#4", "bad-score"),
    ]


def test_rows_that_are_none(tmp_path: Path) -> None:
    rows = {
        "1\t2\t0.5": "",
        "1\t2": "bad-pair",
        "1\t2\tmuch": "bad-score",
        "1\t2\tnan": "bad-score",
        "1\t2\tinf": "bad-score",
        "1\t2\t": "bad-score",
        " \t2\t1": "no-id",
        "1\t\t1": "no-id",
        "7\t 7 \t1": "same-video",
        '"1\t2\t1': "bad-pair",
        "caf\udce9\t2\t1": "not-utf8",
        "3\t4\t1": "",
    }
    content = "\n".join(rows).encode(errors="surrogateescape")
    pairs, rejects = read_pairs(write(tmp_path / "label.tsv", content))
    assert pairs == [Pair("1", "2", 0.5), Pair("3", "4", 1.0)]
    expected = [(f"label.tsv:{at}", reason) for at, reason in enumerate(rows.values(), 1) if reason]
    assert [(reject.where, reject.reason) for reject in rejects] == expected
    assert all(reject.detail.encode() for reject in rejects)


def test_json_rows_that_are_none(tmp_path: Path) -> None:
    rows = {
        '{"id_1": "a", "id_2": "b", "score": 1}': "",
        '{"id_1": "a", "score": 1, "other": 2}': "bad-pair",  # "other" is not taken for an id
        '{"id_1": "a", "id_2": "b"}': "bad-pair",
        '["a", "b"]': "bad-pair",
        '"abc"': "bad-pair",
        "{": "bad-pair",
        '{"id_1": "a", "id_2": "b", "score": true}': "bad-score",
        '{"id_1": "a", "id_2": "b", "score": NaN}': "bad-score",
        '{"id_1": 1.5, "id_2": "b", "score": 1}': "no-id",
        '{"id_1": null, "id_2": "b", "score": 1}': "no-id",
        '{"id_1": 5, "id_2": "5", "score": 1}': "same-video",
    }
    pairs, rejects = read_pairs(write(tmp_path / "label.jsonl", "\n".join(rows)))
    assert pairs == [Pair("a", "b", 1.0)]
    expected = [
        (f"label.jsonl:{at}", reason) for at, reason in enumerate(rows.values(), 1) if reason
    ]
    assert [(reject.where, reject.reason) for reject in rejects] == expected


def test_a_first_row_without_a_finite_score_is_no_header(tmp_path: Path) -> None:
    pairs, rejects = read_pairs(write(tmp_path / "label.tsv", "a\tb\tnan\nc\td\t1\n"))
    assert pairs == [Pair("c", "d", 1.0)]
    assert [reject.reason for reject in rejects] == ["bad-score"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pairs.xlsx", "1\t2\t3\n", "expected .tsv"),
        ("pairs.parquet", "no parquet at all", "no Parquet file"),
        ("pairs.tsv", "id_1\tvideo\tscore\na\tb\t1\n", "'id_1', 'video', 'score'"),
    ],
)
def test_files_that_are_no_pairs(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        read_pairs(write(tmp_path / name, content))
    assert name in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="does not exist"):
        read_pairs(tmp_path / "pairs.tsv")


def test_an_empty_file_has_no_pairs(tmp_path: Path) -> None:
    assert read_pairs(write(tmp_path / "pairs.tsv", "")) == ([], [])


@pytest.mark.shared
def test_published_labels(shared: Path) -> None:
    folder = shared / "reference" / "pipeline"
    pairs, rejects = read_pairs(folder / "label.tsv")
    lines = (folder / "label.tsv").read_text().splitlines()
    assert rejects == []
    assert [f"{p.id_1}\t{p.id_2}\t{p.score}" for p in pairs] == lines
    expected = json.loads((folder / "expected_labels.json").read_text())
    assert len(pairs) == len(expected["rank_normalised"])


@pytest.mark.shared
def test_graded_pairs(shared: Path) -> None:
    path = shared / "data" / "videos" / "pairs_rule_graded.tsv"
    pairs, rejects = read_pairs(path)
    with path.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert rejects == []
    assert [(p.id_1, p.id_2) for p in pairs] == [(row["id_1"], row["id_2"]) for row in rows]
    assert math.fsum(p.score for p in pairs) == sum(int(row["grade"]) for row in rows)
    assert len(pairs) == 126
