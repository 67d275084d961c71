"""What goes wrong with a hub, in vidvec's errors: what was found, and what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from vidvec.errors import FormatError, OfflineError, UsageError, VidvecError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def explained(source: str, frames: bool) -> Iterator[None]:
    """Turns what huggingface_hub raises about a model into vidvec's errors.

    Args:
        source: The model, as it was asked for.
        frames: Whether it is wanted as a frame encoder, for the message.
    """
    try:
        yield
    except VidvecError:
        raise
    except Exception as error:  # connections fail in many ways
        said = explain(error, source, frames)
        if said is None:
            raise
        raise said from None


def explain(error: Exception, source: str, frames: bool) -> VidvecError | None:
    """Vidvec's error for one of huggingface_hub's; ``None`` for one of this disk.

    A full disk is an error of its own; other errors of the disk say enough themselves.
    """
    from huggingface_hub import errors

    if isinstance(error, errors.HFValidationError):
        return UsageError(
            f"{source!r} is no folder on this disk and no name on a hub: expected OWNER/NAME"
        )
    if isinstance(error, errors.GatedRepoError):
        return UsageError(
            f"{source} is gated: the hub gives it only to accounts that accepted its terms. Accept "
            "them on the model's page, and put a token of that account into HF_TOKEN"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UsageError(f"{source}: the hub knows the model, but not this revision of it")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return FormatError(f"{source}: the hub lists a file that it does not give ({error})")
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(error.response.status_code, source, frames)
    if isinstance(error, OSError) and error.errno in _FULL:
        return UsageError(
            disk_full(str(error.filename or "the cache"), error.strerror or "no room")
        )
    if isinstance(error, OSError) and error.errno is not None:
        return None
    return OfflineError(_unreachable(source, frames, _reason(error)))


def disk_full(folder: str, what: str) -> str:
    """The sentence for a disk that is full."""
    return (
        f"the disk of {folder} is too full: {what}. Make room and run the same command again, or "
        "choose another disk with HF_HOME or --to"
    )


def _refused(status: int, source: str, frames: bool) -> VidvecError:
    """For a hub that answers, but not with the model."""
    hub = f"the hub (HF_ENDPOINT: {_endpoint()})"
    if status == 404:
        return UsageError(
            f"no model {source!r}: it is no folder on this disk, and {hub} has none of this name "
            "(404). Check the name"
        )
    if status in (401, 403):
        return UsageError(
            f"{hub} does not give {source!r} to this user ({status}): there is no such model, or "
            "it is private. Check the name, or put a token that may read it into HF_TOKEN"
        )
    return OfflineError(_unreachable(source, frames, f"it answers with status {status}"))


def _unreachable(source: str, frames: bool, reason: str) -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    option, argument = ("--encoder hf:FOLDER", f"hf:{source}")
    if not frames:
        option, argument = ("--init FOLDER", source)
    return (
        f"no model {source!r}: it is no folder on this disk, it is not whole in the cache "
        f"{HF_HUB_CACHE}, and the hub (HF_ENDPOINT: {_endpoint()}) cannot be reached: {reason}. "
        "Set HF_ENDPOINT to a hub or mirror that can be reached; or run `vidvec download "
        f"{argument} --to FOLDER` on another machine, bring FOLDER here and give {option}; or set "
        "HF_HOME to where a cache holds it"
    )


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or "not set"


def _reason(error: Exception) -> str:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    first = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}, {first}" if first else type(error).__name__
