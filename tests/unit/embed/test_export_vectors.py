"""Exported vectors as the other libraries read them, and back again."""

from __future__ import annotations

import base64
import io
import json
import signal
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import datasets
import faiss
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.corpora import made_videos, write_corpus
from vidvec.embed import export_vectors as module
from vidvec.embed.export_vectors import TARGETS, export_vectors, write_flat_index
from vidvec.embed.import_vectors import import_vectors
from vidvec.embed.vectors import Vectors, VectorWriter
from vidvec.errors import UsageError

VIDEOS = [
    replace(video, file="" if row % 7 == 3 else f"/videos/{video.id}.mp4", date="2021-05-03")
    for row, video in enumerate(made_videos(60))
]
IDS = [video.id for video in VIDEOS] + ["elsewhere/ø", "日本"]
MATRIX = np.random.default_rng(1).normal(size=(len(IDS), 5)).astype(np.float32)
ENDS = {"npz": ".npz", "parquet": ".parquet", "arrow": ".arrow", "jsonl": ".jsonl"}


def written(path: Path, ids=tuple(IDS), matrix=MATRIX, shard: int = 25) -> Path:
    facts = {"normalised": False, "made_by": {"stage": "test"}}
    writer = VectorWriter(path, matrix.shape[1], facts)
    for start in range(0, len(ids), shard):
        writer.append(list(ids[start : start + shard]), matrix[start : start + shard])
    writer.finish()
    return path


@pytest.fixture
def vectors(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(module, "BLOCK_ROWS", 10)
    return written(tmp_path / "vectors")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("export") / "corpus", VIDEOS)


def out_of(folder: Path, target: str) -> Path:
    return folder / f"out{ENDS.get(target, '')}"


@pytest.mark.parametrize("target", [each for each in TARGETS if each != "fiftyone"])
@pytest.mark.parametrize("with_corpus", [False, True])
def test_out_and_back_is_bit_for_bit(target, with_corpus, vectors, corpus, tmp_path):
    out = out_of(tmp_path, target)
    counts = export_vectors(vectors, out, target, corpus.path if with_corpus else None)
    assert counts == {"vectors": len(IDS), "left_out": 0}
    import_vectors(out, tmp_path / "back")
    back = Vectors(tmp_path / "back")
    assert back.ids == IDS
    assert back.matrix.tobytes() == MATRIX.tobytes()


def test_numpy_reads_it(vectors, tmp_path):
    export_vectors(vectors, tmp_path / "out", "numpy")
    assert np.load(tmp_path / "out" / "vectors.npy", allow_pickle=False).tobytes() == (
        MATRIX.tobytes()
    )
    assert json.loads((tmp_path / "out" / "ids.json").read_text("utf-8")) == IDS
    export_vectors(vectors, tmp_path / "out.npz", "npz")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as file:
        assert file["ids"].tolist() == IDS
        assert file["vectors"].tobytes() == MATRIX.tobytes()


def test_faiss_reads_it_and_the_file_is_its_own(vectors, tmp_path):
    export_vectors(vectors, tmp_path / "out", "faiss")
    index = faiss.read_index(str(tmp_path / "out" / "vectors.faiss"))
    assert type(index) is faiss.IndexFlatIP
    assert index.reconstruct_n(0, index.ntotal).tobytes() == MATRIX.tobytes()
    _, rows = index.search(MATRIX / np.linalg.norm(MATRIX, axis=1, keepdims=True), 3)
    assert np.array_equal(
        rows[:, 0], (MATRIX @ MATRIX.T / np.linalg.norm(MATRIX, axis=1)[:, None]).argmax(1)
    )
    own = faiss.IndexFlatIP(5)
    own.add(MATRIX)
    held = (tmp_path / "out" / "vectors.faiss").read_bytes()
    assert held == faiss.serialize_index(own).tobytes()
    assert json.loads((tmp_path / "out" / "ids.json").read_text("utf-8")) == IDS


