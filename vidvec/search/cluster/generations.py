"""The two generations of vectors that a name in a cluster stands for, and the switch."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidvec.errors import FormatError, ServerError, UsageError
from vidvec.search.cluster.address import Address
from vidvec.search.cluster.connection import told

if TYPE_CHECKING:
    from pymilvus import MilvusClient

VERSION = 1
_POLL = 0.2


@dataclass(frozen=True, slots=True)
class Generation:
    """A collection that vidvec made.

    Attributes:
        collection: Its name.
        dimension: E.
        kind: How neighbours are found.
        vectors: The folder that it was filled from, as an absolute path on the machine that did.
        manifest: Of that folder, without its shards.
        title_tokens: Groups of three letters that all titles had together when it was filled.
        rows: Videos that it was filled with.
    """

    collection: str
    dimension: int
    kind: str
    vectors: str
    manifest: dict[str, Any]
    title_tokens: int
    rows: int

    def description(self) -> str:
        """As the collection keeps it."""
        facts = {name: getattr(self, name) for name in self.__slots__ if name != "collection"}
        return json.dumps({"vidvec": VERSION, **facts})


def read(client: MilvusClient, address: Address, collection: str) -> Generation:
    """What a collection says of itself.

    Raises:
        FormatError: It was not made by vidvec, or by another version.
        ServerError: See ``told``.
    """
    with told(address):
        text = client.describe_collection(collection)["description"]
    try:
        facts = json.loads(text)
        version = facts.pop("vidvec")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FormatError(
            f"{address} is a collection that vidvec did not make: take another name"
        ) from None
    if version != VERSION:
        raise FormatError(
            f"{address} is of version {version}, this vidvec reads version {VERSION}: fill it "
            f"anew with vidvec index VECTORS --to {address}"
        )
    return Generation(collection, **facts)


def target(client: MilvusClient, address: Address, alias: str) -> str | None:
    """The collection that a name stands for; ``None``: there is no such name.

    Raises:
        ServerError: See ``told``.
    """
    try:
        with told(address):
            return str(client.describe_alias(alias)["collection_name"])
    except ServerError as error:
        if error.code == "unknown":
            return None
        raise


def previous_name(address: Address) -> str:
    """The name of the generation before the one that is searched."""
    return f"{address.name}_previous"


def current(client: MilvusClient, address: Address) -> Generation:
    """The generation that is searched.

    Raises:
        UsageError: There is none.
        FormatError, ServerError: See ``read``.
    """
    collection = target(client, address, address.name)
    if collection is None:
        raise UsageError(
            f"there is no {address.name} in {address.url}: fill it with vidvec index VECTORS "
            f"--to {address}"
        )
    return read(client, address, collection)


def switch(client: MilvusClient, address: Address, collection: str) -> None:
    """Has the name stand for another collection; the one before is kept to go back to.

    Collections that neither is are dropped: older ones, and those whose filling was stopped.

    Raises:
        ServerError: See ``told``.
    """
    former = target(client, address, address.name)
    with told(address):
        if former is not None and former != collection:
            _point(client, address, previous_name(address), former)
        _point(client, address, address.name, collection)
    sweep(client, address)


def roll_back(client: MilvusClient, address: Address) -> Generation:
    """Has the name stand for the generation before, and that one's name for this one.

    Returns:
        The generation that is searched from then on.

    Raises:
        UsageError: There is no generation before.
        ServerError: See ``told``.
    """
    now = current(client, address)
    before = target(client, address, previous_name(address))
    if before is None or before == now.collection:
        raise UsageError(f"{address} has no generation before the one that is searched")
    found = read(client, address, before)
    load(client, address, before)
    with told(address):
        _point(client, address, address.name, before)
        _point(client, address, previous_name(address), now.collection)
    return found


def _point(client: MilvusClient, address: Address, alias: str, collection: str) -> None:
    if target(client, address, alias) is None:
        client.create_alias(collection, alias)
    else:
        client.alter_alias(collection, alias)


def collection_name(address: Address, fingerprint: str) -> str:
    """The collection of a name that is filled from a state of a folder."""
    return f"{address.name}_g{fingerprint}"


def sweep(client: MilvusClient, address: Address) -> list[str]:
    """Drops the collections of a name that are neither of its two generations.

    Returns:
        Their names.

    Raises:
        ServerError: See ``told``.
    """
    kept = {target(client, address, one) for one in (address.name, previous_name(address))}
    ours = re.compile(re.escape(address.name) + "_g[0-9a-f]{16}")
    with told(address):
        stale = [one for one in client.list_collections() if ours.fullmatch(one)]
        stale = [one for one in stale if one not in kept]
        for one in stale:
            client.drop_collection(one)
    return stale


def load(client: MilvusClient, address: Address, collection: str, seconds: float = 3600) -> None:
    """Has the cluster take a collection into memory, and waits until it has.

    Raises:
        ServerError: It does not in time, or see ``told``.
    """
    until = time.monotonic() + seconds
    with told(address):
        client.load_collection(collection, _async=True)
        while (state := client.get_load_state(collection))["state"].name != "Loaded":
            if time.monotonic() > until:
                raise ServerError(
                    "unreachable", f"{address.url} has not loaded {collection}: {state}"
                )
            time.sleep(_POLL)
