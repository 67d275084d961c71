"""A whole Milvus on this machine: coordinators and nodes of each kind in one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def milvus(folder: Path) -> Iterator[str]:
    """Its address, such as ``http://127.0.0.1:19530``; skips the test where it cannot run."""
    server_of = pytest.importorskip("milvus", reason="no Milvus for this system")
    server = server_of.MilvusServer(debug=False)
    server.set_base_dir(str(folder))
    server.start()
    try:
        yield f"http://127.0.0.1:{server.listen_port}"
    finally:
        server.stop()
