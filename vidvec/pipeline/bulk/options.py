"""Options of bulk work, whatever the stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vidvec.errors import UsageError
from vidvec.pipeline.bulk.pool import PATIENCE_SECONDS, PoolSize, Receipt


def _unread(receipt: Receipt) -> None:
    """Does nothing with a receipt."""


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """Where bulk work is done, by how many, and in which parts.

    Attributes:
        on: See ``connected``.
        part_rows: Rows of a part; ``None``: as an unfinished run had, else the stage's own.
        workers: At most; 0: as many as the cluster has room for.
        cpus: That Ray sets aside for a worker; ``None``: as the stage needs.
        gpus: Likewise; ``None``: one where the cluster has GPUs and the stage a use for them.
        patience_seconds: How long the last parts are waited for before they are begun elsewhere, if
            not three times as long as a part takes.
        on_receipt: Called with each part's receipt.
    """

    on: str
    part_rows: int | None = None
    workers: int = 0
    cpus: float | None = None
    gpus: float | None = None
    patience_seconds: float = PATIENCE_SECONDS
    on_receipt: Callable[[Receipt], None] = _unread

    def __post_init__(self) -> None:
        if self.part_rows is not None and self.part_rows < 1:
            raise UsageError(f"parts of {self.part_rows} rows, expected at least 1")

    def pool_size(self, cpus: float, gpus: float) -> PoolSize:
        """The pool's size where a stage's worker needs so many CPUs and GPUs."""
        return PoolSize(
            workers=self.workers,
            cpus=cpus if self.cpus is None else self.cpus,
            gpus=gpus if self.gpus is None else self.gpus,
            patience_seconds=self.patience_seconds,
        )
