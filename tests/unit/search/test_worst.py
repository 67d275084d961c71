"""The pairs on which cosine and score disagree, on a case worked by hand and on a tiny model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.models import write_checkpoint
from vidvec.cli import app
from vidvec.data.corpus import Corpus
from vidvec.embed.embedder import Encoder, embed
from vidvec.embed.evaluate import evaluate
from vidvec.embed.vectors import Vectors, VectorWriter
from vidvec.errors import UsageError
from vidvec.records import Pair, Video
from vidvec.search.query import QueryEncoder
from vidvec.search.worst import RankedPairs, unit_ranks, worst_pairs

# Cosines 1, 0.8, 0.6, 0; the last pair has no vector.
BY_HAND = [
    (Pair("a", "b", 0.0), [1, 0], [2, 0]),
    (Pair("c", "d", 1.0), [1, 0], [0.8, 0.6]),
    (Pair("e", "f", 0.0), [0, 1], [0.8, 0.6]),
    (Pair("g", "h", 0.5), [0, 1], [3, 0]),
    (Pair("a", "x", 0.9), [1, 0], None),
]


def by_hand(tmp_path: Path) -> tuple[Path, Corpus]:
    held = {}
    for pair, one, other in BY_HAND:
        held |= {pair.id_1: one} | ({pair.id_2: other} if other is not None else {})
    videos = [Video(id=name, title=f"title {name}") for name in [*held, "x"]]
    corpus = write_corpus(tmp_path / "corpus", videos, [pair for pair, *_ in BY_HAND])
    facts = {"normalised": False, "made_by": {"stage": "import"}}
    writer = VectorWriter(tmp_path / "vectors", 2, facts)
    writer.append(list(held), np.array(list(held.values()), np.float32))
    writer.finish()
    return tmp_path / "vectors", corpus


def test_by_hand(tmp_path):
    """Ranks of the scores 0 1 0 ½: ½ 3 ½ 2 of 3; of the cosines: 3 2 1 0 of 3."""
    vectors, corpus = by_hand(tmp_path)
    found = worst_pairs(vectors, corpus, "all")
    assert found.total == 4
    assert [pair.id_1 for pair in found.pairs] == ["a", "g", "c", "e"]
    assert [pair.cosine for pair in found.pairs] == pytest.approx([1, 0, 0.8, 0.6])
    assert [pair.score for pair in found.pairs] == [0, 0.5, 1, 0]
    assert [pair.score_rank for pair in found.pairs] == pytest.approx([1 / 6, 2 / 3, 1, 1 / 6])
    assert [pair.cosine_rank for pair in found.pairs] == pytest.approx([1, 0, 2 / 3, 1 / 3])
    assert [pair.gap for pair in found.pairs] == pytest.approx([5 / 6, 2 / 3, 1 / 3, 1 / 6])
    assert all(pair.why is None for pair in found.pairs)
    assert found.spearman == pytest.approx(spearmanr([1, 0.8, 0.6, 0], [0, 1, 0, 0.5]).statistic)


def test_pages(tmp_path):
    vectors, corpus = by_hand(tmp_path)
    ranked = RankedPairs(Vectors(vectors), corpus, "all")
    assert len(ranked) == 4
    pages = [ranked.worst(2, offset).pairs for offset in (0, 2, 4)]
    assert [len(page) for page in pages] == [2, 2, 0]
    assert pages[0] + pages[1] == ranked.worst().pairs
    for limit, offset in ((-1, 0), (1, -1)):
        with pytest.raises(UsageError, match="expected numbers of 0 or more"):
            ranked.worst(limit, offset)


def test_ranks():
    assert unit_ranks(np.array([5.0, 1.0, 3.0])).tolist() == [1, 0, 0.5]
    assert unit_ranks(np.array([2.0, 2.0, 2.0])).tolist() == [0.5, 0.5, 0.5]
    assert unit_ranks(np.array([2.0])).tolist() == [0]


def test_no_pairs(tmp_path):
    vectors, corpus = by_hand(tmp_path)
    with pytest.raises(UsageError, match="expected clean, published or all"):
        worst_pairs(vectors, corpus, "dirty")
    none = write_corpus(tmp_path / "none", made_videos(3))
    with pytest.raises(UsageError, match=r"no pair to look at: .* has 0 pairs, 0 in the all"):
        worst_pairs(vectors, none, "all")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("worst")
    videos = made_videos(60)
    corpus = write_corpus(root / "corpus", videos, made_pairs(videos, 300))
    write_checkpoint(root / "model", corpus)
    embed(root / "model", root / "corpus", root / "vectors")
    return root


def test_the_split_and_the_figure_are_those_of_evaluate(root):
    corpus = Corpus(root / "corpus")
    for split in ("clean", "published", "all"):
        figures = evaluate(Vectors(root / "vectors"), corpus.pairs(), split)
        found = worst_pairs(root / "vectors", corpus, split, limit=1000)
        assert found.total == len(found.pairs) == figures.pairs
        assert found.spearman == pytest.approx(figures.spearman.value)
        gaps = [pair.gap for pair in found.pairs]
        assert gaps == sorted(gaps, reverse=True)


def test_shares_against_single_encodes(root):
    corpus, encoder = Corpus(root / "corpus"), Encoder.load(root / "model")
    with QueryEncoder.load(root / "vectors") as query:
        found = worst_pairs(root / "vectors", corpus, "all", limit=60, encoder=query)
    bare = np.zeros((0, 24), np.float16)

    def vector(video: Video) -> np.ndarray | None:
        return encoder.encode([video])[0] if video.title or len(video.frames) else None

    kinds = set()
    for pair in found.pairs:
        both = [corpus.video(corpus.row(video)) for video in (pair.id_1, pair.id_2)]
        without = {
            "frames": [replace(video, frames=bare) for video in both],
            "title": [replace(video, title="") for video in both],
        }
        whole = float(np.dot(*(vector(video) for video in both)))
        assert whole == pytest.approx(pair.cosine, abs=1e-5)
        has = {
            name
            for name, field in (("frames", "frames"), ("title", "title"))
            for v in both
            if len(getattr(v, field))
        }
        assert set(pair.why) == has
        for name in has:
            one, other = (vector(video) for video in without[name])
            rest = 0.0 if one is None or other is None else float(one @ other)
            assert pair.why[name] == pytest.approx(whole - rest, abs=2e-5)
            kinds.add((name, rest == 0.0))
    assert ("frames", False) in kinds
    assert {("frames", True), ("title", True)} & kinds  # a video with nothing else came along


def run(capsys, *arguments: object) -> str:
    app([str(each) for each in arguments], result_action="return_value")
    return capsys.readouterr().out


def test_the_command_shows_them(root, capsys):
    shown = run(capsys, "evaluate", root / "vectors", "--corpus", root / "corpus", "--worst", 3)
    found = worst_pairs(root / "vectors", Corpus(root / "corpus"), limit=3)
    assert "Spearman" in shown
    assert f"3 of {found.total}" in shown
    for pair in found.pairs:
        assert pair.id_1 in shown
        assert pair.id_2 in shown
        assert f"{pair.gap:.3f}" in shown


def test_the_command_as_json(root, tmp_path, capsys):
    printed = run(
        capsys,
        *("evaluate", root / "vectors", "--corpus", root / "corpus"),
        *("--worst", 2, "--split", "all", "--json"),
    )
    [figures] = json.loads(printed).values()
    found = worst_pairs(root / "vectors", Corpus(root / "corpus"), "all", limit=2)
    assert [pair["gap"] for pair in figures["worst"]] == [pair.gap for pair in found.pairs]
    assert set(figures["worst"][0]["why"]) <= {"frames", "title"}
    # Of vectors from elsewhere, without what each modality adds.
    vectors, corpus = by_hand(tmp_path)
    printed = run(
        capsys,
        *("evaluate", vectors, "--corpus", corpus.path, "--split", "all", "--worst", 1, "--json"),
    )
    [figures] = json.loads(printed).values()
    assert figures["worst"][0]["id_1"] == "a"
    assert figures["worst"][0]["why"] is None


def test_models_have_no_worst_pairs(root, capsys):
    for worst, path in ((3, "model"), (-1, "vectors")):
        with pytest.raises(UsageError, match=f"--worst {worst}: expected 1 or more"):
            run(capsys, "evaluate", root / path, "--corpus", root / "corpus", f"--worst={worst}")
