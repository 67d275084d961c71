"""Options of commands that run on a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from cyclopts import Parameter

from vidvec.errors import UsageError

if TYPE_CHECKING:
    from vidvec.pipeline.bulk.options import BulkOptions


@Parameter(name="*", help="On a Ray cluster.")
@dataclass(frozen=True)
class Bulk:
    """On a Ray cluster, whose machines see source, corpus, checkpoint and vectors at these paths.

    Args:
        on: Where: ray (started on this machine), HOST:PORT (of a running cluster's head, from one
            of its machines) or ray://HOST:PORT (of its client server, from anywhere).
        on_workers: Workers at most; by default as many as the cluster has room for.
        on_cpus: CPUs that Ray sets aside for a worker; by default as many as it uses.
        on_gpus: GPUs likewise; by default one, where the cluster has GPUs and there is a use.
        part_rows: Rows that a worker does at a time, and again where it was killed.
    """

    on: str | None = None
    on_workers: int = 0
    on_cpus: float | None = None
    on_gpus: float | None = None
    part_rows: int | None = None

    def options(self) -> BulkOptions | None:
        """As ``vidvec.pipeline.bulk`` has them; ``None``: on this machine alone."""
        if self.on is None:
            given = [each.name for each in fields(self) if getattr(self, each.name) != each.default]
            if given:
                names = ", ".join("--" + name.replace("_", "-") for name in given)
                raise UsageError(f"{names}: only with --on, which says where")
            return None
        from vidvec.pipeline.bulk.options import BulkOptions

        return BulkOptions(
            on=self.on,
            part_rows=self.part_rows,
            workers=self.on_workers,
            cpus=self.on_cpus,
            gpus=self.on_gpus,
        )
