"""What the routes answer from: the index, and what lies beside it, as they are at the moment."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec.embed.vectors import Vectors
from vidvec.errors import UsageError, VidvecError
from vidvec.search.calibrate import FILE as CALIBRATION_FILE
from vidvec.search.calibrate import Calibration
from vidvec.search.cluster.engine import ClusterIndex
from vidvec.search.cluster.folder import check_folder, folder_of
from vidvec.search.index import corpus_of, gone_ids
from vidvec.search.interface import Index
from vidvec.search.server.config import ServerConfig
from vidvec.search.server.failures import not_available
from vidvec.search.server.metrics import Metrics
from vidvec.search.server.model import Model, load_encoder
from vidvec.search.server.overview import Overview
from vidvec.search.server.watched import Watched, stamp
from vidvec.search.server.work import Batcher, Work
from vidvec.search.sharded.cluster import ClusterShard
from vidvec.search.sharded.engine import ShardedIndex
from vidvec.search.sharded.folder import FolderShard
from vidvec.search.sharded.folder_of import folder_of_shards
from vidvec.search.sharded.layout import is_shards_file
from vidvec.storage import MANIFEST

SHARDED_THREADS = 8
LOG = logging.getLogger("vidvec.server")


class ServedCorpus:
    """A corpus, and what answers need of it often.

    Args:
        config: Says which.

    Attributes:
        corpus: Itself.
        gone: Ids of vectors whose videos are gone.
        has_pairs: Whether there are scored pairs.
        has_pictures: Whether there are pictures.
    """

    def __init__(self, config: ServerConfig) -> None:
        found = corpus_of(config.folder, config.corpus)
        if found is None:
            raise UsageError("the corpus of these vectors is not here")
        self.corpus = found
        own = config.corpus is None
        self.gone = frozenset(gone_ids(found, Vectors(config.folder), own=own))
        self.has_pairs = bool(found.manifest.get("pairs"))
        self.has_pictures = (found.path / "thumbnails").is_dir()
        self._pictures: dict[str, int] = {}

    def pictures(self, video_id: str) -> int:
        """How many pictures of a video there are; 0 where it is not in the corpus."""
        if not self.has_pictures:
            return 0
        if video_id not in self._pictures:
            self._pictures[video_id] = len(self.thumbnails(video_id))
        return self._pictures[video_id]

    def thumbnails(self, video_id: str) -> tuple[bytes, ...]:
        """JPEG pictures of a video; none where it is not in the corpus."""
        if video_id not in self.corpus:
            return ()
        return self.corpus.thumbnails(self.corpus.row(video_id))


class State:
    """All that a worker answers from.

    Args:
        config: The server's.
        metrics: Its counters.
        scratch: Folder for uploads.

    Attributes:
        index: Of the vectors.
        model: That made them.
        texts: Encodes words that are looked for, those of several requests together.
        overview: Groups, pairs, map.
        videos: How many there are.
    """

    def __init__(self, config: ServerConfig, metrics: Metrics, scratch: Path) -> None:
        self.metrics, self.scratch = metrics, scratch
        self._shards = stamp(Path(config.index))
        self.index, config = _opened(config, scratch, metrics)
        self.config = config
        # Who asks shards waits for them, and needs no core for it.
        waiting = SHARDED_THREADS if isinstance(self.index, ShardedIndex) else 0
        self.work = Work(max(config.threads, waiting), config.uploads)
        self.model = Model(partial(load_encoder, config), config.folder)
        self.texts: Batcher[str, NDArray[np.float32]] = Batcher(
            self._encode, self.work.quick, config.text_batch, metrics.batch
        )
        self._vectors = stamp(config.folder / MANIFEST)
        self._corpus = Watched(corpus_path(config), lambda: ServedCorpus(config))
        self._calibration = Watched(
            config.folder / CALIBRATION_FILE, lambda: Calibration.load(config.folder)
        )
        self.overview = Overview(self)
        self.videos, self._counted = 0, -1
        self._count()

    def _count(self) -> bool:
        """Takes down how many videos there are; whether the index has changed since last time."""
        generation = self.index.generation
        if generation == self._counted:
            return False
        self.videos, self._counted = len(self.index), generation
        self.metrics.index(self.videos, generation)
        return True

    @property
    def corpus(self) -> ServedCorpus | None:
        """Where the videos are, as far as that is known."""
        return self._corpus.value

    @property
    def gone(self) -> frozenset[str]:
        """Videos whose source does not have them any more: they are not found."""
        return frozenset() if self.corpus is None else self.corpus.gone

    def pictures(self, video_id: str) -> int:
        """How many pictures of a video there are."""
        return 0 if self.corpus is None else self.corpus.pictures(video_id)

    @property
    def calibration(self) -> Calibration | None:
        """From cosine to probability, where it was made."""
        return self._calibration.value

    def required_corpus(self, what_for: str) -> ServedCorpus:
        """The corpus.

        Raises:
            ApiError: There is none.
        """
        if self.corpus is None:
            why = self._corpus.why_not or "the corpus of these vectors is not here"
            raise not_available(f"{what_for}: {why}", "start the server with --corpus FOLDER")
        return self.corpus

    def _encode(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        return list(self.model.required().titles(texts))

    def refresh(self) -> None:
        """Takes in what has changed on disk; costs little where nothing has."""
        started = time.monotonic()
        self.index.refresh()  # a search may have done so already
        if isinstance(self.index, ShardedIndex):
            self.metrics.shards(self.index.states())
        if self._count():
            LOG.info(
                "index taken in: %d videos, generation %d, %.0f ms",
                self.videos,
                self._counted,
                1000 * (time.monotonic() - started),
            )
        vectors = stamp(self.config.folder / MANIFEST)
        # Where the folder is gone, as that of a shard may be, its model is still there.
        if vectors is not None and vectors != self._vectors:
            self._vectors = vectors
            self.model.start()
            self._calibration.forget()
            self._corpus.forget()
        self._corpus.refresh()
        self._calibration.refresh()

    def is_superseded(self) -> bool:
        """Whether other vectors are to be searched by now, which want a state of their own.

        So it is where the cluster has gone over to them, or the file of shards is another.
        """
        if isinstance(self.index, ShardedIndex):
            return stamp(self.index.file.path) not in (None, self._shards)
        return isinstance(self.index, ClusterIndex) and bool(self.index.reader.newer())

    def close(self) -> None:
        """Ends threads and processes, closes files."""
        self.work.close()
        self.overview.close()
        self.model.close()
        with contextlib.suppress(VidvecError):
            self.index.close()


def _opened(config: ServerConfig, scratch: Path, metrics: Metrics) -> tuple[Index, ServerConfig]:
    """The index, and the settings with the folder that goes with it."""
    if not config.index:
        return FolderShard.open(config.folder), config
    if is_shards_file(config.index):
        return _opened_shards(config, scratch / f"shards-{os.getpid()}", metrics)
    index = ClusterShard.open(config.index, pinned=True)
    held = index.reader.held
    if config.vectors is None:
        folder = folder_of(held, scratch / held.collection)
        return index, replace(config, vectors=folder)
    try:
        check_folder(config.vectors, held, config.index)
    except VidvecError:
        index.close()
        raise
    return index, config


def _opened_shards(
    config: ServerConfig, scratch: Path, metrics: Metrics
) -> tuple[Index, ServerConfig]:
    index = ShardedIndex.open(Path(config.index), said=metrics.shard)
    try:
        folder = folder_of_shards(index, config.vectors, scratch)
    except VidvecError:
        index.close()
        raise
    return index, replace(config, vectors=folder)


def corpus_path(config: ServerConfig) -> Path | None:
    """The manifest that tells whether a corpus has changed."""
    if config.corpus is not None:
        return config.corpus / MANIFEST
    try:
        found = corpus_of(config.folder)
    except VidvecError as error:
        LOG.warning("no titles and pictures: %s", error)
        return None
    return None if found is None else found.path / MANIFEST
