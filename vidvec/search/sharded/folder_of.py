"""The folder that goes with shards, for what is not in their indexes: model, corpus."""

from __future__ import annotations

from pathlib import Path

from vidvec import storage
from vidvec.errors import UsageError, VidvecError
from vidvec.search.cluster.folder import folder_of
from vidvec.search.sharded.cluster import ClusterShard
from vidvec.search.sharded.engine import ShardedIndex
from vidvec.search.sharded.folder import FolderShard
from vidvec.search.sharded.model import model_of
from vidvec.search.sharded.server import ServerShard
from vidvec.search.sharded.shard import OpenShard


def folder_of_shards(index: ShardedIndex, given: Path | None, scratch: Path) -> Path:
    """A folder of vectors that says which model made those of the shards.

    Args:
        index: The shards.
        given: The folder to take; ``None``: the one that their file names, or else that of the
            first shard that answers and has one.
        scratch: An empty folder to make one in where there is none.

    Raises:
        UsageError: The folder that was given is of another model or width.
        FormatError: It is no folder of vectors.
    """
    if given is not None:
        _check(given, index)
        return given
    named = index.file.vectors
    if named is not None:
        try:
            _check(named, index)
        except VidvecError:  # it went on to another model, or was moved: a shard knows as well
            pass
        else:
            return named
    opened = [each.opened for each in index.shards.all]
    for number, each in enumerate(opened):
        found = _of(each, scratch / str(number))
        if found is not None:
            return found
    # Ids and words in titles can be looked for all the same.
    scratch.mkdir(parents=True, exist_ok=True)
    storage.write_manifest(scratch, "vectors", **_nothing(index.dimension))
    return scratch


def _of(opened: OpenShard | None, scratch: Path) -> Path | None:
    if isinstance(opened, FolderShard):
        return opened.path
    if isinstance(opened, ClusterShard):
        scratch.mkdir(parents=True, exist_ok=True)
        return folder_of(opened.reader.held, scratch)
    if isinstance(opened, ServerShard):
        scratch.mkdir(parents=True, exist_ok=True)
        facts = {k: v for k, v in opened.manifest.items() if k not in ("kind", "format_version")}
        storage.write_manifest(scratch, "vectors", **facts)
        return scratch
    return None


def _nothing(dimension: int) -> dict[str, object]:
    return {
        "dimension": dimension,
        "normalised": True,
        "complete": True,
        "shards": [],
        "made_by": {"stage": "import", "source": "shards"},
    }


def _check(folder: Path, index: ShardedIndex) -> None:
    manifest = storage.read_manifest(folder, "vectors")
    model, expected = model_of(manifest["made_by"]), index.shards.model
    if manifest["dimension"] != index.dimension or (model and expected and model != expected):
        raise UsageError(
            f"{folder} was made by another model than the shards of {index.file.path}: give the "
            "folder that they were made of"
        )
