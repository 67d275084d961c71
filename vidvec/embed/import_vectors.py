"""Vectors of other models and programs into a folder of vectors."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vidvec import storage
from vidvec.data.corpus import Corpus
from vidvec.embed.id_lists import clean_id
from vidvec.embed.vector_blocks import Block, VectorSource
from vidvec.embed.vector_sources import open_source
from vidvec.embed.vectors import KIND, SHARD_ROWS, Vectors, VectorWriter
from vidvec.errors import BadRecord, UsageError
from vidvec.records import Reject

REJECTS = "rejects.jsonl"
SHARD_BYTES = 64 * 2**20
# Lengths of vectors that were normalised in half precision are off by less.
UNIT_TOLERANCE = 2e-3
_DETAILS = {
    "no-id": "it has no id",
    "bad-id": "its id is neither text nor a whole number",
    "duplicate-id": "the id came before",
    "nan": "its vector holds NaN, infinity, or a number too large for float32",
    "zero": "its vector is zero, so that it has no cosine with any other",
}
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What came in.

    Attributes:
        vectors: How many.
        dimension: E.
        normalised: All are of length 1.
        rejected: Rows left out, by reason.
        unknown: Vectors of videos that are not in the corpus; ``None`` where none was given.
    """

    vectors: int
    dimension: int
    normalised: bool
    rejected: dict[str, int]
    unknown: int | None = None


