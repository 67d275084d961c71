"""What modalities have to do with a cosine, against encoding one video after the other."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.corpora import made_videos, with_more, write_corpus
from tests.models import write_checkpoint
from vidvec.data.corpus import Corpus
from vidvec.embed.embedder import Encoder, embed
from vidvec.embed.fusion import fuse, load_fusion
from vidvec.errors import UsageError
from vidvec.records import Video
from vidvec.search import explain as module
from vidvec.search import query as query_module
from vidvec.search.explain import explain
from vidvec.search.query import QueryEncoder
from vidvec.search.types import Why

FIELDS = {
    "frames": "frames",
    "audio": "audio",
    "title": "title",
    "speech": "speech_text",
    "screen": "screen_text",
}
EVERYTHING = ("model.max_audio=8", "model.max_speech_tokens=12", "model.max_screen_tokens=8")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A corpus with every modality, a model of all, one of two, and their fusion."""
    root = tmp_path_factory.mktemp("explain")
    videos = with_more(made_videos(40))
    corpus = write_corpus(root / "corpus", videos)
    write_checkpoint(root / "all", corpus, *EVERYTHING)
    write_checkpoint(root / "two", corpus, "model.pool=attention", seed=4)
    for name in ("all", "two"):
        embed(root / name, root / "corpus", root / f"of-{name}")
    fuse([root / "of-all", root / "of-two"], root / "fused", [1, 2], 14)
    return root


def only(video: Video, names: set[str]) -> Video:
    """A record that never had anything else."""
    fields = {FIELDS[name]: getattr(video, FIELDS[name]) for name in names}
    return Video(id=video.id, **fields)


@cache
def model(path: Path) -> Encoder:
    return Encoder.load(path)


def plainly(root: Path, vectors: str, video: Video) -> np.ndarray:
    """One video's vector, by the models themselves."""
    if vectors != "fused":
        return model(root / vectors[3:]).encode([video])[0]
    members = [model(root / name).encode([video]) for name in ("all", "two")]
    return load_fusion(root / "fused").apply(members)[0]


@pytest.mark.parametrize("vectors", ["of-all", "of-two", "fused"])
def test_against_single_encodes(root, vectors):
    corpus = Corpus(root / "corpus")
    ids = corpus.ids[:20]
    with QueryEncoder.load(root / vectors) as encoder:
        query = encoder.titles(["sea waves 海"])[0]
        found = explain(encoder, corpus, query, ids)
        read = encoder.modalities
    assert len(found) == 20
    seen = set()
    for video_id, why in zip(ids, found, strict=True):
        video = corpus.video(corpus.row(video_id))
        has = {name for name in read if len(getattr(video, FIELDS[name]))}
        assert set(why.alone) == has
        assert set(why.lost) == (has if len(has) > 1 else set())
        whole = query @ plainly(root, vectors, only(video, has))
        for name in has:
            alone = query @ plainly(root, vectors, only(video, {name}))
            assert why.alone[name] == pytest.approx(alone, abs=2e-5)
        for name in why.lost:
            without = query @ plainly(root, vectors, only(video, has - {name}))
            assert why.lost[name] == pytest.approx(whole - without, abs=4e-5)
        seen.add(frozenset(has))
    assert len(seen) > 2  # videos that lack this and that came along


def test_all_is_encoded_at_once(root, monkeypatch):
    calls = []
    encode = Encoder.encode

    def counted(self, videos, *more):
        calls.append(len(videos))
        return encode(self, videos, *more)

    monkeypatch.setattr(Encoder, "encode", counted)
    corpus = Corpus(root / "corpus")
    with QueryEncoder.load(root / "of-two") as encoder:
        query = encoder.titles(["sea"])[0]
        calls.clear()
        whys = explain(encoder, corpus, query, corpus.ids[:20])
        # Without one of two modalities is the other alone: three views of a video, not five.
        both = sum(len(why.alone) == 2 for why in whys)
        assert calls == [3 * both + (20 - both)]
        assert 10 < both < 20
        # What was seen for one query is known for the next.
        other = encoder.titles(["city"])[0]
        calls.clear()
        again = explain(encoder, corpus, other, corpus.ids[5:25])
        assert len(calls) == 1
        assert calls[0] <= 15
        assert explain(encoder, corpus, query, corpus.ids[:20]) == whys
        assert len(calls) == 1
    with QueryEncoder.load(root / "of-two") as encoder:
        fresh = explain(encoder, corpus, other, corpus.ids[5:25])
        for one, two in zip(again, fresh, strict=True):
            assert dict(one.alone) == pytest.approx(dict(two.alone), abs=1e-6)


