"""Words in titles as a cluster finds them, without one: against a folder's index."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.search.indexed import TITLES, corpus_with, videos, write_vectors
from vidvec.errors import UsageError
from vidvec.search.cluster.rows import folded, pairs_of
from vidvec.search.cluster.words import find_words, having, split
from vidvec.search.engine import SearchIndex, build_index

COUNT = 90
SOME = ["a dog and a dog", "dogged", "ÜBUNG macht", "ab bc abc", "海边 海边 海边", "x", ""]


class Titles:
    """Answers conditions as a cluster does, from a list of titles."""

    def __init__(self, titles: dict[str, str]) -> None:
        self._titles = titles

    def __call__(self, condition: str, most: int = 10**9) -> Iterator[tuple[str, str]]:
        wanted = [
            pair
            for found in re.findall(r"array_contains_all\(pairs, (\[.*?\])\)(?=\)|$)", condition)
            for pair in json.loads(found)
        ]
        for video, title in self._titles.items():
            if set(wanted) <= set(pairs_of(title)):
                yield video, title

    def count(self, condition: str) -> int:
        return sum(1 for _ in self(condition))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    place = tmp_path_factory.mktemp("words")
    titles = [*TITLES, *SOME]
    made = [
        replace(one, title=titles[number % len(titles)]) for number, one in enumerate(videos(COUNT))
    ]
    corpus = corpus_with(place / "corpus", made)
    vectors = np.random.default_rng(0).standard_normal((COUNT, 4)).astype(np.float32)
    folder = write_vectors(place / "vectors", [one.id for one in made], vectors, corpus.path)
    build_index(folder)
    with SearchIndex.open(folder) as index:
        yield index, {one.id: one.title for one in made}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    text=st.lists(st.sampled_from([*TITLES, *SOME, "dog", "海边", "abc", "b", "übung"]), max_size=3)
    .map(" ".join)
    .filter(str.strip)
)
def test_hits_and_scores_are_those_of_the_folders_index(both, text):
    index, titles = both
    source = Titles(titles)
    mean = sum(max(0, len(title) - 2) for title in titles.values()) / len(titles)
    found = find_words(text, 30, "", titles=source, count=source.count, mean_tokens=mean)
    expected = index.words(text, 30)
    assert [hit.id for hit in found] == [hit.id for hit in expected]
    scores = [hit.cosine for hit in expected]
    assert [hit.cosine for hit in found] == pytest.approx(scores, rel=1e-6)


@given(st.text(max_size=30), st.text(max_size=3))
def test_a_title_with_a_word_has_all_of_its_pairs(around, word):
    small = folded(word)
    if small and len(folded(around)) < 100:
        asked = set(json.loads(having(small)[len("array_contains_all(pairs, ") : -1]))
        assert asked <= set(pairs_of(around + word + around))


@given(st.text(max_size=50))
def test_small_letters_are_as_many(text):
    assert len(folded(text)) == len(text)


@pytest.mark.parametrize("text", ["", "  ", "x" * 1001, "\ud800", "a " * 65])
def test_words_that_cannot_be_looked_for(text):
    with pytest.raises(UsageError):
        split(text)
