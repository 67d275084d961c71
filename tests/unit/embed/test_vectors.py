"""Vectors on disk: what was committed is there, and damage is named."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from vidvec.embed.vectors import Vectors, VectorWriter
from vidvec.errors import FormatError, UsageError

FACTS = {"normalised": True, "made_by": {"stage": "test", "model": "模型"}}
MATRIX = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
IDS = ["0", "一", "2", "three", "4", "5", "6"]


def written(path, parts=((0, 4), (4, 7)), finish=True):
    writer = VectorWriter(path, 3, FACTS)
    for start, end in parts:
        writer.append(IDS[start:end], MATRIX[start:end])
    if finish:
        writer.finish()
    return path


def test_vectors_come_back_as_they_went_in(tmp_path):
    vectors = Vectors(written(tmp_path / "vectors"))
    assert len(vectors) == 7
    assert vectors.dimension == 3
    assert vectors.normalised is True
    assert vectors.ids == IDS
    assert vectors.matrix.dtype == np.float32
    assert np.array_equal(vectors.matrix, MATRIX)
    assert [vectors.row(video) for video in IDS] == list(range(7))
    assert "three" in vectors
    assert "3" not in vectors
    assert repr(vectors) == f"Vectors({str(tmp_path / 'vectors')!r}, 7 × 3)"


def test_shards_are_views_of_the_files(tmp_path):
    vectors = Vectors(written(tmp_path / "vectors"))
    shards = list(vectors.shards())
    assert [ids for ids, _ in shards] == [IDS[:4], IDS[4:]]
    assert np.array_equal(shards[1][1], MATRIX[4:])
    assert not shards[0][1].flags.owndata
    assert not shards[0][1].flags.writeable


def test_any_arrow_reader_reads_a_shard(tmp_path):
    path = written(tmp_path / "vectors") / "shards" / "000001.arrow"
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    assert table.schema == pa.schema({"id": pa.string(), "vector": pa.list_(pa.float32(), 3)})
    assert table.column("vector").to_pylist() == MATRIX[4:].tolist()


@pytest.mark.parametrize("order", ["F", "C"])
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_other_layouts_and_types_are_converted(tmp_path, order, dtype):
    writer = VectorWriter(tmp_path, 3, FACTS)
    writer.append(IDS, np.asarray(MATRIX, dtype, order=order))
    writer.finish()
    assert np.array_equal(Vectors(tmp_path).matrix, MATRIX.astype(dtype).astype(np.float32))


def test_no_vectors_at_all(tmp_path):
    vectors = Vectors(written(tmp_path / "vectors", parts=()))
    assert len(vectors) == 0
    assert vectors.ids == []
    assert vectors.matrix.shape == (0, 3)
    assert list(vectors.shards()) == []


def test_a_writer_carries_on_where_another_stopped(tmp_path):
    written(tmp_path, parts=((0, 4),), finish=False)
    (tmp_path / "shards" / "000001.arrow").write_bytes(b"written, but not committed")
    (tmp_path / "shards" / ".000002.arrow.abcd.tmp").write_bytes(b"half")
    writer = VectorWriter(tmp_path, 3, FACTS)
    assert (writer.rows, writer.complete) == (4, False)
    writer.append(IDS[4:], MATRIX[4:])
    writer.finish()
    assert np.array_equal(Vectors(tmp_path).matrix, MATRIX)
    assert sorted(file.name for file in (tmp_path / "shards").iterdir()) == [
        "000000.arrow",
        "000001.arrow",
    ]
    again = VectorWriter(tmp_path, 3, FACTS)
    assert (again.rows, again.complete) == (7, True)


def test_unfinished_vectors_are_not_opened(tmp_path):
    written(tmp_path, finish=False)
    with pytest.raises(FormatError, match="is unfinished: run the command that makes it again"):
        Vectors(tmp_path)


@pytest.mark.parametrize(
    "facts",
    [
        {"normalised": True, "made_by": {"stage": "test", "model": "other"}},
        {"normalised": False, "made_by": FACTS["made_by"]},
    ],
)
def test_vectors_of_something_else_are_not_mixed_in(tmp_path, facts):
    written(tmp_path, finish=False)
    with pytest.raises(UsageError) as caught:
        VectorWriter(tmp_path, 3, facts)
    assert "模型" in str(caught.value)
    assert "give a new folder" in str(caught.value)


def test_vectors_of_another_length_are_not_mixed_in(tmp_path):
    written(tmp_path)
    with pytest.raises(UsageError, match=r"vectors of 3 numbers.*would be of 4 numbers"):
        VectorWriter(tmp_path, 4, FACTS)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"kind": "corpus", "format_version": 1}')
    with pytest.raises(FormatError, match="holds corpus, expected vectors"):
        VectorWriter(tmp_path, 3, FACTS)
    with pytest.raises(FormatError, match="holds corpus, expected vectors"):
        Vectors(tmp_path)


def test_an_unknown_id_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no vector for video '7' in .*vectors"):
        Vectors(written(tmp_path / "vectors")).row("7")


@pytest.mark.parametrize("damage", ["missing", "short", "zeros", "rows", "width", "offset"])
def test_a_damaged_shard_is_named(tmp_path, damage):
    shard = written(tmp_path / "vectors") / "shards" / "000000.arrow"
    data = shard.read_bytes()
    if damage == "missing":
        shard.unlink()
    elif damage == "short":
        shard.write_bytes(data[:-30])
    elif damage == "zeros":
        shard.write_bytes(bytes(len(data)))
    elif damage == "offset":
        offsets = np.array([0, 1, 4, 5, 10], np.int32).tobytes()  # of "0", "一", "2", "three"
        assert data.count(offsets) == 1
        shard.write_bytes(data.replace(offsets, offsets[:8] + b"\xff\xff\xff\x7f" + offsets[12:]))
    else:
        manifest = json.loads((tmp_path / "vectors" / "manifest.json").read_text())
        if damage == "rows":
            manifest["shards"][0]["rows"] = 5
        else:
            manifest["dimension"] = 4
        (tmp_path / "vectors" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FormatError, match=r"shard .*000000\.arrow"):
        Vectors(tmp_path / "vectors")
