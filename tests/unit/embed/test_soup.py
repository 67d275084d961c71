"""Soups: means by NumPy, the greedy choice by trying, and models that cannot be averaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from scipy.stats import spearmanr

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.models import write_checkpoint
from vidvec import storage
from vidvec.cli import main
from vidvec.data.corpus import Corpus
from vidvec.data.tokenizer import train_tokenizer
from vidvec.embed.embedder import Encoder, embed
from vidvec.embed.soup import soup
from vidvec.errors import FormatError, UsageError
from vidvec.model.heads import PretrainingHeads
from vidvec.model.weights import load_model, save_model

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    videos = made_videos(60)
    return write_corpus(tmp_path_factory.mktemp("soup") / "corpus", videos, made_pairs(videos, 400))


@pytest.fixture(scope="module")
def members(tmp_path_factory, corpus) -> list[Path]:
    """Near one another, as models from one start are: one model with its weights moved a little."""
    folder = tmp_path_factory.mktemp("members")
    start = write_checkpoint(folder / "start", corpus)
    made = []
    for seed, by in enumerate((0.02, 0.3, 0.05)):
        model = load_model(start)
        model.made_by = {"stage": "finetune", "corpus": str(corpus.path), "start": str(start)}
        model.heads = None
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in model.encoder.parameters():
                weight.add_(by * torch.randn(weight.shape, generator=generator))
        save_model(folder / f"moved-{seed}", model)
        made.append(folder / f"moved-{seed}")
    return made


def figure(path: Path, corpus: Corpus) -> float:
    """Spearman on the pairs whose two ids can be divided by five."""
    pairs = [p for p in corpus.pairs() if int(p.id_1) % 5 == int(p.id_2) % 5 == 0]
    first, second = (
        Encoder.load(path).encode([corpus.video(corpus.row(getattr(p, side))) for p in pairs])
        for side in ("id_1", "id_2")
    )
    return spearmanr((first * second).sum(1), [p.score for p in pairs]).statistic


def mean_of(paths: list[Path], out: Path) -> Path:
    """The first checkpoint with the weights' plain mean."""
    tensors = [load_file(path / WEIGHTS) for path in paths]
    shutil.copytree(paths[0], out)
    means = {
        name: np.mean([each[name].astype(np.float64) for each in tensors], axis=0)
        for name in tensors[0]
    }
    save_file({name: mean.astype(np.float32) for name, mean in means.items()}, out / WEIGHTS)
    return out


def test_weights_are_the_mean_of_weights(members, corpus, tmp_path):
    report = soup(members, tmp_path / "soup")
    expected = load_file(mean_of(members, tmp_path / "mean") / WEIGHTS)
    found = load_file(tmp_path / "soup" / WEIGHTS)
    assert set(found) == set(expected)
    for name, weights in found.items():
        assert weights == pytest.approx(expected[name], abs=1e-7), name
    assert [each.used for each in report.ingredients] == [True] * 3
    assert report.spearman is None
    assert not report.worse
    assert not report.heads
    assert Encoder.load(tmp_path / "soup").encode("sea waves").shape == (16,)
    embed(tmp_path / "soup", corpus.path, tmp_path / "vectors")


def test_figures_are_those_of_the_checkpoints(members, corpus, tmp_path):
    report = soup(members, tmp_path / "soup", corpus, resamples=20)
    alone = [figure(path, corpus) for path in members]
    for value, each in zip(alone, report.ingredients, strict=True):
        assert each.spearman.value == pytest.approx(value, abs=1e-3)
    after = figure(tmp_path / "soup", corpus)
    assert report.spearman.value == pytest.approx(after, abs=1e-3)
    assert report.difference.value == pytest.approx(after - max(alone), abs=2e-3)
    assert report.worse is bool(after < max(alone))


def test_the_greedy_soup_is_what_trying_gives(members, corpus, tmp_path):
    some = [members[at] for at in (1, 2, 0)]
    report = soup(some, tmp_path / "soup", corpus, greedy=True, resamples=20)

    def tried(paths: list[Path]) -> float:
        mean = mean_of(paths, tmp_path / "tried")
        value = figure(mean, corpus)
        shutil.rmtree(mean)
        return value

    ranked = sorted(some, key=lambda path: -figure(path, corpus))
    used = ranked[:1]
    for path in ranked[1:]:
        if tried([*used, path]) >= tried(used):
            used.append(path)
    assert [each.used for each in report.ingredients] == [path in used for path in some]
    assert len(used) < 3  # the one that was moved far does not help
    assert report.spearman.value == pytest.approx(tried(used), abs=1e-3)
    assert not report.worse
    assert figure(tmp_path / "soup", corpus) == pytest.approx(report.spearman.value, abs=1e-3)


