"""The errors that vidvec raises for its user.

    VidvecError                 everything below; the CLI prints it on one line and exits 1
    ├── UsageError              an argument, option or setting that cannot be used
    │   └── ConfigError         the same in a recipe: names the key and the nearest valid one
    ├── FormatError             a file or folder is not what it should be, or of another version
    ├── BadRecord               one record cannot be read; ingest counts it and goes on
    ├── MissingExtraError       an optional library is needed: says which extra to install
    ├── OfflineError            weights or a tokenizer are not on disk and the hub is out of reach
    ├── StorageError            object storage is out of reach, or refuses; it is an OSError, too
    └── ServerError             a vidvec server is out of reach, busy, or asks for another key

Each message says what was found, what was expected, where, and what to do.
"""

from __future__ import annotations


class VidvecError(Exception):
    """Base of every error that is meant for the user."""


class UsageError(VidvecError):
    """An argument, option or setting that cannot be used."""


class ConfigError(UsageError):
    """A recipe that cannot be used."""


class FormatError(VidvecError):
    """A file or folder is not what it should be, is damaged, or has another format version."""


class BadRecord(VidvecError):  # noqa: N818 - it names the record, and is caught as such
    """One record of a source cannot be read.

    Attributes:
        reason: A short stable code such as ``truncated-video``; rejects are counted by it.
        detail: The sentence for the user: what was found and what was expected.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class MissingExtraError(VidvecError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(
            f"{library} is not installed; it comes with an extra: pip install 'vidvec[{extra}]'"
        )


class OfflineError(VidvecError):
    """Weights or a tokenizer are not on this disk, and the hub cannot be reached."""


class StorageError(VidvecError, OSError):
    """Object storage cannot be reached, is too slow, or refuses.

    It is an ``OSError`` as well, so that what does without a file that cannot be written, such as a
    cache on a read-only disk, does without it there.
    """


class ServerError(VidvecError):
    """A vidvec server cannot be reached, is busy, took too long, or asks for another key.

    Attributes:
        code: As the server names it, such as ``busy`` or ``unauthorised``; ``unreachable`` where
            nothing answered.
        status: Of the answer; 0 where there was none.
    """

    def __init__(self, code: str, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.code, self.status = code, status
