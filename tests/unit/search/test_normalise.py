"""Score normalisation against a plain computation, and where it helps by construction."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from vidvec.errors import FormatError, UsageError
from vidvec.search.normalise import ScoreNormaliser
from vidvec.search.types import Hit


def unit(matrix: np.ndarray) -> np.ndarray:
    return matrix / np.linalg.norm(matrix, axis=-1, keepdims=True)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_by_hand():
    """Background along both axes and between; a query at 30° has cosines √3/2, 1/2 and cos 15°."""
    background = np.array([[2, 0], [0, 3], [1, 1]], np.float32)
    query = np.array([[np.cos(np.pi / 6), np.sin(np.pi / 6)]], np.float32) * 5
    cosines = [np.sqrt(3) / 2, 0.5, np.cos(np.pi / 12)]
    for k, mean in ((1, cosines[2]), (2, (cosines[0] + cosines[2]) / 2), (3, np.mean(cosines))):
        found = ScoreNormaliser.fit(background, nearest=k)
        assert found.bias(query) == pytest.approx([mean], abs=1e-6)
    half = ScoreNormaliser.fit(background, nearest=1, weight=0.5, side="query")
    assert half.scores(np.array([[0.9, 0.2]], np.float32), query) == pytest.approx(
        np.array([[0.9, 0.2]]) - 0.5 * cosines[2], abs=1e-6
    )


@pytest.mark.parametrize("side", ["query", "both"])
def test_scores_and_hits_are_the_formulas(random, side):
    background, queries, references = (
        random.normal(size=(count, 6)).astype(np.float32) for count in (50, 7, 9)
    )
    cosines = unit(queries) @ unit(references).T
    biases = [
        np.sort(unit(some) @ unit(background).T, axis=1)[:, -4:].mean(axis=1)
        for some in (queries, references)
    ]
    wanted = cosines - 0.8 * biases[0][:, None]
    if side == "both":
        wanted = cosines - 0.8 * (biases[0][:, None] + biases[1]) / 2
    made = ScoreNormaliser.fit(background, nearest=4, weight=0.8, side=side)
    assert made.scores(cosines, queries, references) == pytest.approx(wanted, abs=1e-5)
    ids = [f"r{place}" for place in range(9)]
    hits = [[Hit(v, float(c)) for v, c in zip(ids, row, strict=True)] for row in cosines]

    def vectors_of(some):
        return references[[ids.index(video) for video in some]]

    found = made.normalise(queries, hits, vectors_of)
    for row, each in zip(wanted, found, strict=True):
        order = np.argsort(-row)
        assert [hit.id for hit in each] == [ids[place] for place in order]
        assert [hit.cosine for hit in each] == pytest.approx(row[order].tolist(), abs=1e-5)
    if side == "query":  # what one query finds keeps its order
        for before, after in zip(hits, made.normalise(queries, hits), strict=True):
            wanted_ids = [hit.id for hit in sorted(before, key=lambda hit: -hit.cosine)]
            assert [hit.id for hit in after] == wanted_ids


def test_it_helps_where_some_videos_are_near_to_everything(random):
    """Half of the videos lie about one direction: unlike ones reach cosines that copies have."""
    crowd = random.normal(size=64)

    def made(count: int) -> np.ndarray:
        vectors = random.normal(size=(count, 64))
        vectors[::2] += 2 * crowd
        return unit(vectors)

    references, background = made(200), made(200)
    queries = unit(references + 0.13 * random.normal(size=references.shape))
    cosines = (queries @ references.T).astype(np.float32)
    is_copy = np.eye(200, dtype=bool).ravel()
    plain = average_precision_score(is_copy, cosines.ravel())
    for side in ("query", "both"):
        normaliser = ScoreNormaliser.fit(background.astype(np.float32), side=side)
        scores = normaliser.scores(cosines, queries, references)
        assert average_precision_score(is_copy, scores.ravel()) > plain + 0.05


def test_what_is_saved_is_read(tmp_path, random):
    made = ScoreNormaliser.fit(random.normal(size=(20, 5)), nearest=2, weight=0.7, side="both")
    made.save(tmp_path / "n.safetensors")
    found = ScoreNormaliser.load(tmp_path / "n.safetensors")
    assert (found.nearest, found.weight, found.side) == (2, 0.7, "both")
    assert found.background == pytest.approx(made.background, abs=1e-6)
    content = (tmp_path / "n.safetensors").read_bytes()
    for name, damaged in (("short", content[:-40]), ("none", b""), ("text", b"hello, world" * 9)):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(FormatError, match=f"{name} is damaged"):
            ScoreNormaliser.load(tmp_path / name)
    with pytest.raises(FormatError, match="is missing"):
        ScoreNormaliser.load(tmp_path / "nowhere")


def test_another_kind_of_file_is_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"background": np.ones((3, 2), np.float32)}, tmp_path / "other")
    with pytest.raises(FormatError, match="no score normaliser"):
        ScoreNormaliser.load(tmp_path / "other")
    facts = {"kind": "normaliser", "format_version": "9"}
    save_file({"background": np.ones((3, 2), np.float32)}, tmp_path / "newer", facts)
    with pytest.raises(FormatError, match="format version 9"):
        ScoreNormaliser.load(tmp_path / "newer")


@pytest.mark.parametrize(
    ("background", "options", "said"),
    [
        (np.ones((2, 3)), {"nearest": 3}, "3 nearest of 2 background vectors"),
        (np.ones((2, 3)), {"nearest": 0}, "0 nearest of 2"),
        (np.ones((4, 3)), {"weight": float("nan")}, "weight nan"),
        (np.ones((4, 3)), {"side": "left"}, "side 'left'"),
        (np.array([[1, 1], [0, 0], [1, 0]]), {}, "background vector 1 is zero"),
        (np.array([[1, 1], [1, 0], [np.nan, 0]]), {}, "background vector 2 is zero, or has NaN"),
    ],
)
def test_what_cannot_be_a_background_is_refused(background, options, said):
    with pytest.raises(UsageError, match=said):
        ScoreNormaliser.fit(background, **options)


def test_what_does_not_fit_is_refused(random):
    made = ScoreNormaliser.fit(random.normal(size=(20, 5)), side="both")
    with pytest.raises(UsageError, match=r"shape \(2, 4\): the background has 5 numbers"):
        made.bias(np.ones((2, 4), np.float32))
    with pytest.raises(UsageError, match="both sides"):
        made.scores(np.ones((1, 1)), np.ones((1, 5)))
    with pytest.raises(UsageError, match="both sides"):
        made.normalise(np.ones((1, 5)), [[Hit("a", 1.0)]])
    with pytest.raises(UsageError, match="hits of 1 queries, vectors of 2"):
        made.normalise(np.ones((2, 5)), [[]])
    assert made.normalise(np.zeros((0, 5)), [], lambda ids: np.zeros((len(ids), 5))) == []
    assert np.isnan(made.bias(np.zeros((1, 5), np.float32))).all()
