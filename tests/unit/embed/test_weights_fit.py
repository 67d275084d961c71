"""Fitted weights: against a grid of all weights, and on pairs that nothing was fitted on."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from scipy.stats import pearsonr, rankdata, spearmanr

from tests.corpora import made_pairs, made_videos, write_corpus
from vidvec import metrics
from vidvec.cli import main
from vidvec.data.splits import split_pairs
from vidvec.embed import weights_fit as module
from vidvec.embed.ablation import PairVectors
from vidvec.embed.fusion import fuse, load_fusion
from vidvec.embed.vectors import Vectors, VectorWriter
from vidvec.embed.weights_fit import FittedHere, best_weights, fit_weights, fitted_here
from vidvec.errors import UsageError
from vidvec.records import Pair


def table(cosines: np.ndarray) -> PairVectors:
    """Vectors whose pair p, of the videos 2p and 2p + 1, has this cosine."""
    matrix = np.zeros((2 * len(cosines), 2))
    matrix[0::2, 0] = 1
    matrix[1::2] = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    return PairVectors({str(row): row for row in range(len(matrix))}, matrix)


def made(qualities: list[float], count: int, seed: int = 0):
    """Cosines (pairs, members) of members that see so much of what people score, and the scores."""
    random = np.random.default_rng(seed)
    truth = random.normal(size=count)
    seen = [quality * truth + random.normal(size=count) for quality in qualities]
    scores = np.round(np.maximum(0, truth + 0.4 * random.normal(size=count)), 1)
    return np.tanh(np.stack(seen, axis=1) / 3), scores


def pairs_of(scores: np.ndarray) -> list[Pair]:
    return [Pair(str(2 * at), str(2 * at + 1), float(s)) for at, s in enumerate(scores)]


@pytest.mark.parametrize("qualities", [[1.0, 0.2], [1.5, 0.7, 0.3], [0.8, 0.0, 0.9]])
def test_no_weights_of_a_grid_do_better(qualities):
    cosines, scores = made(qualities, 400)
    found = best_weights(cosines, scores)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    steps = np.linspace(0, 1, 101 if len(qualities) == 2 else 21)
    grid = [w for w in itertools.product(steps, repeat=len(qualities)) if abs(sum(w) - 1) < 1e-9]
    ranks = rankdata(scores)
    correlations = [pearsonr(cosines @ np.array(w), ranks).statistic for w in grid]
    mine = pearsonr(cosines @ found, ranks).statistic
    assert mine >= max(correlations) - 1e-12
    nearest = np.array(grid[int(np.argmax(correlations))])
    assert np.abs(nearest - found).max() < 1.5 * steps[1]
    # Spearman of the mean is a staircase near it: its best step is a matter of these pairs.
    best = max(spearmanr(cosines @ np.array(w), scores).statistic for w in grid)
    assert spearmanr(cosines @ found, scores).statistic > best - 0.01


def test_a_member_that_only_harms_gets_nothing():
    cosines, scores = made([1.0, -0.8, 0.9], 500)
    assert best_weights(cosines, scores)[1] == 0
    assert best_weights(-cosines[:, ::2], scores).tolist() == [0.5, 0.5]
    cosines[:, 1] = 0.3
    assert best_weights(cosines, scores)[1] == 0


def test_weights_are_kept_where_they_help_on_new_pairs():
    cosines, scores = made([1.2, 1.1, 0.1], 150)
    found = fit_weights([table(each) for each in cosines.T], pairs_of(scores), "all", resamples=50)
    assert found.fitted
    assert not found.reason
    assert sum(found.weights) == pytest.approx(1)
    assert found.weights[2] < 0.25
    assert found.pairs == found.held_out == 150
    assert found.difference.value > 0
    others, truth = made([1.2, 1.1, 0.1], 3000, seed=1)
    gain = spearmanr(others @ np.array(found.weights), truth).statistic
    assert gain - spearmanr(others.mean(1), truth).statistic > 0.005


def test_the_figure_is_of_pairs_that_nothing_was_fitted_on(monkeypatch):
    """Whatever the scores of a fold are, its own weights are the same."""
    cosines, scores = made([1.2, 0.6, 0.1], 120)
    pairs = pairs_of(scores)
    held = np.array_split(np.random.default_rng(0).permutation(120), 4)
    means = module._left_out(pairs, cosines, scores, held)[1]
    for rows in held:
        changed = scores.copy()
        changed[rows] = changed[rows][::-1] + 5
        again = module._left_out(pairs, cosines, changed, held)[1]
        assert np.array_equal(again[rows], means[rows])
        others = np.setdiff1d(np.arange(120), rows)
        assert not np.array_equal(again[others], means[others])


def test_no_video_of_a_pair_left_out_is_fitted_on(monkeypatch):
    random = np.random.default_rng(3)
    videos = [str(number) for number in range(60)]
    ends = [random.choice(60, 2, replace=False) for _ in range(150)]
    pairs = [Pair(videos[a], videos[b], float(random.random())) for a, b in ends]
    held = module._folds(pairs, 0)
    seen: list[set[int]] = []
    monkeypatch.setattr(
        module, "best_weights", lambda c, s: seen.append(set(c[:, 0].astype(int))) or np.ones(1)
    )
    places = np.arange(150, dtype=float)[:, None]
    for place, rows in enumerate(held):
        seen.clear()
        others = [*held[:place], *held[place + 1 :]]
        module._shrunk(pairs, places, np.arange(150.0), others, rows)
        out = {v for row in rows for v in (pairs[row].id_1, pairs[row].id_2)}
        assert len(seen) == len(held)
        for used in seen:
            assert used
            assert not out & {v for row in used for v in (pairs[row].id_1, pairs[row].id_2)}


def test_equal_weights_are_hard_to_beat():
    cosines, scores = made([1.0, 1.0, 1.0], 80, seed=4)
    found = fit_weights([table(each) for each in cosines.T], pairs_of(scores), "all", resamples=50)
    assert not found.fitted
    assert "pairs left out" in found.reason
    assert found.weights == pytest.approx([1 / 3] * 3)
    assert found.share == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("one", "there is one member"),
        ("few", "12 pairs are too few (fewer than 20)"),
        ("cosines", "every member gives all pairs the same cosine"),
        ("scores", "all scores are the same"),
        ("star", "pairs are too few to leave some out"),
    ],
)
def test_nothing_to_fit(change, said):
    cosines, scores = made([1.0, 0.5], 12 if change == "few" else 24)
    cosines = np.full_like(cosines, 0.25) if change == "cosines" else cosines
    scores = np.ones(24) if change == "scores" else scores
    members = [table(each) for each in cosines.T][: 1 if change == "one" else 2]
    pairs = pairs_of(scores)
    if change == "star":  # every pair has the same video: no fold is without it
        pairs = [Pair("0", pair.id_2, pair.score) for pair in pairs]
    found = fit_weights(members, pairs, "all")
    assert said in found.reason
    assert not found.fitted
    assert found.weights == pytest.approx([1 / len(members)] * len(members))
    assert found.spearman is None
    assert json.loads(json.dumps(found.facts())) == found.facts()


def test_members_without_vectors_of_the_pairs():
    cosines, scores = made([1.0, 0.5], 30)
    whole, other = (table(each) for each in cosines.T)
    some = PairVectors({str(row): row for row in range(44)}, other.matrix)
    found = fit_weights([whole, some], pairs_of(scores), "all", resamples=50)
    assert (found.pairs, found.missing) == (22, 8)
    stranger = PairVectors({"x": 0}, other.matrix)
    said = r"none of them with vectors of all members; .* of a of 30, b of 0"
    with pytest.raises(UsageError, match=said):
        fit_weights([whole, stranger], pairs_of(scores), "all", names=["a", "b"])
    with pytest.raises(UsageError, match="0 pairs in the clean validation split"):
        fit_weights([whole, other], pairs_of(scores)[:0])


def written(path, ids: list[str], vectors: np.ndarray, by: str):
    writer = VectorWriter(path, vectors.shape[1], {"normalised": False, "made_by": {"stage": by}})
    writer.append(ids, vectors.astype(np.float32))
    writer.finish()
    return str(path)


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """A corpus; vectors that see well and badly what is scored, and some that see nothing."""
    folder = tmp_path_factory.mktemp("members")
    videos, random = made_videos(240), np.random.default_rng(0)
    seen = random.normal(size=(240, 3))
    alike = metrics.cosines(seen[0::2], seen[1::2]) + 0.2 * random.normal(size=120)
    ids = [video.id for video in videos]
    pairs = [Pair(*ids[2 * at : 2 * at + 2], float(score)) for at, score in enumerate(alike)]
    corpus = write_corpus(folder / "corpus", videos, pairs)
    folders = []
    for name, noise in (("good", 0.5), ("bad", 1.5), ("none", 50.0)):
        width = 2 if name == "none" else 12  # cosines of two numbers are far apart
        vectors = seen @ random.normal(size=(3, width)) + noise * random.normal(size=(240, width))
        folders.append(written(folder / name, ids, vectors, name))
    return corpus, folders


def ran(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    assert not ended.value.code


def test_the_command_fits_and_the_manifest_says_so(members, tmp_path, capsys):
    corpus, folders = members
    given = ["fuse", *folders, "--out", str(tmp_path / "fused"), "--size", "8"]
    given += ["--fit-weights", "--corpus", str(corpus.path), "--split", "all"]
    ran(*given)
    said = capsys.readouterr().out
    assert "fitted on" in said
    assert "pairs left out in turn: Spearman" in said
    made_by = Vectors(tmp_path / "fused").manifest["made_by"]
    weights = made_by["weights"]
    assert weights[2] < 0.25
    assert weights[0] > weights[2]
    facts = made_by["weights_from"]
    assert facts["fitted"]
    assert facts["split"] == "all"
    assert facts["spearman"] > facts["equal_spearman"]
    assert load_fusion(tmp_path / "fused").weights.tolist() == weights
    fuse([tmp_path.parent / each for each in folders], tmp_path / "plain", weights, 8)
    assert np.array_equal(Vectors(tmp_path / "fused").matrix, Vectors(tmp_path / "plain").matrix)


def test_evaluate_warns_where_weights_were_fitted_on_the_pairs_that_are_measured(
    members, tmp_path, capsys
):
    corpus, folders = members
    fitted, plain = tmp_path / "fitted", tmp_path / "plain"
    at = ["--corpus", str(corpus.path), "--split", "all"]
    ran("fuse", *folders, "--out", str(plain), "--size", "8")
    ran("fuse", *folders, "--out", str(fitted), "--size", "8", "--fit-weights", *at)
    ran("compress", str(fitted), str(tmp_path / "small"), "--dtype", "int8")
    facts = Vectors(fitted).manifest["made_by"]["weights_from"]
    capsys.readouterr()
    ran("evaluate", str(fitted), str(plain), "--json", *at)
    said = capsys.readouterr()
    assert "fitted: its weights were fitted on 120 of these pairs (--split all)" in said.err
    assert f"on pairs left out {facts['spearman']:.4f}" in said.err
    assert "plain" not in said.err
    assert set(json.loads(said.out)) == {str(fitted), str(plain)}
    ran("evaluate", str(tmp_path / "small"), *at)
    assert "small: its weights were fitted on 120 of" in capsys.readouterr().err


def test_weights_favour_the_pairs_that_they_were_fitted_on_and_no_others(tmp_path):
    videos = made_videos(60)
    corpus = write_corpus(tmp_path / "corpus", videos, made_pairs(videos, 200))
    held = len(split_pairs(corpus.pairs(), "clean").validation)
    facts = {"split": "clean", "fitted": True}
    for split in ("clean", "published", "all"):
        assert fitted_here({"weights_from": facts}, corpus, split) == FittedHere(
            "clean", held, None
        )
    assert fitted_here({"weights_from": {**facts, "fitted": False}}, corpus, "all") is None
    assert fitted_here({"made_of": [{"weights_from": facts}]}, corpus, "clean") is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fit-weights"], "give --corpus"),
        (["--report"], "give --corpus"),
        (["--fit-weights", "--weights", "1", "2", "3"], "give one"),
        (["--html", "page.html"], "give --report"),
    ],
)
def test_options_that_do_not_go_together(members, tmp_path, capsys, options, said):
    with pytest.raises(SystemExit) as ended:
        main(["fuse", *members[1], "--out", str(tmp_path / "fused"), *options])
    assert ended.value.code == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "fused").exists()
