"""Whole folders to and from object storage: what is there is not sent again, the manifest is last.

    URL/checksums.json     name, bytes and CRC-32C of every object that ``push`` put there
    FOLDER/checksums.json  the same of what ``pull`` brought, the object's version, the file's time

A folder is there when its ``manifest.json`` is. ``push`` writes that last, and takes it away first
where an object that it names is to be replaced, so that no reader ever finds a manifest with other
objects than it was written for.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vidvec.errors import FormatError, UsageError
from vidvec.storage import objects
from vidvec.storage.files import MANIFEST, atomic_path, read_json, remove_leftovers, write_json
from vidvec.storage.local import copy
from vidvec.storage.location import S3Path

CHECKSUMS = "checksums.json"
KIND, FORMAT_VERSION = "checksums", 1
COMMIT_SECONDS = 20.0
AT_ONCE = 4
# The manifest says how much of these counts: a reader may meet a longer one.
GROWING = (MANIFEST, "rejects.jsonl", "pairs.parquet")
# Made on each machine, from what is there.
LEFT_OUT = ("tokens", "index", ".fetched")

Progress = Callable[[int, int], None]
Checksums = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What was copied.

    Attributes:
        files: In the folder, without what each machine makes for itself.
        copied: Of these, copied by this run; the others were there.
        copied_bytes: Theirs.
        removed: Objects, or files, that the folder does not have any more.
    """

    files: int
    copied: int
    copied_bytes: int
    removed: int = 0


def push(
    folder: Path,
    url: Path,
    progress: Progress | None = None,
    *,
    only: Callable[[str], bool] | None = None,
) -> CopyReport:
    """Copies a folder to object storage; killed, and run again, it goes on.

    Args:
        folder: With a manifest, or without one: any folder.
        url: Where to, as an ``S3Path``.
        progress: Called with bytes done and all.
        only: Names of the files to copy, neither the manifest among them nor anything removed;
            ``None``: the whole folder.

    Raises:
        UsageError: There is no such folder, or ``url`` is none.
        StorageError: The storage refuses, or fails after all retries; what was copied counts.
    """
    if not isinstance(url, S3Path) or isinstance(folder, S3Path):
        raise UsageError(f"push {folder} {url}: expected a folder, then s3://BUCKET/KEY")
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder")
    files = dict(_described(folder, only))
    known = _known(url)
    there = objects.sizes(url, recursive=True)
    left = [name for name, facts in files.items() if not _same(facts, known, there, name)]
    replaced = [name for name in left if name in there and name not in GROWING]
    if replaced and MANIFEST in there:
        (url / MANIFEST).unlink()
        there.pop(MANIFEST)
        left = [*[name for name in left if name != MANIFEST], *[MANIFEST] * (MANIFEST in files)]
    ledger = _Ledger(url, {name: facts for name, facts in known.items() if name in there})
    done = sum(files[name]["bytes"] for name in files.keys() - set(left))
    total = sum(facts["bytes"] for facts in files.values())
    say = _Counter(done, total, progress)

    def sent(name: str) -> None:
        ledger.add(name, files[name])
        say.add(files[name]["bytes"])

    _each(
        [name for name in left if name != MANIFEST],
        lambda name: objects.put(folder / name, url / name),
        sent,
    )
    ledger.write()
    if MANIFEST in left:
        objects.put(folder / MANIFEST, url / MANIFEST)
        sent(MANIFEST)
    gone = [] if only else sorted((known.keys() & there.keys()) - files.keys() - {MANIFEST})
    for name in gone:
        (url / name).unlink()
        ledger.files.pop(name, None)
    if left or gone:
        ledger.write()
    copied_bytes = sum(files[name]["bytes"] for name in left)
    return CopyReport(len(files), len(left), copied_bytes, len(gone))


def pull(url: Path, folder: Path, progress: Progress | None = None) -> CopyReport:
    """Copies a folder from object storage; killed, and run again, it goes on.

    Each file is compared with the checksum that ``push`` wrote down, or that the corpus's manifest
    has; an object of which neither says any is taken as it comes.

    Args:
        url: Where from, as an ``S3Path``.
        folder: Where to. What differs from the URL's is replaced, what an earlier pull brought and
            the URL has no more is removed; other files stay.
        progress: Called with bytes done and all.

    Raises:
        UsageError: There is nothing at the URL, or it is none.
        FormatError: A checksum differs, or an object changed meanwhile.
        StorageError: The storage refuses, or fails after all retries; what was copied counts.
    """
    if not isinstance(url, S3Path) or isinstance(folder, S3Path):
        raise UsageError(f"pull {url} {folder}: expected s3://BUCKET/KEY, then a folder")
    there = objects.sizes(url, recursive=True)
    there.pop(CHECKSUMS, None)
    if not there:
        raise UsageError(f"there is nothing at {url}")
    folder.mkdir(parents=True, exist_ok=True)
    _remove_temporaries(folder)
    known = _known(url) or _of_manifest(url, there)
    before = _known(folder)
    held = _held(folder, before)
    left = []
    for name, size in there.items():
        facts = known.get(name)
        if facts is not None and facts["bytes"] != size:
            raise FormatError(
                f"{url / name} has {size} bytes, {CHECKSUMS} says {facts['bytes']}: it was changed "
                "or cut; push the folder again"
            )
        if not _is_held(url / name, held.get(name), facts, before.get(name)):
            left.append(name)
    if (folder / MANIFEST).is_file() and any(n in held for n in left if n not in GROWING):
        (folder / MANIFEST).unlink()  # it was written for other files
    total = sum(there.values())
    say = _Counter(total - sum(there[name] for name in left), total, progress)
    ledger = _Ledger(folder, {name: facts for name, facts in before.items() if name in there})

    def bring(name: str) -> None:
        ledger.add(name, _fetch(url / name, folder / name, known.get(name)))

    _each([name for name in left if name != MANIFEST], bring, lambda name: say.add(there[name]))
    if MANIFEST in left:
        bring(MANIFEST)
        say.add(there[MANIFEST])
    gone = [name for name in before if name not in there]
    for name in gone:
        (folder / name).unlink(missing_ok=True)
    ledger.write()
    return CopyReport(len(there), len(left), sum(there[name] for name in left), len(gone))


