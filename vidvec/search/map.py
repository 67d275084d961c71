"""The map: every video as a point on a plane, and themes with names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec import storage
from vidvec.embed.vectors import Vectors
from vidvec.errors import FormatError, UsageError
from vidvec.search.engine import SearchIndex
from vidvec.search.folding import INDEX
from vidvec.search.grouping import group
from vidvec.search.index import corpus_of, gone_ids
from vidvec.search.layout import Method, chosen_method, lay_out, place
from vidvec.search.themes import Named, name_themes, words_of

FILE, KIND = "map.json", "map"
POINTS = 20_000
# Videos whose words are counted, at most.
WORDS_SAMPLE = 50_000
DECIMALS = 4
Progress = Callable[[str], None]
Texts = Mapping[str, tuple[str, Sequence[str]]]
# Ids, (n, E) unit vectors, and title and tags of a sample of the videos.
_Videos = tuple[list[str], NDArray[np.float32], Texts]


@dataclass(frozen=True, slots=True)
class Theme:
    """A region of the map.

    Attributes:
        id: 0 for the one with most videos, and so on.
        name: Its first words; ``#1`` and so on where nothing sets it apart.
        words: Tags and words of titles that set it apart most, first.
        count: Videos in it.
        x, y: The point of one of its videos, in its middle.
    """

    id: int
    name: str
    words: tuple[str, ...]
    count: int
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class VideoMap:
    """A map.

    Attributes:
        ids: Of the videos, in the order of their vectors.
        points: (videos, 2) float32, from −1 to 1.
        theme_of: (videos,) int64, the theme of each.
        themes: By their ids.
        method: How points were laid out: ``tsne`` or ``pca``.
        laid_out: Videos that the plane was laid out with; the others lie among their
            neighbours.
    """

    ids: list[str]
    points: NDArray[np.float32]
    theme_of: NDArray[np.int64]
    themes: tuple[Theme, ...]
    method: str
    laid_out: int

    def document(self) -> dict[str, Any]:
        """``points`` as ``[id, x, y, theme]`` and ``themes``, as in ``map.json``."""
        rounded = np.round(self.points.astype(np.float64), DECIMALS).tolist()
        rows = zip(self.ids, rounded, self.theme_of.tolist(), strict=True)
        return {
            "points": [[video, x, y, theme] for video, (x, y), theme in rows],
            "themes": [
                {
                    "id": theme.id,
                    "name": theme.name,
                    "words": list(theme.words),
                    "count": theme.count,
                    "x": round(theme.x, DECIMALS),
                    "y": round(theme.y, DECIMALS),
                }
                for theme in self.themes
            ],
        }


def make_map(
    vectors: Path,
    *,
    corpus: Path | None = None,
    points: int = POINTS,
    themes: int | None = None,
    method: Method = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> VideoMap:
    """Lays the videos of a folder of vectors out on a plane and writes ``VECTORS/map.json``.

    Args:
        vectors: The folder.
        corpus: Whose titles and tags name themes; ``None``: those of the folder's index, with what
            was added to it and deleted, or, without one, of the corpus that was embedded.
        points: With more videos, the plane is laid out with so many, drawn at random; each of the
            others lies among its neighbours.
        themes: How many; ``None``: as many as suit the vectors.
        method: ``tsne``, ``pca``, or ``auto``: the first where openTSNE is installed.
        seed: Of all that is drawn; the same gives the same map.
        progress: Called with what is begun.

    Raises:
        UsageError: There are no vectors, or a number is below 1.
        MissingExtraError: ``tsne`` is asked for and openTSNE is not installed.
        FormatError: The folder is damaged.
    """
    for name, value in (("points", points), ("themes", themes)):
        if value is not None and value < 1:
            raise UsageError(f"{name} {value}: expected 1 or more")
    told = progress or (lambda _: None)
    ids, matrix, texts = (
        _indexed(vectors) if _has_index(vectors, corpus) else _live(vectors, corpus)
    )
    if not ids:
        raise UsageError(f"nothing to map: {vectors} holds no vectors of videos that are there")
    told("themes")
    theme_of = group(matrix, seed, themes)
    told("layout")
    chosen = np.array(_sample(len(ids), points, seed), np.int64)
    plane = np.empty((len(ids), 2), np.float32)
    plane[chosen] = lay_out(matrix[chosen], method, seed)
    rest = np.ones(len(ids), np.bool_)
    rest[chosen] = False
    plane[rest] = place(matrix[rest], matrix[chosen], plane[chosen])
    told("words")
    named = _named(ids, theme_of, texts)
    made = VideoMap(
        ids=ids,
        points=plane,
        theme_of=theme_of,
        themes=_themes(named, theme_of, plane),
        method=chosen_method(method, len(np.unique(matrix[chosen], axis=0))),
        laid_out=len(chosen),
    )
    _write(vectors, made)
    return made


def _has_index(vectors: Path, corpus: Path | None) -> bool:
    return corpus is None and (vectors / INDEX).is_dir()


def _indexed(vectors: Path) -> _Videos:
    """The videos of the folder's index, with those that were added and without those deleted."""
    index = SearchIndex.open(vectors)
    try:
        ids, matrix = index.matrix()
        sample = [ids[row] for row in _sample(len(ids), WORDS_SAMPLE, 0)]
        texts = {video.id: (video.title, video.tags) for video in index.videos(sample)}
    finally:
        index.close()
    return ids, matrix, texts


