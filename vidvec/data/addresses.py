"""Which URLs may be fetched: http and https, and no address of this machine's own network.

A URL may come from a table that somebody else wrote. Were it taken as it is, it could have this
machine ask services that only it can reach. So the host's name is resolved once, all its addresses
are checked, and the connection goes to one of those: a second look-up could give another.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from vidvec.errors import BadRecord

_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# What a path or query may hold beside letters and digits; all else is escaped, % is as it came.
_PLAIN = "%/:=&?~+!$,;'@()*[]"


@dataclass(frozen=True, slots=True)
class Target:
    """A URL in its parts, as a request needs them.

    Attributes:
        secure: Whether it is https.
        host: In ASCII.
        port: Of the URL, or the scheme's.
        path: With the query; escaped.
    """

    secure: bool
    host: str
    port: int
    path: str


def is_url(text: str) -> bool:
    """Whether a text names a place by a scheme, as ``https://…`` does, and not a file."""
    scheme, mark, _ = text.partition("://")
    return bool(mark) and scheme.isascii() and scheme.replace("+", "").isalnum()


def parse_url(url: str) -> Target:
    """The parts of a URL.

    Raises:
        BadRecord: ``bad-url``: another scheme, no host, credentials, or no URL at all.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except (ValueError, UnicodeError) as error:
        raise BadRecord("bad-url", f"{url!r:.200} is no URL: {error}") from None
    if parts.scheme not in _PORTS:
        raise BadRecord("bad-url", f"{url!r:.200}: expected http:// or https://")
    if not host or any(character <= " " for character in host):
        raise BadRecord("bad-url", f"{url!r:.200} names no host")
    if parts.username is not None or parts.password is not None:
        raise BadRecord("bad-url", f"a URL of {host} holds a user name; credentials are not sent")
    path = quote(parts.path or "/", safe=_PLAIN)
    query = f"?{quote(parts.query, safe=_PLAIN)}" if parts.query else ""
    return Target(parts.scheme == "https", host, port or _PORTS[parts.scheme], path + query)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, IPv4 inside IPv6 looked through."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast


def resolve(target: Target, *, private: bool) -> list[str]:
    """The addresses of a URL's host, in the order in which to try them.

    Args:
        target: Whose.
        private: Allow addresses of this machine and of its network.

    Raises:
        BadRecord: ``bad-url``: one of them is not public, and ``private`` is false.
        OSError: The name cannot be resolved.
    """
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    inside = [address for address in addresses if not is_public(address)]
    if inside and not private:
        raise BadRecord(
            "bad-url",
            f"{target.host} is inside this machine's own network ({inside[0]}): such addresses are "
            "fetched from with --fetch-private only",
        )
    return addresses
