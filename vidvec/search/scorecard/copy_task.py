"""Which videos are copied, and among what their copies are looked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidvec.data.altered_files import AlteredCopy
from vidvec.errors import UsageError
from vidvec.search.scorecard.material import Material

BACKGROUND_SHARE = 1 / 3
MOST_BACKGROUND = 2000
FEWEST_BACKGROUND = 20


def chosen_sources(material: Material) -> list[tuple[str, Path]]:
    """Ids and files of the videos that are altered: the same ones for every model of a corpus.

    Raises:
        UsageError: No video's file is there.
    """
    files = material.column("file")
    order = sorted(range(len(files)), key=lambda p: _place(material.ids[p], material.settings.seed))
    chosen: list[tuple[str, Path]] = []
    for place in order:
        if len(chosen) < material.settings.copies and files[place]:
            path = Path(str(files[place]))
            if path.is_file():
                chosen.append((material.ids[place], path))
    if chosen:
        return chosen
    known = sum(1 for each in files if each)
    if not known:
        raise UsageError("the corpus knows no video files, as of features or of URLs")
    raise UsageError(f"none of the {known:,} video files of the corpus is there any more")


def _place(video: str, seed: int) -> bytes:
    """Where a video stands in the order that a seed gives, whatever else there is."""
    return hashlib.sha256(f"{seed}:{video}".encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Task:
    """Who looks for whom among what.

    Attributes:
        kinds: (Q,) of each copy.
        sources: (Q,) number of the video that each is of.
        references: (n,) places of the videos that are searched.
        background: Places of videos that say how near everything is; none are references.
        targets: (Q,) the reference that each copy is of.
        ignored: For each copy references of its group.
        titles: (Q,) of the videos that they are of.
    """

    kinds: NDArray[np.str_]
    sources: NDArray[np.int64]
    references: NDArray[np.int64]
    background: NDArray[np.int64]
    targets: NDArray[np.int64]
    ignored: list[NDArray[np.int64]]
    titles: list[str]

    @classmethod
    def of(cls, material: Material, made: Sequence[AlteredCopy]) -> Task:
        """Splits the corpus's videos into references and background."""
        seed = material.settings.seed
        places = sorted({material.place[each.source] for each in made})
        # Copies that are given as such would make a background of what is looked for.
        tied = {
            row
            for place in places
            for row in material.members.get(material.groups.get(material.ids[place], ""), [])
        }
        taken = tied.union(places)
        free = [place for place in range(len(material.ids)) if place not in taken]
        free.sort(key=lambda p: _place(material.ids[p], seed + 1))
        count = min(MOST_BACKGROUND, int(BACKGROUND_SHARE * len(free)))
        background = free[:count] if count >= FEWEST_BACKGROUND else []
        left = np.ones(len(material.ids), np.bool_)
        left[background] = False
        references = np.flatnonzero(left)
        row = {place: number for number, place in enumerate(references.tolist())}
        ignored = []
        for each in made:
            group = material.members.get(material.groups.get(each.source, ""), [])
            ignored.append(np.array([row[place] for place in group], np.int64))
        own = [material.place[each.source] for each in made]
        titles = material.column("title")
        return cls(
            np.array([each.kind for each in made]),
            np.array([places.index(place) for place in own], np.int64),
            references,
            np.array(background, np.int64),
            np.array([row[place] for place in own], np.int64),
            ignored,
            [str(titles[place] or "") for place in own],
        )
