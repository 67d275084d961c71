"""Removing for good what is marked gone: the shards that have such videos are written anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidvec import storage
from vidvec.data import corpus as store

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What was removed.

    Attributes:
        removed: Videos.
        videos: That are left.
        shards: Written anew, or removed whole.
        freed_bytes: By which the shards are smaller, thumbnails included.
    """

    removed: int
    videos: int
    shards: int
    freed_bytes: int


def compact(path: Path, progress: Progress | None = None) -> CompactReport:
    """Removes the videos that are marked gone from a corpus.

    The corpus is as it was until all is written, and then changes at once; a run that is killed
    leaves nothing behind that counts, and the next one begins anew. Vectors and feature sets, which
    know videos by id, stay as they are. Scored pairs stay in their file, and count again where an
    update brings their videos back.

    Args:
        path: A complete corpus.
        progress: Called with shards done and all.

    Raises:
        FormatError: It is none, or unfinished.
    """
    corpus = store.Corpus(path)
    manifest = {k: v for k, v in corpus.manifest.items() if k not in ("kind", "format_version")}
    _remove_unlisted(path, manifest["shards"])
    gone = corpus.gone
    if not gone.any():
        return CompactReport(0, len(corpus), 0, 0)
    before = _size(path)
    shards: list[dict[str, Any]] = []
    start = touched = 0
    number = max(int(Path(entry["file"]).stem) for entry in manifest["shards"])
    for done, entry in enumerate(manifest["shards"], 1):
        keep = ~gone[start : start + entry["rows"]]
        start += entry["rows"]
        if keep.all():
            shards.append(entry)
        else:
            touched += 1
            if keep.any():
                number += 1
                name = f"{number:06d}.arrow"
                shards.append(_filtered(path, entry["file"], name, keep, corpus))
        if progress is not None:
            progress(done, len(manifest["shards"]))
    manifest |= {"shards": shards, "ingests": _without(manifest["ingests"], gone)}
    manifest.pop("gone")
    manifest["compacted"] = manifest.get("compacted", 0) + 1
    # Token ids are kept by the number of videos, which may come to be the same again.
    shutil.rmtree(path / "tokens", ignore_errors=True)
    storage.write_manifest(path, store.KIND, **manifest)
    _remove_unlisted(path, shards)
    return CompactReport(int(gone.sum()), int((~gone).sum()), touched, before - _size(path))


def _filtered(
    path: Path, old: str, new: str, keep: NDArray[np.bool_], corpus: store.Corpus
) -> dict[str, Any]:
    """Writes those rows of a shard that are kept; returns the manifest's entry."""
    width = corpus.manifest["frame_encoder"]["frame_size"]
    mask = pa.array(keep)
    tables = store.read_shard(path, old, width, corpus.audio_size)
    videos, thumbnails = (table.filter(mask) for table in tables)
    return store.write_shard(path, new, videos, thumbnails)


def _without(entries: list[dict[str, Any]], gone: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """The manifest's entries of sources, with the videos counted that are left of each part."""
    changed, start = [], 0
    for entry in entries:
        end, parts = start + entry["videos"], {}
        at = start
        for part, count in entry.get("parts", {}).items():
            parts[part] = count - int(gone[at : at + count].sum())
            at += count
        counts = {"videos": entry["videos"] - int(gone[start:end].sum())}
        changed.append({**entry, **counts, **({"parts": parts} if "parts" in entry else {})})
        start = end
    return changed


def _remove_unlisted(path: Path, shards: list[dict[str, Any]]) -> None:
    """Removes shards that do not count, which a killed run left."""
    listed = {entry["file"] for entry in shards}
    for folder in ("shards", "thumbnails"):
        storage.remove_leftovers(path / folder)
        for shard in (path / folder).glob("*.arrow"):
            if shard.name not in listed:
                shard.unlink()
    storage.remove_leftovers(path)


def _size(path: Path) -> int:
    return sum(
        file.stat().st_size
        for folder in ("shards", "thumbnails")
        for file in (path / folder).glob("*.arrow")
    )
