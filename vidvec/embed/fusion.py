"""Several models' vectors into one: weighted concatenation and truncated SVD.

Each model's vectors are normalised to length 1 and multiplied by the square root of the model's
weight, so that cosines of the concatenation are the weighted mean of the models' cosines; the
concatenation is then projected onto its leading right singular vectors (system.md, section 5). The
mean is not taken off first.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from vidvec import storage
from vidvec.embed.alignment import Aligned
from vidvec.embed.vectors import SHARD_ROWS, Vectors, VectorWriter
from vidvec.errors import FormatError, UsageError

Method = Literal["streaming", "exact"]
PROJECTION_FILE = "projection.safetensors"
# Rows that are normalised and multiplied at once: they stay in the cache.
BLOCK_ROWS = 4096
# Sums of products that are kept apart until all are there, at most: workers make one each.
MOST_PARTS = 256
# Of a folder that workers fuse into: what each of them made (see ``fusion_parts``).
PARTS = "parts"
# From this many dimensions on, products within a block are summed in float32: half the time, and
# cosines of the result within 1e-6 of those in float64. Below, float64 costs next to nothing.
WIDE = 512


@dataclass(frozen=True, slots=True)
class Fusion:
    """A fitted fusion.

    Attributes:
        weights: (models,) float64, summing to 1.
        projection: (Σ dimensions, E) float64 with orthonormal columns.
        kept: Share of the squared length that the projection keeps, 0…1.
    """

    weights: NDArray[np.float64]
    projection: NDArray[np.float64]
    kept: float

    def apply(self, members: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """(n, E) fused vectors of length 1 from each model's (n, dimension) vectors."""
        fused = np.empty((len(members[0]), self.projection.shape[1]), np.float32)
        for start in range(0, len(fused), BLOCK_ROWS):
            some = [member[start : start + BLOCK_ROWS] for member in members]
            projected = concatenate(some, self.weights) @ self.projection
            fused[start : start + BLOCK_ROWS] = _unit(projected)
        return fused


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)


def concatenate(
    members: Sequence[NDArray[np.float32]], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, Σ dimensions): unit vectors times the square root of their model's weight."""
    parts = [
        _unit(np.asarray(member, np.float64)) * np.sqrt(weight)
        for member, weight in zip(members, weights, strict=True)
    ]
    return np.concatenate(parts, axis=1)


def normalised_weights(weights: Sequence[float] | None, models: int) -> NDArray[np.float64]:
    """Weights that sum to 1; equal ones where none are given.

    Raises:
        UsageError: Their number is not the models', one is negative, or all are 0.
    """
    values = np.ones(models) if weights is None else np.asarray(weights, np.float64)
    if len(values) != models:
        raise UsageError(f"{len(values)} weights for {models} models")
    if not np.isfinite(values).all() or (values < 0).any() or values.sum() == 0:
        raise UsageError(f"weights {values.tolist()}: expected numbers ≥ 0, not all 0")
    return np.asarray(values / values.sum())


