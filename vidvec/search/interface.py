"""What an index offers, wherever it is; and opening one by its place."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from vidvec.search.types import Filter, Hit, IndexedVideo

if TYPE_CHECKING:
    from vidvec.search.filters import Facets


class Index(Protocol):
    """``SearchIndex`` of a folder, ``ClusterIndex`` of a cluster, ``ShardedIndex`` of several."""

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""

    @property
    def kind(self) -> str:
        """How candidates are found."""

    @property
    def generation(self) -> int:
        """Grows with every change that was taken in."""

    @property
    def ids(self) -> list[str]:
        """Ids of all videos."""

    def __len__(self) -> int: ...

    def __contains__(self, video_id: object) -> bool: ...

    def refresh(self) -> None:
        """Takes in what has changed."""

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        filter: Filter = Filter(),  # noqa: A002, B008
        without: Sequence[Collection[str]] | None = None,
        exact: bool = False,
    ) -> list[list[Hit]]:
        """The videos nearest to each query."""

    def like(self, ids: Sequence[str], k: int, *, filter: Filter = Filter()) -> list[list[Hit]]:  # noqa: A002, B008
        """The videos nearest to each of these."""

    def words(self, text: str, k: int, *, filter: Filter = Filter()) -> list[Hit]:  # noqa: A002, B008
        """Videos with words in their titles."""

    def facets(self, filter: Filter = Filter(), top: int = 50) -> Facets:  # noqa: A002, B008
        """What there is to filter by."""

    def vectors_of(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of videos."""

    def videos(self, ids: Sequence[str]) -> list[IndexedVideo]:
        """What is known of videos."""

    def matrix(self) -> tuple[list[str], NDArray[np.float32]]:
        """Ids and unit vectors of all videos."""

    def add(
        self, ids: Sequence[str], vectors: NDArray[np.float32], videos: Sequence[IndexedVideo]
    ) -> None:
        """Adds videos, or replaces them."""

    def delete(self, ids: Collection[str]) -> int:
        """Deletes videos."""

    def close(self) -> None:
        """Closes files and connections."""


def open_index(place: Path | str, *, writable: bool = False, threads: int = 1) -> Index:
    """Opens an index: of a folder of vectors by its path, of a cluster by its address.

    Args:
        place: A folder, ``http://HOST:PORT/NAME``, or a file that lists shards, ``….toml``.
        writable: ``add`` and ``delete`` will be called.
        threads: CPU threads that one search takes here; a cluster has its own.

    Raises:
        UsageError, FormatError: See ``SearchIndex.open``.
        UsageError, ServerError: See ``ClusterIndex.open``, ``ShardedIndex.open``.
    """
    from vidvec.search.cluster.address import is_address
    from vidvec.search.sharded.layout import is_shards_file

    if is_shards_file(place):
        from vidvec.search.sharded.engine import ShardedIndex

        return ShardedIndex.open(Path(place), writable=writable, threads=threads)

    if is_address(str(place)):
        from vidvec.search.cluster.engine import ClusterIndex

        return ClusterIndex.open(str(place))
    from vidvec.search.engine import SearchIndex

    return SearchIndex.open(Path(place), writable=writable, threads=threads)
