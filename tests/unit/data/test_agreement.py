"""Agreement of raters and triangles of scores: published figures, networkx, cases by hand."""

from __future__ import annotations

from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from scipy.stats import spearmanr

from vidvec.data import triangles as module
from vidvec.data.agreement import Rating, agreement, krippendorff_alpha
from vidvec.data.pairs import read_ratings
from vidvec.data.triangles import excesses, find_triangles, strains
from vidvec.records import Pair

# Krippendorff 2011, "Computing Krippendorff's alpha-reliability", section C and its figures.
OBSERVERS = [
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
]


def published() -> list[Rating]:
    return [
        Rating(Pair(f"a{unit}", f"b{unit}", float(value)), f"observer {number}")
        for number, line in enumerate(OBSERVERS)
        for unit, value in enumerate(line.split())
        if value != "."
    ]


def test_alpha_is_the_published_one():
    ratings = published()
    units = [int(rating.pair.id_1[1:]) for rating in ratings]
    alpha = krippendorff_alpha(units, [rating.pair.score for rating in ratings])
    assert alpha == pytest.approx(0.849, abs=0.0005)
    found = agreement(ratings)
    assert found.alpha.value == pytest.approx(alpha)
    assert found.alpha.low < alpha < found.alpha.high
    assert (found.ratings, found.pairs, found.repeated) == (41, 12, 11)
    third = next(rater for rater in found.raters if rater.name == "observer 2")
    # Higher by 2/3, 1/3·0, … : unit by unit against the mean of the others.
    table = [line.split() for line in OBSERVERS]
    gaps = [
        float(table[2][unit])
        - np.mean([float(row[unit]) for row in (table[0], table[1], table[3]) if row[unit] != "."])
        for unit in range(1, 11)
    ]
    assert third.bias == pytest.approx(np.mean(gaps))
    assert third.difference == pytest.approx(np.mean(np.abs(gaps)))


def test_differences_by_hand():
    scores = {"a": [0.0, 1.0, 0.5], "b": [0.2, 0.2], "c": [1.0]}
    ratings = [Rating(Pair("x", video, s)) for video, some in scores.items() for s in some]
    pairwise = np.mean([abs(x - y) for x, y in combinations(scores["a"], 2)])
    assert agreement(ratings).difference.value == pytest.approx((pairwise + 0) / 2)


def test_either_order_of_the_videos_is_the_same_pair():
    found = agreement([Rating(Pair("a", "b", 0.0)), Rating(Pair("b", "a", 1.0))])
    assert found.repeated == found.pairs == 1


def test_ratings_of_different_pairs_say_nothing():
    assert agreement([Rating(Pair("a", "b", 0.1)), Rating(Pair("a", "c", 0.2))]) is None
    assert agreement([]) is None


def test_the_ceiling_is_what_true_scores_reach():
    """Two raters see true scores through noise; the true ones rank a rating as well as it says."""
    random = np.random.default_rng(0)
    truth = random.normal(size=2000)
    seen = [truth + 0.7 * random.normal(size=2000) for _ in range(2)]
    ratings = [
        Rating(Pair(f"a{at}", f"b{at}", score), f"rater {number}")
        for number, some in enumerate(seen)
        for at, score in enumerate(some.tolist())
    ]
    found = agreement(ratings)
    assert found.ceiling.value == pytest.approx(spearmanr(truth, seen[0]).statistic, abs=0.02)
    mean = spearmanr(truth, seen[0] + seen[1]).statistic
    assert found.mean_ceiling.value == pytest.approx(mean, abs=0.02)
    assert found.ceiling.low < found.ceiling.value < found.ceiling.high


def test_all_triangles_are_found():
    graph = nx.gnp_random_graph(60, 0.2, seed=1)
    ends = np.array(graph.edges())
    found = find_triangles(ends, 60)
    assert found.complete
    corners = [tuple(sorted({*ends[edges].reshape(-1).tolist()})) for edges in found.edges]
    expected = [c for c in nx.enumerate_all_cliques(graph) if len(c) == 3]
    assert sorted(corners) == sorted(map(tuple, map(sorted, expected)))


def test_of_very_many_triangles_some_are_found(monkeypatch):
    graph = nx.complete_graph(40)
    ends = np.array(graph.edges())
    whole = find_triangles(ends, 40)
    monkeypatch.setattr(module, "MOST_WEDGES", 3000)
    some = find_triangles(ends, 40)
    assert not some.complete
    assert 0 < len(some.edges) < len(whole.edges)
    assert {tuple(sorted(e)) for e in some.edges} <= {tuple(sorted(e)) for e in whole.edges}


def test_no_pairs_have_no_triangles():
    found = find_triangles(np.zeros((0, 2), np.int64), 0)
    assert found.edges.shape == (0, 3)
    assert strains(found, np.zeros(0))[0].shape == (0,)


def test_excess_and_strain_by_hand():
    # a–b 0.9, b–c 0.8, a–c 0.1: 0.9 apart, while the others allow 0.1 + 0.2.
    ends, scores = np.array([(0, 1), (1, 2), (0, 2), (2, 3)]), np.array([0.9, 0.8, 0.1, 0.5])
    found = find_triangles(ends, 4)
    assert excesses(found, scores).tolist() == pytest.approx([0.6])
    strain, counts = strains(found, scores)
    assert strain.tolist() == pytest.approx([0.6, 0.6, 0.6, 0])
    assert counts.tolist() == [1, 1, 1, 0]


def test_one_wrong_score_is_the_most_strained():
    random = np.random.default_rng(3)
    points = random.random((14, 2))
    ends = np.array(list(combinations(range(14), 2)))
    scores = 1 - np.linalg.norm(points[ends[:, 0]] - points[ends[:, 1]], axis=1) / 1.5
    found = find_triangles(ends, 14)
    assert strains(found, scores)[0].max() < 1e-12
    wrong = int(scores.argmax())
    scores[wrong] = 0.0
    assert int(strains(found, scores)[0].argmax()) == wrong


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.csv", "rater,id_1,id_2,score\nann,a,b,0.5\nbob,a,b,0.25\nbob,a,a,1\n,b,c,1\n"),
        ("r.jsonl", '{"id_1":"a","id_2":"b","score":0.5,"annotator":"ann"}\n'
         '{"id_1":"a","id_2":"b","score":0.25,"annotator":"bob"}\n'
         '{"id_1":"a","id_2":"a","score":1,"annotator":"bob"}\n'
         '{"id_1":"b","id_2":"c","score":1}\n'),
        ("r.tsv", "a\tb\t0.5\na\tb\t0.25\na\ta\t1\nb\tc\t1\n"),
    ],
)  # fmt: skip
def test_raters_are_read(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    rows, rejects = read_ratings(tmp_path / name)
    known = [] if name == "r.tsv" else ["ann", "bob"]
    assert [rater for _, rater in rows if rater] == known
    assert [pair.score for pair, _ in rows] == [0.5, 0.25, 1.0]
    assert [reject.reason for reject in rejects] == ["same-video"]


def test_raters_in_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"id_1": ["a"], "worker": [7], "id_2": ["b"], "score": [0.5]}
    pq.write_table(pa.table(columns), tmp_path / "r.parquet")
    assert read_ratings(tmp_path / "r.parquet")[0] == [(Pair("a", "b", 0.5), "7")]
