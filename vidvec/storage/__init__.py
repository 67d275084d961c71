"""Files and folders that are there whole or not at all, on disk or on object storage by URL."""

from __future__ import annotations

from vidvec.storage.files import (
    FORMAT_VERSION,
    MANIFEST,
    atomic_path,
    read_json,
    read_manifest,
    remove_leftovers,
    write_json,
    write_manifest,
)
from vidvec.storage.local import beside, local_file, local_folder, mapped, mirrored, opened, staging
from vidvec.storage.location import S3Path, is_remote, located

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "S3Path",
    "atomic_path",
    "beside",
    "is_remote",
    "local_file",
    "local_folder",
    "located",
    "mapped",
    "mirrored",
    "opened",
    "read_json",
    "read_manifest",
    "remove_leftovers",
    "staging",
    "write_json",
    "write_manifest",
]
