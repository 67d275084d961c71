"""Groups of near duplicates: against their definition, written plainly, and by their properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidvec.errors import UsageError
from vidvec.search import dedup, joining, stars
from vidvec.search.dedup import deduplicate, find_groups
from vidvec.search.types import Group, Hit


def unit(matrix: np.ndarray) -> np.ndarray:
    wide = matrix.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def made(count: int, seed: int, width: int = 6, noise: float = 0.25) -> np.ndarray:
    """Some centres, and vectors around them at several distances, so that chains come about."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(1, count // 6), width))
    vectors = centres[random.integers(len(centres), size=count)]
    vectors = vectors + noise * random.normal(size=vectors.shape)
    return (vectors * random.uniform(0.2, 5, (count, 1))).astype(np.float32)


def plainly(ids: list[str], matrix: np.ndarray, threshold: float) -> list[Group]:
    """The definition in ``dedup.py``, with loops over all pairs."""
    cosine = np.round(unit(matrix) @ unit(matrix).T, 6)
    alike = {
        (ids[i], ids[j]): float(cosine[i, j])
        for i in range(len(ids))
        for j in range(len(ids))
        if i != j and cosine[i, j] >= threshold
    }
    left, groups = sorted(ids), []
    while True:
        degrees = {one: sum((one, other) in alike for other in left) for one in left}
        hub = max(left, key=lambda one: degrees[one], default="")  # the first of several
        if not left or degrees[hub] == 0:
            break
        star = [one for one in left if one == hub or (hub, one) in alike]
        left = [one for one in left if one not in star]
        centres = [o for o in star if all((o, other) in alike for other in star if other != o)]
        rows = [ids.index(one) for one in star]

        def nearness(one: str, rows: list[int] = rows) -> float:
            others = [row for row in rows if ids[row] != one]
            return round(float((unit(matrix)[others] @ unit(matrix)[ids.index(one)]).mean()), 6)

        chosen = max(centres, key=nearness)
        others = sorted((-alike[chosen, other], other) for other in star if other != chosen)
        hits = [Hit(chosen, 1.0), *(Hit(other, -cosine) for cosine, other in others)]
        groups.append(Group(chosen, tuple(hits)))
    return sorted(groups, key=lambda group: (-len(group.members), group.representative))


def same(found: list[Group], wanted: list[Group]) -> None:
    assert [group.representative for group in found] == [g.representative for g in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert [hit.id for hit in one.members] == [hit.id for hit in other.members]
        cosines = [hit.cosine for hit in other.members]
        assert [hit.cosine for hit in one.members] == pytest.approx(cosines, abs=2e-6)


@pytest.mark.parametrize("threshold", [0.7, 0.85, 0.95])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("small", "edges"), [(512, 2**26), (2, 2**26), (2, 0)], ids=["at once", "edges", "dense"]
)
def test_groups_are_those_of_the_definition(threshold, seed, small, edges, monkeypatch):
    monkeypatch.setattr(dedup, "SMALL", small)
    monkeypatch.setattr(stars, "BLOCK", 7)
    monkeypatch.setattr(stars, "CHECKED_AT_ONCE", 5)
    monkeypatch.setattr(stars, "MOST_EDGES", edges)
    monkeypatch.setattr(joining, "BLOCK", 16)
    matrix = made(60, seed)
    ids = [f"v{number}" for number in np.random.default_rng(seed).permutation(60)]
    wanted = plainly(ids, matrix, threshold)
    assert sum(len(group.members) for group in wanted) > 10
    same(find_groups(ids, matrix, threshold), wanted)


def test_a_chain_is_not_one_group():
    """Five videos, each 20° from the next: 0.9 is 25.8°, so neighbours are alike, others not."""
    angles = np.deg2rad([0, 20, 40, 60, 80])
    matrix = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    groups = find_groups(list("abcde"), matrix, 0.9)
    # b, c and d have two neighbours each; b is the first by id. Then d and e are left.
    assert [[hit.id for hit in group.members] for group in groups] == [["b", "a", "c"], ["d", "e"]]
    assert groups[0].members[1].cosine == pytest.approx(np.cos(np.deg2rad(20)), abs=1e-6)
    # At 41° b and c are alike to a … d, and c to e, too: it reaches all.
    assert [g.representative for g in find_groups(list("abcde"), matrix, 0.75)] == ["c"]


def test_the_representative_is_nearest_to_the_others():
    angles = np.deg2rad([0, 2, 5, 20])
    matrix = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    (group,) = find_groups(["a", "b", "c", "d"], matrix, 0.9)
    means = [
        np.cos(np.abs(angles - angle))[np.arange(4) != i].mean() for i, angle in enumerate(angles)
    ]
    assert group.representative == "abcd"[int(np.argmax(means))] == "c"


vectors = st.integers(0, 10**6).flatmap(
    lambda seed: st.builds(
        lambda count, noise: made(count, seed, width=4, noise=noise),
        st.integers(1, 40),
        st.sampled_from([0.05, 0.3, 0.8]),
    )
)