@pytest.mark.parametrize(("rows", "width"), [(0, 3), (1, 1), (3, 300)])
def test_flat_indexes_of_any_shape(rows, width, tmp_path):
    matrix = np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)
    own = faiss.IndexFlatIP(width)
    own.add(matrix)
    file = io.BytesIO()
    write_flat_index(file, rows, width, iter([matrix]))
    assert file.getvalue() == faiss.serialize_index(own).tobytes()


def test_pandas_and_arrow_read_it(vectors, corpus, tmp_path):
    export_vectors(vectors, tmp_path / "out.parquet", "parquet", corpus.path)
    frame = pd.read_parquet(tmp_path / "out.parquet").set_index("id")
    assert frame.index.tolist() == IDS
    assert np.stack(frame["vector"].to_numpy()).tobytes() == MATRIX.tobytes()
    for video in VIDEOS:
        row = frame.loc[video.id]
        assert (row["title"], row["category"], row["file"], row["date"]) == (
            *(video.title, video.category),
            *(video.file, video.date),
        )
        assert (None if row["tags"] is None else tuple(row["tags"])) == video.tags
    assert pd.isna(frame.loc["日本"]["title"])
    assert pq.read_schema(tmp_path / "out.parquet").field("vector").type == (
        pa.list_(pa.float32(), 5)
    )
    export_vectors(vectors, tmp_path / "out.arrow", "arrow", corpus.path)
    table = pa.ipc.open_file(pa.memory_map(str(tmp_path / "out.arrow"))).read_all()
    assert table.equals(pq.read_table(tmp_path / "out.parquet"))


@pytest.mark.parametrize("with_corpus", [False, True])
def test_datasets_reads_it_and_finds_neighbours(with_corpus, vectors, corpus, tmp_path):
    export_vectors(vectors, tmp_path / "out", "datasets", corpus.path if with_corpus else None)
    found = datasets.load_from_disk(str(tmp_path / "out"))
    assert found["id"][:] == IDS
    assert np.array(found.with_format("numpy")["vector"][:], np.float32).tobytes() == (
        MATRIX.tobytes()
    )
    assert found.features["vector"].length == 5
    if with_corpus:
        assert found["title"][:60] == [video.title for video in VIDEOS]
        assert found["tags"][0] == list(VIDEOS[0].tags or ())
    found = found.with_format("numpy")
    found.add_faiss_index("vector", metric_type=faiss.METRIC_L2)
    _, near = found.get_nearest_examples("vector", MATRIX[7], k=1)
    assert near["id"][0] == IDS[7]
    found.drop_index("vector")
    assert found.filter(lambda row: row["id"] == "日本").num_rows == 1


# --- FiftyOne -----------------------------------------------------------------------------------


def as_fiftyone_reads(folder: Path) -> list[dict]:
    """Samples as FiftyOne's importer takes them, written down from its documentation and source.

    The importer takes ``metadata.json`` without a version for the form that is documented as
    ``LegacyFiftyOneDataset``. For videos it takes ``frames`` off each sample and reads the labels
    file that it names; a dictionary with ``$binary`` is MongoDB's extended JSON of a NumPy file
    compressed with zlib, and ``filepath`` is joined to the folder's.
    """
    metadata = json.loads((folder / "metadata.json").read_text("utf-8"))
    assert "version" not in metadata
    assert metadata["media_type"] == "video"
    assert isinstance(metadata["info"], dict)
    samples = []
    for sample in json.loads((folder / "samples.json").read_text("utf-8"))["samples"]:
        labels = folder / sample.pop("frames")
        assert json.loads(labels.read_text())["frames"] == {}
        value = sample["embedding"]["$binary"]
        assert value["subType"] == "00"
        packed = io.BytesIO(zlib.decompress(base64.b64decode(value["base64"])))
        sample["embedding"] = np.load(packed, allow_pickle=False)
        sample["filepath"] = str(folder / sample["filepath"])
        samples.append(sample)
    return samples


