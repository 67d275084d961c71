"""Another vidvec server as a shard, over HTTP."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import ServerError, UsageError, VidvecError
from vidvec.search.client import Client
from vidvec.search.filters import Facets
from vidvec.search.found import read_video
from vidvec.search.server.config import SHARD_BATCH, SHARD_HITS, SHARD_IDS
from vidvec.search.sharded.words import WordCounts
from vidvec.search.types import Filter, Hit, IndexedVideo

KEY_VARIABLE = "VIDVEC_SHARD_KEY"
# Numbers and ids of one request, which fit into what a server takes.
NUMBERS = 50_000
# How often it is asked at most whether something has changed, in seconds.
PATIENCE = 1.0


class _Connection(Client):
    """A client that tells what is asked wrongly from what the server cannot do."""

    @staticmethod
    def _refused(code: str, said: str, status: int) -> VidvecError:
        if code in ("bad-request", "too-large"):
            return UsageError(said)
        return ServerError(code, said, status)

    def get(self, path: str) -> dict[str, Any]:
        """An answer."""
        return self._get(path)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """An answer to a body."""
        return self._post(path, body)


class ServerShard:
    """A connection to a server that gives what shards are merged by. It is read only.

    Attributes:
        most_hits: Of one question.
    """

    most_hits = SHARD_HITS

    def __init__(self, url: str, seconds: float) -> None:
        key = os.environ.get(KEY_VARIABLE, "")
        self._server = _Connection(url, api_key=key, timeout_seconds=seconds, retries=1)
        self.url = url
        self._asked, self._facts = 0.0, dict[str, Any]()

    @classmethod
    def open(cls, url: str, *, seconds: float) -> ServerShard:
        """Connects to a server, with the key of the environment where there is one.

        Args:
            url: Such as ``http://other-machine:8000``.
            seconds: Of one call, at most.

        Raises:
            ServerError: It does not answer, or asks for another key.
            UsageError: It is of a version, or serves an index, that is no shard.
        """
        made = cls(url, seconds)
        try:
            made.refresh()
        except BaseException:
            made.close()
            raise
        return made

    @property
    def dimension(self) -> int:
        """E."""
        return int(self._facts["dimension"])

    @property
    def kind(self) -> str:
        """How candidates are found."""
        return str(self._facts["kind"])

    @property
    def model(self) -> str:
        """What made the vectors; see ``model_of``."""
        return str(self._facts["model"])

    @property
    def generation(self) -> int:
        """Grows with every change that was taken in."""
        return int(self._facts["generation"])

    @property
    def manifest(self) -> dict[str, Any]:
        """Of the server's folder of vectors, without its shards."""
        return dict(self._facts["manifest"])

    def __len__(self) -> int:
        self.refresh()
        return int(self._facts["videos"])

    def current(self) -> bool:
        """A server says by itself what it has."""
        return True

    def refresh(self) -> None:
        """Takes in what has changed; asks once a second at most."""
        if self._facts and time.monotonic() - self._asked < PATIENCE:
            return
        self._facts = self._server.get("/api/v1/shard")
        self._asked = time.monotonic()

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        filter: Filter = Filter(),  # noqa: A002, B008
        without: Sequence[Collection[str]] | None = None,
        exact: bool = False,
    ) -> list[list[Hit]]:
        """The videos nearest to each query; see ``SearchIndex.search``."""
        left_out = [_possible(some) for some in without] if without is not None else None
        width = queries.shape[1] + max(map(len, left_out or []), default=0)
        batch = max(1, min(SHARD_BATCH, NUMBERS // width))
        found: list[list[Hit]] = []
        for start in range(0, len(queries), batch):
            some = slice(start, start + batch)
            body = {
                "queries": queries[some].tolist(),
                "k": k,
                "filter": asdict(filter),
                "without": left_out[some] if left_out is not None else [],
                "exact": exact,
            }
            answer = self._server.post("/api/v1/shard/search", body)
            found += [_hits(each) for each in answer["hits"]]
        return found

    def vectors_among(self, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Those of these videos that are there, and their (n, E) unit vectors."""
        there: list[str] = []
        vectors: list[list[float]] = []
        for found in self._among(ids, vectors=True):
            there += [each["id"] for each in found["videos"]]
            vectors += found["vectors"]
        return there, np.array(vectors, np.float32).reshape(len(there), self.dimension)

    def videos_among(self, ids: Sequence[str]) -> list[IndexedVideo]:
        """What is known of those of these videos that are there."""
        return [read_video(one) for found in self._among(ids) for one in found["videos"]]

    def _among(self, ids: Sequence[str], *, vectors: bool = False) -> list[dict[str, Any]]:
        asked = _possible(ids)
        return [
            self._server.post(
                "/api/v1/shard/videos",
                {"ids": asked[start : start + SHARD_IDS], "vectors": vectors},
            )
            for start in range(0, len(asked), SHARD_IDS)
        ]

    def word_counts(self, text: str) -> WordCounts:
        """What BM25 takes of the titles here, for the words of a text."""
        found = self._server.post("/api/v1/shard/words", {"text": text})
        return WordCounts(found["titles"], found["tokens"], tuple(found["having"]))

    def scored_words(self, text: str, k: int, asked: Filter, counts: WordCounts) -> list[Hit]:
        """``words`` by the counts of all shards."""
        body = {"text": text, "k": k, "filter": asdict(asked), "counts": asdict(counts)}
        return _hits(self._server.post("/api/v1/shard/words", body)["hits"])

    def all_facets(self, asked: Filter) -> Facets:
        """Counts of all values, not of the most frequent alone."""
        found = self._server.post("/api/v1/shard/facets", {"filter": asdict(asked)})
        tags, categories, languages = (
            tuple((each["value"], each["count"]) for each in found[name])
            for name in ("tags", "categories", "languages")
        )
        return Facets(found["videos"], tags, categories, languages)

    def matrix(self) -> tuple[list[str], NDArray[np.float32]]:
        """Refused: a server does not hand out all it has.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"{self.url} is a server, which does not hand out all of its vectors")

    def add(
        self, ids: Sequence[str], vectors: NDArray[np.float32], videos: Sequence[IndexedVideo]
    ) -> None:
        """Refused: a server is written to where its index is.

        Raises:
            UsageError: Always.
        """
        raise self._read_only()

    def delete(self, ids: Collection[str]) -> int:
        """Refused: a server is written to where its index is.

        Raises:
            UsageError: Always.
        """
        raise self._read_only()

    def close(self) -> None:
        """Closes the connections."""
        self._server.close()

    def _read_only(self) -> UsageError:
        return UsageError(
            f"{self.url} is a server, which takes no writes: write to its index there"
        )


def _possible(ids: Collection[str]) -> list[str]:
    """Those of these ids that a server takes, each once."""
    return [video for video in dict.fromkeys(ids) if 0 < len(video) <= 1_000]


def _hits(found: Sequence[Mapping[str, Any]]) -> list[Hit]:
    return [Hit(each["id"], each["cosine"]) for each in found]
