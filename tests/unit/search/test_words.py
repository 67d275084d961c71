"""Words in titles against a plain scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.search.indexed import TITLES, corpus_with, passes, videos, write_vectors
from vidvec.errors import UsageError
from vidvec.search.engine import SearchIndex, build_index
from vidvec.search.types import Filter

COUNT = 160
EXTRA = ["50% off_now", "back\\slash", "ÜBUNG macht", "海", "NEAR AND OR NOT", "a*b -c ^d", "ß ẞ"]


@pytest.fixture(scope="module")
def some():
    made = videos(COUNT)
    return [
        replace(one, title=EXTRA[number % len(EXTRA)]) if number % 5 == 0 else one
        for number, one in enumerate(made)
    ]


@pytest.fixture(scope="module")
def index(tmp_path_factory, some):
    place = tmp_path_factory.mktemp("words")
    corpus = corpus_with(place / "corpus", some)
    ids = [video.id for video in some]
    vectors = np.random.default_rng(0).standard_normal((COUNT, 4)).astype(np.float32)
    folder = write_vectors(place / "vectors", ids, vectors, corpus.path)
    build_index(folder)
    with SearchIndex.open(folder) as opened:
        yield opened


def scan(some, text, asked=Filter()):  # noqa: B008
    """Ids of videos whose titles have every word, whatever the case of letters."""
    words = text.lower().split()
    return {
        one.id
        for one in some
        if passes(one, asked) and all(word in one.title.lower() for word in words)
    }


pieces = st.sampled_from(sorted({*"".join(TITLES + EXTRA), *TITLES, *EXTRA} - {""}))


@given(text=st.lists(pieces | st.text(max_size=3), min_size=1, max_size=3).map("".join))
@example("帆船")
@example("海边的帆船")
@example("边")
@example('"hello"')
@example("100%_")
@example("%")
@example("_")
@example("übung")
@example("ä")
@example("äÖ")
@example("\\")
@example("AND OR")
@example("dog BEACH")
@example("nothing of the kind")
def test_words_are_found_as_by_a_plain_scan(index, some, text):
    if not text.replace("\0", " ").split():
        with pytest.raises(UsageError, match="words are empty"):
            index.words(text, 5)
        return
    hits = index.words(text, COUNT)
    assert {hit.id for hit in hits} == scan(some, text.replace("\0", " "))
    assert hits == sorted(hits, key=lambda hit: (-hit.cosine, hit.id))
    assert all(hit.cosine >= 0 for hit in hits)
    assert index.words(text, 2) == hits[:2]


@pytest.mark.parametrize("text", ["帆船", "海边的帆船", "dog", "3"])
def test_words_and_filters(index, some, text):
    for asked in (Filter(tags=("sea",)), Filter(languages=("zh",), min_seconds=20)):
        found = {hit.id for hit in index.words(text, COUNT, filter=asked)}
        assert found == scan(some, text, asked)


def test_a_rarer_word_counts_more_and_shorter_titles_come_first(index):
    first = index.words("海", 3)
    assert len({hit.id for hit in first}) == 3
    assert first[0].cosine == 1.0  # the title is that character
    assert index.words("ubung", 5) == []  # accents count


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "words are empty"),
        (" \n\t", "words are empty"),
        ("\0", "words are empty"),
        ("a" * 2**20, "1048576 characters, expected at most 1000"),
        ("a " * 65, "65 words, expected at most 64"),
        ("\ud83d", "not Unicode"),
    ],
)
def test_bad_words(index, text, message):
    with pytest.raises(UsageError, match=message):
        index.words(text, 5)
