"""int8 and bfloat16 vectors against float32 ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.tiny import tiny_recipe
from vidvec.embed.backend import backend_loss
from vidvec.embed.embedder import Encoder, embed
from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError
from vidvec.storage import read_manifest
from vidvec.train.finetune import finetune


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    videos = made_videos(200)
    return write_corpus(tmp_path_factory.mktemp("int8") / "corpus", videos, made_pairs(videos, 400))


@pytest.fixture(scope="module", params=["bert", "modern"])
def checkpoint(request, corpus, tmp_path_factory):
    """A model that was trained: what rounding does to random weights says little."""
    run = tmp_path_factory.mktemp("run") / request.param
    model = {"hidden_size": 64, "ffn_size": 128, "trunk": request.param}
    recipe = tiny_recipe(model=model, finetune={"epochs": 2, "split": "published"})
    finetune(corpus.path, run, recipe)
    return run


@pytest.mark.parametrize("backend", ["int8", "bf16"])
def test_vectors_stay_near_and_rank_alike(checkpoint, corpus, tmp_path, backend):
    matrices = {}
    for name in ("float32", backend):
        embed(checkpoint, corpus.path, tmp_path / name, backend=name)
        matrices[name] = Vectors(tmp_path / name)
    plain, other = matrices["float32"], matrices[backend]
    cosines = (plain.matrix * other.matrix).sum(1)
    assert cosines.min() > 0.99
    assert cosines.max() < 1 - 1e-9 or (plain.matrix != other.matrix).any()
    ranks = []
    for vectors in (plain, other):
        sides = np.array([(vectors.row(p.id_1), vectors.row(p.id_2)) for p in corpus.pairs()])
        some = (vectors.matrix[sides[:, 0]] * vectors.matrix[sides[:, 1]]).sum(1)
        ranks.append(spearmanr(some, [p.score for p in corpus.pairs()]).statistic)
    assert ranks[1] == pytest.approx(ranks[0], abs=0.005)
    loss = backend_loss(checkpoint, corpus, backend)
    assert loss.pairs == 400
    assert loss.spearman_float32 == pytest.approx(ranks[0], abs=1e-4)
    assert loss.spearman == pytest.approx(ranks[1], abs=2e-3)  # int8 scales differ by batch
    assert 0.99 < loss.lowest_cosine <= loss.cosine < 1 + 1e-6
    assert read_manifest(tmp_path / backend, "vectors")["made_by"]["backend"] == backend


def test_the_model_itself_stays_as_it_is(checkpoint):
    encoder = Encoder.load(checkpoint, backend="int8")
    plain = Encoder.load(checkpoint)
    for (name, ours), (_, theirs) in zip(
        encoder.model.named_parameters(), plain.model.named_parameters(), strict=True
    ):
        assert (ours == theirs).all(), name


def test_without_pairs_the_videos_themselves_are_compared(tmp_path, checkpoint):
    without = write_corpus(tmp_path / "corpus", made_videos(30))
    loss = backend_loss(checkpoint, without, "int8")
    assert (loss.videos, loss.pairs) == (30, 0)
    assert np.isnan(loss.spearman)


def test_int8_is_for_the_cpu(checkpoint):
    with pytest.raises(UsageError, match="int8 is for the CPU"):
        Encoder.load(checkpoint, device="meta", backend="int8")
