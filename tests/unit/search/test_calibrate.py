"""Calibration: thresholds worked by hand, what they assure, and the file beside the vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vidvec import console_judge
from vidvec.embed.vectors import Vectors, VectorWriter
from vidvec.errors import FormatError, UsageError
from vidvec.records import Pair
from vidvec.search import calibrate as module
from vidvec.search.calibrate import Calibration, calibrate, default_positive
from vidvec.search.stamp import vectors_stamp


def by_outcome(similar: list[int], cosines: list[float] | None = None) -> Calibration:
    x = np.linspace(1, 0, len(similar)) if cosines is None else np.array(cosines)
    return Calibration.fit(x, np.array(similar, float), positive=1)


def write_vectors(path: Path, ids: list[str], matrix: np.ndarray, weights: str = "w") -> Path:
    made_by = {"stage": "embed", "checkpoint": "c", "weights": weights, "corpus": "gone"}
    writer = VectorWriter(path, matrix.shape[1], {"normalised": False, "made_by": made_by})
    writer.append(ids, matrix.astype(np.float32))
    writer.finish()
    return path


@pytest.fixture
def vectors(tmp_path) -> Path:
    matrix = np.random.default_rng(0).normal(size=(40, 8))
    return write_vectors(tmp_path / "vectors", [f"v{n}" for n in range(40)], matrix)


def pairs_of(path: Path, count: int = 200, seed: int = 0) -> list[Pair]:
    """Scored by their cosine and some noise."""
    random = np.random.default_rng(seed)
    opened = Vectors(path)
    unit = opened.matrix / np.linalg.norm(opened.matrix, axis=1, keepdims=True)
    pairs = []
    for _ in range(count):
        one, other = random.choice(len(unit), 2, replace=False)
        score = float(unit[one] @ unit[other] + 0.1 * random.normal())
        pairs.append(Pair(opened.ids[one], opened.ids[other], score))
    return pairs


def test_a_threshold_by_hand():
    """50 similar pairs, then one that is not, then 9 similar, then 10 that are not.

    Of n pairs all similar Wilson's interval begins at n / (n + 3.8415): 35 give 0.9011, 34 give
    0.8985. With the mistake in, 59 of 60 begin at 0.9114, and 59 of 61 at 0.8881.
    """
    found = by_outcome([1] * 50 + [0] + [1] * 9 + [0] * 10).threshold(0.9)
    assert found.pairs == 60
    assert found.cosine == pytest.approx(1 - 59 / 69)
    assert found.precision == 59 / 60
    assert (found.low, found.high) == pytest.approx((0.9114, 0.9971), abs=1e-4)
    assert found.recall == 1
    assert found.recall_low == pytest.approx(59 / (59 + 3.8415), abs=1e-4)
    assert found.needed == 35
    assert "0.1449 = similar at 0.9 precision: 0.9833 [0.9114, 0.9971]" in str(found)


def test_no_threshold_is_said_with_what_it_would_take():
    found = by_outcome([1] * 50 + [0] + [1] * 9 + [0] * 10).threshold(0.99)
    assert found.cosine is None
    # Of the first 50, all are similar, which assures 50 / 53.84.
    assert found.pairs == 50
    assert found.low == pytest.approx(50 / 53.8415, abs=1e-4)
    assert found.needed == 381
    assert str(found).startswith("no threshold reaches 0.99 precision with these pairs")
    assert str(found).endswith("it takes 381 pairs without a mistake")


def test_pairs_of_one_cosine_are_taken_together():
    cosines = [0.9] * 40 + [0.5] * 40 + [0.1] * 40
    found = by_outcome([1] * 40 + [1] * 20 + [0] * 60, cosines)
    assert [step[1:] for step in found.steps] == [(40, 40), (80, 60), (120, 60)]
    assert found.threshold(0.9).cosine == 0.9
    assert found.threshold(0.6).cosine == 0.5


def test_the_precision_is_what_was_asked_in_nearly_all_draws():
    """An interval of 95 % leaves 2.5 % below it, also where the threshold is chosen by it."""
    random = np.random.default_rng(0)
    grid = np.linspace(1, 0, 20_001)
    chance = 1 / (1 + np.exp(-15 * (grid - 0.6)))
    precision = np.cumsum(chance) / np.arange(1, len(grid) + 1)  # at and above each cosine
    below = found = 0
    for _ in range(300):
        cosines = random.random(400)
        similar = random.random(400) < np.interp(cosines, grid[::-1], chance[::-1])
        steps = module._steps(cosines, similar)
        drawn = Calibration("", 1, "all", 400, int(similar.sum()), 0, "", None, {}, steps)
        cosine = drawn.threshold(0.9).cosine
        if cosine is not None:
            found += 1
            below += np.interp(cosine, grid[::-1], precision[::-1]) < 0.9
    assert found > 200
    assert below / 300 < 0.05


def test_many_pairs_keep_few_steps(monkeypatch):
    monkeypatch.setattr(module, "MOST_STEPS", 100)
    random = np.random.default_rng(0)
    cosines = random.random(5000)
    similar = random.random(5000) < cosines
    steps = module._steps(cosines, similar)
    assert len(steps) == 100
    assert steps[-1][1:] == (5000, int(similar.sum()))
    for cosine, pairs, count in steps[::7]:
        assert pairs == (cosines >= cosine).sum()
        assert count == (similar & (cosines >= cosine)).sum()


def test_the_method_is_the_one_that_foretells_better():
    random = np.random.default_rng(1)
    for cosines, chance in (
        (x := random.random(60), 1 / (1 + np.exp(-9 * (x - 0.5)))),
        (x := random.random(4000), np.select([x < 0.3, x < 0.7], [0.02, 0.5], 0.98)),
    ):
        found = Calibration.fit(cosines, random.random(len(cosines)) < chance, positive=1)
        losses = {name: each.log_loss for name, each in found.qualities.items()}
        assert losses[found.method] == min(losses.values())
        assert found.qualities[found.method].log_loss < found.qualities[found.method].base_log_loss
    assert found.method == "isotonic"
    assert found.probability([0.1, 0.5, 0.9]) == pytest.approx([0.02, 0.5, 0.98], abs=0.05)
    assert np.isnan(found.probability([np.nan])).all()


@pytest.mark.parametrize(
    ("scores", "wanted"), [([0, 4], 3), ([0, 0.2, 1], 0.75), ([], 0), ([2, 2], 2)]
)
def test_similar_by_default_is_the_highest_quarter_of_the_scale(scores, wanted):
    assert default_positive(np.array(scores, float)) == wanted


def test_too_few_of_one_kind_are_refused():
    with pytest.raises(UsageError, match=r"of 24 pairs 4 are similar \(score 1 or more\) and 20"):
        by_outcome([1] * 4 + [0] * 20)
    with pytest.raises(UsageError, match="of 0 pairs 0 are similar"):
        Calibration.fit(np.zeros(0), np.zeros(0))


def test_cosines_that_foretell_nothing_are_said_to():
    random = np.random.default_rng(1)
    found = Calibration.fit(
        random.random(300), (random.random(300) < 0.5).astype(float), positive=1
    )
    assert found.qualities[found.method].log_loss > found.qualities[found.method].base_log_loss
    assert "cosines foretell nothing here" in str(console_judge.calibration(found, [])[-1])
    sure = by_outcome([1] * 40 + [0] * 40)
    assert "nothing" not in str(console_judge.calibration(sure, [sure.threshold(0.9)])[-1])


@pytest.mark.parametrize("precision", [0, 1, -1, 99])
def test_a_precision_is_a_share(precision):
    with pytest.raises(UsageError, match="precision above 0 and below 1"):
        by_outcome([1] * 9 + [0] * 9).threshold(precision)


def test_of_vectors(vectors):
    pairs = [*pairs_of(vectors), Pair("v1", "gone", 1.0)]
    found = calibrate(Vectors(vectors), pairs, positive=0.3, split="all")
    assert (found.pairs, found.missing, found.split) == (200, 1, "all")
    assert found.similar == sum(pair.score >= 0.3 for pair in pairs[:-1])
    chances = found.probability(np.linspace(-1, 1, 50))
    assert chances[0] < 0.1
    assert chances[-1] > 0.7
    # Only pairs that were not learned from: both videos in fold 0.
    clean = calibrate(Vectors(vectors), pairs_of(vectors, 2000), positive=0.3)
    assert FEWEST <= clean.pairs < 200
    with pytest.raises(UsageError, match="expected clean"):
        calibrate(Vectors(vectors), pairs, split="none")


FEWEST = 2 * module.FEWEST


@pytest.mark.parametrize("seed", range(3))
def test_what_is_saved_is_read(vectors, seed):
    pairs = pairs_of(vectors, 300, seed)
    found = calibrate(Vectors(vectors), pairs, positive=0.3, split="all")
    assert Calibration.load(vectors) is None
    assert found.save(vectors) == vectors / "calibration.json"
    assert Calibration.load(vectors) == found


def test_of_other_vectors_is_refused(vectors, tmp_path):
    found = calibrate(Vectors(vectors), pairs_of(vectors), positive=0.3, split="all")
    opened = Vectors(vectors)
    moved = write_vectors(tmp_path / "moved", opened.ids, opened.matrix)
    found.save(moved)
    assert Calibration.load(moved) == found  # the same vectors elsewhere
    changed = opened.matrix.copy()
    changed[7, 3] += 0.01
    for name, ids, matrix, weights in (
        ("weights", opened.ids, opened.matrix, "other"),
        ("values", opened.ids, changed, "w"),
        ("ids", opened.ids[::-1], opened.matrix, "w"),
        ("fewer", opened.ids[1:], opened.matrix[1:], "w"),
    ):
        other = write_vectors(tmp_path / name, list(ids), matrix, weights)
        found.save(other)
        assert vectors_stamp(Vectors(other)) != found.stamp
        with pytest.raises(UsageError, match=r"made for other vectors .* run vidvec calibrate"):
            Calibration.load(other)


@pytest.mark.parametrize(
    "damage",
    [
        lambda facts: facts.pop("curve"),
        lambda facts: facts.update(curve={"cosines": [0.1, 0.2], "probabilities": [0.1]}),
        lambda facts: facts.update(curve={"slope": "steep", "intercept": 1}, method="logistic"),
        lambda facts: facts.update(steps=[]),
        lambda facts: facts.update(steps=[[0.5, 3, 4]]),
        lambda facts: facts.update(steps=[["high", 3, 1]]),
        lambda facts: facts.update(qualities={"logistic": {}}),
        lambda facts: facts.update(more=1),
        lambda facts: facts.update(method="guess"),
        lambda facts: facts.update(kind="vectors"),
        lambda facts: facts.update(format_version=2),
    ],
)
def test_a_damaged_file_is_an_error_that_says_what_to_do(vectors, damage):
    found = calibrate(Vectors(vectors), pairs_of(vectors), positive=0.3, split="all")
    path = found.save(vectors)
    facts = json.loads(path.read_text("utf-8"))
    damage(facts)
    path.write_text(json.dumps(facts), "utf-8")
    with pytest.raises(FormatError, match=r"calibration\.json .*calibrate again"):
        Calibration.load(vectors)


def test_half_a_file_is_an_error(vectors):
    (vectors / "calibration.json").write_text('{"kind": "cal', "utf-8")
    with pytest.raises(FormatError, match="is not JSON"):
        Calibration.load(vectors)
    (vectors / "calibration.json").write_text("[1]", "utf-8")
    with pytest.raises(FormatError, match="is no calibration"):
        Calibration.load(vectors)
