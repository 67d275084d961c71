"""A connection to a cluster whose errors say what the user can do."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from vidvec.errors import MissingExtraError, ServerError
from vidvec.search.cluster.address import TOKEN_VARIABLE, Address

if TYPE_CHECKING:
    from pymilvus import MilvusClient

# Of one call; loading a collection and making its index wait longer, by asking again.
SECONDS = 30.0
# Milvus's codes for something that is not there: a collection, an alias.
_UNKNOWN = frozenset({100, 1600})


def connect(address: Address, seconds: float = SECONDS) -> MilvusClient:
    """Connects to a cluster, with the user and key of the environment where there are any.

    Args:
        address: Where it is.
        seconds: Of one call, at most.

    Raises:
        MissingExtraError: The extra ``cluster`` is not installed.
        ServerError: Nothing answers there, or it wants another key.
    """
    if find_spec("pymilvus") is None:
        raise MissingExtraError("pymilvus", "cluster")
    from pymilvus import MilvusClient

    # It writes each error with its traceback, besides raising it.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    with told(address):
        return MilvusClient(
            address.url, token=os.environ.get(TOKEN_VARIABLE, ""), timeout=seconds, dedicated=True
        )


@contextmanager
def told(address: Address) -> Iterator[None]:
    """Turns the library's errors into those for the user.

    Raises:
        ServerError: With code ``unknown`` for a name that is not there, ``unreachable`` where
            nothing answers in time, ``refused`` for a wrong key, else ``failed``.
    """
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except MilvusException as error:
        text = " ".join(str(error.message).split())[:300]
        if error.code in _UNKNOWN:
            code, said = "unknown", f"there is no {address.name} in {address.url} ({text})"
        elif "auth" in text.lower() or "permission" in text.lower():
            code = "refused"
            said = f"{address.url} refuses: {text}; set {TOKEN_VARIABLE} to USER:PASSWORD or a key"
        elif "connect" in text.lower() or "timeout" in text.lower() or "Deadline" in text:
            code = "unreachable"
            said = f"nothing answers at {address.url} ({text}): is the cluster running?"
        else:
            code, said = "failed", f"{address}: {text}"
        raise ServerError(code, said) from error
    except grpc.RpcError as error:
        detail = error.details() if hasattr(error, "details") else error
        raise ServerError(
            "unreachable", f"{address.url} does not answer ({detail}): is the cluster running?"
        ) from error
