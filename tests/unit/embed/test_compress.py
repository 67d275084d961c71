"""Smaller folders of vectors: what lies in them, what made them, and that they go on being used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.corpora import made_pairs, made_videos, write_corpus
from tests.models import write_checkpoint
from vidvec.cli import main
from vidvec.embed.compress import compress
from vidvec.embed.dtypes import cut
from vidvec.embed.embedder import Encoder, embed
from vidvec.embed.evaluate import evaluate
from vidvec.embed.fusion import fuse
from vidvec.embed.rotation import rotation
from vidvec.embed.vectors import Vectors, VectorWriter, origin
from vidvec.errors import FormatError, UsageError
from vidvec.search.engine import SearchIndex, build_index
from vidvec.search.index import corpus_of, encode_titles, gone_ids
from vidvec.search.made import open_made
from vidvec.search.query import QueryEncoder

VIDEOS = made_videos(60)
PAIRS = made_pairs(VIDEOS, 80)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A corpus, two models' vectors of 16 numbers, their fusion of 12."""
    root = tmp_path_factory.mktemp("compress")
    corpus = write_corpus(root / "corpus", VIDEOS, PAIRS)
    write_checkpoint(root / "model", corpus)
    write_checkpoint(root / "other", corpus, seed=3)
    embed(root / "model", corpus.path, root / "vectors")
    embed(root / "other", corpus.path, root / "vectors2")
    fuse([root / "vectors", root / "vectors2"], root / "fused", size=12)
    return root


def written(path: Path, matrix: np.ndarray, parts: int = 1) -> Path:
    facts = {"normalised": False, "made_by": {"stage": "test"}}
    writer = VectorWriter(path, matrix.shape[1], facts)
    for some in np.array_split(np.arange(len(matrix)), parts):
        writer.append([f"v{row}" for row in some], matrix[some])
    writer.finish()
    return path


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "binary"])
def test_what_is_written_comes_back(root, tmp_path, dtype):
    report = compress(root / "vectors", tmp_path / "small", size=9, dtype=dtype)
    whole, small = Vectors(root / "vectors"), Vectors(tmp_path / "small")
    assert (small.dtype, small.dimension, small.normalised) == (dtype, 9, True)
    assert small.ids == whole.ids
    expected = cut(whole.matrix, 9)
    if dtype == "binary":
        expected = np.where(expected @ rotation(9).T > 0, 1, -1) / 3 @ rotation(9)
    tolerance = {"float32": 1e-6, "float16": 1e-3, "int8": 0.006, "binary": 1e-6}[dtype]
    assert small.matrix == pytest.approx(expected, abs=tolerance)
    assert np.linalg.norm(small.matrix, axis=1) == pytest.approx(np.ones(60), abs=1e-3)
    rows = np.array([59, 0, 7, 7])
    assert np.array_equal(small.take(rows), small.matrix[rows])
    bytes_of = {"float32": 36, "float16": 18, "int8": 9, "binary": 2}
    assert (report.bytes_per_vector, report.bytes_before) == (bytes_of[dtype], 64)
    assert (report.vectors, report.dimension, report.cut_from) == (60, 9, 16)
    own = (cut(whole.matrix, 9) * small.matrix).sum(1).mean()
    assert report.cosine == pytest.approx(own, abs=1e-3)
    name = "" if dtype == "float32" else f" {dtype}"
    assert repr(small).endswith(f"60 × 9{name})")


def test_any_arrow_reader_reads_a_shard(root, tmp_path):
    compress(root / "vectors", tmp_path / "small", dtype="binary")
    with pa.OSFile(str(tmp_path / "small" / "shards" / "000000.arrow")) as file:
        table = pa.ipc.open_file(file).read_all()
    assert table.schema == pa.schema({"id": pa.string(), "vector": pa.list_(pa.uint8(), 2)})
    bits = np.unpackbits(np.array(table.column("vector").to_pylist(), np.uint8), axis=1)
    assert np.array_equal(bits, Vectors(root / "vectors").matrix @ rotation(16).T > 0)


def test_titles_and_videos_are_looked_for_as_they_were_compressed(root, tmp_path):
    texts = ["sea waves", "城 市"]
    for name, size in (("vectors", 5), ("fused", 4), ("vectors", None)):
        out = tmp_path / f"{name}-{size}"
        compress(root / name, out, size=size)
        with QueryEncoder.load(root / name) as encoder:
            whole = encoder.titles(texts)
        with QueryEncoder.load(out) as encoder:
            assert encoder.dimension == (size or 16)
            assert encoder.titles(texts) == pytest.approx(cut(whole, encoder.dimension), abs=1e-6)
        assert corpus_of(out).path == root / "corpus"
        assert not gone_ids(corpus_of(out), Vectors(out), own=True)
        assert origin(Vectors(out).manifest["made_by"])["stage"] in ("embed", "fuse")


