"""Exact search: the nearest vectors by cosine."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from vidvec.data.corpus import Corpus
from vidvec.embed.vectors import Vectors, origin
from vidvec.errors import UsageError
from vidvec.search.neighbours import unit
from vidvec.search.query import QueryEncoder
from vidvec.search.types import Hit
from vidvec.storage import located, read_manifest


class ExactIndex:
    """Compares a query with every vector.

    Args:
        vectors: To search in.
        without: Ids of videos that are never found.

    Attributes:
        left_out: How many of the vectors are of such videos.
    """

    def __init__(self, vectors: Vectors, without: Collection[str] = ()) -> None:
        self.vectors = vectors
        ids = set(without)
        keep = np.array([video not in ids for video in vectors.ids], np.bool_)
        self._rows = np.flatnonzero(keep)
        self.left_out = len(vectors) - len(self._rows)
        self._index = faiss.IndexFlatIP(vectors.dimension)
        self._index.add(unit(vectors.matrix if keep.all() else vectors.matrix[self._rows]))

    def search(
        self, queries: NDArray[np.float32], k: int, without: Sequence[str | None] | None = None
    ) -> list[list[Hit]]:
        """The k nearest videos of each query, nearest first.

        Args:
            queries: (queries, E).
            k: How many.
            without: For each query an id that is left out, such as the query's own.
        """
        if queries.shape[1] != self.vectors.dimension:
            raise UsageError(
                f"query vectors have {queries.shape[1]} numbers, {self.vectors.path} holds "
                f"{self.vectors.dimension}"
            )
        count = min(k + (without is not None), len(self._rows))
        if count == 0:
            return [[] for _ in queries]
        cosines, rows = self._index.search(unit(queries), count)
        found = []
        for place in range(len(queries)):
            left_out = without[place] if without is not None else None
            pairs = zip(rows[place], cosines[place], strict=True)
            # Row −1 stands for no neighbour, as of a query that holds NaN.
            known = [(self._rows[row], float(cosine)) for row, cosine in pairs if row >= 0]
            hits = [Hit(self.vectors.ids[row], cosine) for row, cosine in known]
            found.append([hit for hit in hits if hit.id != left_out][:k])
        return found

    def like(self, ids: Sequence[str], k: int) -> list[list[Hit]]:
        """The k nearest videos of each of these, themselves left out."""
        rows = [self.vectors.row(video) for video in ids]
        return self.search(self.vectors.matrix[rows], k, without=list(ids))


def encode_titles(vectors: Path, titles: Sequence[str]) -> NDArray[np.float32]:
    """(titles, E) vectors of titles, by the models that made a folder of vectors.

    Args:
        vectors: Made by ``embed`` or, from several, by ``fuse``.
        titles: Words to look for.

    Raises:
        UsageError: What made the vectors is not known, or has changed since.
    """
    with QueryEncoder.load(vectors) as encoder:
        return encoder.titles(titles)


def gone_ids(corpus: Corpus | None, vectors: Vectors, *, own: bool) -> list[str]:
    """Ids of vectors whose videos are gone: marked so in the corpus, or removed from it.

    Args:
        corpus: ``None``: not known, and then nothing is gone.
        vectors: Of its videos.
        own: They were made from this corpus, so that a video that is not in it was removed.
    """
    if corpus is None or not corpus.edition:
        return []
    # Imported vectors may be of videos that were never in it.
    own = own and origin(vectors.manifest["made_by"])["stage"] != "import"
    live = {corpus.ids[row] for row in corpus.live.tolist()}
    return [video for video in vectors.ids if video not in live and (own or video in corpus)]


def corpus_of(vectors: Path, given: Path | None = None) -> Corpus | None:
    """The corpus whose videos a folder of vectors holds; ``None`` where it is gone.

    Args:
        vectors: Made by ``embed`` or ``fuse``.
        given: Opened instead, where not ``None``.
    """
    if given is not None:
        return Corpus(given)
    for path in _corpora(read_manifest(vectors, "vectors")["made_by"]):
        if (path / "manifest.json").is_file():
            return Corpus(path, unfinished=True)
    return None


def _corpora(made_by: dict[str, Any]) -> Iterator[Path]:
    """Corpora that vectors were made from; of fused ones, those of each member."""
    made_by = origin(made_by)
    if made_by["stage"] != "fuse":
        if made_by.get("corpus"):  # imported vectors need not have one
            yield located(made_by["corpus"])
        return
    members = [located(member) for member in made_by["members"]]
    made_of = made_by.get("made_of") or [None] * len(members)
    for member, each in zip(members, made_of, strict=True):
        yield from _corpora(each or read_manifest(member, "vectors")["made_by"])
