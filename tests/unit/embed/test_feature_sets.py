"""Models and feature sets: chosen when a model is begun, and found by themselves from then on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.models import write_checkpoint
from tests.tiny import tiny_recipe
from vidvec import storage
from vidvec.data.corpus import Corpus
from vidvec.data.feature_writer import Encoded, FeatureWriter
from vidvec.data.features import video_keys
from vidvec.embed.backend import backend_loss
from vidvec.embed.embedder import Encoder, embed
from vidvec.embed.vectors import Vectors
from vidvec.errors import FormatError, UsageError
from vidvec.model.weights import load_model
from vidvec.train.finetune import finetune
from vidvec.train.pretrain import pretrain

VIDEOS = made_videos(40)
IDENTITY = {"name": "hf:other", "revision": "7", "precision": "fp16", "frame_size": 10}


def add_set(corpus: Path, name: str, identity: dict[str, object], seed: int = 0) -> None:
    """A feature set of random features, as long as the corpus's own."""
    random = np.random.default_rng(seed)
    opened = Corpus(corpus)
    writer = FeatureWriter(corpus, name)
    writer.begin(identity, {})
    rows = []
    for row, key in enumerate(video_keys(opened)):
        times = opened.video(row).frame_times_seconds
        rows.append(Encoded(key, times, random.normal(size=(len(times), 10)).astype(np.float16)))
        rows[-1] = replace(rows[-1], frames=rows[-1].frames[: opened.frame_counts[row]])
        rows[-1] = replace(rows[-1], times_seconds=times[: opened.frame_counts[row]])
    writer.add(rows)
    writer.finish()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "corpus"
    write_corpus(folder, VIDEOS, made_pairs(VIDEOS, 200))
    add_set(folder, "fine", IDENTITY)
    return folder


@pytest.fixture(scope="module")
def checkpoint(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model for the features of the set."""
    return write_checkpoint(tmp_path_factory.mktemp("sets") / "c", Corpus(path, features="fine"))


def test_embed_takes_the_set_that_the_model_was_trained_on(
    path: Path, checkpoint: Path, tmp_path: Path
) -> None:
    embed(checkpoint, path, tmp_path / "vectors")
    read = Corpus(path, features="fine")
    expected = Encoder.load(checkpoint).encode([read.video(row) for row in range(len(read))])
    np.testing.assert_allclose(Vectors(tmp_path / "vectors").matrix, expected, atol=2e-6)
    made_by = storage.read_manifest(tmp_path / "vectors", "vectors")["made_by"]
    assert made_by["features"] == "fine"
    assert backend_loss(checkpoint, Corpus(path), "float32").cosine == pytest.approx(1)


def test_a_model_without_its_frames_says_what_there_is(
    path: Path, checkpoint: Path, tmp_path: Path
) -> None:
    bare = Path(shutil.copytree(path, tmp_path / "corpus"))
    shutil.rmtree(bare / "features")
    add_set(bare, "coarse", IDENTITY | {"precision": "bf16"})
    with pytest.raises(
        UsageError,
        match=r"frames of hf:other \(revision 7, fp16, 10 numbers\), .*\(coarse\).*vidvec reencode",
    ):
        embed(checkpoint, bare, tmp_path / "vectors")


def test_pretraining_takes_a_set_and_finetuning_finds_it(path: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(pretrain={"epochs": 1}, finetune={"epochs": 1})
    pretrain(path, tmp_path / "pre", recipe, features="fine")
    assert load_model(tmp_path / "pre").frame_encoder == IDENTITY
    assert load_model(tmp_path / "pre").recipe.model.frame_size == 10
    finetune(path, tmp_path / "tuned", recipe, tmp_path / "pre")
    assert load_model(tmp_path / "tuned").frame_encoder == IDENTITY
    finetune(path, tmp_path / "new", recipe, features="fine")
    assert load_model(tmp_path / "new").frame_encoder == IDENTITY
    finetune(path, tmp_path / "own", recipe)
    assert load_model(tmp_path / "own").frame_encoder == Corpus(path).frame_encoder


def test_a_run_on_one_set_does_not_go_on_with_another(path: Path, tmp_path: Path) -> None:
    corpus = Path(shutil.copytree(path, tmp_path / "corpus"))
    add_set(corpus, "second", IDENTITY | {"revision": "8"}, seed=1)
    recipe = tiny_recipe(pretrain={"epochs": 1})
    pretrain(corpus, tmp_path / "run", recipe, features="fine")
    with pytest.raises((UsageError, FormatError), match="corpus"):
        pretrain(corpus, tmp_path / "run", recipe, features="second")
    with pytest.raises((UsageError, FormatError), match="corpus"):
        pretrain(corpus, tmp_path / "run", recipe)
    assert pretrain(corpus, tmp_path / "run", recipe, features="fine").steps > 0