def test_vectors_that_were_cut_when_they_were_made(root, tmp_path):
    assert embed(root / "model", root / "corpus", tmp_path / "five", size=5) == 60
    five, whole = Vectors(tmp_path / "five"), Vectors(root / "vectors")
    assert five.matrix == pytest.approx(cut(whole.matrix, 5), abs=1e-6)
    made_by = five.manifest["made_by"]
    assert (made_by["size"], made_by["cut_from"]) == (5, 16)
    assert "size" not in whole.manifest["made_by"]
    found = encode_titles(tmp_path / "five", ["sea waves"])
    assert found == pytest.approx(Encoder.load(root / "model", size=5).encode(["sea waves"]))
    fuse([tmp_path / "five", root / "vectors2"], tmp_path / "fused", size=7)
    with QueryEncoder.load(tmp_path / "fused") as encoder:
        assert encoder.titles(["sea"]).shape == (1, 7)
    # A size that is all of them is no cut; another size is another folder's.
    embed(root / "model", root / "corpus", root / "vectors", size=16)
    with pytest.raises(UsageError, match=r"of 5 numbers .* of 6 numbers"):
        embed(root / "model", root / "corpus", tmp_path / "five", size=6)


def test_the_encoder_cuts(root):
    encoder, five = Encoder.load(root / "model"), Encoder.load(root / "model", size=5)
    whole = encoder.encode(VIDEOS)
    assert (encoder.dimension, five.dimension) == (16, 5)
    assert five.encode(VIDEOS) == pytest.approx(cut(whole, 5), abs=1e-6)
    assert encoder.encode(VIDEOS, size=5) == pytest.approx(cut(whole, 5), abs=1e-6)
    assert five.encode(VIDEOS[0], size=2) == pytest.approx(cut(whole[:1], 2)[0], abs=1e-5)
    assert encoder.encode("sea", size=3, convert_to_tensor=True).shape == (3,)
    assert encoder.trained_sizes == (16,)
    for size in (0, 17):
        with pytest.raises(UsageError, match=rf"size {size}: the model has vectors of 16"):
            Encoder.load(root / "model", size=size)
    with pytest.raises(UsageError, match="size 6: the encoder has vectors of 5 numbers"):
        five.encode("sea", size=6)


def test_sizes_that_a_model_was_trained_for(root):
    model = Encoder.load(root / "model").model
    tuned = model.recipe.finetune.model_copy(update={"prefixes": (8, 4)})
    model.recipe = model.recipe.model_copy(update={"finetune": tuned})
    for stage, sizes in (("pretrain", (16,)), ("finetune", (4, 8, 16))):
        model.made_by = {"stage": stage}
        assert Encoder(model).trained_sizes == sizes
        model.made_by = {"stage": "soup", "members": [{"made_by": {"stage": stage}}]}
        assert Encoder(model).trained_sizes == sizes


def test_search_and_evaluation_take_compressed_vectors(root, tmp_path):
    compress(root / "vectors", tmp_path / "small", dtype="int8")
    small, whole = Vectors(tmp_path / "small"), Vectors(root / "vectors")
    one, other = (evaluate(each, PAIRS, "all").spearman.value for each in (small, whole))
    assert one == pytest.approx(other, abs=0.02)
    build_index(tmp_path / "small")
    with SearchIndex.open(tmp_path / "small") as index:
        [hits] = index.like([whole.ids[7]], 3)
        cosines = small.matrix @ small.matrix[7]
    for hit in hits:
        assert hit.cosine == pytest.approx(cosines[small.row(hit.id)], abs=1e-6)


def test_compressing_what_is_compressed(root, tmp_path):
    compress(root / "fused", tmp_path / "half", dtype="float16")
    compress(tmp_path / "half", tmp_path / "bits", size=6, dtype="binary")
    bits = Vectors(tmp_path / "bits")
    fused = Vectors(root / "fused").matrix[:, :6]
    assert np.array_equal(bits.matrix @ rotation(6).T > 0, fused @ rotation(6).T > 0)
    assert open_made(tmp_path / "bits").dimension == 6
    with pytest.raises(UsageError, match="holds binary, of which int8 brings nothing back"):
        compress(tmp_path / "bits", tmp_path / "back", dtype="int8")
    with pytest.raises(UsageError, match="holds float16, of which float32 brings nothing back"):
        compress(tmp_path / "half", tmp_path / "back", dtype="float32")


