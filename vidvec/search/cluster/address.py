"""Where a cluster is: ``http://HOST:PORT/NAME``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from vidvec.errors import UsageError

NAME = "vidvec"
PORT = 19530
TOKEN_VARIABLE = "VIDVEC_CLUSTER_TOKEN"  # noqa: S105 - the name of a variable
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")


@dataclass(frozen=True, slots=True)
class Address:
    """A name in a cluster.

    Attributes:
        url: Of the cluster, such as ``http://localhost:19530``.
        name: What the vectors are called there.
    """

    url: str
    name: str

    def __str__(self) -> str:
        return f"{self.url}/{self.name}"


def is_address(text: str) -> bool:
    """Whether a text is meant as an address and not as a path."""
    return text.startswith(("http://", "https://"))


def parse(text: str) -> Address:
    """Reads an address.

    Args:
        text: ``http://HOST:PORT/NAME`` or ``https://…``; the port is 19530 and the name ``vidvec``
            where there is none.

    Raises:
        UsageError: It is none.
    """
    expected = f"expected http://HOST:PORT/NAME, such as http://localhost:{PORT}/{NAME}"
    try:
        parts = urlsplit(text)
        port = parts.port or PORT
    except ValueError as error:
        raise UsageError(f"{text!r} is no address ({error}): {expected}") from None
    if not is_address(text) or not parts.hostname:
        raise UsageError(f"{text!r} is no address of a cluster: {expected}")
    if parts.username or parts.password:
        raise UsageError(
            f"the address has a password in it, which others may see: put USER:PASSWORD or a key "
            f"into the environment as {TOKEN_VARIABLE}"
        )
    name = parts.path.strip("/") or NAME
    if parts.query or parts.fragment or not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a name in a cluster: letters, digits and _, and no digit first; "
            f"{expected}"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(f"{parts.scheme}://{host}:{port}", name)
