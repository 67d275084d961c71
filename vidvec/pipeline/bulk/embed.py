"""``vidvec embed --on``: vectors of a corpus on a Ray cluster, a part of its rows at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import vidvec
from vidvec.config import Backend, Modality
from vidvec.embed.embedder import SHARD, Embedding, Progress, open_embedding
from vidvec.embed.vectors import VectorWriter
from vidvec.errors import FormatError
from vidvec.pipeline.bulk.connection import connected
from vidvec.pipeline.bulk.embed_worker import SUFFIX, EmbedJob, EmbedWorker
from vidvec.pipeline.bulk.options import BulkOptions
from vidvec.pipeline.bulk.pool import PoolSize, Task, Work, gpus_of, run_tasks
from vidvec.pipeline.bulk.staging import Staging


def bulk_embed(
    checkpoint: Path,
    corpus: Path,
    out: Path,
    bulk: BulkOptions,
    progress: Progress | None = None,
    *,
    parts: Sequence[str] = (),
    backend: Backend = "auto",
    without: Collection[Modality] = (),
    size: int | None = None,
) -> int:
    """Writes a vector for every video of a corpus as ``embed`` does, on a Ray cluster.

    Checkpoint, corpus and vectors must be at the same paths on all machines. A part is one shard of
    the vectors by default, whose videos ``embed`` batches by length, too: the batches are the same.
    With parts of other sizes they are not, and vectors differ by rounding.

    Args:
        checkpoint: See ``embedder.embed``.
        corpus: Likewise.
        out: Likewise.
        bulk: Where, and in which parts.
        progress: Called with vectors done and all.
        parts: See ``embedder.embed``.
        backend: Likewise.
        without: Likewise.
        size: Likewise.

    Returns:
        How many vectors there are.

    Raises:
        VidvecError: See ``embedder.embed``, ``connected`` and ``run_tasks``.
    """
    options: dict[str, Any] = {"parts": parts, "backend": backend, "without": without, "size": size}
    opened = open_embedding(checkpoint, corpus, **options)
    staging = Staging(out.absolute(), SUFFIX)
    with connected(bulk.on) as ray:
        pool = bulk.pool_size(1.0, 0.0 if backend == "int8" else gpus_of(ray))
        if backend == "auto":
            _settle_backend(ray, pool, opened)
        writer = VectorWriter(out, opened.encoder.dimension, opened.facts)
        facts = {"of": "embed", "made_by": opened.facts["made_by"]}
        rows = staging.open(facts, bulk.part_rows, SHARD)
        job = EmbedJob(
            checkpoint=checkpoint.absolute(),
            corpus=corpus.absolute(),
            target=out.absolute(),
            parts=tuple(parts),
            backend=backend,
            without=tuple(without),
            size=size,
            made_by=opened.facts["made_by"],
            version=vidvec.__version__,
        )
        total, first = len(opened.rows), writer.rows
        work = Work(ray, EmbedWorker, job, pool)
        done = first
        for vectors in _shards(_parts(work, staging, bulk, (first, total, rows)), SHARD):
            ids = [opened.corpus.ids[row] for row in opened.rows[done : done + len(vectors)]]
            writer.append(ids, vectors)
            done += len(vectors)
            if progress is not None:
                progress(done, total)
    writer.finish()
    staging.remove()
    return len(opened.rows)


def _settle_backend(ray: Any, pool: PoolSize, opened: Embedding) -> None:
    """Notes in the vectors' facts what ``auto`` means where they are made, which is not here."""
    made_by = opened.facts["made_by"]
    made_by.pop("backend", None)
    if not pool.gpus:
        return
    ask = ray.remote(_is_bfloat16).options(num_cpus=pool.cpus, num_gpus=pool.gpus)
    if ray.get(ask.remote()):
        made_by["backend"] = "bf16"


def _is_bfloat16() -> bool:
    import torch

    from vidvec.model.precision import in_bfloat16

    return in_bfloat16(torch.device("cuda" if torch.cuda.is_available() else "cpu"), "auto")


def _parts(
    work: Work, staging: Staging, bulk: BulkOptions, span: tuple[int, int, int]
) -> Iterator[NDArray[np.float32]]:
    """(n, E) vectors of parts, in order.

    Args:
        work: Who makes them.
        staging: Where they come to.
        bulk: See there.
        span: The first row, rows in all, and rows of a part.
    """
    first, total, rows = span
    starts = range(first - first % rows, total, rows)
    tasks = [Task(start // rows, start, min(total, start + rows)) for start in starts]
    left = [task for task in tasks if not staging.holds(task.number)]
    waiting = {task.number for task in left}
    with closing(run_tasks(work, left)) as coming:
        for task in tasks:
            while task.number in waiting:
                receipt = next(coming)
                bulk.on_receipt(receipt)
                waiting.discard(receipt.number)
            yield _read(staging.part(task.number), len(task.places))[max(0, first - task.first) :]


def _read(path: Path, rows: int) -> NDArray[np.float32]:
    """(rows, E) vectors of a part."""
    try:
        with path.open("rb") as file:
            found: NDArray[np.float32] = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise FormatError(f"part {path} cannot be read: {error}; delete it") from None
    if len(found) != rows:
        raise FormatError(f"part {path} has {len(found)} vectors, expected {rows}; delete it")
    return found


def _shards(parts: Iterator[NDArray[np.float32]], rows: int) -> Iterator[NDArray[np.float32]]:
    """The same vectors, so many at a time, and fewer at the end."""
    held: list[NDArray[np.float32]] = []
    for part in parts:
        held.append(part)
        while sum(map(len, held)) >= rows:
            joined = np.concatenate(held)
            yield joined[:rows]
            held = [joined[rows:]]
    if sum(map(len, held)):
        yield np.concatenate(held)
