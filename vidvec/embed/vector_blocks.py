"""Blocks of vectors that other programs wrote, and what their readers share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import FormatError, UsageError

BLOCK_ROWS = 8192
# Names that other programs give these columns, in the order in which they are looked for.
ID_NAMES = ("id", "ids", "video_id", "video", "name", "filename", "file_name", "filepath", "key")
VECTOR_NAMES = ("vector", "vectors", "embedding", "embeddings", "features", "feature", "emb")
Format = Literal["npy", "npz", "parquet", "arrow", "faiss", "datasets", "jsonl"]


@dataclass(slots=True)
class Block:
    """Rows of a source.

    Attributes:
        start: Rows before it.
        ids: As they are there: text, numbers, ``None``.
        vectors: (n, E) float32; zeros where a row has none of this width.
        wrong: What is wrong with the vector of a row, by its place: reason and detail.
    """

    start: int
    ids: Sequence[Any]
    vectors: NDArray[np.float32]
    wrong: dict[int, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VectorSource:
    """An open source.

    Attributes:
        path: File or folder.
        format: How it is written.
        dimension: E.
        blocks: Reads it from its beginning.
        ids_file: The file with the ids, where they are not in the source itself.
    """

    path: Path
    format: Format
    dimension: int
    blocks: Callable[[], Iterator[Block]]
    ids_file: Path | None = None


def chosen_column(given: str, names: Sequence[str], held: Sequence[str], where: object) -> str:
    """The column asked for, or the first of these names that is there; empty where none is.

    Raises:
        UsageError: The one asked for is not there.
    """
    if given and given not in held:
        raise UsageError(f"{where} has no {given!r}; it has {', '.join(held) or 'nothing'}")
    return given or next((name for name in names if name in held), "")


def common_width(widths: Sequence[int], where: object) -> int:
    """The most frequent width of lists, the greater of equally frequent ones.

    Raises:
        FormatError: There is none above 0.
    """
    counts = Counter(width for width in widths if width > 0)
    if not counts:
        raise FormatError(f"{where} holds no vectors")
    return max(counts, key=lambda width: (counts[width], width))


def check_counts(ids: int, where: object, rows: int, source: object) -> None:
    """Refuses another number of ids than of vectors.

    Raises:
        UsageError: It is another.
    """
    if ids != rows:
        raise UsageError(
            f"{where} has {ids} ids, {source} {rows} vectors: which belongs to which cannot be told"
        )


def single(values: NDArray[Any]) -> NDArray[np.float32]:
    """float32 in C order; what is too large for it becomes infinity, which is named later."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, np.float32)


def wrong_width(found: int, expected: int) -> tuple[str, str]:
    """Reason and detail of a vector of another width."""
    return ("wrong-dimension", f"its vector has {found} numbers, the others {expected}")
