"""Scores mixed with what finetuned models make of the pairs: by loops, refused, carried on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.tiny import tiny_recipe
from tests.unit.train.runs import last_weights
from vidvec.config import Recipe
from vidvec.data.batches import BatchBuilder
from vidvec.data.corpus import Corpus
from vidvec.errors import FormatError, UsageError
from vidvec.model.weights import load_model
from vidvec.train.cached import CachedFinetuneTask
from vidvec.train.finetune import FinetuneTask, finetune
from vidvec.train.folds import in_fold
from vidvec.train.start import new_model


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    videos = made_videos(60)
    folder = tmp_path_factory.mktemp("taught") / "corpus"
    return write_corpus(folder, videos, made_pairs(videos, 200))


def recipe(seed: int = 7, **settings: object) -> Recipe:
    return tiny_recipe(seed, finetune={"epochs": 2, "batch_size": 32, **settings})


@pytest.fixture(scope="module")
def teachers(tmp_path_factory, corpus) -> tuple[str, ...]:
    runs = [tmp_path_factory.mktemp("teachers") / f"run-{seed}" for seed in (1, 2)]
    for seed, run in enumerate(runs, 1):
        finetune(corpus.path, run, recipe(seed, epochs=1))
    return tuple(map(str, runs))


def task(corpus: Corpus, **settings: object) -> FinetuneTask:
    made = recipe(**settings)
    return FinetuneTask(new_model(made, corpus), corpus)


def alone(corpus: Corpus, run: str, rows: list[list[int]]) -> list[float]:
    """Cosines of pairs, each video encoded by itself."""
    model = load_model(run)
    builder = BatchBuilder(corpus, model.tokenizer, model.recipe.model)
    vectors = {
        row: model.encoder(builder.build(np.array([row]))).vectors[0]
        for row in {row for pair in rows for row in pair}
    }
    return [(vectors[first] @ vectors[second]).item() for first, second in rows]


@pytest.mark.parametrize("ranks", [True, False])
def test_targets_are_the_loop_over_pairs(corpus, teachers, ranks) -> None:
    settings = {"rank_normalise": ranks, "teachers": teachers, "soft_share": 0.3}
    plain, work = task(corpus, rank_normalise=ranks), task(corpus, **settings)
    chosen = work.split.train
    cosines = [alone(corpus, run, work._rows[chosen].tolist()) for run in teachers]
    if ranks:
        cosines = [(rankdata(np.round(some, 6)) - 1) / (len(some) - 1) for some in cosines]
    expected = plain._targets.copy()
    expected[chosen] = 0.7 * expected[chosen] + 0.3 * np.mean(cosines, axis=0)
    assert np.allclose(work._learned, expected, atol=2e-2 if ranks else 1e-5)
    assert np.abs(work._learned - expected).mean() < 1e-3
    assert np.abs(expected - plain._targets)[chosen].mean() > 0.03
    assert np.array_equal(work._targets, plain._targets)  # what it is validated on
    assert np.array_equal(plain._learned, plain._targets)
    for step in (0, 1):
        taken = work.order(step)
        assert np.allclose(work.batch(step)[1].numpy(), work._learned[taken])


def test_folds_teach_what_they_did_not_learn_from(tmp_path, corpus) -> None:
    runs, pairs = [str(tmp_path / f"fold-{number}") for number in (1, 2)], corpus.pairs()
    for number, run in enumerate(runs, 1):
        finetune(corpus.path, Path(run), recipe(epochs=1, fold=number, folds=2))
    work = task(corpus, teachers=tuple(runs), rank_normalise=False, soft_share=0.5)
    expected, taught = work._targets.copy(), 0
    said: dict[int, list[float]] = {at: [] for at in work.split.train.tolist()}
    for number, run in enumerate(runs, 1):
        part = in_fold(work.split, pairs, recipe(fold=number, folds=2).finetune).train
        seen = {v for row in part for v in (pairs[row].id_1, pairs[row].id_2)}
        new = [at for at in said if at not in part]
        assert not any({pairs[at].id_1, pairs[at].id_2} <= seen for at in new)
        for at, cosine in zip(new, alone(corpus, run, work._rows[new].tolist()), strict=True):
            said[at].append(cosine)
    for at, cosines in said.items():
        assert cosines  # somebody has not learned from it
        expected[at] = (expected[at] + np.mean(cosines)) / 2
        taught += len(cosines)
    assert len(work.split.train) < taught < 2 * len(work.split.train)
    assert np.allclose(work._learned, expected, atol=1e-5)
    with pytest.raises(UsageError, match=r"in fold 2 of 2.*clean, fold 1 of 2.*validates on"):
        task(corpus, teachers=(runs[1],), fold=1, folds=2)
    task(corpus, teachers=(runs[0],), fold=1, folds=2)


def test_a_residual_adapter_is_taught_too(corpus, teachers) -> None:
    settings = {"teachers": teachers[:1], "soft_share": 0.5}
    made = recipe(adapter="residual", **settings)
    work = CachedFinetuneTask(new_model(made, corpus), corpus)
    whole = task(corpus, **settings)
    assert np.array_equal(work.batch(0)[1].numpy(), whole.batch(0)[1].numpy())


def test_teachers_of_another_split_have_seen_too_much(tmp_path, corpus, teachers) -> None:
    finetune(corpus.path, tmp_path / "run", recipe(split="published", epochs=1))
    with pytest.raises(UsageError, match=r"split=published,.*split here \(clean\) validates on"):
        task(corpus, teachers=(str(tmp_path / "run"),))
    task(corpus, teachers=(str(tmp_path / "run"),), split="published")
    with pytest.raises(FormatError, match="is no checkpoint and no run"):
        task(corpus, teachers=(str(tmp_path / "nobody"),))


def test_a_run_that_is_stopped_ends_with_the_same_weights(tmp_path, corpus, teachers) -> None:
    settings = recipe(checkpoint_every=3, teachers=teachers)

    class StopError(Exception):
        pass

    def stop(done: int, *_: object) -> None:
        if done == 8:
            raise StopError

    finetune(corpus.path, tmp_path / "whole", settings)
    with pytest.raises(StopError):
        finetune(corpus.path, tmp_path / "stopped", settings, None, stop)
    assert finetune(corpus.path, tmp_path / "stopped", settings).resumed_at == 6
    assert last_weights(tmp_path / "whole") == last_weights(tmp_path / "stopped")
    finetune(corpus.path, tmp_path / "alone", recipe(checkpoint_every=3))
    assert last_weights(tmp_path / "whole") != last_weights(tmp_path / "alone")


def test_a_teacher_that_has_changed_is_another(tmp_path, corpus, teachers) -> None:
    link = tmp_path / "teacher"
    link.symlink_to(Path(teachers[0]))
    settings = recipe(epochs=1, teachers=(str(link),))
    finetune(corpus.path, tmp_path / "run", settings)
    link.unlink()
    link.symlink_to(Path(teachers[1]))
    with pytest.raises(FormatError, match=r"other settings.*teachers"):
        finetune(corpus.path, tmp_path / "run", settings)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())["facts"]
    assert len(facts["teachers"]) == 12
