"""Vectors of other models beside ours: evaluated, fused, searched, and freed of duplicates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.models import write_checkpoint
from vidvec.cli import app
from vidvec.data.corpus import Corpus
from vidvec.embed.embedder import embed
from vidvec.embed.evaluate import evaluate
from vidvec.embed.fusion import load_fusion
from vidvec.embed.import_vectors import import_vectors
from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError
from vidvec.search.index import ExactIndex, corpus_of, encode_titles, gone_ids

VIDEOS = made_videos(120)
IDS = [video.id for video in VIDEOS]
MISSING = {4, 50, 51}
WIDTH = 40  # of the other model


def clip_like() -> np.ndarray:
    """(120, 40) as another model might see the videos: near within a topic; not of length 1."""
    random = np.random.default_rng(8)
    centres = random.normal(size=(4, WIDTH))
    topics = [int(video.category) for video in VIDEOS]
    matrix = centres[topics] + 0.5 * random.normal(size=(len(VIDEOS), WIDTH))
    return (7 * matrix).astype(np.float32)


CLIP = clip_like()


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A corpus with pairs, our vectors, and a CLIP-like model's: fewer, in another order."""
    root = tmp_path_factory.mktemp("foreign")
    corpus = write_corpus(root / "corpus", VIDEOS, made_pairs(VIDEOS, 400))
    embed(write_checkpoint(root / "model", corpus), corpus.path, root / "ours")
    rows = [int(row) for row in np.random.default_rng(2).permutation(120) if row not in MISSING]
    ids = [IDS[row] for row in rows] + ["somewhere else"]
    matrix = np.vstack([CLIP[rows], CLIP[:1] * 3])
    table = pa.table({"id": ids, "embedding": pa.array(list(matrix))})
    pq.write_table(table, root / "clip.parquet")
    return root


@pytest.fixture(scope="module")
def clip(house) -> Path:
    report = import_vectors(
        house / "clip.parquet", house / "clip", name="clip", corpus=house / "corpus"
    )
    assert (report.vectors, report.unknown, report.normalised) == (118, 1, False)
    return house / "clip"


def run(capsys, *words: object) -> str:
    app([str(word) for word in words], result_action="return_value")
    return capsys.readouterr().out


def test_they_are_evaluated(house, clip, capsys):
    shown = run(capsys, "evaluate", house / "ours", clip, "--corpus", house / "corpus", "--json")
    figures = json.loads(shown)[str(clip)]
    pairs = Corpus(house / "corpus").pairs()
    found = evaluate(Vectors(clip), pairs)
    rows = {each: row for row, each in enumerate(IDS)}
    unit = CLIP / np.linalg.norm(CLIP, axis=1, keepdims=True)
    there = [pair for pair in pairs if not {rows[pair.id_1], rows[pair.id_2]} & MISSING]
    whole = evaluate(Vectors(clip), pairs, "all")
    cosines = [unit[rows[pair.id_1]] @ unit[rows[pair.id_2]] for pair in there]
    expected = spearmanr(cosines, [pair.score for pair in there]).statistic
    assert (whole.pairs, whole.missing) == (len(there), len(pairs) - len(there))
    assert whole.missing > 0
    assert whole.spearman.value == pytest.approx(expected, abs=1e-6)
    assert figures["spearman"]["value"] == pytest.approx(found.spearman.value)


def test_they_are_fused_with_ours(house, clip, tmp_path, capsys):
    fused = tmp_path / "fused"
    shown = run(capsys, "fuse", house / "ours", clip, "--out", fused, "--size", 56)
    assert f"left out: 3 videos of {house / 'ours'} that are not in all" in shown
    assert f"left out: 1 videos of {clip} that are not in all" in shown
    found, ours = Vectors(fused), Vectors(house / "ours")
    kept = [row for row in range(120) if row not in MISSING]
    assert found.ids == [IDS[row] for row in kept]
    assert load_fusion(fused).kept == pytest.approx(1)
    unit = CLIP[kept] / np.linalg.norm(CLIP[kept], axis=1, keepdims=True)
    mean = (ours.matrix[kept] @ ours.matrix[kept].T + unit @ unit.T) / 2
    assert np.abs(found.matrix @ found.matrix.T - mean).max() < 1e-5
    assert run(capsys, "evaluate", fused, "--corpus", house / "corpus")


def test_they_are_searched_by_id_and_the_titles_show(house, clip, capsys):
    shown = json.loads(run(capsys, "search", clip, "--id", IDS[7], "-k", 5, "--json"))
    hits = [(hit["id"], hit["cosine"]) for hit in shown]
    unit = CLIP / np.linalg.norm(CLIP, axis=1, keepdims=True)
    cosines = unit @ unit[7]
    order = [row for row in np.argsort(-cosines).tolist() if row != 7 and row not in MISSING][:5]
    assert [each for each, _ in hits] == [IDS[row] for row in order]
    assert [cosine for _, cosine in hits] == pytest.approx(cosines[order].tolist(), abs=1e-5)
    assert corpus_of(clip).path == (house / "corpus").resolve()
    table = run(capsys, "search", clip, "--id", IDS[7], "-k", 5)
    assert VIDEOS[order[0]].title.split()[0] in table


def test_a_copy_among_them_is_a_duplicate(house, clip, capsys):
    found = json.loads(run(capsys, "dedup", clip, "--threshold", 0.9999, "--json"))
    groups = found["groups"]
    members = [{member["id"] for member in group["members"]} for group in groups]
    assert members == [{IDS[0], "somewhere else"}]


def test_words_cannot_be_looked_for_in_them_and_it_is_said_why(clip):
    with pytest.raises(UsageError, match="imported from elsewhere"):
        encode_titles(clip, ["sea"])


def test_ids_that_a_corpus_never_had_are_not_gone(house, clip, tmp_path):
    manifest = json.loads((house / "corpus" / "manifest.json").read_text("utf-8"))
    corpus = write_corpus(tmp_path / "corpus", VIDEOS)
    changed = json.loads((corpus.path / "manifest.json").read_text("utf-8"))
    assert "gone" not in manifest
    (corpus.path / "manifest.json").write_text(json.dumps({**changed, "gone": [[9, 1]]}))
    marked = Corpus(corpus.path)
    assert gone_ids(marked, Vectors(clip), own=True) == [IDS[9]]
    assert gone_ids(marked, Vectors(house / "ours"), own=True) == [IDS[9]]


def test_the_corpus_of_fused_vectors_is_that_of_any_member(house, tmp_path):
    bare = tmp_path / "bare"
    import_vectors(house / "clip.parquet", bare)
    assert corpus_of(bare) is None
    app(
        ["fuse", str(bare), str(house / "ours"), "--out", str(tmp_path / "fused")],
        result_action="return_value",
    )
    assert corpus_of(tmp_path / "fused").path == (house / "corpus").resolve()
    assert len(ExactIndex(Vectors(tmp_path / "fused")).like([IDS[0]], 3)[0]) == 3