def test_fiftyone_export_follows_its_documented_schema(vectors, corpus, tmp_path):
    counts = export_vectors(vectors, tmp_path / "out", "fiftyone", corpus.path)
    with_file = [row for row, video in enumerate(VIDEOS) if video.file]
    assert counts == {"vectors": len(with_file), "left_out": len(IDS) - len(with_file)}
    samples = as_fiftyone_reads(tmp_path / "out")
    assert len(samples) == len(with_file)
    # Names that FiftyOne keeps for itself, and what it demands of a field's name.
    allowed = {"filepath", "tags", "metadata", "embedding"}
    own = {"video_id", "title", "category", "language"}
    for row, sample in zip(with_file, samples, strict=True):
        video = VIDEOS[row]
        assert allowed <= set(sample) <= allowed | own
        assert all(name.isidentifier() and not name.startswith("_") for name in sample)
        assert sample["filepath"] == video.file
        assert sample["metadata"] is None
        assert sample["video_id"] == video.id
        assert sample.get("title", "") == video.title
        assert sample["tags"] == list(dict.fromkeys(video.tags or ()))
        assert all(isinstance(tag, str) for tag in sample["tags"])
        assert sample["embedding"].dtype == np.float32
        assert sample["embedding"].ndim == 1  # what FiftyOne makes a VectorField
        assert sample["embedding"].tobytes() == MATRIX[row].tobytes()


# --- names, kills, hostile ids ------------------------------------------------------------------


def test_what_is_there_is_never_overwritten(vectors, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    for target in TARGETS[:-1]:
        with pytest.raises(UsageError, match="is there already"):
            export_vectors(vectors, tmp_path / "out", target)
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
    with pytest.raises(UsageError, match="give --corpus"):
        export_vectors(vectors, tmp_path / "new", "fiftyone")
    with pytest.raises(UsageError, match="expected one of numpy"):
        export_vectors(vectors, tmp_path / "new", "excel")
    assert not (tmp_path / "new").exists()


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@settings(
    deadline=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(ids=st.lists(texts, min_size=1, max_size=12, unique=True))
@pytest.mark.parametrize("target", ["numpy", "npz", "parquet", "datasets", "faiss", "jsonl"])
def test_any_id_survives(target, ids, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ids")
    source = written(folder / "vectors", ids, MATRIX[: len(ids)])
    out = out_of(folder, target)
    if target == "npz" and any(each.endswith("\0") for each in ids):
        with pytest.raises(UsageError, match="zero characters"):
            export_vectors(source, out, target)
        assert not out.exists()
        return
    export_vectors(source, out, target)
    import_vectors(out, folder / "back")
    assert Vectors(folder / "back").ids == ids


KILLED = """
import sys, time
from pathlib import Path
from vidvec.embed import export_vectors as module
module.BLOCK_ROWS = 10
first = module._matrix_blocks
def slow(vectors):
    for number, block in enumerate(first(vectors)):
        yield block
        print(number, flush=True)
        time.sleep(60 * (number == 2))
module._matrix_blocks = slow
module.export_vectors(Path(sys.argv[1]), Path(sys.argv[2]), "numpy")
"""


def test_a_killed_export_leaves_nothing_half(vectors, tmp_path):
    command = [sys.executable, "-c", KILLED, str(vectors), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.strip() == "2":
                break
        process.send_signal(signal.SIGKILL)
    time.sleep(0.01)
    assert not (tmp_path / "out").exists()
    assert len(list(tmp_path.glob(".out.*.tmp"))) == 1
    mine = tmp_path / ".other.12345678.tmp"
    mine.write_text("another's")
    export_vectors(vectors, tmp_path / "out", "numpy")
    assert np.load(tmp_path / "out" / "vectors.npy").tobytes() == MATRIX.tobytes()
    assert list(tmp_path.glob(".*.tmp")) == [mine]  # what the killed one left is gone, no more
