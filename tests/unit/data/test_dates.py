"""Dates of videos: in which forms tables may hold them, and in which one a corpus does."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.corpora import made_videos, write_corpus
from vidvec.data.corpus import Corpus
from vidvec.data.dates import iso_date
from vidvec.data.ingest import IngestOptions, ingest
from vidvec.data.stamps import stamp
from vidvec.errors import BadRecord
from vidvec.records import SourceRow, Video

FORMS = [
    ("2021-05-03", "2021-05-03"),
    (" 2021-05-03 ", "2021-05-03"),
    ("20210503", "2021-05-03"),
    (20210503, "2021-05-03"),
    (date(2021, 5, 3), "2021-05-03"),
    ("2021-05-03T10:00:00Z", "2021-05-03T10:00:00+00:00"),
    ("2021-05-03 10:00", "2021-05-03T10:00:00+00:00"),
    ("2021-05-03T10:00:00+08:00", "2021-05-03T02:00:00+00:00"),
    (datetime(2021, 5, 3, 10, tzinfo=UTC), "2021-05-03T10:00:00+00:00"),
    (datetime(2021, 5, 3, 23, tzinfo=timezone(timedelta(hours=-5))), "2021-05-04T04:00:00+00:00"),
    (1620036000, "2021-05-03T10:00:00+00:00"),
    (1620036000.25, "2021-05-03T10:00:00+00:00"),
    (1620036000123, "2021-05-03T10:00:00+00:00"),
]


@pytest.mark.parametrize(("value", "expected"), FORMS)
def test_one_form_of_many(value, expected) -> None:
    assert iso_date(value) == expected


@pytest.mark.parametrize(
    "value", ["yesterday", "2021-13-01", "20211301", True, [1], "", float("inf"), 1e300, b"then"]
)
def test_what_is_no_date_is_named(value) -> None:
    with pytest.raises(BadRecord, match="expected one such as 2021-05-03"):
        iso_date(value)


@given(st.lists(st.datetimes(min_value=datetime(1000, 1, 1)), min_size=2, max_size=8))
def test_moments_sort_as_text(moments) -> None:
    whole = [moment.replace(microsecond=0, tzinfo=UTC) for moment in moments]
    assert sorted(map(iso_date, moments)) == [iso_date(moment) for moment in sorted(whole)]


def test_tables_with_dates(tmp_path) -> None:
    rows = {
        "id": ["a", "b", "c", "d"],
        "title": ["one", "two", "three", "four"],
        "upload_date": pa.array([20210503, None, 1620036000, 99999999]),
    }
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table(rows), tmp_path / "in" / "meta.parquet")
    report = ingest(tmp_path / "in", tmp_path / "corpus", IngestOptions())
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.ids == ["a", "b", "c"]
    assert corpus.column("date").to_pylist() == ["2021-05-03", "", "2021-05-03T10:00:00+00:00"]
    assert corpus.video(0).date == "2021-05-03"
    assert dict(report.rejected) == {"bad-record": 1}


def test_a_csv_with_dates(tmp_path) -> None:
    (tmp_path / "meta.csv").write_text("id,title,date\na,x,2021-05-03\nb,y,\n", "utf-8")
    ingest(tmp_path / "meta.csv", tmp_path / "corpus", IngestOptions())
    assert Corpus(tmp_path / "corpus").column("date").to_pylist() == ["2021-05-03", ""]


def test_a_corpus_keeps_dates(tmp_path) -> None:
    videos = made_videos(3)
    dated = [Video(id=v.id, frames=v.frames, date="2021-05-03") for v in videos]
    corpus = write_corpus(tmp_path / "corpus", dated)
    assert [corpus.video(row).date for row in range(3)] == ["2021-05-03"] * 3


def test_another_date_is_another_stamp() -> None:
    rows = [SourceRow("x", Video(id="a", date=day)) for day in ("", "2021-05-03", "2021-05-04")]
    assert len({stamp(row) for row in rows}) == 3
