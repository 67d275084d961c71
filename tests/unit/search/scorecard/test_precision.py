"""Average precision against scikit-learn, and cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve

from vidvec.search.scorecard import precision
from vidvec.search.scorecard.precision import PairRanking, average_precision, rank_pairs


def test_average_precision_worked_by_hand():
    # Relevant at ranks 1, 3 and 4: (1/1 + 2/3 + 3/4) / 3.
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    relevant = np.array([True, False, True, True, False])
    assert average_precision(scores, relevant) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_equal_scores_count_together():
    # One relevant and three others at one score: whatever their order, one in four is relevant.
    assert average_precision(np.zeros(4), np.array([True, False, False, False])) == 0.25


def test_where_nothing_is_relevant_there_is_no_average_precision():
    assert np.isnan(average_precision(np.ones(3), np.zeros(3, bool)))


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40))
def test_average_precision_is_scikit_learns(rows):
    scores = np.array([score for score, _ in rows], float)
    relevant = np.array([hit for _, hit in rows])
    if relevant.any():
        expected = average_precision_score(relevant, scores)
        assert average_precision(scores, relevant) == pytest.approx(expected)


def micro(ranking: PairRanking) -> float:
    mean, _ = ranking.micro(np.ones((1, len(ranking.hits))))
    return float(mean[0])


def test_micro_average_precision_worked_by_hand():
    # Two copies, three references; cosines in one ranking:
    #   0.96 copy 0 – reference 0, right     precision 1/1
    #   0.8  copy 1 – reference 0, wrong
    #   0.6  copy 1 – reference 1, right     precision 2/3
    #   0.28 copy 0 – reference 1, wrong;  0  both – reference 2
    queries = np.array([[0.96, 0.28, 0], [0.8, 0.6, 0]], np.float32)
    ranking = rank_pairs(queries, np.eye(3, dtype=np.float32), np.array([0, 1]))
    assert micro(ranking) == pytest.approx((1 + 2 / 3) / 2)
    assert ranking.ranks.tolist() == [0, 1]
    # A threshold that keeps 90 % precision finds the first of the two.
    assert ranking.micro(np.ones((1, 2)))[1].tolist() == [0.5]
    # Without the first copy, the wrong pair of the other is ahead of its right one.
    assert micro(ranking.of(np.array([1]))) == 0.5


def unit(random: np.random.Generator, *shape: int) -> np.ndarray:
    made = random.normal(size=shape).astype(np.float32)
    return made / np.linalg.norm(made, axis=-1, keepdims=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_micro_average_precision_is_scikit_learns_of_all_pairs(seed):
    random = np.random.default_rng(seed)
    count, references = int(random.integers(1, 9)), unit(random, 11, 3)
    targets = random.integers(0, 11, count)
    queries = references[targets] + 0.6 * unit(random, count, 3)
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    ignored = [random.choice(11, 2, replace=False) for _ in range(count)]
    biases = (random.random(count).astype(np.float32), random.random(11).astype(np.float32))
    ranking = rank_pairs(queries, references, targets, ignored, biases)

    weights = random.integers(0, 3, count)
    pairs = []
    for query, times in enumerate(weights):
        for place in range(11):
            if place == targets[query] or place not in ignored[query]:
                score = queries[query] @ references[place] - biases[0][query] - biases[1][place]
                pairs += [(round(float(score), 5), place == targets[query])] * int(times)
    mean, recall = ranking.micro(weights[None].astype(float))
    if not weights.any():
        assert np.isnan(mean[0])
        return
    scores, right = np.array([s for s, _ in pairs]), np.array([hit for _, hit in pairs])
    assert mean[0] == pytest.approx(average_precision_score(right, scores), abs=1e-9)
    precisions, recalls, _ = precision_recall_curve(right, scores)
    assert recall[0] == pytest.approx(recalls[precisions >= 0.9].max(), abs=1e-9)


def test_it_does_not_matter_how_references_are_cut_into_blocks(monkeypatch):
    random = np.random.default_rng(1)
    references, targets = unit(random, 50, 4), np.arange(10)
    queries, ignored = unit(random, 10, 4), [np.array([7, 30])] * 10
    whole = rank_pairs(queries, references, targets, ignored)
    monkeypatch.setattr(precision, "_BLOCK", 7)
    parts = rank_pairs(queries, references, targets, ignored)
    assert np.array_equal(whole.above, parts.above)
    assert micro(whole) < 0.9
