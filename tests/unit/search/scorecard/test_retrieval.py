"""Recall@k and mean average precision against loops over all queries."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.unit.search.indexed import write_vectors
from vidvec.errors import FormatError, UsageError
from vidvec.records import Video
from vidvec.search.scorecard.material import Material, Settings, read_groups
from vidvec.search.scorecard.retrieval import _nearest, retrieval

SETTINGS = Settings(split="all", resamples=100)
VIDEOS = {video.id: video for video in made_videos(60)}


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    videos = list(VIDEOS.values())
    corpus = write_corpus(folder / "corpus", videos, made_pairs(videos, 60))
    random = np.random.default_rng(0)
    centres = random.normal(size=(4, 8))
    vectors = [centres[int(video.category)] + 1.2 * random.normal(size=8) for video in videos]
    ids = [video.id for video in videos]
    write_vectors(folder / "vectors", ids, np.array(vectors, np.float32), folder / "corpus")
    groups = {ids[3]: "g", ids[9]: "g", ids[20]: "alone", "elsewhere": "g"}
    return Material(folder / "vectors", corpus, SETTINGS, groups=groups)


def alike(material: Material, sense: str, one: str, two: str) -> bool:
    """Whether two videos are relevant to one another, straight from their records."""
    a, b = (VIDEOS[each] for each in (one, two))
    if sense == "category":
        return a.category == b.category
    if sense == "groups":
        return material.groups.get(one) == material.groups.get(two) is not None
    if sense == "tags":
        first, second = set(a.tags or ()), set(b.tags or ())
        return bool(first & second) and len(first & second) >= len(first | second) / 2
    positive = material.scores.min() + 0.75 * (material.scores.max() - material.scores.min())
    alike = [{p.id_1, p.id_2} for p in material.pairs if p.score >= positive]
    return {one, two} in alike


@pytest.fixture(scope="module")
def measured(material):
    return retrieval(material)


@pytest.mark.parametrize("sense", ["pairs", "tags", "category", "groups"])
def test_figures_are_those_of_a_plain_loop(material, measured, sense):
    row = measured.rows[sense]
    expected: dict[str, list[float]] = {"recall_at_1": [], "recall_at_5": [], "map": []}
    for place, query in enumerate(material.ids):
        others = [other for other in range(len(material.ids)) if other != place]
        relevant = [alike(material, sense, query, material.ids[other]) for other in others]
        if not any(relevant):
            continue
        cosines = material.units[0][others] @ material.units[0][place]
        order = np.argsort(-cosines)
        for k in (1, 5):
            expected[f"recall_at_{k}"].append(any(relevant[at] for at in order[:k]))
        expected["map"].append(average_precision_score(relevant, cosines))
    assert row.count == len(expected["map"]) > 0
    for key, values in expected.items():
        assert row.figures[key].value == pytest.approx(np.mean(values), abs=1e-6), key
    assert row.few == (row.count < 30)


def test_of_equal_scores_the_first_come_first():
    random = np.random.default_rng(2)
    for count in (1, 4, 10, 30):
        scores = random.integers(0, 4, 12).astype(float)
        expected = np.argsort(-scores, kind="stable")[:count]
        assert _nearest(scores, count).tolist() == expected.tolist()


def test_so_many_queries_are_drawn_as_may_be(material):
    few = Settings(split="all", resamples=10, queries=7)
    found = retrieval(Material(material.path, material.corpus, few))
    assert found.rows["category"].count == 7
    assert any("No groups" in note for note in found.notes)


def test_where_nothing_is_known_to_be_alike_the_reason_is_given(tmp_path):
    videos = [Video(id=f"v{n}", title="a b", frames=np.ones((1, 24), np.float16)) for n in range(5)]
    corpus = write_corpus(tmp_path / "corpus", videos)
    path = write_vectors(tmp_path / "vectors", corpus.ids, np.eye(5, dtype=np.float32))
    with pytest.raises(UsageError, match="nothing says which videos are relevant"):
        retrieval(Material(path, corpus, SETTINGS))


def test_groups_are_read_from_tables(tmp_path):
    table = tmp_path / "groups.csv"
    table.write_text("group,id,cosine\n1,a,1.0\n1,b,0.9\n,c,\n2,d,1\n", "utf-8")
    assert read_groups(table) == {"a": "1", "b": "1", "d": "2"}
    lines = tmp_path / "groups.jsonl"
    lines.write_text('{"id": 7, "group": "x"}\nnot json\n{"id": "b"}\n', "utf-8")
    assert read_groups(lines) == {"7": "x"}
    (tmp_path / "none.csv").write_text("id,title\na,b\n", "utf-8")
    with pytest.raises(FormatError, match=r"expected columns id and group.*id, title"):
        read_groups(tmp_path / "none.csv")
    with pytest.raises(FormatError, match="does not exist"):
        read_groups(tmp_path / "missing.csv")
    with pytest.raises(FormatError, match="no table of groups"):
        read_groups(tmp_path / "groups.xlsx")
