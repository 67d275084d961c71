"""Training with the balanced split: what is validated on is seen by no stage."""

from __future__ import annotations

import numpy as np
import pytest

from tests.corpora import write_corpus
from tests.tiny import tiny_recipe
from tests.unit.train.runs import PAIRS, VIDEOS, rows_seen
from vidvec.data.balanced import FILE
from vidvec.data.splits import corpus_split, validation_videos
from vidvec.embed.evaluate import evaluate, split_of
from vidvec.errors import UsageError
from vidvec.train.finetune import FinetuneTask
from vidvec.train.pretrain import PretrainTask
from vidvec.train.rows import split_facts
from vidvec.train.start import new_model

BALANCED = {"split": "balanced"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("balanced"), VIDEOS, PAIRS)


def test_pretraining_and_finetuning_leave_out_what_is_validated_on(corpus):
    recipe = tiny_recipe(finetune=BALANCED, pretrain={"validation_share": 0.0})
    task = FinetuneTask(new_model(recipe, corpus), corpus)
    assert (corpus.path / FILE).is_file()
    held = validation_videos(corpus, "balanced")
    assert held != validation_videos(corpus, "clean")
    assert len(task.split.validation)
    validated = {v for at in task.split.validation for v in (PAIRS[at].id_1, PAIRS[at].id_2)}
    assert validated <= held
    rows = {row for step in range(task.order.epoch_steps(0)) for row in task.batch(step)[0].rows}
    assert not held & {corpus.ids[row] for row in rows}
    seen = rows_seen(PretrainTask(new_model(recipe, corpus), corpus))
    assert not held & {corpus.ids[row] for row in seen}
    assert set(corpus.ids) - held == {corpus.ids[row] for row in seen}


def test_runs_are_told_apart_by_it():
    assert split_facts("clean") == split_facts("published") == {}
    assert split_facts("balanced")


def test_evaluation_is_on_what_was_written_down(corpus):
    class Table:
        matrix = np.random.default_rng(0).normal(size=(len(VIDEOS), 4)).astype(np.float32)

        def __contains__(self, video_id: object) -> bool:
            return video_id in corpus

        def row(self, video_id: str) -> int:
            return corpus.row(video_id)

    split = corpus_split(corpus, "balanced")
    found = evaluate(Table(), corpus.pairs(), split_of(corpus, "balanced"))
    assert (found.split, found.pairs, found.shared) == ("balanced", len(split.validation), 0)
    # Without the corpus it could be another split than was trained with.
    with pytest.raises(UsageError, match="that of a corpus"):
        evaluate(Table(), corpus.pairs(), "balanced")
