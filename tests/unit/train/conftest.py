"""On the CPU and on one thread: the same numbers everywhere, and faster for tiny tensors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.corpora import write_corpus
from tests.unit.train.runs import PAIRS, VIDEOS
from vidvec.data.corpus import Corpus


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Videos and scored pairs of four topics; read only."""
    return write_corpus(tmp_path_factory.mktemp("training") / "corpus", VIDEOS, PAIRS)