def test_known_cosines_are_not_made_again(root, monkeypatch):
    corpus = Corpus(root / "corpus")
    ids = corpus.ids[:20]
    with QueryEncoder.load(root / "of-two") as encoder:
        query = encoder.titles(["sea"])[0]
        expected = explain(encoder, corpus, query, ids)
        cosines = [
            float(vector @ query) for vector in encoder.videos(encoder.of_corpus(corpus, ids))
        ]
    seen = []
    with QueryEncoder.load(root / "of-two") as encoder:
        views = encoder.views
        monkeypatch.setattr(
            encoder, "views", lambda corpus, wanted: seen.extend(wanted) or views(corpus, wanted)
        )
        found = explain(encoder, corpus, query, ids, cosines)
        for one, two in zip(found, expected, strict=True):
            assert dict(one.alone) == pytest.approx(dict(two.alone), abs=1e-6)
            assert dict(one.lost) == pytest.approx(dict(two.lost), abs=1e-6)
            assert (len(one.alone) == 1) == (not one.lost)
    assert sum(not left for _, left in seen) == sum(len(why.alone) == 1 for why in expected)


def test_what_is_kept_is_of_one_corpus_and_bounded(root, tmp_path, monkeypatch):
    videos = [replace(video, title="city " * 3) for video in with_more(made_videos(40))]
    other = write_corpus(tmp_path / "other", videos)
    corpus = Corpus(root / "corpus")
    monkeypatch.setattr(query_module, "KEPT_VIEWS", 5)
    with QueryEncoder.load(root / "of-two") as encoder:
        query = encoder.titles(["sea"])[0]
        first = explain(encoder, corpus, query, corpus.ids[:8])
        assert len(encoder._seen) == 5
        assert explain(encoder, other, query, corpus.ids[:8]) != first
        assert explain(encoder, corpus, query, corpus.ids[:8]) == first


def test_the_query_may_have_any_length_and_ids_may_come_twice(root):
    corpus = Corpus(root / "corpus")
    with QueryEncoder.load(root / "of-two") as encoder:
        query = encoder.titles(["sea"])[0]
        once = explain(encoder, corpus, query, corpus.ids[:3])
        again = explain(encoder, corpus, 7 * query, [*corpus.ids[:3], corpus.ids[0], "nobody"])
    assert again[3] == again[0]
    assert again[4] == Why()
    for first, second in zip(once, again[:3], strict=True):
        assert second.alone == pytest.approx(dict(first.alone), abs=1e-6)


def test_nothing_to_explain(root):
    corpus = Corpus(root / "corpus")
    with QueryEncoder.load(root / "of-two") as encoder:
        assert explain(encoder, corpus, np.ones(16), []) == []
        assert explain(encoder, corpus, np.ones(16), ["nobody"]) == [Why()]


def test_a_corpus_of_other_features_is_refused(root, tmp_path):
    other = write_corpus(tmp_path / "other", made_videos(3))
    other.manifest["frame_encoder"] = other.frame_encoder = {"name": "another", "frame_size": 24}
    with (
        QueryEncoder.load(root / "of-two") as encoder,
        pytest.raises(UsageError, match=r"reads frames of made .* holds frames of another"),
    ):
        explain(encoder, other, np.ones(16), other.ids)


def test_what_a_video_is_seen_without():
    left = module._left_out(("frames", "title"))
    assert left == {frozenset(), frozenset({"frames"}), frozenset({"title"})}
    assert module._left_out(("title",)) == {frozenset()}
    assert len(module._left_out(("frames", "audio", "title"))) == 7
    assert module._left_out(()) == {frozenset()}
