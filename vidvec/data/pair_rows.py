"""A corpus's scored pairs on disk, each with the file that it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vidvec import storage
from vidvec.records import Pair

PairRow = tuple[Pair, str]  # and the file that it comes from


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Writes pairs as Parquet with columns id_1, id_2, score; atomically."""
    write_pair_rows(path, [(pair, "") for pair in pairs])


def write_pair_rows(path: Path, rows: Sequence[PairRow]) -> None:
    """The same, with a column ``file`` that says where each comes from."""
    names = ("id_1", "id_2", "score")
    columns = {name: [getattr(pair, name) for pair, _ in rows] for name in names}
    columns["file"] = [file for _, file in rows]
    with storage.atomic_path(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def read_pair_rows(path: Path, count: int | None = None) -> list[PairRow]:
    """Reads what ``write_pair_rows`` wrote, or its first rows; none where there is no file."""
    if not path.is_file():
        return []
    columns = pq.read_table(path).slice(0, count).to_pydict()
    rows = zip(columns["id_1"], columns["id_2"], columns["score"], strict=True)
    pairs = [Pair(*row) for row in rows]
    return list(zip(pairs, columns.get("file", [""] * len(pairs)), strict=True))
