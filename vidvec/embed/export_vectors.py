"""Folders of vectors into files of other programs; each is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vidvec import storage
from vidvec.data.corpus import Corpus
from vidvec.embed.fiftyone import write_fiftyone
from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError

Target = Literal["numpy", "npz", "parquet", "arrow", "faiss", "datasets", "jsonl", "fiftyone"]
TARGETS: tuple[Target, ...] = (
    *("numpy", "npz", "parquet", "arrow", "faiss", "datasets", "jsonl", "fiftyone"),
)
BLOCK_ROWS = 16_384
# What a corpus adds to tables, beside id and vector.
_TEXTS = ("title", "category", "language", "date", "file")
_TAGS = pa.list_(pa.string())


def export_vectors(
    vectors: Path, out: Path, target: Target, corpus: Path | None = None
) -> dict[str, int]:
    """Writes vectors, bit for bit as they are, for another program.

    ========  =====================================================================
    numpy     folder: ``vectors.npy`` (videos, E) float32 and ``ids.json``
    npz       file: arrays ``ids`` (text) and ``vectors``
    parquet   file: columns ``id`` and ``vector``, a fixed-size list of float32
    arrow     file: the same as an Arrow IPC file
    faiss     folder: ``vectors.faiss``, a flat index of inner products, ``ids.json``
    datasets  folder as ``Dataset.save_to_disk`` writes it, with the same columns
    jsonl     file: an object a line
    fiftyone  folder of FiftyOne; see ``write_fiftyone``
    ========  =====================================================================

    Args:
        vectors: Folder of the vectors.
        out: File or folder to write; it must not be there.
        target: See above.
        corpus: With the videos: tables get their titles, tags, categories, languages, durations,
            dates and files as well. ``fiftyone`` needs it, for the files.

    Returns:
        ``vectors``: how many were written; ``left_out``: how many have no video file
        (``fiftyone``).

    Raises:
        UsageError: ``out`` is there, or the target cannot hold these ids.
        FormatError: The vectors or the corpus are damaged.
    """
    opened = Vectors(vectors)
    known = None if corpus is None else Corpus(corpus, unfinished=True)
    if target not in TARGETS:
        raise UsageError(f"target {target!r}: expected one of {', '.join(TARGETS)}")
    if out.exists():
        raise UsageError(f"{out} is there already: give a new name, or delete it")
    if known is None and target == "fiftyone":
        raise UsageError("FiftyOne shows video files: give --corpus, which says where they are")
    _remove_leftovers(out)
    with storage.atomic_path(out) as temporary:
        if target == "fiftyone" and known is not None:
            return write_fiftyone(opened, known, temporary)
        _WRITERS[target](opened, known, temporary)
    return {"vectors": len(opened), "left_out": 0}


def _remove_leftovers(out: Path) -> None:
    """Removes what a killed export to the same name left beside it."""
    of_this = re.compile(rf"\.{re.escape(out.name)}\.[0-9a-f]{{8}}\.tmp")  # see storage.atomic_path
    for leftover in out.parent.glob(".*.tmp"):
        if of_this.fullmatch(leftover.name):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _matrix_blocks(vectors: Vectors) -> Iterator[NDArray[np.float32]]:
    for _, matrix in vectors.shards():
        for start in range(0, len(matrix), BLOCK_ROWS):
            yield matrix[start : start + BLOCK_ROWS]


def _write_ids(vectors: Vectors, path: Path) -> None:
    path.write_text(json.dumps(vectors.ids, ensure_ascii=False) + "\n", "utf-8")


# --- NumPy ----------------------------------------------------------------------------------------


def _numpy(vectors: Vectors, _: Corpus | None, out: Path) -> None:
    out.mkdir()
    _write_ids(vectors, out / "ids.json")
    with (out / "vectors.npy").open("wb") as file:
        _write_npy(vectors, file)


def _write_npy(vectors: Vectors, file: IO[bytes]) -> None:
    """A ``.npy`` file, block by block."""
    _npy_header(file, "<f4", (len(vectors), vectors.dimension))
    for block in _matrix_blocks(vectors):
        file.write(np.ascontiguousarray(block, "<f4").tobytes())


def _npy_header(file: IO[bytes], kind: str, shape: tuple[int, ...]) -> None:
    facts = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, facts)


def _npz(vectors: Vectors, _: Corpus | None, out: Path) -> None:
    if any(video.endswith("\0") for video in vectors.ids):
        raise UsageError("NumPy drops zero characters at the end of text: export to numpy instead")
    longest = max((len(video) for video in vectors.ids), default=1)
    with zipfile.ZipFile(out, "w", allowZip64=True) as archive:
        with archive.open("vectors.npy", "w", force_zip64=True) as file:
            _write_npy(vectors, file)
        with archive.open("ids.npy", "w", force_zip64=True) as file:
            kind = f"<U{max(1, longest)}"
            _npy_header(file, kind, (len(vectors),))
            for start in range(0, len(vectors), BLOCK_ROWS):
                file.write(np.array(vectors.ids[start : start + BLOCK_ROWS], kind).tobytes())


# --- tables ---------------------------------------------------------------------------------------


def _schema(vectors: Vectors, corpus: Corpus | None) -> pa.Schema:
    fields = [("id", pa.string()), ("vector", pa.list_(pa.float32(), vectors.dimension))]
    if corpus is not None:
        fields += [(name, pa.string()) for name in _TEXTS]
        fields += [("tags", _TAGS), ("duration_seconds", pa.float64())]
    return pa.schema(fields)


def _batches(vectors: Vectors, corpus: Corpus | None) -> Iterator[pa.RecordBatch]:
    schema = _schema(vectors, corpus)
    known = None if corpus is None else _columns_of(corpus)
    for ids, matrix in vectors.shards():
        for start in range(0, len(ids), BLOCK_ROWS):
            some = ids[start : start + BLOCK_ROWS]
            flat = pa.array(np.ascontiguousarray(matrix[start : start + BLOCK_ROWS]).reshape(-1))
            columns = [
                pa.array(some, pa.string()),
                pa.FixedSizeListArray.from_arrays(flat, vectors.dimension),
            ]
            if known is not None and corpus is not None:
                rows = pa.array([corpus.row(each) if each in corpus else None for each in some])
                taken = known.take(rows.cast(pa.int64()))
                columns += [
                    taken.column(name).combine_chunks().cast(schema.field(name).type)
                    for name in schema.names[2:]
                ]
            yield pa.record_batch(columns, schema=schema)


def _columns_of(corpus: Corpus) -> pa.Table:
    names = [*_TEXTS, "tags", "duration_seconds"]
    return pa.table({name: corpus.column(name) for name in names})


def _parquet(vectors: Vectors, corpus: Corpus | None, out: Path) -> None:
    with pq.ParquetWriter(out, _schema(vectors, corpus)) as writer:
        for batch in _batches(vectors, corpus):
            writer.write_batch(batch)


def _arrow(vectors: Vectors, corpus: Corpus | None, out: Path) -> None:
    schema = _schema(vectors, corpus)
    with pa.OSFile(str(out), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in _batches(vectors, corpus):
            writer.write_batch(batch)


def _datasets(vectors: Vectors, corpus: Corpus | None, out: Path) -> None:
    """What ``datasets.Dataset.save_to_disk`` writes: a stream of Arrow, and two descriptions."""
    out.mkdir()
    schema = _schema(vectors, corpus)
    file = "data-00000-of-00001.arrow"
    text = {"dtype": "string", "_type": "Value"}
    features: dict[str, Any] = {
        "id": text,
        "vector": {
            "feature": {"dtype": "float32", "_type": "Value"},
            "length": vectors.dimension,
            "_type": "Sequence",
        },
    }
    if corpus is not None:
        features |= dict.fromkeys(_TEXTS, text)
        features["tags"] = {"feature": text, "_type": "Sequence"}
        features["duration_seconds"] = {"dtype": "float64", "_type": "Value"}
    with pa.OSFile(str(out / file), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for batch in _batches(vectors, corpus):
            writer.write_batch(batch)
    info = {"citation": "", "description": "", "features": features, "homepage": "", "license": ""}
    state: dict[str, Any] = {
        "_data_files": [{"filename": file}],
        "_fingerprint": hashlib.sha256(json.dumps(vectors.manifest).encode()).hexdigest()[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    storage.write_json(out / "dataset_info.json", info)
    storage.write_json(out / "state.json", state)


def _json_lines(vectors: Vectors, corpus: Corpus | None, out: Path) -> None:
    with out.open("w", encoding="utf-8") as file:
        for batch in _batches(vectors, corpus):
            for row in batch.to_pylist():
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


# --- FAISS ----------------------------------------------------------------------------------------


def _faiss(vectors: Vectors, _: Corpus | None, out: Path) -> None:
    out.mkdir()
    _write_ids(vectors, out / "ids.json")
    with (out / "vectors.faiss").open("wb") as file:
        write_flat_index(file, len(vectors), vectors.dimension, _matrix_blocks(vectors))


def write_flat_index(
    file: IO[bytes], count: int, dimension: int, blocks: Iterator[NDArray[np.float32]]
) -> None:
    """Writes what ``faiss.write_index`` writes of an ``IndexFlatIP``, block by block.

    The head of the file is that of an empty index, as FAISS gives it, with the count set in its
    two places; ``tests/unit/embed/test_export.py`` holds it to FAISS's own bytes.
    """
    import faiss

    head = bytearray(faiss.serialize_index(faiss.IndexFlatIP(dimension)).tobytes())
    struct.pack_into("<q", head, 8, count)
    struct.pack_into("<Q", head, len(head) - 8, count * dimension)
    file.write(head)
    for block in blocks:
        file.write(np.ascontiguousarray(block, "<f4").tobytes())


_WRITERS: dict[str, Callable[[Vectors, Corpus | None, Path], None]] = {
    "numpy": _numpy,
    "npz": _npz,
    "parquet": _parquet,
    "arrow": _arrow,
    "datasets": _datasets,
    "jsonl": _json_lines,
    "faiss": _faiss,
}