def _is_held(
    path: S3Path,
    held: dict[str, Any] | None,
    facts: dict[str, Any] | None,
    before: dict[str, Any] | None,
) -> bool:
    """Whether a folder's file is what an object is.

    Args:
        path: The object.
        held: Bytes and checksum of the file; ``None``: there is none.
        facts: Those of the object; ``None``: nobody wrote them down, and its version has to be the
            one that was copied before.
        before: What was copied before.
    """
    if held is None or path.name == MANIFEST:
        return False
    if facts is not None:
        return held == facts
    if before is None or any(held[key] != before[key] for key in held):
        return False
    return objects.OpenObject(path).version == before.get("version")


def _fetch(path: S3Path, target: Path, facts: dict[str, Any] | None) -> dict[str, Any]:
    """Copies one object, whole or not at all; what it is."""
    try:
        opened = objects.OpenObject(path)
        with atomic_path(target) as temporary:
            crc = f"{copy(opened, temporary):08x}"
            if facts is not None and crc != facts["crc32c"]:
                raise FormatError(
                    f"{path} has checksum {crc}, expected {facts['crc32c']}: it is damaged; push "
                    "the folder again"
                )
    except FileNotFoundError:
        raise FormatError(f"{path} was removed while the folder was copied: run it again") from None
    when = target.stat().st_mtime_ns
    return {"bytes": opened.size, "crc32c": crc, "version": opened.version, "modified_ns": when}


def _each(
    names: Iterable[str], action: Callable[[str], object], then: Callable[[str], object]
) -> None:
    """Does something for each name, several at once; ``then`` in this thread, after each."""
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        waiting = {pool.submit(action, name): name for name in names}
        for done in as_completed(waiting):
            done.result()
            then(waiting[done])
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Counter:
    def __init__(self, done: int, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = done, total, progress
        self.add(0)

    def add(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress(self._done, self._total)


class _Ledger:
    """What is known of what was copied; written now and then, as it is only there to save."""

    def __init__(self, where: Path, files: Checksums) -> None:
        self._path, self.files = where / CHECKSUMS, files
        self._written = time.monotonic()
        self._lock = threading.Lock()

    def add(self, name: str, facts: dict[str, Any]) -> None:
        with self._lock:
            self.files[name] = facts
            if time.monotonic() - self._written > COMMIT_SECONDS:
                self.write()

    def write(self) -> None:
        facts = {"kind": KIND, "format_version": FORMAT_VERSION, "files": self.files}
        write_json(self._path, facts)
        self._written = time.monotonic()


def _described(
    folder: Path, only: Callable[[str], bool] | None = None
) -> Iterable[tuple[str, dict[str, Any]]]:
    """Name, bytes and checksum of each file that is copied."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not path.is_file() or hidden or name == CHECKSUMS or name.split("/")[0] in LEFT_OUT:
            continue
        if only is not None and (name == MANIFEST or not only(name)):
            continue
        facts = path.stat()
        crc = _crc(str(path), facts.st_size, facts.st_mtime_ns)
        yield name, {"bytes": facts.st_size, "crc32c": f"{crc:08x}"}


@lru_cache(maxsize=100_000)
def _crc(path: str, size: int, modified_ns: int) -> int:
    """CRC-32C of a file; read once as long as size and time stay."""
    import google_crc32c

    crc = 0
    with Path(path).open("rb") as file:
        while block := file.read(2**22):
            crc = google_crc32c.extend(crc, block)
    return int(crc)


def _known(url: Path) -> Checksums:
    """What ``checksums.json`` says; nothing where there is none."""
    path = url / CHECKSUMS
    if not path.is_file():
        return {}
    held = read_json(path)
    files = held.get("files") if isinstance(held, dict) and held.get("kind") == KIND else None
    if not isinstance(files, dict):
        raise FormatError(f"{path} is damaged: remove it, and push the folder again")
    return files


def _of_manifest(url: S3Path, there: dict[str, int]) -> Checksums:
    """Checksums that a manifest has of its shards, where ``push`` wrote none."""
    if MANIFEST not in there:
        return {}
    manifest = read_json(url / MANIFEST)
    entries = manifest.get("shards", []) if isinstance(manifest, dict) else []
    return {
        f"shards/{entry['file']}": {"bytes": entry["bytes"], "crc32c": entry["crc32c"]}
        for entry in entries
        if "crc32c" in entry
    }


def _held(folder: Path, before: Checksums) -> Checksums:
    """What a folder has already; what is as an earlier pull left it is not read."""
    unchanged = {}
    for name, facts in before.items():
        with contextlib.suppress(OSError):
            now = (folder / name).stat()
            if (now.st_size, now.st_mtime_ns) == (facts["bytes"], facts.get("modified_ns")):
                unchanged[name] = {key: facts[key] for key in ("bytes", "crc32c")}
    return unchanged | dict(_described(folder, lambda name: name not in unchanged))


def _same(facts: dict[str, Any], known: Checksums, there: dict[str, int], name: str) -> bool:
    """Whether an object is what a file is."""
    return known.get(name) == facts and there.get(name) == facts["bytes"]


def _remove_temporaries(folder: Path) -> None:
    for each, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            remove_leftovers(Path(each))
