"""Which pairs train and which validate, against the published rows and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidvec.data.splits import fold, rank_normalise, split_pairs
from vidvec.records import Pair


def pair(a: object, b: object, score: float = 0.5) -> Pair:
    return Pair(str(a), str(b), score)


@pytest.mark.shared
def test_the_published_split_and_ranks(shared):
    folder = shared / "reference" / "pipeline"
    lines = (folder / "label.tsv").read_text().splitlines()
    pairs = [Pair(a, b, float(score)) for a, b, score in (line.split("\t") for line in lines)]
    expected = json.loads((folder / "expected_labels.json").read_text())
    ranks = rank_normalise([each.score for each in pairs])
    assert np.abs(ranks - expected["rank_normalised"]).max() < 1e-12
    split = split_pairs(pairs, "published")
    assert split.train.tolist() == expected["train_rows"]
    assert split.validation.tolist() == expected["val_rows"]
    assert split.dropped == 0


@pytest.mark.parametrize(
    ("video", "expected"),
    [
        ("0", 0),
        ("4", 4),
        ("2345678900", 0),
        ("2345678907", 2),
        ("00012", 2),
        ("123456789012345678901234567891", 1),
        # SHA-256 of the id, its first eight bytes, modulo 5; worked out once and fixed.
        ("a", 0),
        ("video_7", 4),
        ("视频", 2),
        ("-5", 1),
        ("1.0", 4),
        ("٣", 1),
        ("7 ", 2),
        ("", 2),
    ],
)
def test_folds_do_not_change(video, expected):
    assert fold(video) == expected


def test_the_fold_of_a_very_long_number():
    assert fold("9" * 5000) == 4


@given(st.integers(0, 10**12))
def test_the_fold_of_a_whole_number_is_its_remainder(number):
    assert fold(str(number)) == number % 5


def test_text_ids_spread_over_all_folds():
    counts = np.bincount([fold(f"clip-{number}") for number in range(5000)], minlength=5)
    assert len(counts) == 5
    # 1000 each, standard deviation 28
    assert (abs(counts - 1000) < 150).all()


def test_splits_by_hand():
    pairs = [
        pair(5, 10),  # both in fold 0
        pair(5, 1),  # one of them
        pair(2, 15),  # the other one
        pair(1, 2),  # neither
        pair(0, 0),
    ]
    clean = split_pairs(pairs, "clean")
    assert (clean.train.tolist(), clean.validation.tolist(), clean.dropped) == ([3], [0, 4], 2)
    published = split_pairs(pairs, "published")
    assert published.train.tolist() == [1, 2, 3]
    assert published.validation.tolist() == [0, 4]
    assert published.dropped == 0


ids = st.one_of(st.integers(0, 40).map(str), st.text(max_size=3))


@given(st.lists(st.builds(Pair, ids, ids, st.floats(0, 1))))
def test_the_clean_split_shares_no_video(pairs):
    split = split_pairs(pairs, "clean")
    sides = [
        {v for i in side for v in (pairs[i].id_1, pairs[i].id_2)}
        for side in (split.train, split.validation)
    ]
    assert not sides[0] & sides[1]
    assert len(split.train) + len(split.validation) + split.dropped == len(pairs)
    assert not set(split.train.tolist()) & set(split.validation.tolist())


@given(st.lists(st.builds(Pair, ids, ids, st.floats(0, 1))))
def test_the_published_split_keeps_every_pair_and_validates_on_the_same(pairs):
    clean, published = split_pairs(pairs, "clean"), split_pairs(pairs, "published")
    assert sorted([*published.train, *published.validation]) == list(range(len(pairs)))
    assert published.validation.tolist() == clean.validation.tolist()
    assert set(clean.train.tolist()) <= set(published.train.tolist())


@pytest.mark.parametrize("name", ["clean", "published"])
def test_no_pairs(name):
    split = split_pairs([], name)
    assert split.train.tolist() == split.validation.tolist() == []
    assert split.train.dtype == split.validation.dtype == np.int64
    assert split.dropped == 0


def test_rank_normalisation_by_hand():
    # Average ranks of 0 0 0.5 1 are 1½ 1½ 3 4; less 1½, over 2½.
    assert rank_normalise([0.5, 0, 1, 0]).tolist() == pytest.approx([0.6, 0, 1, 0])
    assert rank_normalise([3, 1, 2]).tolist() == [1, 0, 0.5]


@pytest.mark.parametrize("scores", [[], [0.35], [0.35, 0.35], [0] * 9])
def test_scores_without_a_range_become_zero(scores):
    found = rank_normalise(scores)
    assert found.tolist() == [0] * len(scores)
    assert found.dtype == np.float64


@given(st.lists(st.sampled_from([0, 0.05, 0.1, 0.5, 0.95, 1]), min_size=2))
def test_rank_normalisation_keeps_order_and_ties(scores):
    found = rank_normalise(scores)
    assert found.min() == 0
    assert found.max() in (0, 1)
    for a, b in zip(range(len(scores)), range(1, len(scores)), strict=False):
        assert np.sign(found[a] - found[b]) == np.sign(scores[a] - scores[b])
