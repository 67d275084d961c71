"""Vectors that other libraries wrote, and files that mean harm."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
import zipfile
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
from pyarrow import feather

from vidvec.embed import import_vectors as module
from vidvec.embed.id_lists import clean_id, read_ids
from vidvec.embed.import_vectors import import_vectors, shard_rows
from vidvec.embed.vectors import Vectors
from vidvec.errors import BadRecord, FormatError, UsageError

ROWS, WIDTH = 500, 6
MATRIX = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)
IDS = [f"clips/{row}.mp4" for row in range(ROWS)]
IDS[3], IDS[4] = "海边的帆船", 'a "b", c\td'


def write_npy(folder: Path) -> Path:
    np.save(folder / "v.npy", MATRIX)
    (folder / "v.ids.txt").write_text("\r\n".join(IDS) + "\r\n", "utf-8")
    return folder / "v.npy"


def write_fortran(folder: Path) -> Path:
    np.save(folder / "v.npy", np.asfortranarray(MATRIX))
    (folder / "v.ids.json").write_text(json.dumps(IDS))
    return folder / "v.npy"


def write_npz(folder: Path) -> Path:
    np.savez_compressed(folder / "v.npz", names=np.arange(3), ids=np.array(IDS), embeddings=MATRIX)
    return folder / "v.npz"


def write_parquet(folder: Path) -> Path:
    frame = pd.DataFrame({"id": IDS, "title": "x", "emb": list(MATRIX)})
    frame.to_parquet(folder / "v.parquet", row_group_size=77)
    return folder / "v.parquet"


def write_feather(folder: Path) -> Path:
    flat = pa.array(MATRIX.reshape(-1))
    table = pa.table({"id": IDS, "vector": pa.FixedSizeListArray.from_arrays(flat, WIDTH)})
    feather.write_feather(table.slice(0), folder / "v.feather", chunksize=90)
    return folder / "v.feather"


def write_datasets(folder: Path) -> Path:
    whole = datasets.Dataset.from_dict({"id": IDS, "embedding": MATRIX.tolist()})
    whole.save_to_disk(folder / "v", num_shards=3)
    return folder / "v"


def write_splits(folder: Path) -> Path:
    parts = {
        name: datasets.Dataset.from_dict({"id": IDS[some], "embedding": MATRIX[some].tolist()})
        for name, some in (("train", slice(0, 300)), ("test", slice(300, None)))
    }
    datasets.DatasetDict(parts).save_to_disk(folder / "v")
    return folder / "v"


def write_flat(folder: Path) -> Path:
    index = faiss.IndexFlatL2(WIDTH)
    index.add(MATRIX)
    faiss.write_index(index, str(folder / "v.faiss"))
    np.save(folder / "v.ids.npy", np.array(IDS))
    return folder / "v.faiss"


def write_ivf(folder: Path) -> Path:
    index = faiss.index_factory(WIDTH, "IVF4,Flat")
    index.train(MATRIX)
    index.add(MATRIX)
    faiss.write_index(index, str(folder / "v.index"))
    (folder / "v.ids.json").write_text(json.dumps(IDS))
    return folder / "v.index"


def write_lines(folder: Path) -> Path:
    rows = zip(IDS, MATRIX.tolist(), strict=True)
    lines = [json.dumps({"id": each, "vector": vector}) for each, vector in rows]
    (folder / "v.jsonl").write_text("\n".join(lines))
    return folder / "v.jsonl"


WRITERS = [
    *(write_npy, write_fortran, write_npz, write_parquet, write_feather, write_datasets),
    *(write_splits, write_flat, write_ivf, write_lines),
]


@pytest.mark.parametrize("write", WRITERS)
def test_what_another_library_wrote_comes_in_bit_for_bit(write, tmp_path, monkeypatch):
    monkeypatch.setattr("vidvec.embed.vector_sources.BLOCK_ROWS", 64)
    monkeypatch.setattr("vidvec.embed.vector_tables.BLOCK_ROWS", 64)
    monkeypatch.setattr(module, "SHARD_BYTES", 4 * WIDTH * 150)
    source = write(tmp_path)
    report = import_vectors(source, tmp_path / "out", name="clip")
    assert (report.vectors, report.dimension) == (ROWS, WIDTH)
    assert (report.normalised, report.rejected, report.unknown) == (False, {}, None)
    found = Vectors(tmp_path / "out")
    assert found.ids == IDS
    assert np.array_equal(found.matrix, MATRIX)
    assert len(found.manifest["shards"]) == 4
    made_by = found.manifest["made_by"]
    assert (made_by["stage"], made_by["name"]) == ("import", "clip")
    assert made_by["source"] == str(source)
    assert not (tmp_path / "out" / "rejects.jsonl").exists()


def test_numbers_of_a_faiss_index_are_ids(tmp_path):
    index = faiss.index_factory(WIDTH, "IDMap,Flat")
    index.add_with_ids(MATRIX, np.arange(7, 7 + ROWS))
    faiss.write_index(index, str(tmp_path / "v.faiss"))
    import_vectors(tmp_path / "v.faiss", tmp_path / "out")
    found = Vectors(tmp_path / "out")
    assert found.ids == [str(number) for number in range(7, 7 + ROWS)]
    assert np.array_equal(found.matrix, MATRIX)


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int8])
def test_other_numbers_become_float32(tmp_path, kind):
    matrix = (MATRIX * 20).astype(kind)
    np.savez(tmp_path / "v.npz", ids=np.arange(ROWS), vectors=matrix)
    report = import_vectors(tmp_path / "v.npz", tmp_path / "out")
    found = Vectors(tmp_path / "out")
    zero = ~matrix.any(1)
    assert report.vectors == ROWS - zero.sum()
    assert found.ids == [str(row) for row in np.flatnonzero(~zero)]
    assert np.array_equal(found.matrix, matrix[~zero].astype(np.float32))


@pytest.mark.parametrize(("kind", "unit"), [(np.float32, True), (np.float16, True), (None, False)])
def test_whether_vectors_are_normalised_is_measured(tmp_path, kind, unit):
    matrix = MATRIX / np.linalg.norm(MATRIX, axis=1, keepdims=True)
    matrix = matrix.astype(kind) if kind else np.vstack([matrix[:-1], matrix[-1:] * 1.01])
    np.savez(tmp_path / "v.npz", ids=np.arange(ROWS), vectors=matrix)
    assert import_vectors(tmp_path / "v.npz", tmp_path / "out").normalised is unit
    assert Vectors(tmp_path / "out").normalised is unit


# --- rows that cannot be used -------------------------------------------------------------------


BAD = [
    ({"id": "0", "vector": [1, 2, 3]}, None),
    ({"id": "", "vector": [1, 2, 3]}, "no-id"),
    ({"vector": [1, 2, 3]}, "no-id"),
    ({"id": "0", "vector": [4, 2, 3]}, "duplicate-id"),
    ({"id": 1, "vector": [4, 5, 6]}, None),
    ({"id": 1.5, "vector": [4, 5, 6]}, "bad-id"),
    ({"id": True, "vector": [4, 5, 6]}, "bad-id"),
    ({"id": "half \ud83d", "vector": [4, 5, 6]}, "bad-id"),
    ({"id": "nan", "vector": [float("nan"), 1, 1]}, "nan"),
    ({"id": "inf", "vector": [float("inf"), 1, 1]}, "nan"),
    ({"id": "large", "vector": [1e300, 1, 1]}, "nan"),
    ({"id": "huge", "vector": [10**400, 1, 1]}, "nan"),
    ({"id": "zero", "vector": [0, 0, 0]}, "zero"),
    ({"id": "short", "vector": [1, 2]}, "wrong-dimension"),
    ({"id": "none", "vector": None}, "no-vector"),
    ({"id": "words", "vector": ["1", "2", "3"]}, "bad-record"),
    ([1, 2], "bad-record"),
    ({"id": "last", "vector": [-1, 0, 0]}, None),
]


def bad_lines(path: Path) -> Path:
    path.write_text("\n".join(json.dumps(row) for row, _ in BAD) + "\n{broken\n")
    return path


def test_bad_rows_are_named_counted_and_left_out(tmp_path):
    report = import_vectors(bad_lines(tmp_path / "v.jsonl"), tmp_path / "out")
    found = Vectors(tmp_path / "out")
    assert found.ids == ["0", "1", "last"]
    assert found.matrix.tolist() == [[1, 2, 3], [4, 5, 6], [-1, 0, 0]]
    wanted = [(f"v.jsonl:{row + 1}", reason) for row, (_, reason) in enumerate(BAD) if reason]
    wanted.append((f"v.jsonl:{len(BAD) + 1}", "bad-record"))
    lines = (tmp_path / "out" / "rejects.jsonl").read_text("utf-8").splitlines()
    rejects = [json.loads(line) for line in lines]
    assert [(each["where"], each["reason"]) for each in rejects] == wanted
    assert all(each["detail"] for each in rejects)
    counts = {reason: sum(each == reason for _, each in wanted) for _, reason in wanted}
    assert report.rejected == counts == found.manifest["rejected"]
    assert report.vectors + sum(counts.values()) == len(BAD) + 1


def test_strict_stops_at_the_first_bad_row_and_leaves_nothing(tmp_path):
    source = bad_lines(tmp_path / "v.jsonl")
    with pytest.raises(BadRecord, match=r"no-id: v.jsonl:2: it has no id"):
        import_vectors(source, tmp_path / "out", strict=True)
    assert not (tmp_path / "out").exists()
    import_vectors(source, tmp_path / "out")
    with pytest.raises(UsageError, match=r"rows that could not be used"):
        import_vectors(source, tmp_path / "out", strict=True)


def test_lists_of_several_widths_in_parquet(tmp_path):
    rows = [[1.0, 2], [1, 2, 3], None, [4, 5, 6], [7, None, 9]]
    table = pa.table({"id": list("abcde"), "vector": pa.array(rows, pa.list_(pa.float32()))})
    pq.write_table(table, tmp_path / "v.parquet")
    report = import_vectors(tmp_path / "v.parquet", tmp_path / "out")
    assert report.rejected == {"wrong-dimension": 1, "no-vector": 1, "nan": 1}
    assert Vectors(tmp_path / "out").ids == ["b", "d"]
    assert Vectors(tmp_path / "out").matrix.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_nothing_that_can_be_used_is_an_error(tmp_path):
    np.savez(tmp_path / "v.npz", ids=np.arange(3), vectors=np.zeros((3, 4)))
    with pytest.raises(UsageError, match="can be used: 3 zero"):
        import_vectors(tmp_path / "v.npz", tmp_path / "out")
    np.savez(tmp_path / "e.npz", ids=np.arange(0), vectors=np.zeros((0, 4)))
    with pytest.raises(UsageError, match="it is empty"):
        import_vectors(tmp_path / "e.npz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- files that cannot be used ------------------------------------------------------------------


class Harm:
    def __reduce__(self):
        return (os.system, ("touch harmed",))


def hostile(folder: Path) -> dict[str, tuple[bytes, str]]:
    objects = io.BytesIO()
    np.save(objects, np.array([Harm(), Harm()], object), allow_pickle=True)
    plain = io.BytesIO()
    np.save(plain, MATRIX)
    whole = plain.getvalue()
    head = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 10**6)}
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(huge, head)
    evil = whole.replace(b"'<f4'", b"exit()")
    return {
        "objects.npy": (objects.getvalue(), "holds Python objects"),
        "pickle.npy": (pickle.dumps(Harm()), "no array of NumPy"),
        "short.npy": (whole[:-9], "no array of NumPy, or is damaged"),
        "head.npy": (whole[:20], "no array of NumPy"),
        "huge.npy": (huge.getvalue(), "no array of NumPy, or is damaged"),
        "evil.npy": (evil, "no array of NumPy"),
        "empty.npy": (b"", "no array of NumPy"),
        "length.npy": (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31), "no array of NumPy"),
        "text.npz": (b"PK\x03\x04 no archive", "no archive of NumPy"),
        "text.parquet": (b"PAR1 nothing PAR1", "cannot be read as a table"),
        "text.arrow": (b"ARROW1\0\0 nothing", "cannot be read as a table"),
        "text.faiss": (b"IxFI" + b"\xff" * 40, "FAISS cannot read vectors"),
        "text.jsonl": (b"\xff\xfe\x00", "has no ids"),
        "model.pt": (pickle.dumps(Harm()), "pickle"),
        "model.pkl": (pickle.dumps(Harm()), "pickle"),
        "vectors.csv": (b"id,a,b", "vectors are read from .npy"),
    }


@pytest.mark.parametrize("name", hostile(Path()))
def test_hostile_and_damaged_files_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, said = hostile(tmp_path)[name]
    (tmp_path / name).write_bytes(content)
    (tmp_path / "ids.txt").write_text("a\nb\n")
    table = name.endswith((".parquet", ".arrow", ".jsonl"))
    with pytest.raises((FormatError, UsageError), match=said):
        import_vectors(tmp_path / name, tmp_path / "out", ids=None if table else Path("ids.txt"))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "harmed").exists()


def test_an_archive_with_objects_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ids = np.array([Harm(), "b"], object)
    np.savez(tmp_path / "v.npz", ids=ids, vectors=MATRIX[:2])
    with pytest.raises(FormatError, match="ids holds Python objects, which are pickled"):
        import_vectors(tmp_path / "v.npz", tmp_path / "out")
    assert not (tmp_path / "harmed").exists()


def test_no_more_of_an_archive_is_unpacked_than_its_header_says(tmp_path):
    """A hundred megabytes of zeros behind a small array."""
    array = io.BytesIO()
    np.save(array, MATRIX[:2])
    with zipfile.ZipFile(tmp_path / "v.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vectors.npy", array.getvalue() + bytes(100 * 2**20))
    np.save(tmp_path / "v.ids.npy", np.array(["a", "b"]))
    import_vectors(tmp_path / "v.npz", tmp_path / "out")
    assert np.array_equal(Vectors(tmp_path / "out").matrix, MATRIX[:2])


@pytest.mark.parametrize(
    ("shape", "said"), [((4,), "has shape"), ((2, 2, 2), "has shape"), ((4, 0), "has shape")]
)
def test_shapes_that_are_no_vectors(tmp_path, shape, said):
    np.savez(tmp_path / "v.npz", ids=np.arange(shape[0]), vectors=np.ones(shape))
    with pytest.raises(FormatError, match=said):
        import_vectors(tmp_path / "v.npz", tmp_path / "out")


def test_ids_and_columns_that_are_missing(tmp_path):
    np.save(tmp_path / "v.npy", MATRIX)
    with pytest.raises(UsageError, match=r"holds no ids: give --ids FILE"):
        import_vectors(tmp_path / "v.npy", tmp_path / "out")
    (tmp_path / "few.txt").write_text("a\nb\n")
    with pytest.raises(UsageError, match=r"few.txt has 2 ids, .*v.npy 500 vectors"):
        import_vectors(tmp_path / "v.npy", tmp_path / "out", ids=tmp_path / "few.txt")
    pq.write_table(pa.table({"a": [1], "b": [[1.0]], "c": [[1.0]]}), tmp_path / "v.parquet")
    with pytest.raises(UsageError, match=r"no column of vectors .* it has a, b, c: give --vector"):
        import_vectors(tmp_path / "v.parquet", tmp_path / "out")
    with pytest.raises(UsageError, match=r"no column of ids .* give --id-column"):
        import_vectors(tmp_path / "v.parquet", tmp_path / "out", vector_column="c")
    with pytest.raises(UsageError, match=r"has no 'd'; it has a, b, c"):
        import_vectors(tmp_path / "v.parquet", tmp_path / "out", id_column="d")
    with pytest.raises(UsageError, match=r"a is int64, expected lists of numbers"):
        import_vectors(tmp_path / "v.parquet", tmp_path / "out", id_column="a", vector_column="a")
    report = import_vectors(
        tmp_path / "v.parquet", tmp_path / "out", id_column="a", vector_column="c"
    )
    assert report.vectors == 1


# --- ids ----------------------------------------------------------------------------------------


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
one_line = texts.filter(lambda text: "\n" not in text and not text.endswith("\r"))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(texts, min_size=1, max_size=20, unique=True))
def test_any_text_is_an_id(tmp_path_factory, ids):
    folder = tmp_path_factory.mktemp("ids")
    np.save(folder / "v.npy", MATRIX[: len(ids)])
    (folder / "v.ids.json").write_text(json.dumps(ids))
    import_vectors(folder / "v.npy", folder / "out")
    found = Vectors(folder / "out")
    assert found.ids == ids
    assert all(found.row(each) == row for row, each in enumerate(ids))


@settings(deadline=None, max_examples=40)
@given(st.lists(one_line, max_size=20))
def test_lines_of_text_are_ids(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("lines") / "ids.txt"
    path.write_bytes("".join(f"{each}\n" for each in ids).encode())
    expected = [*ids]
    if ids and ids[0].startswith("\ufeff"):
        expected[0] = ids[0][1:]  # a byte order mark, which editors write
    assert list(read_ids(path)) == expected


@given(st.integers())
def test_whole_numbers_are_ids(number):
    assert clean_id(number) == (str(number), "")


def test_files_of_ids_that_are_none(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "a.json").write_text('{"a": 1}')
    np.save(tmp_path / "a.npy", np.ones(3))
    for name, error in (("a.txt", "not UTF-8"), ("a.json", "a list of ids"), ("a.npy", "of ids")):
        with pytest.raises(FormatError, match=error):
            read_ids(tmp_path / name)
    with pytest.raises(UsageError, match="no file of ids"):
        read_ids(tmp_path / "b.txt")


# --- again, and after a kill --------------------------------------------------------------------


def test_the_same_again_changes_nothing_and_other_vectors_are_refused(tmp_path):
    source = write_npz(tmp_path)
    first = import_vectors(source, tmp_path / "out")
    held = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "out").rglob("*"))
    assert import_vectors(source, tmp_path / "out") == first
    assert held == sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "out").rglob("*"))
    np.savez(source, ids=np.array(IDS), vectors=MATRIX + 1)
    with pytest.raises(UsageError, match="give a new folder"):
        import_vectors(source, tmp_path / "out")


KILLED = """
import sys
from pathlib import Path
from vidvec.embed import import_vectors as module
module.SHARD_BYTES = 4 * 64 * 1000
def slow(done, _):
    print(done, flush=True)
    if done >= 5000:
        import time
        time.sleep(60)