def test_vectors_that_cannot_be_used_are_named(tmp_path):
    matrix = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    matrix[1, 2], matrix[4, 0], matrix[7, :2] = np.nan, np.inf, 0
    written(tmp_path / "vectors", matrix, parts=3)
    report = compress(tmp_path / "vectors", tmp_path / "small", size=2, dtype="binary")
    assert report.left_out == {"nan": 2, "zero": 1}
    assert Vectors(tmp_path / "small").ids == ["v0", "v2", "v3", "v5", "v6", "v8"]
    lines = (tmp_path / "small" / "rejects.jsonl").read_text().splitlines()
    named = [json.loads(line) for line in lines]
    assert [(each["id"], each["reason"], each["where"]) for each in named] == [
        ("v1", "nan", "vectors:2"),
        ("v4", "nan", "vectors:5"),
        ("v7", "zero", "vectors:8"),
    ]
    whole = compress(tmp_path / "vectors", tmp_path / "whole")
    assert (whole.left_out, whole.vectors) == ({"nan": 2}, 7)


def test_a_compression_that_was_stopped_carries_on(tmp_path, monkeypatch):
    matrix = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    matrix[2] = np.nan
    written(tmp_path / "vectors", matrix, parts=5)
    compress(tmp_path / "vectors", tmp_path / "at once")
    append = VectorWriter.append
    count = 0

    def stopped(self, ids, vectors):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        append(self, ids, vectors)

    monkeypatch.setattr(VectorWriter, "append", stopped)
    with pytest.raises(KeyboardInterrupt):
        compress(tmp_path / "vectors", tmp_path / "small")
    with pytest.raises(FormatError, match="is unfinished"):
        Vectors(tmp_path / "small")
    monkeypatch.setattr(VectorWriter, "append", append)
    first = (tmp_path / "small" / "shards" / "000000.arrow").stat().st_mtime_ns
    assert compress(tmp_path / "vectors", tmp_path / "small").left_out == {"nan": 1}
    assert (tmp_path / "small" / "shards" / "000000.arrow").stat().st_mtime_ns == first
    for name in ("manifest.json", "rejects.jsonl", "shards/000004.arrow"):
        same = (tmp_path / "small" / name).read_bytes()
        assert same == (tmp_path / "at once" / name).read_bytes()


def test_what_cannot_be_compressed(root, tmp_path):
    for size in (0, 17):
        with pytest.raises(UsageError, match=rf"size {size}: .* has vectors of 16 numbers"):
            compress(root / "vectors", tmp_path / "small", size=size)
    with pytest.raises(UsageError, match="dtype 'int4': expected one of"):
        compress(root / "vectors", tmp_path / "small", dtype="int4")
    with pytest.raises(UsageError, match="is what is to be compressed"):
        compress(root / "vectors", root / "vectors")
    assert not (tmp_path / "small").exists()
    compress(root / "vectors", tmp_path / "small", size=4)
    with pytest.raises(UsageError, match="give a new folder"):
        compress(root / "vectors", tmp_path / "small", size=4, dtype="float16")


def test_a_manifest_of_a_dtype_that_is_not_known(root, tmp_path):
    compress(root / "vectors", tmp_path / "small")
    manifest = json.loads((tmp_path / "small" / "manifest.json").read_text())
    for dtype, said in (("int4", "dtype 'int4'"), ("float16", "of 16 numbers in float16")):
        text = json.dumps({**manifest, "dtype": dtype})
        (tmp_path / "small" / "manifest.json").write_text(text)
        with pytest.raises((FormatError, UsageError), match=said):
            Vectors(tmp_path / "small")


def test_the_command(root, tmp_path, capsys):
    run(["compress", str(root / "vectors"), str(tmp_path / "small"), "--size", "8"])
    said = capsys.readouterr().out
    assert "60 vectors of 8 numbers in int8, 8 bytes each, which were 64; mean cosine" in said
    run(["search", str(tmp_path / "small"), "--title", "sea waves", "-k", "4", "--json"])
    hits = json.loads(capsys.readouterr().out)
    small, query = Vectors(tmp_path / "small"), Encoder.load(root / "model").encode(["sea waves"])
    cosines = small.matrix @ cut(query, 8)[0]
    assert [hit["id"] for hit in hits] == [small.ids[row] for row in np.argsort(-cosines)[:4]]
    assert [hit["cosine"] for hit in hits] == pytest.approx(sorted(cosines)[:-5:-1], abs=1e-5)
    run([*["embed", str(root / "model"), str(root / "corpus")], str(tmp_path / "v"), "--size=4"])
    told = capsys.readouterr()
    assert "60 vectors" in told.out
    said = " ".join(told.err.split())
    assert "was trained for vectors of 16 numbers, not of 4" in said


def run(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
