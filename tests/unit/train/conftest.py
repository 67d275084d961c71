from __future__ import annotations

import pytest

from tests.corpora import write_corpus
from tests.unit.train.runs import PAIRS, VIDEOS
from vidvec.data.corpus import Corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Videos and scored pairs of four topics; read only."""
    return write_corpus(tmp_path_factory.mktemp("training") / "corpus", VIDEOS, PAIRS)