class GramMatrix:
    """Sums XᵀX over blocks of rows, in memory that does not grow with their number.

    Rows are taken around a point, the mean of the first block, and the sum is moved back to the
    origin at the end. Vectors of most models share a large mean, next to whose square the rounding
    of float32 would drown what tells videos apart.

    Attributes:
        rows: How many were added.
    """

    def __init__(self, dimension: int) -> None:
        self.rows = 0
        self._point = np.zeros(dimension)
        self._products = np.zeros((dimension, dimension))  # Σ (x − point)(x − point)ᵀ
        self._offsets = np.zeros(dimension)  # Σ (x − point)

    def add(self, rows: NDArray[np.floating]) -> None:
        """Adds a block (n, dimension), whose products are summed in its own precision."""
        if not len(rows):
            return
        if not self.rows:
            self._point = rows.mean(0).astype(np.float64)  # exact in the precision of the rows
        rows = rows - self._point.astype(rows.dtype)
        self._products += rows.T @ rows
        self._offsets += rows.sum(0, dtype=np.float64)
        self.rows += len(rows)

    def save(self, path: Path) -> None:
        """Writes it as safetensors, atomically."""
        tensors = {"products": self._products, "offsets": self._offsets, "point": self._point}
        with storage.atomic_path(path) as temporary:
            save_file(tensors | {"rows": np.array([self.rows])}, temporary)

    @staticmethod
    def load(path: Path) -> GramMatrix:
        """What ``save`` wrote.

        Raises:
            FormatError: The file is missing or damaged.
        """
        try:
            tensors = load_file(path)
            found = GramMatrix(len(tensors["point"]))
            found.rows = int(tensors["rows"][0])
            found._point, found._offsets = tensors["point"], tensors["offsets"]
            found._products = tensors["products"]
        except (OSError, KeyError, SafetensorError) as error:
            raise FormatError(f"{path} cannot be read: {error}") from None
        return found

    def merge(self, other: GramMatrix) -> None:
        """Adds what another has summed."""
        if not self.rows:
            self._point = other._point
        products, offsets = other._around(self._point)
        self._products += products
        self._offsets += offsets
        self.rows += other.rows

    def _around(
        self, point: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Products and offsets as they are around another point."""
        by = self._point - point
        cross = np.outer(by, self._offsets + self.rows / 2 * by)
        return self._products + cross + cross.T, self._offsets + self.rows * by

    @property
    def sum(self) -> NDArray[np.float64]:
        """XᵀX (dimension, dimension)."""
        return self._around(np.zeros_like(self._point))[0]

    def right_singular_vectors(self, count: int) -> tuple[NDArray[np.float64], float]:
        """Leading right singular vectors of X, (dimension, count), and the share they keep."""
        gram = self.sum
        total, last = float(gram.trace()), len(gram) - 1
        values, vectors = scipy.linalg.eigh(gram, subset_by_index=[last + 1 - count, last])
        kept = float(values.clip(min=0).sum())
        return vectors[:, ::-1], min(1.0, kept / total) if total > 0 else 1.0


def fit(
    blocks: Iterator[Sequence[NDArray[np.float32]]],
    weights: NDArray[np.float64],
    dimensions: Sequence[int],
    size: int,
    method: Method,
    *,
    part_rows: int | None = None,
) -> Fusion:
    """Fits the projection.

    Args:
        blocks: Blocks of rows, each as one array a model.
        weights: From ``normalised_weights``.
        dimensions: Of each model's vectors.
        size: E of the fused vectors; at most the sum of the dimensions.
        method: ``exact`` takes the SVD of the whole matrix in memory; ``streaming`` the
            eigenvectors of XᵀX, which are the same in exact arithmetic.
        part_rows: Rows from which on a sum is added to the others and a new one begun, so that
            sums made apart (``fusion_parts``) come to the same bits; ``None``: one sum.
    """
    size = min(size, sum(dimensions))
    if method == "streaming":
        return fitted(_sums(blocks, weights, dimensions, part_rows), weights, dimensions, size)
    whole = np.concatenate([concatenate(block, weights) for block in blocks])
    _, values, right = np.linalg.svd(whole, full_matrices=len(whole) < size)
    total = float((values**2).sum())
    kept = float((values[:size] ** 2).sum()) / total if total > 0 else 1.0
    return Fusion(weights, np.ascontiguousarray(right[:size].T), kept)


def _sums(
    blocks: Iterator[Sequence[NDArray[np.float32]]],
    weights: NDArray[np.float64],
    dimensions: Sequence[int],
    part_rows: int | None,
) -> Iterator[GramMatrix]:
    """Sums of so many rows each, the last of fewer."""
    gram = GramMatrix(sum(dimensions))
    for block in blocks:
        for rows in joined(block, weights):
            gram.add(rows)
        if part_rows is not None and gram.rows >= part_rows:
            yield gram
            gram = GramMatrix(sum(dimensions))
    yield gram


def fitted(
    sums: Iterable[GramMatrix],
    weights: NDArray[np.float64],
    dimensions: Sequence[int],
    size: int,
) -> Fusion:
    """The fusion whose projection keeps most of what was summed, in the order of its rows.

    Args:
        sums: Of ``joined`` rows; from others in another order come the same to 1e-9, from the same
            in the same order the same bits.
        weights, dimensions, size: As for ``fit``.
    """
    total = GramMatrix(sum(dimensions))
    for gram in sums:
        total.merge(gram)
    projection, kept = total.right_singular_vectors(min(size, sum(dimensions)))
    return Fusion(weights, np.ascontiguousarray(projection), kept)


def joined(
    block: Sequence[NDArray[np.float32]], weights: NDArray[np.float64]
) -> Iterator[NDArray[np.floating]]:
    """What ``concatenate`` gives of a block, ``BLOCK_ROWS`` at a time, in float32 where wide.

    Every piece lies in the same memory: it is gone when the next one comes.
    """
    ends = np.cumsum([0, *(member.shape[1] for member in block)])
    precision = np.float32 if ends[-1] >= WIDE else np.float64
    memory = np.empty((min(BLOCK_ROWS, len(block[0])), ends[-1]), precision)
    for start in range(0, len(block[0]), BLOCK_ROWS):
        rows = memory[: len(block[0]) - start]
        for place, (member, weight) in enumerate(zip(block, weights, strict=True)):
            some = member[start : start + BLOCK_ROWS]
            squares = np.einsum("ij,ij->i", some, some, dtype=np.float64)
            scale = np.sqrt(np.divide(weight, squares, out=squares, where=squares > 0))
            out = rows[:, ends[place] : ends[place + 1]]
            np.multiply(some, scale[:, None].astype(precision), out=out)
        yield rows


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is to be fused, looked through.

    Attributes:
        aligned: The members.
        weights: One a member, summing to 1.
        dimensions: Of the members' vectors.
        size: E of the fused vectors.
        facts: Of the manifest.
    """

    aligned: Aligned
    weights: NDArray[np.float64]
    dimensions: list[int]
    size: int
    facts: dict[str, Any]

    @property
    def shard_rows(self) -> int:
        """Rows of a shard of the fused vectors."""
        return SHARD_ROWS

    @property
    def part_rows(self) -> int:
        """Rows of a sum: whole shards, as many as make ``MOST_PARTS`` sums or fewer."""
        return SHARD_ROWS * max(1, -(-len(self.aligned.ids) // (SHARD_ROWS * MOST_PARTS)))


def prepared(
    members: Sequence[Path],
    weights: Sequence[float] | None,
    size: int,
    method: Method,
    weights_from: dict[str, Any] | None,
) -> Prepared:
    """Opens the members of a fusion; see ``fuse``.

    Raises:
        UsageError: No video is in all folders, or a weight or the size cannot be used.
    """
    if not members:
        raise UsageError("nothing to fuse: give at least one folder of vectors")
    if size < 1:
        raise UsageError(f"size {size}: expected 1 or more numbers in a fused vector")
    opened = [Vectors(path) for path in members]
    if not len(opened[0]):
        raise UsageError(f"nothing to fuse: {opened[0].path} holds no vectors")
    aligned = Aligned(opened)
    scaled = normalised_weights(weights, len(members))
    made_by: dict[str, Any] = {
        "stage": "fuse",
        "members": [str(path.resolve()) for path in members],
        "made_of": [vectors.manifest["made_by"] for vectors in opened],
        "weights": scaled.tolist(),
        "method": method,
    }
    if any(aligned.left_out):
        made_by["left_out"] = aligned.left_out
    if weights_from is not None:
        made_by["weights_from"] = weights_from
    dimensions = [vectors.dimension for vectors in opened]
    facts = {"normalised": True, "made_by": made_by}
    return Prepared(aligned, scaled, dimensions, min(size, sum(dimensions)), facts)


def fuse(
    members: Sequence[Path],
    out: Path,
    weights: Sequence[float] | None = None,
    size: int = 256,
    method: Method = "streaming",
    *,
    weights_from: dict[str, Any] | None = None,
) -> Fusion:
    """Fuses folders of vectors of the same videos into a new one, in the order of the first.

    Videos that are not in all of them are left out; how many, says ``left_out`` in the manifest's
    ``made_by``, one number a folder.

    Args:
        members: One folder a model.
        out: Folder of the fused vectors; the projection is kept beside them for new videos.
        weights: One a model; ``None``: equal.
        size: E of the fused vectors.
        method: See ``fit``.
        weights_from: What the weights were fitted on, for the manifest.

    Raises:
        UsageError: No video is in all folders, a weight or the size cannot be used,
            or ``out`` holds other vectors.
    """
    ready = prepared(members, weights, size, method, weights_from)
    aligned = ready.aligned
    writer = VectorWriter(out, ready.size, ready.facts)
    shutil.rmtree(out / PARTS, ignore_errors=True)  # of workers that were stopped
    if writer.rows:
        fusion = load_fusion(out)  # the very one that the vectors there were made with
    else:
        blocks = aligned.blocks(SHARD_ROWS)
        rows = ready.part_rows
        fusion = fit(blocks, ready.weights, ready.dimensions, size, method, part_rows=rows)
        save_fusion(out / PROJECTION_FILE, fusion)
    ids = aligned.ids
    for place, block in enumerate(aligned.blocks(SHARD_ROWS)):
        start = place * SHARD_ROWS
        if start >= writer.rows:
            writer.append(ids[start : start + SHARD_ROWS], fusion.apply(block))
    writer.finish()
    return fusion


def save_fusion(path: Path, fusion: Fusion) -> None:
    """Writes a fusion as safetensors, atomically."""
    kept = np.array([fusion.kept])
    tensors = {"weights": fusion.weights, "projection": fusion.projection, "kept": kept}
    with storage.atomic_path(path) as temporary:
        save_file(tensors, temporary)


def load_fusion(folder: Path) -> Fusion:
    """The fusion that made a folder of vectors.

    Raises:
        FormatError: Its file is missing or damaged.
    """
    path = folder / PROJECTION_FILE
    try:
        tensors = load_file(path)
        return Fusion(tensors["weights"], tensors["projection"], float(tensors["kept"][0]))
    except (OSError, KeyError, SafetensorError) as error:
        raise FormatError(f"{path} cannot be read: {error}") from None
