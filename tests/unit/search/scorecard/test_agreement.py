"""Sections on scored pairs, against the plain functions that measure the same."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.unit.search.indexed import write_vectors
from vidvec import metrics
from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError
from vidvec.search.calibrate import calibrate
from vidvec.search.scorecard import agreement
from vidvec.search.scorecard.material import Material, Settings

SETTINGS = Settings(split="all", resamples=100)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A corpus, vectors that know topics, and others that know less of them."""
    folder = tmp_path_factory.mktemp("card")
    videos = made_videos(80)
    corpus = write_corpus(folder / "corpus", videos, made_pairs(videos, 160))
    random = np.random.default_rng(0)
    centres = random.normal(size=(4, 8))
    for name, noise in (("good", 0.5), ("worse", 1.5)):
        vectors = [centres[int(video.category)] + noise * random.normal(size=8) for video in videos]
        ids = [video.id for video in videos]
        write_vectors(folder / name, ids, np.array(vectors, np.float32), folder / "corpus")
    return corpus, folder


@pytest.fixture
def material(places):
    corpus, folder = places
    return Material(folder / "good", corpus, SETTINGS, folder / "worse")


def test_correlations_are_those_of_the_plain_functions(material):
    section = agreement.agreement(material)
    own, other = material.cosines
    for key, metric in (("spearman", metrics.spearman), ("pearson", metrics.pearson)):
        row = section.rows[key]
        assert row.count == 160
        assert set(row.figures) == {"over_pairs", "over_clusters"} == set(section.columns)
        for figure in row.figures.values():
            assert figure.value == pytest.approx(metric(own, material.scores))
            assert figure.other is not None
            assert figure.difference is not None
            assert figure.other.value == pytest.approx(metric(other, material.scores))
            assert figure.low < figure.value < figure.high
            assert figure.differs
            assert figure.difference.low > 0
    assert section.facts["cluster"] == "videos"  # 160 pairs of 80 videos hang together


def test_calibration_is_that_of_vidvec_calibrate(material):
    section = agreement.calibration(material)
    plain = calibrate(Vectors(material.path), material.all_pairs, split="all")
    quality = plain.qualities[plain.method]
    figures = {key: row.figures["value"] for key, row in section.rows.items()}
    assert figures["calibration_error"].value == quality.calibration_error
    assert figures["brier"].value == quality.brier
    assert figures["brier"].difference is not None
    assert figures["brier"].difference.value < 0
    assert len(section.facts["bins"]) == len(quality.bins)


def test_every_pair_is_in_one_slice_of_each_kind(material):
    rows = agreement.slices(material).rows
    for kind in ("language", "category", "duration", "title", "frames"):
        mine = {key: row for key, row in rows.items() if key.startswith(f"{kind}:")}
        assert sum(row.count for row in mine.values()) == 160, kind
        assert all(row.few == (row.count < 30) for row in mine.values())
    # Nobody measured how long these videos are.
    assert rows["duration:not known"].count == 160
    assert "language:en" in rows
    # Pairs by hand: both of category 2, and what plain Spearman says of them.
    of = {
        video: str(value)
        for video, value in zip(material.ids, material.column("category"), strict=True)
    }
    some = [n for n, p in enumerate(material.pairs) if of[p.id_1] == of[p.id_2] == "2"]
    row = rows["category:2"]
    assert row.count == len(some)
    expected = metrics.spearman(material.cosines[0][some], material.scores[some])
    assert row.figures["spearman"].value == pytest.approx(expected)


def test_lengths_are_cut_into_quarters_by_the_lesser_of_two():
    either = [(float(n), 100.0) for n in range(1, 41)] + [(None, 3.0)]
    parts = agreement._by_size(either)
    assert {label: len(some) for label, some in parts.items()} == {
        "1 to 10": 10,
        "11 to 20": 10,
        "21 to 30": 10,
        "31 to 40": 10,
        "not known": 1,
    }
    assert parts["11 to 20"] == list(range(10, 20))


def test_equal_lengths_are_not_torn_apart():
    parts = agreement._by_size([(7, 9)] * 50 + [(8, 9)])
    assert {label: len(some) for label, some in parts.items()} == {"7": 50, "8": 1}


def test_rare_values_go_together():
    either = [(f"c{n}", f"c{n}") for n in range(20) for _ in range(20 - n)]
    either += [("c1", "c2"), ("", "c1")]
    parts = agreement._by_value(either)
    assert list(parts)[:2] == ["c0", "c1"]
    assert list(parts)[-3:] == ["others", "not known", "two different ones"]
    assert len(parts["others"]) == sum(20 - n for n in range(12, 20))


def test_without_pairs_the_reason_is_given(places, tmp_path):
    _, folder = places
    bare = write_corpus(tmp_path / "corpus", made_videos(80))
    for make in (agreement.agreement, agreement.calibration, agreement.slices, agreement.ablation):
        with pytest.raises(UsageError, match="no scored pairs"):
            make(Material(folder / "good", bare, SETTINGS))
    write_vectors(tmp_path / "other", ["x"], np.ones((1, 8), np.float32))
    with pytest.raises(UsageError, match="has no vector of a video"):
        Material(tmp_path / "other", bare, SETTINGS)


def test_where_all_scores_are_one_there_is_no_correlation(places, tmp_path):
    _, folder = places
    videos = made_videos(80)
    pairs = [type(pair)(pair.id_1, pair.id_2, 0.5) for pair in made_pairs(videos, 20)]
    corpus = write_corpus(tmp_path / "flat", videos, pairs)
    found = agreement.agreement(Material(folder / "good", corpus, SETTINGS))
    figure = found.rows["spearman"].figures["over_pairs"]
    assert math.isnan(figure.value)
    assert math.isnan(figure.low)
