"""Pseudo-labels: no leak, neighbours against loops, scores by a curve; in finetuning; the check."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.isotonic import IsotonicRegression

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.tiny import tiny_recipe
from vidvec.cli import main
from vidvec.data.corpus import Corpus
from vidvec.data.splits import corpus_split, rank_normalise, validation_videos
from vidvec.embed.vectors import VectorWriter
from vidvec.errors import FormatError, UsageError
from vidvec.metrics import bootstrap_difference, spearman
from vidvec.search.pseudo import KINDS, PseudoLabels, pseudo_labels
from vidvec.search.pseudo_check import check_pseudo_labels, compare
from vidvec.train.cached import CachedFinetuneTask
from vidvec.train.finetune import FinetuneTask, finetune
from vidvec.train.pseudo import with_pseudo_pairs
from vidvec.train.start import new_model

VIDEOS = made_videos(60)


class Table:
    """Vectors that tell topics apart, for all videos but the last."""

    def __init__(self) -> None:
        random = np.random.default_rng(5)
        centres = random.normal(size=(4, 8))
        topics = [int(video.category) for video in VIDEOS]
        self.ids = [video.id for video in VIDEOS[:-1]]
        self.matrix = (centres[topics] + 0.8 * random.normal(size=(60, 8))).astype(np.float32)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self.ids

    def row(self, video_id: str) -> int:
        return self.ids.index(video_id)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return write_corpus(tmp_path_factory.mktemp("pseudo"), VIDEOS, made_pairs(VIDEOS, 200))


def made(corpus: Corpus, **more: object) -> PseudoLabels:
    sizes = {"neighbours": 5, "positives": 20, "graded": 30, "chance": 25, **more}
    return pseudo_labels(Table(), corpus, **sizes)


@pytest.mark.parametrize("split", ["clean", "balanced"])
def test_no_video_that_is_validated_on_and_no_scored_pair_is_taken(corpus, split):
    found = made(corpus, split=split)
    used = {video for pair in found.pairs for video in (pair.id_1, pair.id_2)}
    pairs, parts = corpus.pairs(), corpus_split(corpus, split)
    validated = {v for at in parts.validation for v in (pairs[at].id_1, pairs[at].id_2)}
    assert validated
    assert validated <= validation_videos(corpus, split)
    assert not used & validation_videos(corpus, split)
    assert VIDEOS[-1].id not in used
    made_of = [frozenset((pair.id_1, pair.id_2)) for pair in found.pairs]
    assert len(set(made_of)) == len(made_of)
    assert not {frozenset((pair.id_1, pair.id_2)) for pair in pairs} & set(made_of)
    assert found.counts() == {"neighbour": 20, "graded": 30, "random": 25}
    assert found.learned_from <= len(parts.train)


def test_validation_scores_have_no_say(corpus, tmp_path):
    """With other scores on the validation pairs, the pseudo-labels are the same."""
    pairs, parts = corpus.pairs(), corpus_split(corpus, "clean")
    for at in parts.validation.tolist():
        pairs[at] = type(pairs[at])(pairs[at].id_1, pairs[at].id_2, 0.123)
    other = write_corpus(tmp_path / "other", VIDEOS, pairs)
    assert made(other).pairs == made(corpus).pairs


def test_neighbours_are_each_among_the_others_nearest_by_loops(corpus):
    table = Table()
    ids = [v for v in table.ids if v not in validation_videos(corpus, "clean")]
    unit = table.matrix[[table.row(v) for v in ids]].astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    near = [{ids[j] for j in np.argsort(-row)[:5]} for row in cosines]
    scored = {frozenset((pair.id_1, pair.id_2)) for pair in corpus.pairs()}
    mutual = {
        frozenset((a, b))
        for i, a in enumerate(ids)
        for j, b in enumerate(ids)
        if b in near[i] and a in near[j] and frozenset((a, b)) not in scored
    }
    found = made(corpus, positives=1000, graded=0, chance=0)
    assert {frozenset((pair.id_1, pair.id_2)) for pair in found.pairs} == mutual


def test_scores_are_isotonic_regression_on_the_training_pairs(corpus):
    table, found = Table(), made(corpus)
    pairs = [corpus.pairs()[at] for at in corpus_split(corpus, "clean").train]
    pairs = [pair for pair in pairs if pair.id_1 in table and pair.id_2 in table]

    def cosine(a: str, b: str) -> float:
        x, y = (table.matrix[table.row(v)].astype(np.float64) for v in (a, b))
        return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    known = [cosine(pair.id_1, pair.id_2) for pair in pairs]
    fit = IsotonicRegression(out_of_bounds="clip").fit(known, [pair.score for pair in pairs])
    expected = fit.predict([cosine(pair.id_1, pair.id_2) for pair in found.pairs])
    assert [pair.score for pair in found.pairs] == pytest.approx(expected.tolist(), abs=1e-4)
    by_kind = {kind: [] for kind in KINDS}
    for kind, value in zip(found.kinds, found.cosines, strict=True):
        by_kind[kind].append(value)
    assert min(np.mean(by_kind["neighbour"]), 1) > np.mean(by_kind["random"]) + 0.3
    assert np.ptp([p.score for p, k in zip(found.pairs, found.kinds, strict=True) if k == "graded"])


def test_the_seed_decides_what_is_drawn(corpus):
    assert made(corpus).pairs == made(corpus).pairs
    assert made(corpus).pairs != made(corpus, seed=1).pairs


def test_what_cannot_be_made_is_refused(corpus, tmp_path):
    with pytest.raises(UsageError, match="a neighbour or more"):
        made(corpus, neighbours=0)
    with pytest.raises(UsageError, match="no scored pairs with vectors"):
        made(write_corpus(tmp_path, VIDEOS))


def test_batches_have_so_many_more_by_hand():
    batches = [np.arange(4), np.arange(4, 8), np.arange(8, 10)]
    some = with_pseudo_pairs(batches, np.arange(100, 104), 0.5, [1, 2])
    assert [len(each) for each in some] == [6, 6, 3]
    assert all((a[: len(b)] == b).all() for a, b in zip(some, batches, strict=True))
    drawn = [number for each in some for number in each.tolist() if number >= 100]
    assert sorted(drawn[:4]) == [100, 101, 102, 103]
    assert with_pseudo_pairs(batches, np.zeros(0, np.int64), 1, [1]) is batches
    again = with_pseudo_pairs(batches, np.arange(100, 104), 0.5, [1, 3])
    assert [each.tolist() for each in again] != [each.tolist() for each in some]


def write_file(path: Path, corpus: Corpus, table: list[tuple[str, str, float]]) -> str:
    lines = [f"{a},{b},{score}" for a, b, score in table]
    path.write_text("id_1,id_2,score\n" + "\n".join(lines) + "\n")
    return str(path)


def test_finetuning_learns_them_beside_and_leaves_out_those_that_leak(corpus, tmp_path):
    held = sorted(validation_videos(corpus, "clean"))
    free = [video for video in corpus.ids if video not in held]
    scores = sorted({pair.score for pair in corpus.pairs()})
    middle = (scores[3] + scores[4]) / 2
    table = [(free[0], free[1], scores[3]), (free[2], free[3], middle), (free[4], free[5], 9.0)]
    leaks = [(held[0], free[0], 1.0), (held[1], held[2], 0.0), ("nobody", free[0], 1.0)]
    file = write_file(tmp_path / "pseudo.csv", corpus, [*table, *leaks])
    stage = {"pseudo_pairs": file, "pseudo_ratio": 0.5}
    task = FinetuneTask(new_model(tiny_recipe(finetune=stage), corpus), corpus)
    plain = FinetuneTask(new_model(tiny_recipe(), corpus), corpus)
    assert task.order.steps == plain.order.steps
    assert task.pseudo.left_out == 3
    ranks = rank_normalise([pair.score for pair in corpus.pairs()])
    at = {pair.score: rank for pair, rank in zip(corpus.pairs(), ranks, strict=True)}
    assert task.pseudo.targets.tolist() == pytest.approx(
        [at[scores[3]], (at[scores[3]] + at[scores[4]]) / 2, 1.0]
    )
    pseudo = {(corpus.row(a), corpus.row(b)) for a, b, _ in table}
    held_rows = {corpus.row(video) for video in held}
    for step in range(plain.order.epoch_steps(0)):
        (videos, targets), (few, wanted) = task.batch(step), plain.batch(step)
        rows, own = videos.rows.view(2, -1), few.rows.view(2, -1)
        count = own.shape[1]
        assert torch.equal(rows[:, :count], own)
        assert torch.equal(targets[:count], wanted)
        assert abs(rows.shape[1] - 1.5 * count) < 1
        assert set(map(tuple, rows[:, count:].T.tolist())) <= pseudo
        assert not held_rows & set(rows.reshape(-1).tolist())
    task.model.encoder.eval()
    with torch.no_grad():
        assert np.isfinite(task.validate()["mse"])


def test_files_that_do_not_serve_are_refused(corpus, tmp_path):
    held = sorted(validation_videos(corpus, "clean"))
    file = write_file(tmp_path / "leaks.csv", corpus, [(held[0], held[1], 1.0)])
    for name, error, words in (
        (file, UsageError, "none of the 1 rows"),
        (str(tmp_path / "missing.csv"), FormatError, "does not exist"),
    ):
        recipe = tiny_recipe(finetune={"pseudo_pairs": name})
        with pytest.raises(error, match=words):
            FinetuneTask(new_model(recipe, corpus), corpus)


def test_a_residual_adapter_learns_them_too(corpus, tmp_path):
    free = [video for video in corpus.ids if video not in validation_videos(corpus, "clean")]
    unscored = write_file(tmp_path / "p.csv", corpus, list(zip(free, free[1:], [0.5] * 9)))  # noqa: B905
    recipe = tiny_recipe(finetune={"pseudo_pairs": unscored, "adapter": "residual"})
    task = CachedFinetuneTask(new_model(recipe, corpus), corpus)
    batch = task.batch(0)
    assert len(batch[1]) == 32
    assert task.losses(batch, 0)["loss"].isfinite()


def test_another_file_is_another_run(corpus, tmp_path):
    free = [video for video in corpus.ids if video not in validation_videos(corpus, "clean")]
    path = tmp_path / "p.csv"
    recipe = tiny_recipe(
        finetune={"pseudo_pairs": write_file(path, corpus, [(free[0], free[1], 0.5)]), "epochs": 1}
    )
    finetune(corpus.path, tmp_path / "run", recipe)
    write_file(path, corpus, [(free[0], free[2], 0.5)])
    with pytest.raises(FormatError):
        finetune(corpus.path, tmp_path / "run", recipe)


def test_the_comparison_of_one_seed_is_the_paired_bootstrap():
    random = np.random.default_rng(0)
    scores = random.random(80)
    worse, better = (scores + noise * random.normal(size=80) for noise in (0.5, 0.2))
    without, with_, difference, spread = compare([worse], [better], scores)
    expected = bootstrap_difference(spearman, better, worse, scores)
    assert (without[0], with_[0]) == (spearman(worse, scores), spearman(better, scores))
    assert difference.value == pytest.approx(expected.value)
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high))
    assert np.isnan(spread)


@pytest.mark.slow
def test_the_check_compares_runs_of_the_same_steps(corpus, tmp_path):
    free = [video for video in corpus.ids if video not in validation_videos(corpus, "clean")]
    topic = {video.id: video.category for video in VIDEOS}
    every = [(a, b) for a in free for b in free if a < b]
    table = [(a, b, float(topic[a] == topic[b])) for a, b in every[::5]]
    file = tmp_path / "p.csv"
    write_file(file, corpus, table)
    recipe = tiny_recipe(finetune={"epochs": 1})
    found = check_pseudo_labels(corpus.path, file, tmp_path / "runs", recipe, seeds=(1, 2))
    assert found.verdict in ("help", "no difference", "hurt")
    assert len(found.without) == len(found.with_) == 2
    assert found.difference.low <= found.difference.value <= found.difference.high
    steps = set()
    for run in (tmp_path / "runs").glob("seed-*/*"):
        steps.add(json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"])
    assert len(steps) == 1
    again = check_pseudo_labels(corpus.path, file, tmp_path / "runs", recipe, seeds=(1, 2))
    assert again == found


def test_the_command_and_its_check(corpus, tmp_path, capsys):
    table = Table()
    writer = VectorWriter(tmp_path / "v", 8, {"normalised": False, "made_by": {}})
    writer.append(table.ids, table.matrix[:-1])
    writer.finish()
    (tmp_path / "r.toml").write_text(tiny_recipe(finetune={"epochs": 1}).to_toml())
    options = ["--positives", "9", "--graded", "8", "--random", "7", "--seeds", "1"]
    check = ["--check", str(tmp_path / "runs"), "--recipe", str(tmp_path / "r.toml")]
    paths = [str(corpus.path), str(tmp_path / "v"), str(tmp_path / "p.csv")]
    with pytest.raises(SystemExit) as ended:
        main(["pseudo-label", *paths, *options, *check])
    assert ended.value.code in (0, None)
    shown = capsys.readouterr().out
    assert "24 pairs" in shown
    assert any(word in shown for word in (": help", ": no difference", ": hurt"))
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == ["neighbour"] * 9 + ["graded"] * 8 + ["random"] * 7
