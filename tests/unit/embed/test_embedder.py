"""Corpus and checkpoint to vectors, and the public encoder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.corpora import WIDTH, made_pairs, made_videos, write_corpus
from tests.models import write_checkpoint
from vidvec.data.corpus import Corpus
from vidvec.embed import embedder
from vidvec.embed.embedder import Encoder, embed, weights_hash
from vidvec.embed.evaluate import evaluate
from vidvec.embed.vectors import Vectors
from vidvec.errors import FormatError, UsageError
from vidvec.records import Video
from vidvec.search.index import ExactIndex, corpus_of

VIDEOS = made_videos(90)  # some without frames, some without a title
SETTINGS = {
    "plain": (),
    "other": ("model.pool=attention", "model.order=frames_first", "model.max_frames=4"),
    "padded": ("model.count_padding=true", "model.max_frames=6", "model.max_tokens=8"),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return write_corpus(tmp_path_factory.mktemp("embedder") / "corpus", VIDEOS)


@pytest.fixture(scope="module", params=SETTINGS)
def checkpoint(request, corpus, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("embedder") / "checkpoint"
    return write_checkpoint(folder, corpus, *SETTINGS[request.param])


@pytest.fixture(scope="module")
def plain(corpus, tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("embedder") / "plain", corpus)


def test_the_encoder_gives_the_vectors_of_embed(corpus, checkpoint, tmp_path):
    assert embed(checkpoint, corpus.path, tmp_path / "vectors") == 90
    vectors = Vectors(tmp_path / "vectors")
    assert vectors.ids == corpus.ids
    assert vectors.normalised
    encoder = Encoder.load(checkpoint)
    assert encoder.dimension == vectors.dimension == 16
    for size in (1, 7, 128):
        found = encoder.encode(VIDEOS, batch_size=size)
        assert found.dtype == np.float32
        assert np.abs(found - vectors.matrix).max() < 2e-6
    from_disk = encoder.encode([corpus.video(row) for row in range(len(corpus))])
    assert np.abs(from_disk - vectors.matrix).max() < 2e-6
    assert np.linalg.norm(vectors.matrix, axis=1) == pytest.approx(np.ones(90), abs=1e-5)
    assert np.std(vectors.matrix, axis=0).min() > 1e-4


def test_the_order_is_kept(plain):
    encoder = Encoder.load(plain)
    whole = encoder.encode(VIDEOS)
    order = np.random.default_rng(0).permutation(90)
    shuffled = encoder.encode([VIDEOS[row] for row in order], batch_size=16)
    assert np.abs(shuffled - whole[order]).max() < 2e-6
    for row in (0, 41, 89):
        assert np.abs(encoder.encode([VIDEOS[row]])[0] - whole[row]).max() < 2e-6


def test_titles_are_videos_without_frames(plain):
    encoder = Encoder.load(plain)
    titles = ["sea waves", "", "城 市 夜", "words that nobody knows", "sea waves"]
    found = encoder.encode(titles)
    assert found.shape == (5, 16)
    assert np.abs(found - encoder.encode([Video(id="", title=t) for t in titles])).max() < 2e-6
    assert np.abs(found[0] - found[4]).max() < 2e-6
    assert np.abs(found[0] - found[2]).max() > 1e-3
    mixed = encoder.encode([VIDEOS[0], "sea waves"])
    assert np.abs(mixed[1] - found[0]).max() < 2e-6


def test_nothing_to_encode(plain):
    assert Encoder.load(plain).encode([]).shape == (0, 16)


@pytest.mark.parametrize(
    "video",
    [
        Video(id="no frames", title="sea"),
        Video(id="no title", frames=np.ones((3, WIDTH), np.float16)),
        Video(id="neither"),
        Video(id="blank", title="  \n"),
        Video(id="unknown", title="ΩΩΩ ЖЖЖ"),
        Video(id="zeros", frames=np.zeros((2, WIDTH), np.float16)),
        Video(id="long", title="sea " * 500, frames=np.ones((500, WIDTH), np.float16)),
        Video(id="large", frames=np.full((2, WIDTH), 65504, np.float16)),
    ],
    ids=lambda video: video.id,
)
def test_every_video_gets_a_vector_of_length_one(checkpoint, video):
    vector = Encoder.load(checkpoint).encode([video])[0]
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_frames_of_another_width_are_refused(plain):
    encoder = Encoder.load(plain)
    wrong = Video(id="7", frames=np.ones((2, WIDTH + 1), np.float16))
    with pytest.raises(UsageError, match="video 7: frames have 25 numbers, the model expects 24"):
        encoder.encode([VIDEOS[0], wrong])
    with pytest.raises(UsageError, match="video 1: frames have 25 numbers"):
        encoder.encode([VIDEOS[0], replace(wrong, id="")])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_frames_that_are_no_numbers_are_refused(plain, bad):
    frames = np.ones((2, WIDTH), np.float16)
    frames[1, 3] = bad
    with pytest.raises(UsageError, match="video 7: frames hold NaN or infinity"):
        Encoder.load(plain).encode([VIDEOS[0], Video(id="7", frames=frames)])


def test_single_precision_frames_are_read_too(plain):
    encoder = Encoder.load(plain)
    single = replace(VIDEOS[0], frames=VIDEOS[0].frames.astype(np.float32))
    assert np.abs(encoder.encode([single]) - encoder.encode([VIDEOS[0]])).max() < 2e-6


class Stopped(BaseException):
    pass


def test_an_interrupted_embed_carries_on_to_the_same_vectors(corpus, plain, tmp_path, monkeypatch):
    monkeypatch.setattr(embedder, "SHARD", 16)
    embed(plain, corpus.path, tmp_path / "whole")
    seen = []

    def stop(done: int, total: int) -> None:
        assert total == 90
        seen.append(done)
        if done >= 48:
            raise Stopped

    with pytest.raises(Stopped):
        embed(plain, corpus.path, tmp_path / "stopped", stop)
    with pytest.raises(FormatError, match="unfinished"):
        Vectors(tmp_path / "stopped")
    again = []
    embed(plain, corpus.path, tmp_path / "stopped", lambda done, _: again.append(done))
    assert again[0] == 48  # the third shard was not committed; the first two are not done again
    assert again[-1] == 90
    whole, stopped = Vectors(tmp_path / "whole"), Vectors(tmp_path / "stopped")
    assert stopped.ids == whole.ids == corpus.ids
    assert stopped.matrix.tobytes() == whole.matrix.tobytes()
    assert [len(ids) for ids, _ in stopped.shards()] == [16, 16, 16, 16, 16, 10]


# --- parts of a corpus ---------------------------------------------------------------------------

PARTS = {"pointwise": 40, "pairwise": 20, "test_a": 6, "test_b": 24}


@pytest.fixture(scope="module")
def parted(tmp_path_factory) -> Corpus:
    pairs = made_pairs(VIDEOS[40:60], 300)
    return write_corpus(tmp_path_factory.mktemp("parted") / "corpus", VIDEOS, pairs, parts=PARTS)


def test_some_parts_get_the_vectors_that_they_get_with_all(parted, plain, tmp_path):
    embed(plain, parted.path, tmp_path / "all")
    whole = Vectors(tmp_path / "all")
    calls = []
    count = embed(
        *(plain, parted.path, tmp_path / "some", lambda *done: calls.append(done)),
        parts=("test_b", "pairwise"),
    )
    some = Vectors(tmp_path / "some")
    expected = [video.id for video in [*VIDEOS[40:60], *VIDEOS[66:]]]  # in the corpus's order
    assert some.ids == expected
    assert count == 44
    assert calls[-1] == (44, 44)
    rows = [whole.row(video) for video in expected]
    assert np.abs(some.matrix - whole.matrix[rows]).max() < 2e-6
    assert some.manifest["made_by"]["parts"] == ["pairwise", "test_b"]
    assert some.manifest["made_by"]["videos"] == 44
    assert "parts" not in whole.manifest["made_by"]


def test_interrupted_parts_carry_on_to_the_same_vectors(parted, plain, tmp_path, monkeypatch):
    monkeypatch.setattr(embedder, "SHARD", 8)
    parts = ("pairwise", "test_b")
    embed(plain, parted.path, tmp_path / "whole", parts=parts)

    def stop(done: int, total: int) -> None:
        assert total == 44
        if done >= 24:
            raise Stopped

    with pytest.raises(Stopped):
        embed(plain, parted.path, tmp_path / "stopped", stop, parts=parts)
    again = []
    embed(  # the parts in another order are the same parts
        *(plain, parted.path, tmp_path / "stopped", lambda done, _: again.append(done)),
        parts=("test_b", "pairwise", "pairwise"),
    )
    assert again == [24, 32, 40, 44]
    whole, stopped = Vectors(tmp_path / "whole"), Vectors(tmp_path / "stopped")
    assert stopped.ids == whole.ids
    assert stopped.matrix.tobytes() == whole.matrix.tobytes()


def test_other_parts_are_not_mixed_in(parted, plain, tmp_path):
    embed(plain, parted.path, tmp_path / "vectors", parts=("test_a",))
    for parts in ((), ("test_a", "test_b"), ("test_b",)):
        with pytest.raises(UsageError, match="give a new folder"):
            embed(plain, parted.path, tmp_path / "vectors", parts=parts)


def test_an_unknown_part_names_the_known_ones(parted, corpus, plain, tmp_path):
    with pytest.raises(UsageError) as caught:
        embed(plain, parted.path, tmp_path / "vectors", parts=("test_a", "test_c"))
    assert "has no part 'test_c'" in str(caught.value)
    assert "its parts are pointwise, pairwise, test_a, test_b" in str(caught.value)
    with pytest.raises(UsageError, match="its parts are none"):
        embed(plain, corpus.path, tmp_path / "vectors", parts=("test_a",))
    assert not (tmp_path / "vectors").exists()


def test_evaluation_and_search_go_by_id_where_parts_are_embedded(parted, plain, tmp_path):
    embed(plain, parted.path, tmp_path / "all")
    embed(plain, parted.path, tmp_path / "some", parts=("pairwise", "test_a"))
    whole, some = Vectors(tmp_path / "all"), Vectors(tmp_path / "some")
    for split in ("clean", "all"):
        one, other = (evaluate(vectors, parted.pairs(), split) for vectors in (whole, some))
        assert (one.pairs, one.missing) == (other.pairs, 0)
        assert other.spearman.value == pytest.approx(one.spearman.value, abs=1e-6)
    query = VIDEOS[62].id
    found = ExactIndex(some).like([query], 25)[0]
    assert {hit.id for hit in found} == {video.id for video in VIDEOS[40:66]} - {query}
    cosines = whole.matrix @ whole.matrix[whole.row(query)]
    for hit in found:
        assert hit.cosine == pytest.approx(cosines[whole.row(hit.id)], abs=1e-5)
    told = corpus_of(tmp_path / "some")
    assert told is not None
    assert told.video(told.row(query)).title == VIDEOS[62].title


def test_embedding_again_does_nothing(corpus, plain, tmp_path):
    embed(plain, corpus.path, tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    called = []
    assert embed(plain, corpus.path, tmp_path, lambda *done: called.append(done)) == 90
    assert called == []
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_vectors_of_another_model_are_not_mixed_in(corpus, plain, tmp_path):
    embed(plain, corpus.path, tmp_path / "vectors")
    other = write_checkpoint(tmp_path / "other", corpus, seed=5)
    with pytest.raises(UsageError, match="give a new folder"):
        embed(other, corpus.path, tmp_path / "vectors")


def test_a_corpus_of_another_frame_encoder_is_refused(corpus, plain, tmp_path):
    other = write_corpus(tmp_path / "corpus", VIDEOS[:4])
    manifest = json.loads((other.path / "manifest.json").read_text("utf-8"))
    manifest["frame_encoder"]["name"] = "another"
    (other.path / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(UsageError) as caught:
        embed(plain, other.path, tmp_path / "vectors")
    assert "reads frames of made" in str(caught.value)
    assert "holds frames of another" in str(caught.value)
    assert not (tmp_path / "vectors").exists()


def test_the_manifest_says_what_made_the_vectors(corpus, plain, tmp_path):
    embed(plain, corpus.path, tmp_path)
    weights = hashlib.sha256((plain / "model.safetensors").read_bytes()).hexdigest()[:12]
    assert weights_hash(plain) == weights
    assert Vectors(tmp_path).manifest["made_by"] == {
        "stage": "embed",
        "checkpoint": str(plain.resolve()),
        "weights": weights,
        "corpus": str(corpus.path.resolve()),
        "videos": 90,
    }


def test_a_model_that_is_not_there(corpus, tmp_path):
    with pytest.raises(FormatError, match="is no checkpoint and no run"):
        Encoder.load(tmp_path)
    with pytest.raises(FormatError, match="is no checkpoint and no run"):
        embed(tmp_path / "nowhere", corpus.path, tmp_path / "vectors")
