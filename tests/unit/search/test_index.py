"""Exact search against plain NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.corpora import made_videos, write_corpus
from tests.models import write_checkpoint
from vidvec.embed.embedder import Encoder, embed
from vidvec.embed.fusion import fuse
from vidvec.embed.vectors import Vectors, VectorWriter
from vidvec.errors import FormatError, UsageError
from vidvec.search.index import ExactIndex, corpus_of, encode_titles
from vidvec.search.types import Hit


def vectors_of(path: Path, matrix: np.ndarray, ids: list[str] | None = None) -> Vectors:
    facts = {"normalised": False, "made_by": {"stage": "test"}}
    writer = VectorWriter(path, matrix.shape[1], facts)
    names = ids or [f"v{row}" for row in range(len(matrix))]
    half = len(matrix) // 2
    writer.append(names[:half], matrix[:half])
    writer.append(names[half:], matrix[half:])
    writer.finish()
    return Vectors(path)


def brute(matrix: np.ndarray, query: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(matrix.astype(np.float64), axis=1) * np.linalg.norm(query)
    dots = matrix.astype(np.float64) @ query
    return np.divide(dots, norms, out=np.zeros(len(matrix)), where=norms > 0)


@pytest.mark.parametrize("k", [1, 5, 40, 400])
def test_the_nearest_are_those_of_brute_force(tmp_path, k):
    random = np.random.default_rng(0)
    matrix = random.normal(size=(200, 12)).astype(np.float32) * random.uniform(0.1, 9, (200, 1))
    index = ExactIndex(vectors_of(tmp_path, matrix.astype(np.float32)))
    queries = random.normal(size=(9, 12)).astype(np.float32)
    for query, hits in zip(queries, index.search(queries, k), strict=True):
        cosines = brute(matrix, query)
        best = np.argsort(-cosines, kind="stable")[:k]
        assert [hit.id for hit in hits] == [f"v{row}" for row in best]
        assert [hit.cosine for hit in hits] == pytest.approx(cosines[best].tolist(), abs=1e-6)


def test_ties_give_as_good_a_list_as_brute_force(tmp_path):
    random = np.random.default_rng(1)
    matrix = np.repeat(random.integers(-1, 2, (30, 4)), 4, axis=0).astype(np.float32)
    matrix[7] = 0
    index = ExactIndex(vectors_of(tmp_path, matrix))
    for k in (1, 3, 10, 120, 500):
        for row, hits in enumerate(index.like(index.vectors.ids, k)):
            assert len(hits) == min(k, 119)
            assert len({hit.id for hit in hits}) == len(hits)
            assert f"v{row}" not in {hit.id for hit in hits}
            cosines = brute(matrix, matrix[row].astype(np.float64))
            best = np.sort(np.delete(cosines, row))[::-1][:k]
            assert [hit.cosine for hit in hits] == pytest.approx(best.tolist(), abs=1e-6)
            for hit in hits:
                assert hit.cosine == pytest.approx(cosines[int(hit.id[1:])], abs=1e-6)


def test_an_id_is_left_out_only_for_its_own_query(tmp_path):
    matrix = np.eye(4, dtype=np.float32) + 0.1
    index = ExactIndex(vectors_of(tmp_path, matrix))
    found = index.search(matrix[:3], 2, without=["v0", None, "v9"])
    assert found[0][0].id != "v0"
    assert found[1][0].id == "v1"
    assert found[2][0].id == "v2"
    assert [len(hits) for hits in found] == [2, 2, 2]


def test_a_copy_of_the_query_is_found_and_the_query_is_not(tmp_path):
    matrix = np.array([[1, 2], [3, 4], [1, 2], [2, 4]], np.float32)
    hits = ExactIndex(vectors_of(tmp_path, matrix)).like(["v0"], 2)[0]
    assert {hit.id for hit in hits} == {"v2", "v3"}
    assert [hit.cosine for hit in hits] == pytest.approx([1, 1])


def test_stored_vectors_and_queries_are_not_changed(tmp_path):
    matrix = np.array([[3, 4], [5, 12]], np.float32)
    vectors = vectors_of(tmp_path, matrix)
    index = ExactIndex(vectors)
    query = np.array([[10, 0]], np.float32)
    assert index.search(query, 1)[0] == [Hit("v0", pytest.approx(0.6))]
    assert query.tolist() == [[10, 0]]
    assert vectors.matrix.tolist() == matrix.tolist()


def test_a_zero_query_is_alike_to_nothing(tmp_path):
    index = ExactIndex(vectors_of(tmp_path, np.eye(3, dtype=np.float32)))
    assert [hit.cosine for hit in index.search(np.zeros((1, 3), np.float32), 3)[0]] == [0, 0, 0]


def test_a_query_that_is_not_a_number_finds_nothing(tmp_path):
    index = ExactIndex(vectors_of(tmp_path, np.eye(3, dtype=np.float32)))
    query = np.array([[np.nan, 0, 0], [0, 1, 0]], np.float32)
    found = index.search(query, 2)
    assert found[0] == []
    assert found[1][0].id == "v1"


def test_an_index_of_nothing(tmp_path):
    index = ExactIndex(vectors_of(tmp_path, np.zeros((0, 3), np.float32)))
    assert index.search(np.ones((2, 3), np.float32), 5) == [[], []]


def test_an_index_of_one_has_nobody_else(tmp_path):
    index = ExactIndex(vectors_of(tmp_path, np.ones((1, 3), np.float32)))
    assert index.like(["v0"], 5) == [[]]


def test_no_queries(tmp_path):
    index = ExactIndex(vectors_of(tmp_path, np.eye(3, dtype=np.float32)))
    assert index.search(np.zeros((0, 3), np.float32), 2) == []


def test_queries_of_another_length_are_refused(tmp_path):
    index = ExactIndex(vectors_of(tmp_path, np.eye(3, dtype=np.float32)))
    with pytest.raises(UsageError, match=r"query vectors have 4 numbers, .* holds 3"):
        index.search(np.ones((1, 4), np.float32), 1)


def test_an_unknown_id_is_named(tmp_path):
    index = ExactIndex(vectors_of(tmp_path, np.eye(3, dtype=np.float32)))
    with pytest.raises(UsageError, match="no vector for video 'v3'"):
        index.like(["v0", "v3"], 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """A corpus, two models, their vectors, and the fusion of both."""
    root = tmp_path_factory.mktemp("search")
    paths = {name: root / name for name in ("corpus", "one", "two", "fused", "of one", "of two")}
    corpus = write_corpus(paths["corpus"], made_videos(40))
    write_checkpoint(paths["one"], corpus)
    write_checkpoint(paths["two"], corpus, "model.pool=attention", seed=9)
    for name in ("one", "two"):
        embed(paths[name], paths["corpus"], paths[f"of {name}"])
    fuse([paths["of one"], paths["of two"]], paths["fused"], [3, 1], 12)
    return paths


TITLES = ["sea waves", "", "城 市"]


def test_titles_are_encoded_by_the_model_that_made_the_vectors(made):
    for name in ("one", "two"):
        expected = Encoder.load(made[name]).encode(TITLES)
        assert np.abs(encode_titles(made[f"of {name}"], TITLES) - expected).max() < 1e-6


def test_titles_are_encoded_for_fused_vectors(made):
    found = encode_titles(made["fused"], TITLES)
    assert found.shape == (3, 12)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    # A video with this title and no frames has the same fused vector.
    corpus = corpus_of(made["fused"])
    assert corpus is not None
    bare = [row for row in range(len(corpus)) if corpus.frame_counts[row] == 0]
    assert bare
    titles = [corpus.video(row).title for row in bare]
    stored = Vectors(made["fused"]).matrix[bare]
    assert np.abs(encode_titles(made["fused"], titles) - stored).max() < 1e-5


def test_titles_of_fused_vectors_fused_once_more(made, tmp_path):
    fuse([made["fused"], made["of one"]], tmp_path / "again", size=10)
    assert encode_titles(tmp_path / "again", TITLES).shape == (3, 10)


def test_the_corpus_of_vectors(made, tmp_path):
    for name in ("of one", "fused"):
        corpus = corpus_of(made[name])
        assert corpus is not None
        assert corpus.path == made["corpus"].resolve()
    other = write_corpus(tmp_path / "other", made_videos(3))
    given = corpus_of(made["fused"], other.path)
    assert given is not None
    assert len(given) == 3
    with pytest.raises(FormatError, match="is not a corpus folder"):
        corpus_of(made["fused"], tmp_path)


def test_the_corpus_may_be_gone(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", made_videos(3))
    write_checkpoint(tmp_path / "model", corpus)
    embed(tmp_path / "model", corpus.path, tmp_path / "vectors")
    (tmp_path / "corpus" / "manifest.json").unlink()
    assert corpus_of(tmp_path / "vectors") is None


def test_titles_are_not_encoded_with_weights_that_have_changed(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", made_videos(3))
    write_checkpoint(tmp_path / "model", corpus)
    embed(tmp_path / "model", corpus.path, tmp_path / "vectors")
    write_checkpoint(tmp_path / "model", corpus, seed=3)
    with pytest.raises(UsageError, match="has other weights than those that made"):
        encode_titles(tmp_path / "vectors", TITLES)


def test_vectors_that_no_model_here_made(tmp_path):
    vectors = vectors_of(tmp_path, np.eye(3, dtype=np.float32))
    with pytest.raises(UsageError, match="was made by test: titles cannot be encoded"):
        encode_titles(vectors.path, TITLES)