def test_it_says_where_a_soup_does_not_hold(corpus, tmp_path, capsys):
    strangers = [write_checkpoint(tmp_path / f"{seed}", corpus, seed=seed) for seed in (0, 1, 2)]
    given = [*map(str, strangers), "--out", str(tmp_path / "soup"), "--corpus", str(corpus.path)]
    with pytest.raises(SystemExit) as ended:
        main(["soup", *given])
    assert not ended.value.code
    said = capsys.readouterr()
    assert "different starts" in said.err
    assert "to the best model" in said.out
    best = soup(strangers, tmp_path / "soup", corpus, resamples=2)
    assert ("warning: the soup is worse" in said.err) is best.worse
    assert len(best.starts) == 3
    assert best.heads
    with pytest.raises(SystemExit):
        main(["soup", *given[:2], "--out", str(tmp_path / "two"), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [each["used"] for each in told["ingredients"]] == [True, True]
    assert told["spearman"] is told["difference"] is None


def test_the_manifest_names_its_ancestors(members, corpus, tmp_path):
    soup(members, tmp_path / "soup", corpus, greedy=True, resamples=2)
    made_by = storage.read_manifest(tmp_path / "soup", "checkpoint")["made_by"]
    assert made_by["stage"] == "soup"
    assert [each["checkpoint"] for each in made_by["members"]] == [str(path) for path in members]
    assert all(each["made_by"]["stage"] == "finetune" for each in made_by["members"])
    before = (tmp_path / "soup" / WEIGHTS).stat().st_mtime_ns
    soup(members, tmp_path / "soup", corpus, greedy=True, resamples=2)
    assert (tmp_path / "soup" / WEIGHTS).stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="holds something else"):
        soup(members[:2], tmp_path / "soup", corpus, greedy=True, resamples=2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("shape", r"model\.ffn_size: 64 and 48"),
        ("order", r"model\.order: 'cls_first' and 'frames_first'"),
        ("tokenizer", r"the tokenizer: \d+ and \d+ tokens"),
        ("frames", r"the frame encoder: made \(24 numbers\) and other \(24 numbers\)"),
    ],
)
def test_models_that_do_not_fit_are_told_apart(members, corpus, tmp_path, change, said):
    other = tmp_path / "other"
    if change in ("shape", "order"):
        setting = {"shape": "model.ffn_size=48", "order": "model.order=frames_first"}[change]
        write_checkpoint(other, corpus, setting)
    else:
        model = load_model(members[0])
        if change == "frames":
            model.frame_encoder = {**model.frame_encoder, "name": "other"}
        else:
            model.tokenizer = train_tokenizer(["other words than there are"] * 3)
        save_model(other, model)
    with pytest.raises(UsageError, match=f"other cannot be averaged: they differ in .*{said}"):
        soup([members[0], other], tmp_path / "soup")
    assert not (tmp_path / "soup").exists()


def test_what_cannot_be_a_soup(members, corpus, tmp_path):
    with pytest.raises(UsageError, match="1 models to average"):
        soup(members[:1], tmp_path / "soup")
    with pytest.raises(UsageError, match="given twice"):
        soup([members[0], members[1], members[0]], tmp_path / "soup")
    with pytest.raises(UsageError, match="--greedy chooses by"):
        soup(members, tmp_path / "soup", greedy=True)
    with pytest.raises(FormatError, match="no checkpoint and no run"):
        soup([*members, tmp_path], tmp_path / "soup")
    none = write_corpus(tmp_path / "none", made_videos(10), [])
    with pytest.raises(UsageError, match="0 pairs"):
        soup(members, tmp_path / "soup", none)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something else"):
        soup(members, tmp_path / "taken")
    assert (tmp_path / "taken" / "thesis.txt").read_text() == "mine"


class Killed(BaseException):
    pass


def test_a_soup_is_there_whole_or_not_at_all(members, tmp_path, monkeypatch):
    def killed(folder, kind, **fields):
        raise Killed

    with monkeypatch.context() as context:
        context.setattr("vidvec.storage.write_manifest", killed)
        with pytest.raises(Killed):
            soup(members, tmp_path / "soup")
    assert not (tmp_path / "soup").exists()
    soup(members, tmp_path / "soup")
    assert Encoder.load(tmp_path / "soup").dimension == 16


def test_heads_that_not_all_have_are_left_out(corpus, tmp_path):
    plain = write_checkpoint(tmp_path / "plain", corpus, seed=1)
    other = load_model(plain)
    other.heads = PretrainingHeads(other.recipe.model, match=True)
    save_model(tmp_path / "matched", other)
    soup([tmp_path / "matched", plain], tmp_path / "soup")
    assert load_model(tmp_path / "soup").heads is None
    another = write_checkpoint(tmp_path / "another", corpus, seed=2)
    soup([plain, another], tmp_path / "alike")
    assert load_model(tmp_path / "alike").heads is not None
