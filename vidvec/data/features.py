"""Feature sets: frames of the same videos by another encoder, beside those of the corpus.

    CORPUS/features/NAME/
      manifest.json     frame encoder; shards with rows, bytes and checksums; how it was made
      shards/*.arrow    one record batch each, uncompressed (columns: ``feature_schema``)
      rejects.jsonl     videos whose file is gone or cannot be decoded; they have no frames here

``vidvec reencode`` writes them (``reencode.py``). Videos are found by id and stamp.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidvec import storage
from vidvec.data.remote_shards import RemoteFeatures, RemoteShard
from vidvec.data.shards import Features, check_sizes, features_of
from vidvec.errors import FormatError, UsageError

if TYPE_CHECKING:
    from vidvec.data.corpus import Corpus

KIND = "features"
FOLDER = "features"


def feature_schema(frame_size: int) -> pa.Schema:
    """Columns of a set's shard; ``frames`` as in a corpus."""
    return pa.schema(
        [
            ("id", pa.string()),
            ("stamp", pa.string()),
            ("frame_times_seconds", pa.list_(pa.float32())),
            ("frames", pa.list_(pa.list_(pa.float16(), frame_size))),
        ]
    )


def set_folder(corpus: Path, name: str) -> Path:
    """The folder of a corpus's feature set.

    Raises:
        UsageError: The name cannot be a folder's.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageError(
            f"{name!r} cannot name a feature set: expected letters, digits, '-', '_' and '.'"
        )
    return corpus / FOLDER / name


def list_sets(corpus: Path) -> dict[str, dict[str, Any]]:
    """The manifests of a corpus's feature sets by name, unfinished ones too."""
    folders = sorted((corpus / FOLDER).glob("*/" + storage.MANIFEST))
    return {path.parent.name: storage.read_manifest(path.parent, KIND) for path in folders}


class FeatureSet:
    """An open feature set, by rows of its corpus.

    Args:
        corpus: The corpus.
        name: Of the set.

    Attributes:
        manifest: Of the set.
        frame_encoder: Identity of what made the features.

    Raises:
        UsageError: The corpus has no such set, or the set lacks videos of the corpus.
        FormatError: The set is unfinished, or a shard is missing, short or damaged.
    """

    def __init__(self, corpus: Corpus, name: str) -> None:
        folder = set_folder(corpus.path, name)
        if not (folder / storage.MANIFEST).is_file():
            known = ", ".join(list_sets(corpus.path)) or "none: vidvec reencode makes them"
            raise UsageError(f"{corpus.path} has no feature set {name!r}; it has {known}")
        again = f"run vidvec reencode {corpus.path} --name {name} again"
        self.manifest = storage.read_manifest(folder, KIND)
        if not self.manifest["complete"]:
            raise FormatError(f"{folder} is unfinished: {again}, it carries on")
        self.frame_encoder: dict[str, Any] = self.manifest["frame_encoder"]
        check_sizes(folder / "shards", self.manifest["shards"])
        self._shards = [
            _open_shard(folder / "shards", entry, self.frame_encoder["frame_size"])
            for entry in self.manifest["shards"]
        ]
        lengths = [len(shard) for shard in self._shards]
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
        self._rows = self._rows_of(corpus)
        if missing := int((self._rows[~corpus.gone] < 0).sum()):
            raise UsageError(
                f"feature set {name!r} of {corpus.path} lacks {missing} of its {len(corpus)} "
                f"videos, which came or changed later: {again}, it adds what is new"
            )

    def _rows_of(self, corpus: Corpus) -> NDArray[np.int64]:
        """The set's row of each of the corpus's videos; −1 where it has none."""
        held = [key for shard in self._shards for key in shard_keys(shard)]
        wanted = video_keys(corpus)
        if held == wanted:
            return np.arange(len(held), dtype=np.int64)
        row_of = {key: row for row, key in enumerate(held)}
        return np.array([row_of.get(key, -1) for key in wanted], np.int64)

    @cached_property
    def _views(self) -> list[Features | RemoteFeatures]:
        """Each shard's frames."""
        return [
            shard.frames if isinstance(shard, RemoteShard) else features_of(shard.column("frames"))
            for shard in self._shards
        ]

    @cached_property
    def frame_counts(self) -> NDArray[np.int64]:
        """(videos,) frames of each of the corpus's videos."""
        counts = [np.diff(view.offsets).astype(np.int64) for view in self._views]
        # The last is for the row −1 of videos that are gone.
        return np.concatenate([*counts, np.zeros(1, np.int64)])[self._rows]

    def _place(self, row: int) -> tuple[int, int]:
        at = int(self._rows[row])
        index = int(np.searchsorted(self._starts, at, side="right")) - 1
        return index, at - int(self._starts[index])

    def frames(self, row: int) -> NDArray[np.float16]:
        """(F, D) float16 of a row of the corpus: a view of the mapped file; by URL, a copy."""
        if self._rows[row] < 0:
            return np.zeros((0, self.frame_encoder["frame_size"]), np.float16)
        index, local = self._place(row)
        return self._views[index].of(local)

    def fetch(self, rows: NDArray[np.int64]) -> None:
        """See ``Corpus.fetch``."""
        held = self._rows[rows]
        held = held[held >= 0]
        places = np.searchsorted(self._starts, held, side="right") - 1
        for index in np.unique(places).tolist():
            self._views[index].fetch((held[places == index] - self._starts[index]).tolist())

    def times_seconds(self, row: int) -> NDArray[np.float32]:
        """(F,) float32, when those frames are shown."""
        if self._rows[row] < 0:
            return np.zeros(0, np.float32)
        index, local = self._place(row)
        times = self._shards[index].column("frame_times_seconds")[local]
        return np.asarray(times.values.to_numpy(zero_copy_only=False), np.float32)


def video_keys(corpus: Corpus) -> list[tuple[str, str]]:
    """Id and stamp of each video: a video that has changed since has another stamp."""
    return list(zip(corpus.ids, corpus.column("stamp").to_pylist(), strict=True))


def shard_keys(shard: pa.RecordBatch | RemoteShard) -> list[tuple[str, str]]:
    """The same of a set's shard."""
    columns = (shard.column(name).to_pylist() for name in ("id", "stamp"))
    return list(zip(*columns, strict=True))


def _open_shard(
    folder: Path, entry: dict[str, Any], frame_size: int
) -> pa.RecordBatch | RemoteShard:
    """A mapped shard whose offsets are sound: a bad offset ends the process; or one by URL."""
    path = folder / entry["file"]
    if isinstance(path, storage.S3Path):
        return RemoteShard(path, entry["bytes"], entry["rows"], feature_schema(frame_size))
    try:
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        if file.num_record_batches != 1:
            raise ValueError(f"{file.num_record_batches} record batches, expected one")
        batch = file.get_batch(0)
        batch.validate(full=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise FormatError(f"shard {path} cannot be opened: {error}") from None
    if not batch.schema.equals(feature_schema(frame_size)) or len(batch) != entry["rows"]:
        raise FormatError(
            f"shard {path} is not what the set's manifest says: other columns or rows"
        )
    return batch
