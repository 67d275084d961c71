"""Files and folders that are there whole or not at all, and the manifests that describe them.

A path of ``storage.located`` may be on object storage: there a file is written on this disk first
and appears with one PUT.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vidvec.errors import FormatError, UsageError
from vidvec.storage.location import SCHEME, S3Path

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
UPLOAD_LEFTOVER_SECONDS = 86_400.0


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` and renames it there on success.

    The temporary may become a file or a folder. After a crash at any moment ``path`` is either as
    it was or complete. An existing *folder* at ``path`` is replaced (removed just before the
    rename), so a folder that must never be missing needs a pointer file instead. On object storage
    the temporary is a file on this disk, in the cache's folder, and is uploaded on success.
    """
    if isinstance(path, S3Path):
        with _uploaded(path) as temporary:
            yield temporary
        return
    _refuse_url(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        yield temporary
        if temporary.is_dir():
            for child in temporary.rglob("*"):
                if child.is_file():
                    _sync(child)
            if path.is_dir():
                shutil.rmtree(path)
        else:
            _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


@contextmanager
def _uploaded(path: S3Path) -> Iterator[Path]:
    """Yields a temporary file that becomes the object on success."""
    from vidvec.storage import objects
    from vidvec.storage.cache import cache_folder

    folder = cache_folder() / "uploads"
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*.tmp"):  # by a killed run, where it is this old
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > UPLOAD_LEFTOVER_SECONDS:
                left.unlink()
    temporary = folder / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        yield temporary
        objects.put(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_url(path: Path) -> None:
    """A guard against a folder that is called ``s3:``, where a URL came as a plain path."""
    if path.parts[:1] == ("s3:",) and not isinstance(path, S3Path):
        where = SCHEME + "/".join(path.parts[1:])
        raise UsageError(
            f"{where}: what is written here cannot be on object storage: give a folder, then "
            "vidvec push it"
        )


def remove_leftovers(folder: Path) -> None:
    """Removes temporaries that a killed run left in ``folder``; object storage has none."""
    if isinstance(folder, S3Path):
        return
    for leftover in folder.glob(".*.tmp"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` as JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        FormatError: The file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise FormatError(f"{path} is missing") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FormatError(f"{path} is not JSON: {error}") from None


def write_manifest(folder: Path, kind: str, **fields: Any) -> None:
    """Writes ``folder/manifest.json``, atomically."""
    _refuse_url(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MANIFEST, {"kind": kind, "format_version": FORMAT_VERSION, **fields})


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """Reads and checks ``folder/manifest.json``.

    Raises:
        FormatError: There is none, it is of another kind, or of a version this vidvec cannot read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FormatError(f"{folder} is not a {kind} folder: it has no {MANIFEST}")
    manifest = read_json(path)
    found = manifest.get("kind") if isinstance(manifest, dict) else None
    if found != kind:
        raise FormatError(f"{folder} holds {found or 'something else'}, expected {kind}")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise FormatError(
            f"{folder} has format version {version}; this vidvec reads version {FORMAT_VERSION}"
        )
    return dict(manifest)
