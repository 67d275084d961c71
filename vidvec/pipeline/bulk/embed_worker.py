"""A worker of a bulk embedding: rows of a corpus in, their vectors on shared storage out."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import vidvec
from vidvec import storage
from vidvec.config import Backend, Modality
from vidvec.embed.embedder import Embedding, embed_rows, open_embedding
from vidvec.errors import UsageError
from vidvec.pipeline.bulk.attempts import Attempt
from vidvec.pipeline.bulk.pool import Receipt, Task
from vidvec.pipeline.bulk.staging import Staging

_PLACES = ("checkpoint", "corpus")
SUFFIX = ".npy"


@dataclass(frozen=True, slots=True)
class EmbedJob:
    """What every worker is told.

    Attributes:
        checkpoint, corpus, target: Absolute paths.
        parts, backend, without, size: See ``embed``.
        made_by: What made the vectors, as where the command was run.
        version: Of vidvec.
    """

    checkpoint: Path
    corpus: Path
    target: Path
    parts: tuple[str, ...]
    backend: Backend
    without: tuple[Modality, ...]
    size: int | None
    made_by: dict[str, Any]
    version: str

    def open(self) -> Embedding:
        """The model and the corpus."""
        return open_embedding(
            self.checkpoint,
            self.corpus,
            parts=self.parts,
            backend=self.backend,
            without=self.without,
            size=self.size,
        )


class EmbedWorker:
    """Holds the model.

    Args:
        job: See there.

    Raises:
        UsageError: This machine has another vidvec, sees other files, or computes otherwise.
    """

    def __init__(self, job: EmbedJob) -> None:
        here = socket.gethostname()
        if vidvec.__version__ != job.version:
            raise UsageError(
                f"{here} has vidvec {vidvec.__version__}, expected {job.version} as where the "
                "command was run: install the same on all machines"
            )
        self._name = f"{here}:{os.getpid()}"
        self._staging = Staging(job.target, SUFFIX)
        self._embedding = job.open()
        mine = self._embedding.facts["made_by"]
        others = {key for key in {*mine, *job.made_by} if mine.get(key) != job.made_by.get(key)}
        if others.difference(_PLACES):
            said = ", ".join(
                f"{key} {mine.get(key)!r}, not {job.made_by.get(key)!r}" for key in sorted(others)
            )
            raise UsageError(
                f"{here} would make other vectors than the machine where the command was run "
                f"({said}): all machines need the same files and, with --backend auto, the same "
                "kind of processor"
            )

    def do(self, task: Task) -> Receipt:
        """Does a part; see ``pool.Worker``."""
        begun = time.monotonic()
        attempt = Attempt(self._staging.attempts, task.number)
        if attempt.is_hopeless:
            raise UsageError(
                f"the vectors of rows {task.first} to {task.stop - 1} ended the process that made "
                f"them {attempt.begun - 1} times, as where memory runs out: give each worker more "
                "room (--on-cpus, or smaller --part-rows in a new folder)"
            )
        made = self._embedding
        vectors = embed_rows(made.encoder, made.builder, made.rows[task.first : task.stop])
        encoded = time.monotonic()
        with (
            storage.atomic_path(self._staging.part(task.number)) as temporary,
            temporary.open("wb") as file,
        ):
            np.save(file, vectors, allow_pickle=False)
        attempt.end()
        ended = time.monotonic()
        seconds = {"encode": encoded - begun, "write": ended - encoded, "all": ended - begun}
        return Receipt(
            *(task.number, len(vectors), 0, seconds, self._name, attempt.begun),
            ended_at=time.time(),
        )
