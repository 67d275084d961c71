"""What a collection holds of a video, and filters as its expressions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidvec.errors import BadRecord, UsageError
from vidvec.search.cluster.rows import (
    PARTS,
    both,
    by_ids,
    expression,
    known,
    record,
    refusal,
    spoken,
)
from vidvec.search.types import Filter, IndexedVideo

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
some_videos = st.builds(
    IndexedVideo,
    id=texts.filter(bool),
    title=texts,
    tags=st.lists(texts, max_size=3).map(tuple),
    category=texts,
    language=texts,
    duration_seconds=st.none() | st.floats(0, 1e6),
    date=st.sampled_from(["", "2021-05-03", "2021-05-03T10:00:00+00:00"]),
    file=texts,
)


@given(some_videos)
def test_a_video_comes_back_as_it_went(video):
    row = json.loads(json.dumps({**record(video, np.ones(3, "f4"), 5), "vector": None}))
    assert known(row) == video
    assert 0 <= row["part"] < PARTS
    assert refusal(video) == ""


@pytest.mark.parametrize(
    ("video", "words"),
    [
        (IndexedVideo("é" * 300), "600 bytes"),
        (IndexedVideo("a", tags=tuple(map(str, range(1025)))), "1,024 tags"),
        (IndexedVideo("a", tags=("x" * 1025,)), "1,024 bytes"),
        (IndexedVideo("a", category="x" * 1025), "category"),
        (IndexedVideo("a", title="x" * 61_000), "60,000"),
    ],
)
def test_what_does_not_fit_is_named(video, words):
    assert words in refusal(video)


def test_a_wrong_date_is_refused():
    with pytest.raises(BadRecord):
        record(IndexedVideo("a", date="soon"), np.ones(2, "f4"), 0)
    with pytest.raises(UsageError, match="filter before"):
        expression(Filter(before="soon"))


def test_filters_are_expressions():
    assert expression(Filter()) == ""
    assert expression(Filter(tags=("a", 'say "b"', "a"))) == (
        'array_contains_all(tags, ["a", "say \\"b\\""])'
    )
    assert expression(Filter(languages=("zh-Hant",), max_seconds=3)) == (
        'array_contains_any(spoken, ["zh-hant"]) and seconds >= 0.0 and seconds <= 3.0'
    )
    assert expression(Filter(categories=("海",), after="1970-01-02")) == (
        'category in ["海"] and moment >= 86400'
    )
    with pytest.raises(UsageError, match="1001 values"):
        expression(Filter(tags=tuple(map(str, range(1001)))))
    assert both("", "a > 1", "") == "(a > 1)"
    assert by_ids(['"x"']) == 'id in ["\\"x\\""]'


def test_a_language_is_what_it_is_a_variant_of():
    assert spoken("zh-Hant-TW") == ["zh", "zh-hant", "zh-hant-tw"]
    assert spoken("") == []
