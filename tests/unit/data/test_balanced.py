"""The balanced split and clean folds: on chains, stars, many parts, one large part."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidvec.data.balanced import FILE, SHARE, balanced_videos, kept_videos
from vidvec.data.pair_graph import BINS, FREE, pair_graph, score_bins
from vidvec.data.refinement import refined
from vidvec.data.splits import folds, split_pairs, training_pairs
from vidvec.errors import FormatError, UsageError
from vidvec.records import Pair


def made(ends: np.ndarray, seed: int = 0) -> list[Pair]:
    scores = np.random.default_rng(seed).random(len(ends)).tolist()
    rows = zip(ends.tolist(), scores, strict=True)
    return [Pair(f"v{a}", f"v{b}", score) for (a, b), score in rows if a != b]


def chain(count: int) -> list[Pair]:
    return made(np.stack([np.arange(count), np.arange(count) + 1], 1))


def tangle(videos: int, pairs: int) -> list[Pair]:
    return made(np.random.default_rng(1).integers(0, videos, (pairs, 2)))


def communities(videos: int, pairs: int, size: int) -> list[Pair]:
    """One component: groups of videos, a tenth of the pairs between groups."""
    random = np.random.default_rng(2)
    first = random.integers(0, videos, pairs)
    second = first // size * size + random.integers(0, size, pairs)
    second = np.where(random.random(pairs) < 0.9, second, random.integers(0, videos, pairs))
    return made(np.stack([first, second], 1))


def videos_of(pairs: list[Pair], rows: np.ndarray) -> set[str]:
    return {video for row in rows.tolist() for video in (pairs[row].id_1, pairs[row].id_2)}


# What is lost at most; a chain comes apart at one pair, whole components at none.
GRAPHS = {
    "chain": (chain(2000), 0.005),
    "ten stars": (made(np.array([(at % 10, at) for at in range(10, 2000)])), 0.0),
    "small parts": (
        made(np.array([(5 * a + b, 5 * a + b + 1) for a in range(500) for b in range(4)])),
        0.0,
    ),
    "one large part": (tangle(4000, 4400), 0.025),
    "communities": (communities(2000, 6000, 40), 0.03),
    "tangle": (tangle(1000, 2000), 0.09),
    # Half of the pairs have one video in common: they go to one side whole.
    "a hub": (made(np.array([(0, at) for at in range(1, 500)])) + chain(5000)[3000:], 0.005),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_share_is_hit_and_few_pairs_are_lost(name):
    pairs, most = GRAPHS[name]
    split = split_pairs(pairs, "balanced")
    kept = len(split.validation) + len(split.train)
    assert len(split.validation) / kept == pytest.approx(SHARE, abs=0.003)
    assert split.dropped / len(pairs) <= most
    assert not videos_of(pairs, split.train) & videos_of(pairs, split.validation)
    assert len(split.train) + len(split.validation) + split.dropped == len(pairs)
    scores = np.array([pair.score for pair in pairs])
    deciles = np.quantile(scores, np.linspace(0.1, 0.9, 9))
    below = [np.mean(scores[split.validation] <= each) for each in deciles]
    # Kolmogorov's 99.9 % bound for a random draw.
    assert np.abs(below - np.linspace(0.1, 0.9, 9)).max() < 1.95 / np.sqrt(len(split.validation))


def test_scores_are_alike_although_parts_differ():
    """Components of one score each: whole ones are chosen so that all scores are there."""
    pairs = [Pair(f"{a}-{b}", f"{a}-{b + 1}", a % 8 / 8) for a in range(400) for b in range(3)]
    split = split_pairs(pairs, "balanced")
    chosen = split.validation
    counts = np.bincount([int(8 * pairs[row].score) for row in chosen], minlength=8)
    assert split.dropped == 0
    assert counts.sum() == pytest.approx(120, abs=3)
    # Total variation distance; a random draw of 40 parts would have 0.17.
    assert np.abs(counts / counts.sum() - 1 / 8).sum() / 2 < 0.11


def test_a_star_cannot_be_split_and_stays_in_training():
    pairs = made(np.array([(0, at) for at in range(1, 200)]))
    split = split_pairs(pairs, "balanced")
    assert (len(split.train), len(split.validation), split.dropped) == (199, 0, 0)


def test_as_few_are_lost_as_the_best_of_all_cuts_loses():
    """Every cut of a small graph is tried."""
    pairs = [*tangle(12, 22)]
    graph, nodes = pair_graph(pairs)
    best = 1.0
    for number in range(1, 2 ** len(graph) - 1):
        left = (number >> np.arange(len(graph))) & 1 == 1
        inside, outside = left[nodes].all(axis=1).sum(), (~left[nodes]).all(axis=1).sum()
        if inside and abs(inside / (inside + outside) - 0.25) < 0.08:
            best = min(best, 1 - (inside + outside) / len(pairs))
    held = balanced_videos(pairs, share=0.25)
    sides = np.array([(pair.id_1 in held) + (pair.id_2 in held) for pair in pairs])
    assert (sides == 1).mean() <= best + 1e-9


def test_the_order_of_pairs_and_of_their_videos_makes_no_difference():
    pairs = communities(200, 600, 20)
    turned = [Pair(pair.id_2, pair.id_1, pair.score) for pair in reversed(pairs)]
    assert balanced_videos(pairs) == balanced_videos(turned)


def test_videos_that_were_placed_stay_where_they_are(tmp_path):
    pairs = communities(400, 1400, 20)
    before = kept_videos(tmp_path, pairs[:900])
    written = (tmp_path / FILE).read_bytes()
    assert before == balanced_videos(pairs[:900])
    assert kept_videos(tmp_path, pairs[:900]) == before
    assert kept_videos(tmp_path, pairs[:500]) == before
    assert (tmp_path / FILE).read_bytes() == written
    whole = made(np.array([(a, a + 1) for a in range(10_000, 10_400)]))
    after = kept_videos(tmp_path, pairs + whole)
    known = {video for pair in pairs[:900] for video in (pair.id_1, pair.id_2)}
    assert after & known == before
    new = [pair.id_1 in after and pair.id_2 in after for pair in whole]
    assert sum(new) > 0.05 * len(whole)
    assert kept_videos(tmp_path, pairs + whole, write=False) == after


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "corpus"},
        {"format_version": 2},
        {"validation": [1]},
        {"training": "v1"},
        {"validation": ["v1"], "training": ["v1"]},
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change):
    kept_videos(tmp_path, chain(50))
    facts = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps(facts | change))
    with pytest.raises(FormatError, match=r"balanced\.json"):
        kept_videos(tmp_path, chain(50))


def test_a_million_pairs_take_seconds():
    """A fiftieth of them here; the time grows with their number."""
    pairs = tangle(10_000, 20_000)
    started = time.process_time()
    assert split_pairs(pairs, "balanced").dropped < 0.09 * len(pairs)
    assert time.process_time() - started < 4


ids = st.integers(0, 30).map(str)


@settings(deadline=None, max_examples=12)
@given(st.lists(st.builds(Pair, ids, ids, st.sampled_from([0, 0.5, 1.0]))), st.integers(2, 5))
def test_any_pairs_give_clean_splits_and_folds(pairs, k):
    split = split_pairs(pairs, "balanced")
    assert not videos_of(pairs, split.train) & videos_of(pairs, split.validation)
    assert len(split.train) + len(split.validation) + split.dropped == len(pairs)
    found = folds(pairs, k)
    assert len(found) == k
    seen: set[str] = set()
    for validation in found:
        own = videos_of(pairs, validation)
        assert not own & seen
        seen |= own
        training = training_pairs(pairs, validation)
        assert not own & videos_of(pairs, training)
        rest = set(range(len(pairs))) - set(training.tolist()) - set(validation.tolist())
        assert all({pairs[row].id_1, pairs[row].id_2} & own for row in rest)


def test_folds_are_alike_and_differ_by_seed():
    pairs = communities(400, 1200, 20)
    found = folds(pairs, 4)
    sizes = np.array([len(each) for each in found])
    assert sizes.sum() > 0.9 * len(pairs)
    assert sizes.min() > 0.85 * sizes.max()
    means = [np.mean([pairs[row].score for row in each]) for each in found]
    # The means of random draws have a standard deviation of 0.018.
    assert np.ptp(means) < 0.08
    other = folds(pairs, 4, seed=1)
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(found, other, strict=True))


def test_one_fold_is_none():
    with pytest.raises(UsageError, match="expected 2 or more"):
        folds(chain(5), 1)


def test_refining_a_random_cut_loses_less():
    graph, _ = pair_graph(tangle(300, 700))
    random = np.random.default_rng(0)
    weights = graph.pairs.sum(axis=1)
    for _ in range(5):
        left = random.random(len(graph)) < 0.3
        after = refined(graph, left, 0.3)
        across = [
            weights[side[graph.ends[:, 0]] != side[graph.ends[:, 1]]].sum()
            for side in (left, after)
        ]
        assert across[1] < across[0]


def test_the_graph_counts_pairs_by_bin_whatever_is_merged():
    pairs = [*tangle(50, 200), Pair("v1", "v2", 0.5), Pair("v2", "v1", 0.6)]
    graph, nodes = pair_graph(pairs)
    assert (graph.held == FREE).all()
    assert graph.counts.sum() == len(pairs)
    labels = np.arange(len(graph)) // 3
    merged = graph.merged(labels)
    assert (merged.counts == graph.counts).all()
    inside = (labels[nodes[:, 0]] == labels[nodes[:, 1]]).sum()
    assert merged.inner.sum() == inside
    assert merged.volumes().sum() == pytest.approx(len(pairs))


def test_bins_are_eighths_and_equal_scores_share_one():
    assert score_bins(np.arange(16.0)).tolist() == sorted([*range(BINS)] * 2)
    assert len(set(score_bins(np.zeros(9)).tolist())) == 1
