"""Starting Ray on this machine, or joining a cluster that runs."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vidvec.errors import MissingExtraError, ServerError, UsageError

LOCAL = "ray"
LOOPBACK = "127.0.0.1"
_CLIENT = "ray://"
_REACH_SECONDS = 5.0
# What parts hand back through Ray are a few numbers each.
_STORE_BYTES = 200 << 20
# Ray's logs are read by nobody who runs a command; its errors come as exceptions.
_QUIET = ("ray", "ray.data", "ray.util.client")


@contextmanager
def connected(on: str) -> Iterator[Any]:
    """Starts Ray or joins a cluster, and leaves it in the end.

    Where this process is in a cluster already, that one is used and stays.

    Args:
        on: ``ray``: Ray is started on this machine, on loopback, and ended behind. ``HOST:PORT``:
            of a running cluster's head (``ray start --head``), from a machine of the cluster.
            ``ray://HOST:PORT``: of its client server, from anywhere.

    Yields:
        The module ``ray``.

    Raises:
        UsageError: ``on`` is none of these.
        MissingExtraError: Ray is not installed.
        ServerError: ``unreachable``: no cluster answers there, or it runs another Ray or Python.
    """
    kind, host, port = _parsed(on)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to Ray's makers
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("ray", "ray") from None
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    if ray.is_initialized():
        yield ray
        return
    common: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if kind == LOCAL:
        with _on_loopback():
            _start(ray, _local_options() | common)
    else:
        _check_reach(on, host, port)
        address = f"{_CLIENT}{host}:{port}" if kind == _CLIENT else f"{host}:{port}"
        _start(ray, {"address": address} | common, on)
    try:
        yield ray
    finally:
        ray.shutdown()


def _parsed(on: str) -> tuple[str, str, int]:
    """Kind, host and port of where to run."""
    if on == LOCAL:
        return LOCAL, "", 0
    found = re.fullmatch(r"(ray://)?(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5})", on)
    if found is None or not 0 < int(found[3]) < 65536:
        raise UsageError(
            f"--on {on!r} is no place to run: expected ray (started on this machine), HOST:PORT "
            "(a cluster's head, from a machine of the cluster) or ray://HOST:PORT (its client "
            "server)"
        )
    return found[1] or "address", found[2], int(found[3])


def _local_options() -> dict[str, Any]:
    """Of a Ray that is started here: on loopback, without a dashboard."""
    return {
        "address": "local",
        "_node_ip_address": LOOPBACK,
        "include_dashboard": False,
        "object_store_memory": _STORE_BYTES,
    }


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Has Ray listen on loopback alone.

    ``ray.init`` replaces a loopback address by one that other machines reach, but for where Ray
    runs no clusters, as on a Mac.
    """
    from ray._private import ray_constants

    name, before = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", ray_constants.ENABLE_RAY_CLUSTER
    held = os.environ.get(name)
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        os.environ.pop(name) if held is None else os.environ.update({name: held})


def _check_reach(on: str, host: str, port: int) -> None:
    """Finds out at once what Ray would find out in minutes: that nobody listens there."""
    try:
        with socket.create_connection((host.strip("[]"), port), _REACH_SECONDS):
            return
    except OSError as error:
        raise ServerError(
            "unreachable",
            f"no Ray cluster answers at {on}: {error}; start one with ray start --head, or give "
            "--on ray to start Ray on this machine",
        ) from None


def _start(ray: Any, options: dict[str, Any], on: str = "") -> None:
    """Initialises Ray.

    Raises:
        ServerError: It cannot be started or joined.
    """
    try:
        ray.init(**options)
    except (OSError, ValueError, RuntimeError, AssertionError, ray.exceptions.RayError) as error:
        # What is left of a start that failed would take the next one for the second.
        ray.shutdown()
        what = f"the Ray cluster at {on} cannot be joined" if on else "Ray cannot be started here"
        first = str(error).strip().splitlines() or [type(error).__name__]
        told = f"{what}: {' '.join(first[:3]):.500}"
        if on:
            told += "; where it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        raise ServerError("unreachable", told) from None
