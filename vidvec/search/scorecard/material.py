"""What a scorecard is made of: vectors, the corpus they are of, its pairs, and given groups."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec.config import SplitName
from vidvec.data.alterations import ALTERATIONS
from vidvec.data.cells import LIST_SUFFIX, READERS
from vidvec.data.corpus import Corpus
from vidvec.embed.evaluate import chosen_pairs, pair_cosines, split_of
from vidvec.embed.vectors import Vectors
from vidvec.errors import BadRecord, FormatError, UsageError
from vidvec.search.neighbours import unit
from vidvec.search.scorecard.resampling import RESAMPLES

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides the figures of a scorecard.

    Attributes:
        split: Which pairs: ``clean``, ``published`` or ``all``.
        positive: Score from which two videos are alike; ``None``: three quarters of the way from
            the lowest score to the highest.
        copies: Videos of which altered copies are made, at most; 0: none.
        kinds: How they are altered; see ``alterations.ALTERATIONS``.
        queries: Videos that the others are ranked for, at most.
        seed: Of all that is drawn.
        resamples: Of the bootstraps.
        workers: Files altered and read side by side.
    """

    split: SplitName | str = "clean"
    positive: float | None = None
    copies: int = 50
    kinds: tuple[str, ...] = tuple(ALTERATIONS)
    queries: int = 1000
    seed: int = 0
    resamples: int = RESAMPLES
    workers: int = 2


@dataclass
class Material:
    """Vectors and what they are measured by.

    Args:
        path: Folder of vectors.
        corpus: Of the videos.
        settings: What decides the figures.
        against: Folder of other vectors of the same videos; ``None``: none.
        groups: By video what it is a copy of; see ``read_groups``.

    Raises:
        FormatError: A folder holds no vectors.
        UsageError: There is no such split, or no video of the corpus has vectors.
    """

    path: Path
    corpus: Corpus
    settings: Settings
    against: Path | None = None
    groups: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.vectors = Vectors(self.path)
        self.other = None if self.against is None else Vectors(self.against)
        live = {self.corpus.ids[row] for row in self.corpus.live.tolist()}
        # In the corpus's order, which is that of no model.
        self.ids = [video for video in self.corpus.ids if video in live and self.has_vectors(video)]
        if not self.ids:
            raise UsageError(
                f"{self.path} has no vector of a video of {self.corpus.path}: give the corpus that "
                "was embedded"
            )
        self.all_pairs = self.corpus.pairs()
        chosen, _ = chosen_pairs(self.all_pairs, split_of(self.corpus, self.settings.split))
        some = [self.all_pairs[place] for place in chosen.tolist()]
        self.pairs = [
            pair for pair in some if self.has_vectors(pair.id_1) and self.has_vectors(pair.id_2)
        ]
        self.without_vectors = len(some) - len(self.pairs)

    def has_vectors(self, video: str) -> bool:
        """Whether all vectors that are compared have one of this video."""
        return video in self.vectors and (self.other is None or video in self.other)

    @property
    def tables(self) -> list[Vectors]:
        """The vectors, and the others where there are any."""
        return [self.vectors, *([] if self.other is None else [self.other])]

    @cached_property
    def scores(self) -> Doubles:
        """(P,) of the pairs."""
        return np.array([pair.score for pair in self.pairs], np.float64)

    @cached_property
    def cosines(self) -> list[Doubles]:
        """(P,) of the pairs, by each of the tables."""
        return [pair_cosines(table, self.pairs) for table in self.tables]

    @cached_property
    def units(self) -> list[NDArray[np.float32]]:
        """(n, E) unit vectors of ``ids``, of each of the tables; zeros stay zeros."""
        made = []
        for table in self.tables:
            rows = np.array([table.row(video) for video in self.ids], np.int64)
            made.append(unit(table.matrix[rows]))
        return made

    @cached_property
    def place(self) -> dict[str, int]:
        """Where each video stands in ``ids``."""
        return {video: place for place, video in enumerate(self.ids)}

    def column(self, name: str) -> list[object]:
        """A column of the corpus, in the order of ``ids``."""
        values = self.corpus.column(name).to_pylist()
        return [values[self.corpus.row(video)] for video in self.ids]

    @cached_property
    def members(self) -> dict[str, list[int]]:
        """Places of the videos of each given group."""
        found: dict[str, list[int]] = defaultdict(list)
        for place, video in enumerate(self.ids):
            if video in self.groups:
                found[self.groups[video]].append(place)
        return found


def read_groups(path: Path) -> dict[str, str]:
    """Reads which videos are copies of one another: a table with columns ``id`` and ``group``.

    What ``vidvec dedup --csv`` writes is one. Rows without a group are of videos without copies.

    Args:
        path: ``.csv``, ``.tsv``, ``.jsonl`` or ``.ndjson``.

    Returns:
        Group by id.

    Raises:
        FormatError: It is no such table.
    """
    suffix = path.suffix.lower()
    if suffix not in READERS or suffix in (LIST_SUFFIX, ".parquet", ".arrow"):
        raise FormatError(f"{path} is no table of groups: expected .csv, .tsv or .jsonl")
    if not path.is_file():
        raise FormatError(f"table of groups {path} does not exist")
    read, _ = READERS[suffix]
    groups: dict[str, str] = {}
    seen: set[str] = set()
    for _, cells in read(path):
        if isinstance(cells, BadRecord):
            continue
        seen.update(cells)
        video, group = cells.get("id"), cells.get("group")
        if video not in (None, "") and group not in (None, ""):
            groups[str(video)] = str(group)
    if not groups:
        found = ", ".join(sorted(seen)[:20]) or "none"
        raise FormatError(
            f"{path} names no groups: expected columns id and group, its columns are {found}"
        )
    return groups
