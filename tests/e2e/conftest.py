"""What tests of the server share: one folder, one server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import Server, made_folder, serving
from vidvec.search.engine import SearchIndex
from vidvec.search.query import QueryEncoder


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, corpus, model, vectors, calibration."""
    return made_folder(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def server(served: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with default settings."""
    with serving(served / "vectors", tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def index(served: Path, server: Server) -> Iterator[SearchIndex]:
    """The index that the server has made."""
    with SearchIndex.open(served / "vectors") as index:
        yield index


@pytest.fixture(scope="module")
def encoder(served: Path) -> Iterator[QueryEncoder]:
    """Of the model that made the vectors."""
    with QueryEncoder.load(served / "vectors") as encoder:
        yield encoder
