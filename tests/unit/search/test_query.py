"""Queries of words and files against what made the vectors."""

from __future__ import annotations

import json
import shutil
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.models import write_checkpoint
from tests.unit.data.misbehaving import TASK
from tests.unit.search.clips import COUNT, film, made, onnx_model, scene
from vidvec.data.corpus import Corpus
from vidvec.data.ingest import IngestOptions, read_video
from vidvec.data.reencode import ReencodeOptions, reencode
from vidvec.data.worker import Limits
from vidvec.embed.embedder import Encoder, embed
from vidvec.embed.fusion import fuse
from vidvec.embed.vectors import Vectors, VectorWriter
from vidvec.errors import BadRecord, FormatError, UsageError, VidvecError
from vidvec.records import Video
from vidvec.search import reading
from vidvec.search.made import QueryVideo
from vidvec.search.query import (
    TEXT_LIMIT,
    UNLIKE_WEIGHT,
    QueryEncoder,
    combine,
    like_and_unlike,
)

AUDIO = "model.max_audio=8"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Clips, a corpus with two sets of frames, a model on each, their vectors and the fusion."""
    root = made(tmp_path_factory.mktemp("query"), AUDIO)
    model = onnx_model(root / "tiny.onnx")
    reencode(root / "corpus", ReencodeOptions(encoder=f"onnx:{model}", name="tiny"))
    other = Corpus(root / "corpus", features="tiny")
    write_checkpoint(root / "other", other, "model.pool=attention", seed=5)
    embed(root / "other", root / "corpus", root / "vectors2")
    fuse([root / "vectors", root / "vectors2"], root / "fused", [2, 1], 12)
    return root


@pytest.fixture(scope="module")
def encoder(root):
    with QueryEncoder.load(root / "vectors") as encoder:
        yield encoder


@pytest.fixture(scope="module")
def fused(root):
    with QueryEncoder.load(root / "fused") as encoder:
        yield encoder


def nearest(vectors: Path, query: np.ndarray) -> list[str]:
    opened = Vectors(vectors)
    return [opened.ids[row] for row in np.argsort(-(opened.matrix @ query))]


def test_titles_are_those_of_the_model(root, encoder):
    texts = ["sea waves", "", "城 市", "a" * TEXT_LIMIT]
    expected = Encoder.load(root / "model").encode(texts)
    assert encoder.titles(texts) == pytest.approx(expected, abs=1e-6)
    assert encoder.titles([]).shape == (0, 16)
    assert (encoder.dimension, encoder.modalities) == (16, ("frames", "audio", "title"))


def test_text_that_cannot_be_looked_for(encoder):
    with pytest.raises(UsageError, match="1,000,000 characters, at most 10,000"):
        encoder.titles(["fine", "a" * 1_000_000])
    with pytest.raises(UsageError, match="not Unicode"):
        encoder.titles(["a\udcff"])


def test_a_file_is_read_as_ingest_reads_it(root, encoder):
    corpus, vectors = Corpus(root / "corpus"), Vectors(root / "vectors")
    for number in range(COUNT):
        video = encoder.read(root / "clips" / f"clip{number}.mp4")
        kept = corpus.video(corpus.row(f"clip{number}"))
        assert np.array_equal(video.frames, kept.frames)
        assert np.array_equal(video.audio, kept.audio)
        assert len(video.audio)
        assert video.duration_seconds == kept.duration_seconds
        assert len(video.thumbnails) == 3
        [vector] = encoder.videos([video])
        row = vectors.row(f"clip{number}")
        assert vector == pytest.approx(vectors.matrix[row], abs=1e-5)
        assert nearest(root / "vectors", vector)[0] == f"clip{number}"


def test_a_file_with_a_title(root, encoder):
    path = root / "clips" / "clip1.mp4"
    expected = Encoder.load(root / "model").encode([read_video(path, title="sea waves")])
    found = encoder.videos([encoder.read(path, title="sea waves")])
    assert found == pytest.approx(expected, abs=1e-6)


def test_files_are_looked_at_as_the_corpus_was(tmp_path):
    """At key frames, of which a clip of three seconds has one, where the corpus holds those."""
    made(tmp_path, options=IngestOptions(keyframes=True))
    corpus = Corpus(tmp_path / "corpus")
    with QueryEncoder.load(tmp_path / "vectors") as encoder:
        video = encoder.read(tmp_path / "clips" / "clip2.mp4")
    kept = corpus.video(corpus.row("clip2"))
    assert len(kept.frames) == 1
    assert np.array_equal(video.frames, kept.frames)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "bmp", "tiff"])
def test_a_picture_of_a_clip_finds_the_clip(root, fused, tmp_path, kind):
    for number in range(COUNT):
        path = tmp_path / f"picture{number}.{kind}"
        cv2.imwrite(str(path), scene(number, 1.0)[:, :, ::-1])
        video = fused.read(path)
        assert [len(frames) for frames in video.frames_of.values()] == [1, 1]
        assert (len(video.thumbnails), video.duration_seconds, video.id) == (1, None, path.stem)
        # The audio of the clips is not in a picture: held against clips without.
        corpus = Corpus(root / "corpus")
        silent = fused.videos(fused.of_corpus(corpus, corpus.ids), without=["audio"])
        [vector] = fused.videos([video])
        assert corpus.ids[int(np.argmax(silent @ vector))] == f"clip{number}"


def test_vectors_of_several_models_and_frame_encoders(root, fused):
    corpus, vectors = Corpus(root / "corpus"), Vectors(root / "fused")
    assert fused.videos(fused.of_corpus(corpus, vectors.ids)) == pytest.approx(
        vectors.matrix, abs=1e-5
    )
    for number in (0, 4):
        video = fused.read(root / "clips" / f"clip{number}.mp4")
        assert {frames.shape[1] for frames in video.frames_of.values()} == {652, 20}
        [vector] = fused.videos([video])
        row = vectors.row(f"clip{number}")
        assert vector == pytest.approx(vectors.matrix[row], abs=1e-3)
    with pytest.raises(UsageError, match="has the frames of one encoder"):
        fused.videos([corpus.video(0)])
    assert fused.videos([replace(corpus.video(0), frames=np.zeros((0, 0)))]).shape == (1, 12)


def test_fused_once_more_and_without_the_members_folders(root, tmp_path):
    for name in ("vectors", "vectors2"):
        shutil.copytree(root / name, tmp_path / name)
    fuse([tmp_path / "vectors", tmp_path / "vectors2"], tmp_path / "both", size=9)
    fuse([tmp_path / "both", tmp_path / "vectors2"], tmp_path / "again", size=7)
    ids, matrix = Vectors(tmp_path / "again").ids, Vectors(tmp_path / "again").matrix
    shutil.rmtree(tmp_path / "vectors2")
    with QueryEncoder.load(tmp_path / "again") as encoder:
        videos = encoder.of_corpus(Corpus(root / "corpus"), ids)
        assert encoder.videos(videos) == pytest.approx(matrix, abs=1e-5)
    shutil.rmtree(tmp_path / "both")  # whose projection is needed
    with pytest.raises(FormatError, match=r"both/projection\.safetensors cannot be read"):
        QueryEncoder.load(tmp_path / "again")


def test_a_member_that_is_another_one(root, tmp_path):
    for name in ("vectors", "vectors2"):
        shutil.copytree(root / name, tmp_path / name)
    fuse([tmp_path / "vectors", tmp_path / "vectors2"], tmp_path / "both")
    shutil.rmtree(tmp_path / "vectors2")
    shutil.copytree(root / "vectors", tmp_path / "vectors2")
    with pytest.raises(UsageError, match=r"vectors2 holds other vectors than those that .*both"):
        QueryEncoder.load(tmp_path / "both")


def test_what_was_left_out_of_the_vectors_is_left_out_of_queries(root, tmp_path):
    embed(root / "model", root / "corpus", tmp_path / "v", without=["audio", "title"])
    with QueryEncoder.load(tmp_path / "v") as encoder:
        assert encoder.modalities == ("frames",)
        video = encoder.read(root / "clips" / "clip2.mp4", title="never read")
        assert len(video.audio) == 0
        vectors = Vectors(tmp_path / "v")
        [vector] = encoder.videos([video])
        assert vector == pytest.approx(vectors.matrix[vectors.row("clip2")], abs=1e-5)
        with pytest.raises(UsageError, match="the vectors were made of frames alone"):
            encoder.titles(["sea"])
    embed(root / "model", root / "corpus", tmp_path / "t", without=["audio", "frames"])
    with (
        QueryEncoder.load(tmp_path / "t") as encoder,
        pytest.raises(UsageError, match=r"files cannot be looked for: .* words alone"),
    ):
        encoder.read(root / "clips" / "clip2.mp4")


def test_queries_are_computed_as_the_vectors_were(root, tmp_path):
    """In int8 where they were, and against vectors in float32 in float32."""
    embed(root / "model", root / "corpus", tmp_path / "v", backend="int8")
    eight, full = (
        Encoder.load(root / "model", backend=name).encode(["sea waves"])
        for name in ("int8", "float32")
    )
    assert np.abs(eight - full).max() > 2e-5
    for vectors, expected in ((tmp_path / "v", eight), (root / "vectors", full)):
        with QueryEncoder.load(vectors) as encoder:
            assert encoder.titles(["sea waves"]) == pytest.approx(expected, abs=1e-6)


def test_a_fusion_with_vectors_from_elsewhere_is_searched_by_id(root, tmp_path):
    ids = Vectors(root / "vectors").ids
    facts = {"normalised": True, "made_by": {"stage": "import"}}
    writer = VectorWriter(tmp_path / "clip", 4, facts)
    writer.append(ids, np.random.default_rng(0).normal(size=(len(ids), 4)).astype(np.float32))
    writer.finish()
    fuse([root / "vectors", tmp_path / "clip"], tmp_path / "both", size=8)
    with pytest.raises(UsageError, match=r"clip holds vectors that were imported"):
        QueryEncoder.load(tmp_path / "both")


def test_seen_without(root, encoder, fused):
    """Against records that never had what is left out."""
    corpus = Corpus(root / "corpus")
    kept = [replace(corpus.video(row), title=f"sea {row}") for row in range(2)]
    bare = [Video(id=v.id, title=v.title, audio=v.audio) for v in kept]
    expected = Encoder.load(root / "model").encode(bare)
    assert encoder.videos(kept, without=["frames"]) == pytest.approx(expected, abs=1e-6)
    several = [replace(v, title="sea") for v in fused.of_corpus(corpus, corpus.ids[:2])]
    words = fused.titles(["sea", "sea"])
    found = fused.videos(several, without=["frames", "audio"])
    assert found == pytest.approx(words, abs=1e-6)


def test_files_that_cannot_be_read(root, encoder, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.mp4", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("zeros", bytes(50_000_000))
    (tmp_path / "text.jpg").write_text("no picture at all")
    (tmp_path / "empty.mp4").write_bytes(b"")
    whole = (root / "clips" / "clip0.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    reasons = {
        "bomb.mp4": "not-a-video",
        "text.jpg": "damaged-video",
        "empty.mp4": "empty-file",
        "cut.mp4": "truncated-video",
        "nowhere.mp4": "missing-file",
        ".": "missing-file",
    }
    for name, reason in reasons.items():
        with pytest.raises(BadRecord) as caught:
            encoder.read(tmp_path / name)
        assert caught.value.reason == reason, name
    with pytest.raises(UsageError, match="at most 10,000"):
        encoder.read(root / "clips" / "clip0.mp4", title="a" * 20_000)


def test_a_file_that_hangs_or_crashes_costs_only_itself(root, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "READ_QUERY", TASK)
    for name in ("hang", "segfault", "fine"):
        (tmp_path / f"{name}.mp4").touch()
    with QueryEncoder.load(root / "vectors", limits=Limits(seconds=1.0), workers=1) as encoder:
        for name, reason in {"hang": "timeout", "segfault": "crashed"}.items():
            with pytest.raises(BadRecord) as caught:
                encoder.read(tmp_path / f"{name}.mp4")
            assert caught.value.reason == reason
            assert "--file" not in caught.value.detail
        assert len(encoder.read(tmp_path / "fine.mp4").frames) == 1


def test_sound_alone(root, encoder, fused, tmp_path):
    """Is enough for a model that hears, and without words for no other."""
    from tests.unit.data.media import render_sound

    path = render_sound(tmp_path / "sound.m4a")
    video = encoder.read(path)
    assert (len(video.frames), len(video.audio)) == (0, 2)
    assert len(fused.read(path).audio) == 2
    with QueryEncoder.load(root / "vectors2") as deaf:
        with pytest.raises(BadRecord, match="audio-only"):
            deaf.read(path)
        assert len(deaf.read(path, title="rain").frames) == 0


def test_many_threads_get_what_one_gets(root):
    paths = [root / "clips" / f"clip{number % COUNT}.mp4" for number in range(12)]
    found: dict[int, np.ndarray] = {}
    with QueryEncoder.load(root / "fused") as encoder:

        def work(number: int) -> None:
            found[number] = encoder.videos([encoder.read(paths[number])])[0]

        threads = [threading.Thread(target=work, args=(n,)) for n in range(len(paths))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number, path in enumerate(paths):
            assert found[number] == pytest.approx(encoder.videos([encoder.read(path)])[0], abs=1e-6)
    with pytest.raises(VidvecError, match="was closed"):
        encoder.read(paths[0])


def test_a_frame_encoder_that_has_moved(root, tmp_path):
    folder = tmp_path / "made"
    model = onnx_model(tmp_path / "frames.onnx")
    made(folder, options=IngestOptions(encoder=f"onnx:{model}", audio="none"))
    clip = folder / "clips" / "clip3.mp4"
    with QueryEncoder.load(folder / "vectors") as encoder:
        before = encoder.videos([encoder.read(clip)])
    moved = model.rename(tmp_path / "elsewhere.onnx")
    with QueryEncoder.load(folder / "vectors") as encoder:
        with pytest.raises(UsageError, match=r"frames\.onnx: there is no such file; give its file"):
            encoder.read(clip)
        assert encoder.titles(["words need no frames"]).shape == (1, 16)
    with QueryEncoder.load(folder / "vectors", encoders=[f"onnx:{moved}"]) as encoder:
        assert encoder.videos([encoder.read(clip)]) == pytest.approx(before, abs=1e-6)
    onnx_model(model, seed=1)  # other content under the same name
    with (
        QueryEncoder.load(folder / "vectors") as encoder,
        pytest.raises(UsageError, match=r"cannot be made here: onnx:.*frames\.onnx is onnx:frames"),
    ):
        encoder.read(clip)
    manifest = json.loads((folder / "corpus" / "manifest.json").read_text())
    del manifest["made_with"]  # as corpora are that are older than the note
    (folder / "corpus" / "manifest.json").write_text(json.dumps(manifest))
    with (
        QueryEncoder.load(folder / "vectors") as encoder,
        pytest.raises(UsageError, match=r"the corpus does not note where onnx:frames\.onnx is"),
    ):
        encoder.read(clip)


def test_vectors_whose_maker_is_not_known(tmp_path):
    for stage, said in {"import": "imported from elsewhere", "test": "was made by test"}.items():
        facts = {"normalised": True, "made_by": {"stage": stage}}
        VectorWriter(tmp_path / stage, 4, facts).finish()
        with pytest.raises(UsageError, match=rf"{said}.*titles cannot be .* ids can be looked for"):
            QueryEncoder.load(tmp_path / stage)


def test_frames_that_were_computed_elsewhere(tmp_path):
    from tests.corpora import made_videos, write_corpus

    corpus = write_corpus(tmp_path / "corpus", made_videos(4))
    write_checkpoint(tmp_path / "model", corpus)
    embed(tmp_path / "model", tmp_path / "corpus", tmp_path / "vectors")
    clip = film(tmp_path / "clip.mp4", 0, 1.0)
    with QueryEncoder.load(tmp_path / "vectors") as encoder:
        with pytest.raises(UsageError, match=r"frames of made .* cannot be made here"):
            encoder.read(clip)
        for video in encoder.of_corpus(corpus, corpus.ids):
            assert isinstance(video, QueryVideo)


def test_several_queries_as_one():
    two = np.array([[2.0, 0.0], [0.0, 5.0]])
    assert combine(two) == pytest.approx([0.5**0.5, 0.5**0.5])
    assert combine(two, [3, 4]) == pytest.approx([0.6, 0.8])
    assert combine(two[:1]) == pytest.approx([1, 0])
    assert combine(two, [1, -1]) == pytest.approx([0.5**0.5, -(0.5**0.5)])
    assert combine(two).dtype == np.float32
    # A cosine with the whole is the mean of the cosines, but for one factor.
    random = np.random.default_rng(0)
    queries, videos = random.normal(size=(3, 8)), random.normal(size=(50, 8))
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (queries, videos)]
    ratio = (unit[1] @ combine(queries)) / (unit[1] @ unit[0].T).mean(axis=1)
    assert ratio == pytest.approx(np.full(50, ratio[0]), rel=1e-4)


def test_what_hits_are_to_be_unlike():
    like, unlike = np.eye(3)[:2], np.eye(3)[2:]
    found = like_and_unlike(like, unlike)
    assert found / found[0] == pytest.approx([1, 1, -2 * UNLIKE_WEIGHT])
    # The mean counts, however many there are.
    more = like_and_unlike(np.tile(like, (2, 1)), np.tile(unlike, (5, 1)))
    assert more == pytest.approx(found)
    assert like_and_unlike(like, np.zeros((0, 3))) == pytest.approx(combine(like))


@pytest.mark.parametrize(
    ("vectors", "weights", "said"),
    [
        (np.zeros((0, 3)), None, "one or more vectors"),
        (np.zeros((1, 3)), None, "not all 0"),
        (np.array([[np.nan, 1]]), None, "finite"),
        (np.eye(2), [1], "1 weights for 2"),
        (np.eye(2), [1, np.inf], "weights"),
        (np.array([[1.0, 0], [2, 0]]), [1, -1], "cancel out"),
    ],
)
def test_queries_that_are_none(vectors, weights, said):
    with pytest.raises(UsageError, match=said):
        combine(vectors, weights)


def test_nothing_to_be_like():
    with pytest.raises(UsageError, match="nothing to look for"):
        like_and_unlike(np.zeros((0, 3)), np.eye(3))
