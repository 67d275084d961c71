"""A folder of vectors as a smaller one: fewer numbers of each, fewer bits of each number."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec import metrics, storage
from vidvec.embed.dtypes import (
    DTYPES,
    Dtype,
    check_dtype,
    check_size,
    cut,
    decode,
    encode,
    unit_rows,
    vector_bytes,
)
from vidvec.embed.fusion import PROJECTION_FILE
from vidvec.embed.import_vectors import REJECTS
from vidvec.embed.vectors import Vectors, VectorWriter
from vidvec.errors import UsageError
from vidvec.records import Reject

Progress = Callable[[int, int], None]
_DETAILS = {
    "nan": "its vector holds NaN or infinity",
    "zero": "what is kept of its vector is zero, so that it has no cosine with any other",
}


@dataclass(frozen=True, slots=True)
class CompressReport:
    """What became of some vectors.

    Attributes:
        vectors: How many there are.
        dimension, cut_from: Numbers in a vector, and how many there were.
        dtype: What is kept of them.
        bytes_per_vector, bytes_before: Without the ids.
        cosine: Mean of the cosines of a vector with what is kept of it, both cut: what the dtype
            alone costs; NaN without vectors.
        left_out: Vectors left out, by reason.
    """

    vectors: int
    dimension: int
    cut_from: int
    dtype: Dtype
    bytes_per_vector: int
    bytes_before: int
    cosine: float
    left_out: dict[str, int] = field(default_factory=dict)


def compress(
    vectors: Path,
    out: Path,
    *,
    size: int | None = None,
    dtype: Dtype | str = "int8",
    progress: Progress | None = None,
) -> CompressReport:
    """Writes vectors again, smaller; carries on where it was stopped.

    Vectors are cut, brought to length 1, and rounded. What there was can be searched, evaluated and
    fused goes for what is written, too. Vectors that are zero or hold NaN or infinity are left out
    and named in ``rejects.jsonl``.

    Args:
        vectors: Folder of the vectors.
        out: Folder to write.
        size: The first so many numbers of each; ``None``: all.
        dtype: What is kept of a number; see ``dtypes``.
        progress: Called with vectors done and all.

    Raises:
        UsageError: There is no such dtype, the vectors have fewer numbers or bits, or ``out`` holds
            other vectors.
        FormatError: The vectors are damaged or unfinished.
    """
    opened, dtype = Vectors(vectors), check_dtype(dtype)
    size = opened.dimension if size is None else size
    check_size(size, opened.dimension, vectors)
    if DTYPES.index(dtype) < DTYPES.index(opened.dtype):
        raise UsageError(
            f"{vectors} holds {opened.dtype}, of which {dtype} brings nothing back: compress the "
            "vectors that it was made from"
        )
    if out.resolve() == vectors.resolve():
        raise UsageError(f"{out} is what is to be compressed: give another folder to write")
    facts: dict[str, Any] = {
        "normalised": True,
        "made_by": {
            "stage": "compress",
            "vectors": str(vectors.resolve()),
            "count": len(opened),
            "size": size,
            "cut_from": opened.dimension,
            "dtype": dtype,
            "made_of": opened.manifest["made_by"],
        },
    }
    if dtype != "float32":
        facts["dtype"] = dtype
    writer = VectorWriter(out, size, facts)
    _keep_projection(vectors, out)
    rejects, cosine = _write(opened, writer, size, dtype, progress)
    _keep_rejects(rejects, out / REJECTS)
    left_out = {name: sum(each.reason == name for each in rejects) for name in _DETAILS}
    left_out = {name: count for name, count in left_out.items() if count}
    writer.finish(rejected=left_out)
    return CompressReport(
        vectors=writer.rows,
        dimension=size,
        cut_from=opened.dimension,
        dtype=dtype,
        bytes_per_vector=vector_bytes(size, dtype),
        bytes_before=vector_bytes(opened.dimension, opened.dtype),
        cosine=cosine,
        left_out=left_out,
    )


def _write(
    opened: Vectors, writer: VectorWriter, size: int, dtype: Dtype, progress: Progress | None
) -> tuple[list[Reject], float]:
    """Commits the shards that are not there yet; who is left out, and the mean cosine."""
    rejects: list[Reject] = []
    cosines = 0.0
    read = kept_rows = 0
    committed = writer.rows
    for ids, matrix in opened.shards():
        small, wrong = _usable(matrix, size)
        for place in sorted(wrong):
            where = f"{opened.path.name}:{read + place + 1}"
            rejects.append(Reject(where, ids[place], wrong[place], _DETAILS[wrong[place]]))
        good = np.array([place not in wrong for place in range(len(ids))], np.bool_)
        kept_ids, small = [video for video, use in zip(ids, good, strict=True) if use], small[good]
        if kept_ids and kept_rows >= committed:
            writer.append(kept_ids, small)
        cosines += float(metrics.cosines(small, decode(encode(small, dtype), dtype, size)).sum())
        read, kept_rows = read + len(ids), kept_rows + len(kept_ids)
        if progress is not None:
            progress(read, len(opened))
    return rejects, cosines / kept_rows if kept_rows else float("nan")


def _usable(matrix: NDArray[np.float32], size: int) -> tuple[NDArray[np.float32], dict[int, str]]:
    """(n, size) unit vectors, and by place why one is none."""
    finite = np.asarray(np.isfinite(matrix).all(axis=1), np.bool_)
    small = cut(unit_rows(np.where(finite[:, None], matrix, 0)), size)
    wrong = dict.fromkeys(np.flatnonzero(~small.any(axis=1)).tolist(), "zero")
    return small, wrong | dict.fromkeys(np.flatnonzero(~finite).tolist(), "nan")


def _keep_projection(vectors: Path, out: Path) -> None:
    """A fusion's projection comes along: queries are fused with it before they are cut."""
    if (vectors / PROJECTION_FILE).is_file():
        with storage.atomic_path(out / PROJECTION_FILE) as temporary:
            shutil.copyfile(vectors / PROJECTION_FILE, temporary)


def _keep_rejects(rejects: list[Reject], path: Path) -> None:
    """Names what was left out; without any there is no such file."""
    if not rejects:
        path.unlink(missing_ok=True)
        return
    with storage.atomic_path(path) as temporary:
        lines = (json.dumps(asdict(each), ensure_ascii=True) + "\n" for each in rejects)
        temporary.write_text("".join(lines), "utf-8")