module.import_vectors(Path(sys.argv[1]), Path(sys.argv[2]), progress=slow)
"""


def test_a_killed_import_is_unfinished_and_carries_on(tmp_path, monkeypatch):
    matrix = np.random.default_rng(3).normal(size=(20_000, 64)).astype(np.float32)
    np.savez(tmp_path / "v.npz", ids=np.arange(20_000), vectors=matrix)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "v.npz"), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) >= 5000:
                break
        process.send_signal(signal.SIGKILL)
    time.sleep(0.01)
    with pytest.raises(FormatError, match="unfinished"):
        Vectors(tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "shards").iterdir()}
    assert len(before) >= 5
    monkeypatch.setattr(module, "SHARD_BYTES", 4 * 64 * 1000)
    import_vectors(tmp_path / "v.npz", tmp_path / "out")
    found = Vectors(tmp_path / "out")
    assert np.array_equal(found.matrix, matrix)
    assert found.ids == [str(row) for row in range(20_000)]
    kept = {path: path.stat().st_mtime_ns for path in before}
    assert kept == before  # what was committed is not written again


def test_shards_of_wide_vectors_have_fewer_rows():
    assert shard_rows(1) == 65_536
    assert shard_rows(4096) * 4096 * 4 <= 64 * 2**20
    assert shard_rows(10**9) == 1