@given(vectors, st.sampled_from([0.6, 0.8, 0.93]), st.integers(0, 2**31))
def test_what_always_holds(matrix, threshold, seed):
    ids = [f"id{number}" for number in range(len(matrix))]
    groups = find_groups(ids, matrix, threshold)
    cosine = unit(matrix) @ unit(matrix).T
    members = [hit.id for group in groups for hit in group.members]
    assert len(members) == len(set(members))  # no video in two groups
    for group in groups:
        assert len(group.members) > 1
        assert group.members[0] == Hit(group.representative, 1.0)
        first = ids.index(group.representative)
        for hit in group.members:
            assert hit.cosine >= threshold
            assert hit.cosine == pytest.approx(cosine[first, ids.index(hit.id)], abs=2e-6)
    # Of those that are in no group, no two are alike.
    alone = [row for row, video in enumerate(ids) if video not in set(members)]
    rest = np.round(cosine[np.ix_(alone, alone)], 6) - 2 * np.eye(len(alone))
    assert (rest < threshold).all()
    # The order of the videos does not matter.
    order = np.random.default_rng(seed).permutation(len(ids))
    same(find_groups([ids[row] for row in order], matrix[order], threshold), groups)


def test_lists_find_what_all_pairs_find():
    matrix = made(3000, 1, width=32, noise=0.12)
    ids = [str(number) for number in range(3000)]
    exact = deduplicate(ids, matrix, 0.95, exact=True)
    lists = deduplicate(ids, matrix, 0.95, exact=False)
    assert exact.recall is None
    assert len(exact.groups) > 300

    def pairs(groups: list[Group]) -> set[tuple[str, str]]:
        return {(group.representative, hit.id) for group in groups for hit in group.members[1:]}

    shared = pairs(exact.groups) & pairs(lists.groups)
    assert len(shared) > 0.97 * len(pairs(exact.groups))
    assert lists.recall is not None
    assert lists.recall.sample == 1000
    assert 0.95 * lists.recall.pairs < lists.recall.found <= lists.recall.pairs


def test_recall_of_a_sample_counts_pairs_that_are_not_joined():
    angles = np.deg2rad([0, 1, 50, 51])
    matrix = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    quiet = lambda *_: None  # noqa: E731
    found = joining.sampled_recall(matrix, np.array([0, 0, 1, 2]), 0.99, quiet)
    assert (found.sample, found.pairs, found.found) == (4, 4, 2)  # each pair from both of its ends


def test_many_copies_are_one_group_in_little_memory(monkeypatch):
    monkeypatch.setattr(joining, "MOST_WAITING", 1000)
    random = np.random.default_rng(0)
    matrix = np.tile(random.normal(size=(1, 16)), (1200, 1)).astype(np.float32)
    matrix[600:] += 1e-5 * random.normal(size=(600, 16)).astype(np.float32)
    for exact in (True, False):
        found = deduplicate([str(n) for n in range(1200)], matrix, 0.99, exact=exact)
        assert [len(group.members) for group in found.groups] == [1200]
        assert found.extra == 1199


def test_vectors_without_direction_are_in_no_group_and_named():
    matrix = np.ones((6, 4), np.float32)
    matrix[1], matrix[3, 2], matrix[4, 0] = 0, np.nan, np.inf
    found = deduplicate(list("abcdef"), matrix, 0.9)
    assert found.left_out == ("b", "d", "e")
    assert found.compared == 3
    assert [[hit.id for hit in group.members] for group in found.groups] == [["a", "c", "f"]]
    assert find_groups([], np.zeros((0, 4), np.float32), 0.9) == []
    assert find_groups(["a"], np.zeros((1, 4), np.float32), 0.9) == []


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_a_threshold_is_a_cosine(threshold):
    with pytest.raises(UsageError, match="cosine above 0"):
        find_groups(["a"], np.ones((1, 2), np.float32), threshold)


def test_a_threshold_that_joins_nearly_everything_is_refused(monkeypatch):
    monkeypatch.setattr(dedup, "MOST_IN_A_CHAIN", 50)
    monkeypatch.setattr(dedup, "SMALL", 50)
    ids = [f"{number:02d}" for number in range(60)]
    angles = np.deg2rad(np.arange(60) * 3)
    chain = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    with pytest.raises(UsageError, match=r"chain joins 60 videos that are not alike: give a high"):
        find_groups(ids, chain, 0.9)
    # As many that are alike are one group.
    assert len(find_groups(ids, np.ones((60, 2), np.float32), 0.9)[0].members) == 60


def test_progress_comes_to_its_ends():
    seen: dict[str, tuple[int, int]] = {}
    matrix = made(500, 3)
    deduplicate(
        [str(n) for n in range(500)],
        matrix,
        0.9,
        exact=False,
        progress=lambda done, total, note: seen.__setitem__(note, (done, total)),
    )
    assert seen["videos compared"] == (500, 500)
    assert seen["sample compared with all"] == (500, 500)
    assert seen["videos grouped"][0] == seen["videos grouped"][1] > 0
