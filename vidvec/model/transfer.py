"""One file from a hub to this disk: carried on where it was cut off, held against its digest.

The hub's own library carries a transfer on inside one process, but throws away what a killed
process had, which for the weights of a large BERT is an hour on a slow line; and it does not hold
what came against the digests that the hub states.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from vidvec.errors import FormatError, UsageError
from vidvec.model.hub_errors import disk_full

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file as the hub states it.

    Attributes:
        name: Relative to the model.
        size: In bytes; ``None`` where the hub does not say.
        digest: In hex: the SHA-256 (64 digits; large files) or git's blob id (40 digits; files that
            lie in git itself); empty where the hub does not say.
    """

    name: str
    size: int | None = None
    digest: str = ""


def fault(path: Path, file: HubFile) -> str:
    """What is wrong with a file on this disk, as half a sentence; empty where nothing is.

    Where no digest is known, weights in safetensors must at least be as long as their header says.
    """
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"has {size:,} bytes, expected {file.size:,}"
    if file.digest:
        kind, found = "SHA-256", _sha256(path)
        if len(file.digest) == 40:
            kind, found = "git blob id", _git_blob_id(path)
        if found != file.digest:
            return f"has the {kind} {found[:12]}…, expected {file.digest[:12]}…"
    elif file.name.endswith(".safetensors"):
        try:
            with safe_open(path, framework="numpy"):
                pass
        except SafetensorError as error:
            return f"cannot be read ({error})"
    return ""


def fetch_file(url: str, file: HubFile, destination: Path, headers: dict[str, str]) -> int:
    """Downloads a file; what is not whole yet lies beside the destination and is carried on with.

    Processes that want the same file wait for each other.

    Args:
        url: Where the file is.
        file: What it should be.
        destination: Where it goes; there only once it is whole and has its digest.
        headers: Of the requests: who asks.

    Returns:
        How many bytes came.

    Raises:
        FormatError: What came is not what the hub states; it is thrown away.
        Exception: Of huggingface_hub and its HTTP client, where the transfer fails.
    """
    from huggingface_hub.utils import WeakFileLock

    destination.parent.mkdir(parents=True, exist_ok=True)
    part = partial_path(destination)
    lock = destination.with_name(f".{destination.name}.lock")
    with WeakFileLock(lock):
        if destination.exists() and not fault(destination, file):
            return 0  # another process was faster
        carried_on = part.is_file()
        came = _append(url, file, part, headers)
        wrong = fault(part, file)
        if wrong and carried_on:
            # What was there may have been of another revision, or torn by a power cut.
            part.unlink()
            came += _append(url, file, part, headers)
            wrong = fault(part, file)
        if wrong:
            part.unlink()
            raise FormatError(
                f"{file.name} came, but {wrong}: the hub, its mirror or the connection changed it. "
                "It was thrown away; the same command fetches it anew"
            )
        part.replace(destination)
        lock.unlink(missing_ok=True)
        return came


def partial_path(destination: Path) -> Path:
    """Where what has come of a file lies until it is whole."""
    return destination.with_name(f".{destination.name}.part")


def check_space(folder: Path, files: Iterable[tuple[HubFile, Path]]) -> None:
    """Refuses to start what cannot fit.

    Args:
        folder: On the disk that the files go to.
        files: To be fetched, and where each goes.

    Raises:
        UsageError: The disk has less room than what is still to come.
    """
    needed = 0
    for file, destination in files:
        part = partial_path(destination)
        needed += max(0, (file.size or 0) - (part.stat().st_size if part.is_file() else 0))
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(disk_full(str(folder), f"{needed:,} bytes are to come, {free:,} are free"))


def _append(url: str, file: HubFile, part: Path, headers: dict[str, str]) -> int:
    """Downloads what the partial file lacks; how many bytes that were."""
    from huggingface_hub.file_download import http_get

    have = part.stat().st_size if part.is_file() else 0
    if file.size is not None and have > file.size:
        part.unlink()
        have = 0
    if have and have == file.size:
        return 0
    # Compressed, the bytes on the line are not those that a range counts.
    plain = {**headers, "Accept-Encoding": "identity"}
    with part.open("r+b" if have else "w+b") as stream:
        stream.seek(have)
        http_get(url, stream, resume_size=have, headers=plain, displayed_filename=file.name)
        stream.flush()
        os.fsync(stream.fileno())
    return part.stat().st_size - have


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _git_blob_id(path: Path) -> str:
    """SHA-1 of ``blob SIZE NUL`` and the content: the name under which git keeps a file."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
