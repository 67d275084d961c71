"""Several models' vectors into one by many workers: sums of products, then shards, a file each.

    OUT/parts/plan.json            what is fused; what else lies there is of this
    OUT/parts/rows.npy             (members, n) int64 rows, where ids differ in order or number
    OUT/parts/sum-*.safetensors    XᵀX of ``part_rows`` rows around a point (``GramMatrix``)

Sums are added up in the order of their rows, as one process does, so that the projection has the
same bits; a worker then projects the rows of a shard and puts the file where it stays. All shards
are there before the manifest names them, and then ``parts`` goes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidvec import storage
from vidvec.embed.dtypes import column_type
from vidvec.embed.fusion import (
    BLOCK_ROWS,
    PARTS,
    PROJECTION_FILE,
    Fusion,
    GramMatrix,
    Prepared,
    fitted,
    joined,
    load_fusion,
    prepared,
    save_fusion,
)
from vidvec.embed.vectors import KIND, Vectors, VectorWriter
from vidvec.workers import Part, Progress, Workers, make_missing

PLAN = "plan.json"
ROWS = "rows.npy"
# Blocks of rows that a worker holds at once.
BLOCKS_HELD = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of the rows that are fused, for a worker.

    Attributes:
        members: Folders of vectors.
        rows: The file ``ROWS``; empty: row i is row i of each member.
        start, stop: Of the rows.
        block: Rows that are taken at a time: whole blocks of what one process takes.
        stamp: Of the plan; a worker that lives on opens the folders again for another one.
    """

    members: tuple[str, ...]
    rows: str
    start: int
    stop: int
    block: int
    stamp: str

    @staticmethod
    def of(out: Path, ready: Prepared, plan: dict[str, Any], place: int, rows: int) -> Piece:
        """The piece at a place, where each has so many rows."""
        aligned = ready.aligned
        return Piece(
            tuple(ready.facts["made_by"]["members"]),
            "" if aligned.rows is None else str(out / PARTS / ROWS),
            place * rows,
            min((place + 1) * rows, len(aligned.ids)),
            min(ready.shard_rows, BLOCKS_HELD * BLOCK_ROWS),
            json.dumps(plan, sort_keys=True),
        )

    def opened(self) -> list[Vectors]:
        """The members."""
        return [_opened(member, self.stamp) for member in self.members]

    def blocks(self) -> Iterator[list[NDArray[np.float32]]]:
        """Blocks of rows, each as one (n, E) array a member."""
        members = self.opened()
        rows = np.load(self.rows, mmap_mode="r") if self.rows else None
        for start in range(self.start, self.stop, self.block):
            stop = min(start + self.block, self.stop)
            some = [np.arange(start, stop)] * len(members) if rows is None else rows[:, start:stop]
            yield [member.take(each) for member, each in zip(members, some, strict=True)]


@lru_cache(maxsize=32)
def _opened(member: str, stamp: str) -> Vectors:
    """Opens a member, once for each stamp."""
    return Vectors(member)


def sum_part(piece: Piece, weights: NDArray[np.float64], output: Path) -> None:
    """In a worker: the sum of products of a piece's rows.

    Args:
        piece: The rows.
        weights: One a member, summing to 1.
        output: Where ``GramMatrix.save`` puts it.
    """
    gram = GramMatrix(sum(vectors.dimension for vectors in piece.opened()))
    for block in piece.blocks():
        for rows in joined(block, weights):
            gram.add(rows)
    gram.save(output)


