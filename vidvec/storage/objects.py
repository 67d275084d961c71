"""Objects on S3-compatible storage, through ``pyarrow.fs.S3FileSystem``.

Endpoint, region and credentials are those that every tool of AWS takes: AWS_ENDPOINT_URL_S3 or
AWS_ENDPOINT_URL, AWS_REGION or AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID and so on, or the profile.
Retries with back-off are the SDK's standard ones, AWS_MAX_ATTEMPTS of them. An object is written by
one PUT, or one upload in parts that appears when it is complete.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from vidvec.errors import FormatError
from vidvec.storage.failures import explained

if TYPE_CHECKING:
    from pyarrow.fs import S3FileSystem

    from vidvec.storage.location import S3Path

Result = TypeVar("Result")

ATTEMPTS = 6
CONNECT_SECONDS = 5.0
# Without a byte; then the request counts as failed.
STALL_SECONDS = 20.0
# An upload may take so long, and so much more for each byte; the SDK has no limit for uploads.
UPLOAD_SECONDS, UPLOAD_BYTES_A_SECOND = 120.0, 500_000


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object, or a prefix that objects are under.

    Attributes:
        size: In bytes; 0 of a prefix.
        is_folder: Whether it is a prefix.
        modified_seconds: Since 1970; 0 of a prefix.
    """

    size: int
    is_folder: bool
    modified_seconds: int


def attempts() -> int:
    """How often a request is tried."""
    told = os.environ.get("AWS_MAX_ATTEMPTS", "")
    return max(1, int(told)) if told.isdigit() else ATTEMPTS


def endpoint() -> str:
    """The server's URL; empty for AWS itself."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def filesystem(bucket: str) -> S3FileSystem:
    """The client for a bucket, as the environment says."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
    return _filesystem(endpoint(), region, "" if region or endpoint() else bucket, attempts())


@lru_cache(maxsize=16)
def _filesystem(server: str, region: str, bucket: str, tries: int) -> S3FileSystem:
    from pyarrow import fs

    if bucket:  # on AWS, where a bucket is in one region
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        endpoint_override=server or None,
        region=region or "us-east-1",
        connect_timeout=CONNECT_SECONDS,
        request_timeout=STALL_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=tries),
        # One PUT for what is small; parts one after the other, so that an error is seen.
        allow_delayed_open=True,
        background_writes=False,
    )


def ask(path: S3Path, doing: str, action: Callable[[S3FileSystem], Result]) -> Result:
    """What an action gives, with its errors said for the user.

    Args:
        path: What it is about.
        doing: Such as ``reading``, for the message.
        action: Of the client.

    Raises:
        FileNotFoundError: There is no such object, in a bucket that is there.
        StorageError: The server refuses, or fails again after all retries.
    """
    try:
        return action(filesystem(path.bucket))
    except OSError as error:
        raise explained(path, doing, error) from None