def _live(vectors: Path, given: Path | None) -> _Videos:
    """The videos of a folder that are not gone, those with a vector of length 0 left out."""
    opened, corpus = Vectors(vectors), corpus_of(vectors, given)
    gone = set(gone_ids(corpus, opened, own=given is None))
    lengths = np.linalg.norm(opened.matrix.astype(np.float64), axis=1)
    good = np.isfinite(lengths) & (lengths > 0)
    kept = [row for row, video in enumerate(opened.ids) if good[row] and video not in gone]
    unit = (opened.matrix[kept] / lengths[kept, None]).astype(np.float32)
    ids = [opened.ids[row] for row in kept]
    texts: dict[str, tuple[str, Sequence[str]]] = {}
    if corpus is not None:
        titles, tags = corpus.column("title"), corpus.column("tags")
        for video in (ids[row] for row in _sample(len(ids), WORDS_SAMPLE, 0)):
            if video in corpus:
                row = corpus.row(video)
                texts[video] = (titles[row].as_py(), tags[row].as_py() or ())
    return ids, unit, texts


def _sample(count: int, most: int, seed: int) -> list[int]:
    """At most so many rows, drawn at random, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most]).tolist()


def _named(ids: list[str], theme_of: NDArray[np.int64], texts: Texts) -> list[Named]:
    """Names and words of the themes; only numbers where no titles and tags are known."""
    known = [row for row, video in enumerate(ids) if video in texts]
    words = (words_of(*texts[ids[row]]) for row in known)
    return name_themes(theme_of[known].tolist(), words, int(theme_of.max()) + 1)


def _themes(
    named: list[Named], theme_of: NDArray[np.int64], points: NDArray[np.float32]
) -> tuple[Theme, ...]:
    found = []
    for number, each in enumerate(named):
        mine = points[theme_of == number]
        away = np.linalg.norm(mine - np.median(mine, axis=0), axis=1)
        x, y = mine[int(away.argmin())].tolist()
        found.append(Theme(number, each.name, each.words, len(mine), x, y))
    return tuple(found)


def _write(vectors: Path, made: VideoMap) -> None:
    head = {"kind": KIND, "format_version": storage.FORMAT_VERSION}
    facts = {"method": made.method, "laid_out": made.laid_out}
    text = json.dumps(head | facts | made.document(), ensure_ascii=False, separators=(",", ":"))
    with storage.atomic_path(vectors / FILE) as temporary:
        temporary.write_text(text + "\n", "utf-8")


def load_map(vectors: Path) -> VideoMap | None:
    """The map of a folder of vectors; ``None`` where none was made.

    Raises:
        FormatError: Its file is damaged, or of another version.
    """
    path = vectors / FILE
    if not path.is_file():
        return None
    held = storage.read_json(path)
    try:
        if (held["kind"], held["format_version"]) != (KIND, storage.FORMAT_VERSION):
            raise FormatError(f"{path} is a map of another version: make it again with vidvec map")
        rows = held["points"]
        themes = tuple(
            Theme(
                int(each["id"]),
                str(each["name"]),
                tuple(map(str, each["words"])),
                int(each["count"]),
                float(each["x"]),
                float(each["y"]),
            )
            for each in held["themes"]
        )
        return VideoMap(
            ids=[str(row[0]) for row in rows],
            points=np.array([row[1:3] for row in rows], np.float32).reshape(-1, 2),
            theme_of=np.array([row[3] for row in rows], np.int64),
            themes=themes,
            method=str(held["method"]),
            laid_out=int(held["laid_out"]),
        )
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise FormatError(f"{path} is damaged: make it again with vidvec map ({error})") from None