def import_vectors(
    source: Path,
    out: Path,
    *,
    ids: Path | None = None,
    name: str = "",
    id_column: str = "",
    vector_column: str = "",
    corpus: Path | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Takes vectors of another model or program in, as float32; carries on where it was stopped.

    Rows that cannot be used are left out and named in ``rejects.jsonl``: without an id or with one
    that came before (``no-id``, ``bad-id``, ``duplicate-id``), without a vector or with one of
    another width than most (``no-vector``, ``wrong-dimension``), zero, or not finite (``nan``).

    Args:
        source: See ``open_source``.
        out: Folder of the vectors.
        ids: A file with an id a row, where the source has none.
        name: What made the vectors, such as ``clip-vit-l14``; empty: the source's name.
        id_column: See ``open_source``.
        vector_column: Likewise.
        corpus: With the videos of these vectors, for titles; nothing else is taken from it.
        strict: Stop at the first row that cannot be used.
        progress: Called with rows taken and 0, as their number is not known before the end.

    Raises:
        UsageError: The source cannot be used, no row can, or ``out`` holds other vectors.
        FormatError: The source or the corpus is damaged.
        BadRecord: ``strict``, and a row cannot be used.
    """
    with open_source(source, ids, id_column, vector_column) as opened:
        facts = {"made_by": _made_by(opened, name, id_column, vector_column, corpus)}
        held = _finished(out, facts)
        if held is not None and strict and held.rejected:
            raise UsageError(f"{out} was made without rows that could not be used: see {REJECTS}")
        if held is not None:
            return held
        with tempfile.TemporaryFile("w+", encoding="utf-8") as rejects:
            taken = _Taken(opened, rejects, strict)
            writer = _write(taken, out, facts, progress)
            _keep_rejects(rejects, out / REJECTS)
    known = None if corpus is None else Corpus(corpus, unfinished=True)
    unknown = None if known is None else sum(each not in known for each in taken.seen)
    normalised, rejected = taken.normalised, taken.rejected
    writer.finish(normalised=normalised, rejected=rejected, unknown=unknown)
    return ImportReport(len(taken.seen), opened.dimension, normalised, rejected, unknown)


def _made_by(
    source: VectorSource, name: str, id_column: str, vector_column: str, corpus: Path | None
) -> dict[str, Any]:
    """Facts of the manifest: what was imported, so that the same command carries on."""
    made_by: dict[str, Any] = {
        "stage": "import",
        "name": name or source.path.stem,
        "source": str(source.path.resolve()),
        "format": source.format,
        "digest": digest_of(source.path),
    }
    if source.ids_file is not None:
        made_by["ids"] = str(source.ids_file.resolve())
        made_by["ids_digest"] = digest_of(source.ids_file)
    if corpus is not None:
        made_by["corpus"] = str(Corpus(corpus, unfinished=True).path.resolve())
    columns = {"id_column": id_column, "vector_column": vector_column}
    return made_by | {key: column for key, column in columns.items() if column}


def digest_of(path: Path) -> str:
    """Sixteen hex digits of a file's bytes, or of a folder's files and their names."""
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    whole = hashlib.sha256()
    for each in files:
        with each.open("rb") as file:
            whole.update(str(each.relative_to(path)).encode("utf-8", "surrogateescape"))
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:16]


def _finished(out: Path, facts: dict[str, Any]) -> ImportReport | None:
    """What the very same import has already given; ``None`` where it has not, or not wholly."""
    if not (out / storage.MANIFEST).is_file():
        return None
    manifest = storage.read_manifest(out, KIND)
    if not manifest["complete"] or manifest.get("made_by") != facts["made_by"]:
        return None
    told = (bool(manifest["normalised"]), dict(manifest["rejected"]), manifest["unknown"])
    return ImportReport(len(Vectors(out)), int(manifest["dimension"]), *told)


class _Taken:
    """Rows of a source that can be used, and what is known of all once they are read.

    Attributes:
        seen: Ids of the rows that were taken.
        rejected: Rows left out, by reason.
        normalised: All vectors taken are of length 1.
    """

    def __init__(self, source: VectorSource, rejects: IO[str], strict: bool) -> None:
        self.source, self.seen = source, set[str]()
        self.rejected: dict[str, int] = {}
        self.normalised = True
        self._rejects, self._strict = rejects, strict

    def blocks(self) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Ids and (n, E) vectors of the rows taken, block by block."""
        for block in self.source.blocks():
            lengths = np.linalg.norm(block.vectors.astype(np.float64), axis=1)
            wrong = _wrong_vectors(block, lengths)
            kept: list[int] = []
            ids: list[str] = []
            for place, value in enumerate(block.ids):
                text, reason = clean_id(value)
                reason = "duplicate-id" if text in self.seen else reason
                found = wrong.get(place) or ((reason, _DETAILS[reason]) if reason else None)
                if found is None:
                    kept.append(place)
                    ids.append(text)
                    self.seen.add(text)
                else:
                    where = f"{self.source.path.name}:{block.start + place + 1}"
                    self._leave_out(Reject(where, text, *found))
            off = np.abs(lengths[kept] - 1)
            self.normalised &= not len(off) or bool(off.max() <= UNIT_TOLERANCE)
            yield ids, block.vectors[kept]

    def _leave_out(self, reject: Reject) -> None:
        if self._strict:
            named = f" ({reject.id!r})" if reject.id else ""
            raise BadRecord(reject.reason, f"{reject.where}{named}: {reject.detail}")
        self.rejected[reject.reason] = self.rejected.get(reject.reason, 0) + 1
        self._rejects.write(json.dumps(asdict(reject), ensure_ascii=True) + "\n")


def _wrong_vectors(block: Block, lengths: NDArray[np.float64]) -> dict[int, tuple[str, str]]:
    """Reason and detail of the vectors that cannot be used, by their place in the block."""
    wrong = dict(block.wrong)
    for reason, rows in (("nan", ~np.isfinite(lengths)), ("zero", lengths == 0)):
        for place in np.flatnonzero(rows).tolist():
            wrong.setdefault(place, (reason, _DETAILS[reason]))
    return wrong


def _write(
    taken: _Taken, out: Path, facts: dict[str, Any], progress: Progress | None
) -> VectorWriter:
    """Commits shards of the rows taken, but for those that are there from a run before.

    Raises:
        UsageError: No row is taken; nothing is written then.
    """
    writer: VectorWriter | None = None
    rows = 0
    for ids, vectors in _pieces(taken, shard_rows(taken.source.dimension)):
        writer = writer or VectorWriter(out, taken.source.dimension, facts)
        if rows >= writer.rows:
            writer.append(ids, vectors)
        rows += len(ids)
        if progress is not None:
            progress(rows, 0)
    if writer is None:
        counts = ", ".join(f"{count} {reason}" for reason, count in taken.rejected.items())
        raise UsageError(f"no vector of {taken.source.path} can be used: {counts or 'it is empty'}")
    return writer


def shard_rows(dimension: int) -> int:
    """Rows of a shard: fewer where vectors are wide, so that a shard stays below 64 MB."""
    return max(1, min(SHARD_ROWS, SHARD_BYTES // (4 * dimension)))


def _pieces(taken: _Taken, rows: int) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """The rows taken, so many at a time, the last fewer."""
    ids: list[str] = []
    held: list[NDArray[np.float32]] = []
    for some_ids, some in taken.blocks():
        ids += some_ids
        held.append(some)
        while len(ids) >= rows:
            joined = np.concatenate(held)
            yield ids[:rows], joined[:rows]
            ids, held = ids[rows:], [joined[rows:]]
    if ids:
        yield ids, np.concatenate(held)


def _keep_rejects(written: IO[str], path: Path) -> None:
    """Moves what was left out beside the vectors; without any there is no such file."""
    if not written.tell():
        path.unlink(missing_ok=True)
        return
    written.seek(0)
    with storage.atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        shutil.copyfileobj(written, file)
