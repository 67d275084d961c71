"""What the storage's errors mean to the user, in one line each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vidvec.errors import StorageError, VidvecError

if TYPE_CHECKING:
    from vidvec.storage.location import S3Path

_AWS = re.compile(
    r"AWS Error ([A-Z_]+)(?: \(HTTP status (\d+)\))?(?: during \w+ operation)?:? ?(.*)"
)
_EXPIRED = ("ExpiredToken", "EXPIRED_TOKEN", "RequestExpired", "REQUEST_EXPIRED")
_UNKNOWN = (
    *("INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "InvalidToken", "INVALID_CLIENT_TOKEN"),
    *("UNRECOGNIZED_CLIENT", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
)
_DENIED = ("ACCESS_DENIED", "HTTP status 403")
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "HTTP status 301")


def explained(path: S3Path, doing: str, error: OSError) -> OSError:
    """The error for the user.

    Args:
        path: What was asked for.
        doing: Such as ``reading``.
        error: What the client raised.

    Returns:
        A ``StorageError``; a ``FileNotFoundError``, or what is one already, as it is.
    """
    if isinstance(error, (FileNotFoundError, VidvecError)):
        return error
    said = str(error)
    if "ACCESS_DENIED" in said and "HeadObject" in said:
        said = _behind(path) or said  # an answer to HEAD has no room for the reason
    where = _server()
    if any(sign in said for sign in _EXPIRED):
        why = f"the credentials for {where} have expired: get new ones and run the command again"
    elif any(sign in said for sign in _UNKNOWN):
        why = (
            f"{where} does not take these credentials: check AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or AWS_PROFILE"
        )
    elif any(sign in said for sign in _DENIED):
        why = (
            f"{where} does not allow {doing} it with these credentials: ask for permission to read "
            "and list (and, for what is written, to write), or use others"
        )
    elif "NO_SUCH_BUCKET" in said:
        why = f"{where} has no bucket {path.bucket!r}: check its name and AWS_ENDPOINT_URL"
    elif any(sign in said for sign in _ELSEWHERE):
        why = "the bucket is in another region: set AWS_REGION"
    else:
        from vidvec.storage.objects import attempts

        why = (
            f"{where} failed {attempts()} times, at last with: {_short(said)}; see whether it can "
            "be reached (AWS_ENDPOINT_URL), then run the same command again, it carries on; "
            "AWS_MAX_ATTEMPTS has it tried more often"
        )
    return StorageError(f"{doing} {path}: {why}")


def _server() -> str:
    from vidvec.storage.objects import endpoint

    return endpoint() or "S3"


def _behind(path: S3Path) -> str:
    """What the server says to a request whose answer has room for the reason."""
    from pyarrow.fs import FileSelector

    from vidvec.storage.objects import filesystem

    try:
        filesystem(path.bucket).get_file_info(FileSelector(path.parent.object_name))
    except OSError as error:
        return str(error)
    return ""


def _short(said: str) -> str:
    """The part of the client's message that says what happened."""
    found = _AWS.search(said)
    if found is None:
        return said.splitlines()[0][:300] if said else "no reason"
    code, status, more = found.groups()
    name = "SLOW_DOWN or out of service" if status == "503" else code
    return f"{name}{f' ({status})' if status else ''}{f', {more[:200]}' if more else ''}"
