"""Videos that are marked gone take no part: in training, vectors, evaluation and search."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.models import write_checkpoint
from tests.tiny import tiny_recipe
from tests.unit.train.runs import rows_seen
from vidvec.cli import app
from vidvec.data.compact import compact
from vidvec.data.corpus import Corpus
from vidvec.data.lists import frequent_tags
from vidvec.embed.embedder import embed
from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError
from vidvec.search.index import ExactIndex, corpus_of, gone_ids
from vidvec.train.pretrain import PretrainTask, run_facts
from vidvec.train.start import new_model

VIDEOS = made_videos(60)
PAIRS = made_pairs(VIDEOS, 40)
GONE = [3, 4, 5, 20, 59]


def mark(path: Path, rows: list[int]) -> Corpus:
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    manifest["gone"] = [[row, 1] for row in rows]
    (path / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return Corpus(path)


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return write_corpus(tmp_path / "corpus", VIDEOS, PAIRS, parts={"a": 10, "b": 40})


@pytest.fixture
def checkpoint(corpus, tmp_path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint", corpus)


def test_what_a_corpus_says_of_them(corpus):
    assert (corpus.gone.sum(), corpus.edition, len(corpus.live)) == (0, "", 60)
    marked = mark(corpus.path, GONE)
    assert np.flatnonzero(marked.gone).tolist() == GONE
    assert marked.live.tolist() == [row for row in range(60) if row not in GONE]
    assert (len(marked), marked.ids) == (60, corpus.ids)  # rows keep their numbers
    assert marked.parts["a"].tolist() == [0, 1, 2, 6, 7, 8, 9]
    assert 20 not in marked.parts["b"]
    gone = {VIDEOS[row].id for row in GONE}
    kept = [pair for pair in PAIRS if not gone & {pair.id_1, pair.id_2}]
    assert 0 < len(kept) < len(PAIRS)
    assert marked.pairs() == kept
    assert marked.edition not in ("", mark(corpus.path, GONE[1:]).edition)


def test_tags_of_videos_that_are_gone_are_not_counted(corpus):
    tag = "topic0"
    having = [row for row, video in enumerate(VIDEOS) if tag in (video.tags or ())]
    assert tag in frequent_tags(corpus)
    assert tag not in frequent_tags(mark(corpus.path, having[1:]))


def test_they_are_not_trained_on(corpus):
    recipe = tiny_recipe(pretrain={"videos": "all", "validation_share": 0.0})
    model = new_model(recipe, corpus)
    marked = mark(corpus.path, GONE)
    assert sorted(rows_seen(PretrainTask(model, marked))) == marked.live.tolist()
    facts = [run_facts(one, model.tokenizer, "settings") for one in (corpus, marked)]
    assert facts[0] != facts[1]


def test_they_get_no_vectors_and_the_others_get_the_same(corpus, checkpoint, tmp_path):
    embed(checkpoint, corpus.path, tmp_path / "all")
    before = Vectors(tmp_path / "all")
    marked = mark(corpus.path, GONE)
    assert embed(checkpoint, corpus.path, tmp_path / "live") == 55
    vectors = Vectors(tmp_path / "live")
    assert vectors.ids == [corpus.ids[row] for row in marked.live]
    assert np.abs(vectors.matrix - before.matrix[marked.live]).max() < 2e-6
    with pytest.raises(UsageError):
        embed(checkpoint, corpus.path, tmp_path / "all")  # it holds others
    # As many others: the count does not say which they are, so that something else must.
    mark(corpus.path, [0, 1, 2, 6, 7])
    with pytest.raises(UsageError):
        embed(checkpoint, corpus.path, tmp_path / "live")
    assert embed(checkpoint, corpus.path, tmp_path / "a", parts=["a"]) == 5


def test_they_are_not_found(corpus, checkpoint, tmp_path, capsys):
    embed(checkpoint, corpus.path, tmp_path / "vectors")
    vectors = Vectors(tmp_path / "vectors")
    gone = {VIDEOS[row].id for row in GONE}
    everything = ExactIndex(vectors).like([VIDEOS[0].id], 59)[0]
    assert gone <= {hit.id for hit in everything}
    mark(corpus.path, GONE)
    for removed in (False, True):
        if removed:
            compact(corpus.path)
        opened = corpus_of(vectors.path)
        ids = gone_ids(opened, vectors, own=True)
        assert set(ids) == gone
        index = ExactIndex(vectors, ids)
        assert index.left_out == 5
        wanted = [hit for hit in everything if hit.id not in gone]
        for k in (1, 7, 59):
            found = index.like([VIDEOS[0].id], k)[0]
            assert [hit.id for hit in found] == [hit.id for hit in wanted[:k]]
            assert [hit.cosine for hit in found] == pytest.approx([h.cosine for h in wanted[:k]])
        # Of another corpus it is not known which videos were removed from it.
        other = gone_ids(opened, vectors, own=False)
        assert set(other) == (set() if removed else gone)
        app(
            ["search", str(vectors.path), "--id", VIDEOS[0].id, "-k", "59"],
            result_action="return_value",
        )
        shown = capsys.readouterr().out
        assert "5 videos that are gone from the source are left out" in shown
        assert not [video for video in gone if f" {video} " in shown]


def test_where_nothing_is_gone_nothing_is_left_out(corpus, checkpoint, tmp_path):
    embed(checkpoint, corpus.path, tmp_path / "vectors")
    vectors = Vectors(tmp_path / "vectors")
    assert gone_ids(corpus, vectors, own=True) == []
    assert gone_ids(None, vectors, own=True) == []
    assert ExactIndex(vectors).left_out == 0
