"""The folder that a cluster's vectors came from, for what is not in the cluster: model, corpus."""

from __future__ import annotations

from pathlib import Path

from vidvec import storage
from vidvec.errors import FormatError, UsageError
from vidvec.search.cluster.generations import Generation


def folder_of(held: Generation, scratch: Path) -> Path:
    """The folder that a generation was filled from, or one in its place that has no vectors.

    Args:
        held: The generation.
        scratch: An empty folder to make one in, where the folder is not here, or holds other
            vectors by now. It says what made the vectors, so that words and files can be encoded
            where the model is found; a fusion's projection lies in the folder itself.
    """
    came_from = Path(held.vectors)
    try:
        manifest = storage.read_manifest(came_from, "vectors")
    except FormatError:
        manifest = None
    if manifest is not None and {**manifest, "shards": []} == held.manifest:
        return came_from
    facts = {k: v for k, v in held.manifest.items() if k not in ("kind", "format_version")}
    storage.write_manifest(scratch, "vectors", **facts)
    return scratch


def check_folder(vectors: Path, held: Generation, address: object) -> None:
    """Refuses a folder whose model did not make what is in the cluster.

    Args:
        vectors: The folder.
        held: The generation.
        address: Where that is.

    Raises:
        UsageError: It was made by something else.
        FormatError: It is no folder of vectors.
    """
    manifest = storage.read_manifest(vectors, "vectors")
    if (manifest["made_by"], manifest["dimension"]) == (held.manifest["made_by"], held.dimension):
        return
    raise UsageError(
        f"{vectors} was made by another model than what is in {address}, which was filled from "
        f"{held.vectors}: give that folder, or fill the cluster anew with vidvec index {vectors} "
        f"--to {address}"
    )