def fuse_part(piece: Piece, ids: Sequence[str], out: Path, output: Path) -> None:
    """In a worker: the shard of a piece's rows.

    Args:
        piece: The rows.
        ids: Their ids.
        out: Folder of the fused vectors, which has the projection.
        output: The shard.
    """
    fusion = load_fusion(out)
    vectors = np.concatenate([fusion.apply(block) for block in piece.blocks()])
    flat, size = pa.array(vectors.reshape(-1)), vectors.shape[1]
    schema = pa.schema([("id", pa.string()), ("vector", column_type(size, "float32"))])
    column = pa.FixedSizeListArray.from_arrays(flat, type=schema.field("vector").type)
    batch = pa.record_batch([pa.array(ids, pa.string()), column], schema=schema)
    with (
        storage.atomic_path(output) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        writer.write_batch(batch)


def fuse_in_parts(
    members: Sequence[Path],
    out: Path,
    weights: Sequence[float] | None = None,
    size: int = 256,
    *,
    workers: Workers,
    weights_from: dict[str, Any] | None = None,
    progress: Progress = lambda *_: None,
) -> Fusion:
    """As ``vidvec.embed.fusion.fuse`` by the streaming method, with the work done by workers.

    What was made when it is stopped is not made again. Manifest, projection and vectors are those
    that ``fuse`` writes, and either goes on with what the other left unfinished.

    Args:
        members: One folder a model; on several machines under the same path on each, as ``out``.
        out: Folder of the fused vectors.
        weights: One a model; ``None``: equal.
        size: E of the fused vectors.
        workers: Who computes sums and shards.
        weights_from: What the weights were fitted on, for the manifest.
        progress: Called with parts done, all, and of what.

    Raises:
        UsageError: As ``fuse``.
    """
    ready = prepared(members, weights, size, "streaming", weights_from)
    out = out.resolve()
    writer = VectorWriter(out, ready.size, ready.facts)
    if writer.complete:
        return load_fusion(out)
    plan = _begin(out, ready, writer)
    fusion = _projection(out, ready, plan, workers, progress)
    shards = _shards(out, ready, plan)
    make_missing(workers, shards, _count(ready, ready.shard_rows), "shards fused", progress)
    rows, count = ready.shard_rows, len(ready.aligned.ids)
    entries = [
        {"file": _shard(place), "rows": min(rows, count - place * rows)}
        for place in range(_count(ready, rows))
    ]
    facts = {"dimension": ready.size, "complete": True, "shards": entries, **ready.facts}
    storage.write_manifest(out, KIND, **facts)
    shutil.rmtree(out / PARTS, ignore_errors=True)
    return fusion


def _shard(place: int) -> str:
    return f"{place:06d}.arrow"


def _count(ready: Prepared, rows: int) -> int:
    """Pieces of so many rows."""
    return -(-len(ready.aligned.ids) // rows)


def _begin(out: Path, ready: Prepared, writer: VectorWriter) -> dict[str, Any]:
    """The plan, with what there is of it; what another one left in the folder is removed."""
    aligned = ready.aligned
    plan = {
        "facts": ready.facts,
        "shards": [vectors.manifest["shards"] for vectors in aligned.members],
        "size": ready.size,
        "part_rows": ready.part_rows,
        "shard_rows": ready.shard_rows,
    }
    folder = out / PARTS
    storage.remove_leftovers(folder)
    if (folder / PLAN).is_file() and storage.read_json(folder / PLAN) == plan:
        return plan
    shutil.rmtree(folder, ignore_errors=True)
    for shard in sorted((out / "shards").glob("*.arrow"))[-(-writer.rows // ready.shard_rows) :]:
        shard.unlink()
    if not writer.rows:
        (out / PROJECTION_FILE).unlink(missing_ok=True)
    folder.mkdir()
    rows = aligned.rows
    if rows is not None:
        with storage.atomic_path(folder / ROWS) as temporary, temporary.open("wb") as file:
            np.save(file, np.stack(rows))
    storage.write_json(folder / PLAN, plan)
    return plan


def _projection(
    out: Path, ready: Prepared, plan: dict[str, Any], workers: Workers, progress: Progress
) -> Fusion:
    """The projection that is there, or one fitted to sums that workers make."""
    path = out / PROJECTION_FILE
    if path.is_file():
        return load_fusion(out)
    count = _count(ready, ready.part_rows)
    outputs = [out / PARTS / f"sum-{place:06d}.safetensors" for place in range(count)]
    parts = (
        Part(output, sum_part, (Piece.of(out, ready, plan, place, ready.part_rows), ready.weights))
        for place, output in enumerate(outputs)
    )
    make_missing(workers, parts, count, "sums of products", progress)
    sums = (GramMatrix.load(output) for output in outputs)
    fusion = fitted(sums, ready.weights, ready.dimensions, ready.size)
    save_fusion(path, fusion)
    return fusion


def _shards(out: Path, ready: Prepared, plan: dict[str, Any]) -> Iterator[Part]:
    rows, ids = ready.shard_rows, ready.aligned.ids
    for place in range(_count(ready, rows)):
        some = ids[place * rows : (place + 1) * rows]
        piece = Piece.of(out, ready, plan, place, rows)
        yield Part(out / "shards" / _shard(place), fuse_part, (piece, some, out))