def info(path: S3Path) -> ObjectInfo | None:
    """What is known of an object or prefix; ``None`` where there is none."""
    from pyarrow.fs import FileType

    [found] = ask(path, "reading", lambda client: client.get_file_info([path.object_name]))
    if found.type == FileType.NotFound:
        _check_bucket(endpoint(), path.bucket)
        return None
    if found.type == FileType.Directory:
        return ObjectInfo(0, True, 0)
    return ObjectInfo(found.size, False, int((found.mtime_ns or 0) // 10**9))


@lru_cache(maxsize=16)
def _check_bucket(server: str, bucket: str) -> None:
    """Refuses a bucket that is not there.

    Raises:
        StorageError: There is none.
    """
    del server  # the cache goes by it
    from pyarrow.fs import FileType

    from vidvec.storage.location import SCHEME, located

    path = cast("S3Path", located(SCHEME + bucket))
    [found] = ask(path, "reading", lambda client: client.get_file_info([bucket]))
    if found.type == FileType.NotFound:
        raise explained(path, "reading", OSError("AWS Error NO_SUCH_BUCKET"))


def sizes(folder: S3Path, *, recursive: bool = False) -> dict[str, int]:
    """Bytes of the objects under a prefix, by what follows it in their key."""
    return {name: size for name, size in _listed(folder, recursive) if size >= 0}


def names(folder: S3Path) -> list[str]:
    """Names of objects and of prefixes directly under one."""
    return [name for name, _ in _listed(folder, False)]


def _listed(folder: S3Path, recursive: bool) -> list[tuple[str, int]]:
    from pyarrow.fs import FileSelector, FileType

    base = folder.object_name
    wanted = FileSelector(base, recursive=recursive, allow_not_found=True)
    found = ask(folder, "listing", lambda client: client.get_file_info(wanted))
    listed = []
    for each in found:
        is_file = each.type == FileType.File
        name = each.path[len(base) :].lstrip("/")
        if ".." in name.split("/"):
            raise FormatError(f"{folder} holds {name!r}, which cannot be a file's name: remove it")
        listed.append((name, each.size if is_file else -1))
    return listed


class OpenObject:
    """An object to read ranges of, as it was when it was opened.

    After ranges were read, ``check`` has to say that they are of that object: where its ETag or
    size is another by then, they may be of either.

    Args:
        path: The object.

    Attributes:
        size: In bytes.
        version: Its ETag and size.

    Raises:
        FileNotFoundError: There is none.
        StorageError: The server refuses, or fails.
    """

    def __init__(self, path: S3Path) -> None:
        self.path = path
        self._file = self._open()
        self.size = int(self._file.size())
        self.version = _version(self._file)

    def _open(self) -> Any:
        return ask(
            self.path, "reading", lambda client: client.open_input_file(self.path.object_name)
        )

    def read(self, start: int, length: int) -> bytes:
        """The bytes of a range inside the object, to be used after ``check``.

        Raises:
            FormatError: The object is gone, or shorter.
            StorageError: The server refuses, or fails.
        """
        try:
            found = ask(self.path, "reading", lambda _: self._file.read_at(length, start))
        except FileNotFoundError:
            raise FormatError(f"{self.path} was removed while it was read") from None
        if len(found) != length:
            raise FormatError(
                f"{self.path} gave {len(found)} bytes at {start}, expected {length}: it is damaged"
            )
        return bytes(found)

    def check(self) -> None:
        """Makes sure that the object is as it was when it was opened.

        Raises:
            FormatError: It has changed, or is gone.
        """
        try:
            fresh = self._open()
        except FileNotFoundError:
            raise FormatError(f"{self.path} was removed while it was read") from None
        if _version(fresh) != self.version:
            raise FormatError(
                f"{self.path} changed while it was read (from {self.version} to "
                f"{_version(fresh)}): run the command again, which reads it anew"
            )
        self._file = fresh


def _version(file: Any) -> str:
    facts = file.metadata()
    tag = facts.get("ETag") or facts.get(b"ETag") or b""
    return f"{tag.decode() if isinstance(tag, bytes) else tag} {file.size()}"


def read_whole(path: S3Path) -> bytes:
    """All bytes of a small object.

    Raises:
        FileNotFoundError: There is none.
        StorageError: The server refuses, or fails.
    """
    held = OpenObject(path)
    found = held.read(0, held.size) if held.size else b""
    held.check()
    return found


def put(local: Path, path: S3Path) -> None:
    """Writes an object from a file: it is there whole or not at all.

    Raises:
        StorageError: The server refuses, fails, or takes too long.
    """
    size = local.stat().st_size
    seconds = UPLOAD_SECONDS + size / UPLOAD_BYTES_A_SECOND
    doing = "writing"
    ask(path, doing, lambda client: _within(seconds, lambda: _put(client, local, path)))
    # An upload that was broken off may have been closed with what had come by then.
    found = info(path)
    if found is None or found.size != size:
        raise explained(path, doing, OSError(f"{found} is there, expected {size} bytes"))


def _put(client: S3FileSystem, local: Path, path: S3Path) -> None:
    import pyarrow as pa

    with client.open_output_stream(path.object_name) as stream:
        if local.stat().st_size:  # nothing cannot be mapped
            with pa.memory_map(str(local)) as mapped:
                stream.write(mapped.read_buffer())


def _within(seconds: float, action: Callable[[], None]) -> None:
    """Does something in a thread of its own, which is left behind when it takes too long."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise OSError(f"nothing was answered for {seconds:.0f} s")
    if failed:
        raise failed[0]


def remove(path: S3Path) -> None:
    """Removes an object; no error where there is none."""
    with contextlib.suppress(FileNotFoundError):
        ask(path, "removing", lambda client: client.delete_file(path.object_name))
