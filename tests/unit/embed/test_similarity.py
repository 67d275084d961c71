"""The encoder called as sentence-transformers is, and in scikit-learn's pipelines."""

from __future__ import annotations

import io
from contextlib import redirect_stderr

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline

from tests.corpora import made_videos, write_corpus
from tests.models import write_checkpoint
from vidvec.embed.embedder import Encoder
from vidvec.errors import UsageError
from vidvec.records import Video

VIDEOS = made_videos(80)
CORPUS = ["sea waves blue fish", "city night lights", "forest tree green bird", "football goal"]
QUERIES = ["blue waves", "tree and bird"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Encoder:
    root = tmp_path_factory.mktemp("similarity")
    return Encoder.load(write_checkpoint(root / "model", write_corpus(root / "corpus", VIDEOS)))


def semantic_search(queries: np.ndarray, corpus: np.ndarray, top_k: int) -> list[list[dict]]:
    """Plain semantic search as users of sentence-transformers write it."""
    scores = queries @ corpus.T
    order = np.argsort(-scores, axis=1)[:, :top_k]
    return [
        [{"corpus_id": int(row), "score": float(line[row])} for row in rows]
        for line, rows in zip(scores, order, strict=True)
    ]


def test_a_retrieval_written_for_sentence_transformers(encoder):
    corpus = encoder.encode(CORPUS, batch_size=2, show_progress_bar=False)
    queries = encoder.encode(QUERIES)
    similarities = encoder.similarity(queries, corpus)
    assert similarities.shape == (2, 4)
    hits = semantic_search(queries, corpus, top_k=2)
    for line, found in zip(similarities, hits, strict=True):
        assert [hit["corpus_id"] for hit in found] == np.argsort(-line)[:2].tolist()
        assert [hit["score"] for hit in found] == pytest.approx(np.sort(line)[::-1][:2], abs=1e-6)
    near = NearestNeighbors(n_neighbors=2, metric="cosine").fit(corpus)
    distances, rows = near.kneighbors(queries)
    assert [[hit["corpus_id"] for hit in found] for found in hits] == rows.tolist()
    assert np.abs(1 - distances - np.sort(similarities)[:, ::-1][:, :2]).max() < 1e-5
    for title in (CORPUS[0], VIDEOS[0]):
        vector = encoder.encode(title)
        assert vector.shape == (encoder.dimension,)
        assert np.abs(vector - encoder.encode([title])[0]).max() < 1e-6


class Embed(TransformerMixin, BaseEstimator):
    """A step of a pipeline, as users write it."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def fit(self, videos, y=None):
        return self

    def transform(self, videos):
        return self.encoder.encode(videos)


def test_a_pipeline_of_scikit_learn_learns_from_the_vectors(encoder):
    topics = [video.category for video in VIDEOS]
    pipeline = make_pipeline(Embed(encoder), LogisticRegression(C=100, max_iter=2000))
    pipeline.fit(VIDEOS[:60], topics[:60])
    assert pipeline.score(VIDEOS[60:], topics[60:]) > 0.5  # of four topics


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, lambda a: a.tolist()])
def test_similarities_are_those_of_scikit_learn(encoder, kind):
    random = np.random.default_rng(0)
    a = random.normal(size=(5, 7)).astype(np.float32)
    b = 9 * random.normal(size=(3, 7)).astype(np.float32)
    found = encoder.similarity(kind(a), kind(b))
    assert found.dtype == np.float32
    assert np.abs(found - cosine_similarity(a, b)).max() < 1e-6
    pairwise = encoder.similarity_pairwise(kind(a[:3]), kind(b))
    assert np.abs(pairwise - np.diag(cosine_similarity(a[:3], b))).max() < 1e-6
    assert encoder.similarity(kind(a[0]), kind(b)).shape == (1, 3)
    assert encoder.similarity(kind(a[0]), kind(b[0])).shape == (1, 1)
    assert encoder.similarity_pairwise(kind(a[0]), kind(b[0])).shape == (1,)


def test_a_zero_vector_is_like_nothing(encoder):
    assert (encoder.similarity(np.zeros((2, 4)), np.ones((3, 4))) == 0).all()
    assert (encoder.similarity_pairwise(np.zeros(4), np.ones(4)) == 0).all()
    assert encoder.similarity(np.zeros((0, 4)), np.ones((3, 4))).shape == (0, 3)


def test_vectors_that_do_not_fit_are_refused(encoder):
    with pytest.raises(UsageError, match=r"shape \(3, 5\), expected \(n, 4\)"):
        encoder.similarity(np.ones((2, 4)), np.ones((3, 5)))
    with pytest.raises(UsageError, match="shape"):
        encoder.similarity(np.ones((2, 4, 1)), np.ones((3, 1)))
    with pytest.raises(UsageError, match="2 vectors and 3: give as many of both"):
        encoder.similarity_pairwise(np.ones((2, 4)), np.ones((3, 4)))


def test_tensors_and_a_progress_bar_where_asked_for(encoder):
    plain = encoder.encode(CORPUS)
    found = encoder.encode(CORPUS, convert_to_tensor=True)
    assert isinstance(found, torch.Tensor)
    assert found.device == encoder.device
    assert np.array_equal(found.numpy(), plain)
    one = encoder.encode("sea", convert_to_tensor=True)
    assert one.shape == (encoder.dimension,)
    shown = io.StringIO()
    with redirect_stderr(shown):
        assert np.array_equal(encoder.encode(CORPUS, show_progress_bar=True), plain)
    assert "batches" in shown.getvalue()
    assert encoder.encode([Video(id="")]).shape == (1, encoder.dimension)
